"""The files of a data set repository of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from avalanche_care._files import replace_text
from avalanche_care.benchmarks.importing._hub_errors import HubRepository, in_words
from avalanche_care.benchmarks.importing._hub_large import (
    RemoteFile,
    fetch_large,
    is_there,
    part_of,
    size_of,
)
from avalanche_care.benchmarks.importing.staging import exclusive, require_space

__all__ = ["HubSnapshot", "download_repository"]

logger = logging.getLogger(__name__)

HIDDEN = ".cache"  # where the hub's library keeps its notes beside the files, and we ours
STATE_FILE = Path(HIDDEN, "snapshot.json")
PARTS = Path(HIDDEN, "parts")


@dataclass(frozen=True)
class HubSnapshot:
    """A repository as it was at one commit.

    Attributes:
        path: Directory with its files. What the hub's library keeps is in ``.cache`` there.
        repo_id: ``owner/name``.
        revision: The commit.
        files: Number of files.
        bytes: Their size.
    """

    path: Path
    repo_id: str
    revision: str
    files: int
    bytes: int


def download_repository(
    repo_id: str,
    directory: str | os.PathLike[str],
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    progress: bool = True,
) -> HubSnapshot:
    """Download a data set repository, or the rest of it.

    Called again after an interruption of any kind, it goes on where it stopped: within a file from
    16 MiB, else with the next file. Large files are compared with the SHA-256 that the hub lists.
    A directory holds one commit, the one at which it was begun; when it is complete, no connection
    is needed. A second process waits for the first.

    Args:
        repo_id: ``owner/name``.
        directory: Where its files go; made if it is not there.
        revision: Branch, tag or commit. Left out: the commit that the directory was begun with, or
            the newest of the main branch.
        endpoint: Address of the hub; ``HF_ENDPOINT`` or https://huggingface.co if left out.
        progress: Whether to show bars.

    Returns:
        What there is now, with the commit.

    Raises:
        ValueError: If ``repo_id`` is not of that form, the directory holds another commit, or a
            file would lie outside the directory.
        OSError: If there is no such repository or revision, it cannot be accessed, the hub cannot
            be reached, a file came damaged, or the disk has too little room.
    """
    directory = Path(directory)
    repository = HubRepository(repo_id, endpoint)
    with exclusive(directory), _quiet(not progress):
        known = _read_state(directory, repo_id)
        if known and known["complete"] and revision in (None, known["revision"]):
            count = _count(directory)
            if count == (known["files"], known["bytes"]):
                return HubSnapshot(directory, repo_id, known["revision"], *count)
        with in_words(repository):
            commit, files = _listing(repository, revision or known.get("revision"))
        if known and known["revision"] != commit:
            raise ValueError(
                f"{directory} was begun with commit {known['revision']} of {repo_id}, and "
                f"{revision} is commit {commit}; remove the directory or choose another"
            )
        size = sum(file.size for file in files.values())
        snapshot = HubSnapshot(directory, repo_id, commit, len(files), size)
        directory.mkdir(parents=True, exist_ok=True)
        require_space(directory, _bytes_to_come(directory, files))
        _write_state(snapshot, complete=False)
        with in_words(repository):
            _fetch(repository, commit, files, directory)
        _write_state(snapshot, complete=True)
        return snapshot


def _listing(repository: HubRepository, revision: str | None) -> tuple[str, dict[str, RemoteFile]]:
    """The commit, and its files by their paths."""
    if constants.HF_HUB_OFFLINE:  # which old versions of the library do not see in time
        raise errors.OfflineModeIsEnabled
    api = huggingface_hub.HfApi(endpoint=repository.endpoint)
    commit = api.dataset_info(repository.repo_id, revision=revision, timeout=60).sha
    if commit is None:
        raise ConnectionError(
            f"{repository.page} does not say its commit; is {repository.address} a hub?"
        )
    files = {}
    tree = api.list_repo_tree(
        repository.repo_id, recursive=True, revision=commit, repo_type="dataset"
    )
    for entry in tree:
        if not isinstance(entry, RepoFile):
            continue  # a folder
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.path:
            raise ValueError(f"{repository.page} lists {entry.path!r}, which lies outside; refused")
        files[entry.path] = RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else None)
    if not files:
        raise FileNotFoundError(f"the repository {repository.page} is empty")
    return commit, files


def _fetch(
    repository: HubRepository,
    commit: str,
    files: Mapping[str, RemoteFile],
    directory: Path,
) -> None:
    """Fetch what is missing."""
    large = {path: file for path, file in sorted(files.items()) if file.large}
    for path, file in large.items():
        if not is_there(directory / path, file):
            logger.info("fetching %s", path)
            fetch_large(repository, commit, path, file, directory / path, directory / PARTS)
    huggingface_hub.snapshot_download(
        repository.repo_id,
        repo_type="dataset",
        revision=commit,
        local_dir=directory,
        endpoint=repository.endpoint,
        ignore_patterns=[glob.escape(path) for path in large] or None,
    )
    missing = _missing(directory, files)
    if missing:
        raise OSError(
            f"{len(missing)} of {len(files)} files of {repository.page} are missing or "
            f"incomplete after the download, for example {missing[0]}; run it again"
        )


def _missing(directory: Path, files: Mapping[str, RemoteFile]) -> list[str]:
    """Files that are not there, or not in full."""
    return [path for path, file in files.items() if size_of(directory / path) != file.size]


def _bytes_to_come(directory: Path, files: Mapping[str, RemoteFile]) -> int:
    missing = [files[path] for path in _missing(directory, files)]
    parts = sum(size_of(part_of(file, directory / PARTS)) or 0 for file in missing)
    return sum(file.size for file in missing) - parts


def _count(directory: Path) -> tuple[int, int]:
    """Number and bytes of the files in a directory, without the hidden folder."""
    files = total = 0
    for folder, folders, names in os.walk(directory):
        if Path(folder) == directory:
            folders[:] = [name for name in folders if name != HIDDEN]
        files += len(names)
        total += sum(os.path.getsize(os.path.join(folder, name)) for name in names)
    return files, total


def _read_state(directory: Path, repo_id: str) -> dict[str, Any]:
    """What is known about the files in a directory; empty if nothing is."""
    path = directory / STATE_FILE
    if not path.is_file():
        return {}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # then every file is looked at again
    if not isinstance(state, dict) or not {"revision", "complete", "files", "bytes"} <= set(state):
        return {}
    if state.get("repo_id") != repo_id:
        raise ValueError(
            f"{directory} holds files of {state.get('repo_id')}, not of {repo_id}; remove it or "
            "choose another directory"
        )
    return state


def _write_state(snapshot: HubSnapshot, *, complete: bool) -> None:
    state = asdict(snapshot) | {"path": ".", "complete": complete}
    path = snapshot.path / STATE_FILE
    path.parent.mkdir(exist_ok=True)
    replace_text(path, json.dumps(state, indent=1) + "\n")


@contextlib.contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Switch the bars of the hub's library off; its switch is global."""
    if not quiet or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
