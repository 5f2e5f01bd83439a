"""Where data sets are kept, and files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "AVALANCHE_CARE_CACHE"
"""Environment variable with the directory of the cache."""

DATA_VARIABLE = "AVALANCHE_CARE_DATA"
"""Environment variable with the directory of the data sets."""


def cache_directory(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the argument, else ``AVALANCHE_CARE_CACHE``, else the user's cache of this package."""
    path = chosen or os.environ.get(CACHE_VARIABLE)
    if not path:
        from platformdirs import user_cache_dir  # here, so that reading packs does without it

        path = user_cache_dir("avalanche_care")
    return Path(path).expanduser()


def data_root(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the argument, else ``AVALANCHE_CARE_DATA``, else ``~/.avalanche_care/data``.

    Every data set is a folder below it. The directory need not exist.
    """
    path = chosen or os.environ.get(DATA_VARIABLE) or Path("~", ".avalanche_care", "data")
    return Path(path).expanduser()
