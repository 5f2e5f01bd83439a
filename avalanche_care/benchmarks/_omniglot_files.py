"""The files of Omniglot: fetching them, finding them, and whether they are all there.

Everything is where torchvision has it, ``omniglot-py/images_background/<alphabet>/<character>/*``
and ``images_evaluation``. Avalanche is not imported.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import Omniglot
from torchvision.datasets.utils import download_and_extract_archive

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.images import class_folders
from avalanche_care.benchmarks.importing.staging import exclusive, is_there

__all__ = ["DRAWINGS", "FOLDER", "PARTS", "download_omniglot", "find_characters", "find_drawings"]

FOLDER = Omniglot.folder
PARTS = {"images_background": 964, "images_evaluation": 659}
"""The two folders and how many characters are in each."""

DRAWINGS = 20  # of each character, by as many people
PAGE = "https://github.com/brendenlake/omniglot"


def download_omniglot(root: str | os.PathLike[str] | None = None) -> Path:
    """Download what is missing, with torchvision's addresses and checksums.

    Each of the two parts appears complete or not at all. Of several processes one downloads, and
    the others wait for it. The zip files stay, since torchvision's own class asks for them.

    Args:
        root: Directory of the data sets, in which the folder ``omniglot-py`` is made. Left out:
            ``AVALANCHE_CARE_DATA``, or ``~/.avalanche_care/data``.

    Returns:
        The folder, ``<root>/omniglot-py``.

    Raises:
        OSError: If the download fails or comes damaged.
    """
    folder = data_root(root) / FOLDER
    for part in PARTS:
        target, unfinished = folder / part, folder / f".{part}.part"
        if is_there(target):
            continue
        with exclusive(target):
            if is_there(target):
                continue  # another process was quicker
            _fetch(part, folder, unfinished)  # over what one that was killed has left there
            os.rename(unfinished / part, target)
            shutil.rmtree(unfinished)
    return folder


def _fetch(part: str, folder: Path, into: Path) -> None:
    url = f"{Omniglot.download_url_prefix}/{part}.zip"
    md5 = Omniglot.zips_md5[part]
    try:
        download_and_extract_archive(url, folder, into, filename=f"{part}.zip", md5=md5)
    except (OSError, RuntimeError, HTTPException) as error:
        raise OSError(
            f"Omniglot could not be downloaded from {url}: {error}; try again, or fetch "
            f"{' and '.join(f'{name}.zip' for name in PARTS)} from {PAGE} by hand and unpack them "
            f"in {folder}"
        ) from error


def find_characters(folder: Path) -> dict[str, Path]:
    """Find the folder of every character.

    Args:
        folder: ``<root>/omniglot-py``.

    Returns:
        ``<alphabet>/<character>`` -> its folder, in the order of the classes: sorted within each
        of the two parts.

    Raises:
        FileNotFoundError: If a part is not there.
        ValueError: If a part has more or fewer characters than it should.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"Omniglot is not there: no {' and no '.join(str(folder / part) for part in missing)}, "
            "with folders <alphabet>/<character>; pass download=True, pass another root, or unpack "
            f"{' and '.join(f'{part}.zip' for part in missing)} of {PAGE} in {folder}"
        )
    characters: dict[str, Path] = {}
    problems = []
    for part, expected in PARTS.items():
        found = {
            f"{alphabet}/{character}": folder / part / alphabet / character
            for alphabet in sorted(class_folders(folder / part))
            for character in sorted(class_folders(folder / part / alphabet))
        }
        if len(found) != expected:
            problems.append(f"{part} has {len(found)} characters and not {expected}")
        if twice := sorted(found.keys() & characters.keys()):
            problems.append(f"{twice[0]} is in both parts, as are {len(twice) - 1} more")
        characters |= found
    _refuse(problems, folder)
    return characters


def find_drawings(characters: Mapping[str, Path], used: Iterable[str]) -> dict[str, list[str]]:
    """Find the files of some characters.

    Args:
        characters: As :func:`find_characters` returns them.
        used: Those to look at.

    Returns:
        Name -> the files in the order of the people who drew them.

    Raises:
        ValueError: If a character has more or fewer drawings than it should.
    """
    drawings = {}
    for name in used:
        # <number of the character>_<number of the person>.png, both with leading zeros
        entries = os.scandir(characters[name])
        drawings[name] = sorted(entry.path for entry in entries if entry.name.endswith(".png"))
    problems = [
        f"{name} has {len(files)} drawings and not {DRAWINGS}"
        for name, files in drawings.items()
        if len(files) != DRAWINGS
    ]
    if problems:
        _refuse(problems, characters[next(iter(drawings))].parents[2])
    return drawings


def _refuse(problems: Sequence[str], folder: Path) -> None:
    if problems:
        more = [f"and {len(problems) - 10} problems more"] if len(problems) > 10 else []
        raise ValueError(
            f"{folder} is not the whole of Omniglot; remove {' and '.join(PARTS)} there and pass "
            "download=True:\n- " + "\n- ".join([*problems[:10], *more])
        )
