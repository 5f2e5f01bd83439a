"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "AVALANCHE_CARE_CACHE"
"""Environment variable with the directory of the cache."""


def cache_directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the argument, else ``AVALANCHE_CARE_CACHE``, else the user's cache of this package."""
    path = chosen or os.environ.get(CACHE_VARIABLE)
    if not path:
        from platformdirs import user_cache_dir  # here, so that reading packs does without it

        path = user_cache_dir("avalanche_care")
    return Path(path).expanduser()
