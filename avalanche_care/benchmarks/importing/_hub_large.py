"""Large files of the Hugging Face hub, fetched so that an interruption loses nothing.

``huggingface_hub.snapshot_download`` begins a file again when its process was killed (since version
2 of the library), and of an archive of 20 GB that may be an evening. Its HTTP function can go on.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from avalanche_care.benchmarks.checking.manifest import sha256_of
from avalanche_care.benchmarks.importing._hub_errors import HTTP_ERROR, HubRepository

__all__ = ["RemoteFile", "fetch_large", "is_there", "part_of", "size_of"]

logger = logging.getLogger(__name__)

LARGE = 16 * 2**20  # bytes: smaller files are not worth going on with
MAX_HTTP = 50 * 10**9  # bytes: beyond this the hub serves only its own protocol (hf-xet)


@dataclass(frozen=True)
class RemoteFile:
    """A file that the hub lists.

    Attributes:
        size: Bytes.
        sha256: Of its content, in hexadecimal; None where the hub does not say (small text files).
    """

    size: int
    sha256: str | None

    @property
    def large(self) -> bool:
        """Whether it is fetched here and not by the hub's library."""
        return self.sha256 is not None and LARGE <= self.size <= MAX_HTTP


def fetch_large(
    repository: HubRepository, commit: str, path: str, file: RemoteFile, target: Path, parts: Path
) -> None:
    """Fetch a file, or the rest of it.

    Args:
        repository, commit, path: Where it is.
        file: What the hub lists of it.
        target: The file to make; it appears complete and compared, or not at all.
        parts: Directory of unfinished files.

    Raises:
        Exception: The hub library's own, see ``in_words``.
        OSError: If what came has another SHA-256.
    """
    part = part_of(file, parts)
    parts.mkdir(parents=True, exist_ok=True)
    if (size_of(part) or 0) > file.size:
        part.unlink()
    url = huggingface_hub.hf_hub_url(
        repository.repo_id, path, repo_type="dataset", revision=commit, endpoint=repository.endpoint
    )
    # A refusal is final. A broken connection is not, as long as every attempt brings something.
    while (error := _append(url, path, file, part)) is not None:
        logger.warning("%s: %s; going on", path, error)
    if sha256_of(part) != file.sha256:
        part.unlink()
        raise OSError(f"{path} of {repository.page} came damaged (other SHA-256); run it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, target)


def _append(url: str, path: str, file: RemoteFile, part: Path) -> Exception | None:
    """Fetch what a part lacks; the error of a connection that broke after it brought something."""
    before = size_of(part) or 0
    try:
        with part.open("ab") as stream:
            http_get(
                url,
                stream,
                resume_size=before,
                headers=build_hf_headers() | {"Accept-Encoding": "identity"},
                expected_size=file.size,
                displayed_filename=path,
            )
    except HTTP_ERROR as error:
        if isinstance(error, errors.HfHubHTTPError) or (size_of(part) or 0) <= before:
            raise
        return error
    return None


def is_there(target: Path, file: RemoteFile) -> bool:
    """Whether the file is there, with the content that the hub lists."""
    return size_of(target) == file.size and sha256_of(target) == file.sha256


def part_of(file: RemoteFile, parts: Path) -> Path:
    """Where an unfinished file is; it is named after its content, so that it fits any path."""
    return parts / f"{file.sha256}.part"


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if it is not there."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
