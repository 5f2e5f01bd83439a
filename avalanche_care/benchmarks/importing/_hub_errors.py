"""What can go wrong with the Hugging Face hub, and what to do about it, in words."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub import constants, errors

__all__ = ["HTTP_ERROR", "HubRepository", "in_words"]

_CLIENT = errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0]
HTTP_ERROR: type[Exception] = [
    kind for kind in errors.HfHubHTTPError.__mro__ if kind.__module__.partition(".")[0] == _CLIENT
][-1]
"""Base class of all errors of the HTTP client.

Which client that is depends on the library's version: requests, then httpx, now httpx2.
"""

_FAILURES = (
    HTTP_ERROR,
    errors.OfflineModeIsEnabled,
    errors.LocalEntryNotFoundError,
    RuntimeError,  # hf-xet, for everything about the connection
)
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class HubRepository:
    """A data set repository and the hub that has it.

    Attributes:
        repo_id: ``owner/name``.
        endpoint: Address of the hub; None: the library's own.
    """

    repo_id: str
    endpoint: str | None

    @property
    def address(self) -> str:
        """Address of the hub."""
        return self.endpoint or constants.ENDPOINT

    @property
    def page(self) -> str:
        """Address of the repository's page."""
        return f"{self.address}/datasets/{self.repo_id}"


@contextlib.contextmanager
def in_words(repository: HubRepository) -> Iterator[None]:
    """Raise ValueError or OSError with one sentence in place of the hub library's errors."""
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(
            f"a repository of the hub is written owner/name, got {repository.repo_id!r}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{repository.page} has no such revision; the page lists those there are"
        ) from error
    except _FAILURES as error:
        raise _explanation(error, repository) from error
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise OSError(
            f"the disk is full ({error}); make room, and the same command goes on"
        ) from error


def _explanation(error: Exception, repository: HubRepository) -> OSError:
    """A refusal or a failure of the hub or of the connection."""
    page, address = repository.page, repository.address
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{page} is given only to those who accept its conditions: accept them on that page, "
            "log in with 'hf auth login' (or set HF_TOKEN), and run this again"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no data set repository {page}, or it is private; check the name, or log in "
            "with 'hf auth login' (or set HF_TOKEN)"
        )
    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError(f"{page} is needed, but HF_HUB_OFFLINE is set; unset it")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return PermissionError(
            f"{address} refuses access to {repository.repo_id} (status {status}); log in with "
            "'hf auth login', or renew HF_TOKEN"
        )
    if status is not None:
        return ConnectionError(
            f"{address} answers with status {status} for {repository.repo_id}; try again later, "
            "and the same command goes on"
        )
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return ConnectionError(
        f"{address} cannot be reached, or the connection broke ({type(error).__name__}: {reason}); "
        "check the network, and the same command goes on. Files that you have already need no "
        "network: --from (source=)"
    )
