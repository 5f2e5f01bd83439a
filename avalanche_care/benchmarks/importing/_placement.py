"""Where each image goes, written down before the first one is moved."""

from __future__ import annotations

import dataclasses
import filecmp
import json
import os
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing.arrangement import Arrangement
from avalanche_care.benchmarks.importing.staging import require_space


@dataclass(frozen=True)
class Placement:
    """Pairs of a file and its place, below ``train`` or ``test``.

    Moving images destroys the arrangement that their places were found from. So the places are
    written to a file first, and a later call goes by that.

    Attributes:
        record: What will be known about the data set.
        moves: Path of each image, and its place relative to the folder of the data set.
    """

    record: DatasetRecord
    moves: list[tuple[str, str]]

    def save(self, path: Path) -> None:
        """Write it; readers never see half of it."""
        unfinished = path.with_name(f"{path.name}.new")
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self.record), file)
            for move in self.moves:
                file.write("\n" + json.dumps(move))
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Placement | None:
        """Read it; None if there is none."""
        if not path.is_file():
            return None
        with open(path, encoding="utf-8") as file:
            record = DatasetRecord(**json.loads(next(file)))
            moves = [(source, place) for source, place in map(json.loads, file)]
        return cls(record, moves)


def places(arrangement: Arrangement) -> tuple[list[tuple[str, str]], list[str]]:
    """Choose the places of all images.

    Two images of a class may have the same name, as pieces of the data are unpacked separately. If
    they have the same content, one is left out: the data came twice, packed and unpacked. Else the
    later one gets another name.

    Returns:
        The pairs of :class:`Placement`, and remarks.
    """
    moves: list[tuple[str, str]] = []
    taken: dict[str, str] = {}  # a name as any disk would see it -> path of the image
    same = renamed = 0
    for split, classes in (("train", arrangement.train), ("test", arrangement.test)):
        for name in sorted(classes):
            for image in classes[name]:
                place = first = f"{split}/{name}/{image.image_name}"
                number = 1
                while (key := _folded(place)) in taken:
                    if _same_content(image.path, taken[key]):
                        break
                    number += 1
                    stem, suffix = os.path.splitext(first)
                    place = f"{stem}~{number}{suffix}"
                else:
                    taken[key] = image.path
                    moves.append((image.path, place))
                    renamed += number > 1
                    continue
                same += 1
    remarks = []
    if same:
        remarks.append(f"{same:,} images are there twice; one of each is left out")
    if renamed:
        remarks.append(f"{renamed:,} images got other names: their classes had them already")
    return moves, remarks


def _folded(place: str) -> str:
    return unicodedata.normalize("NFC", place).casefold()


def _same_content(a: str, b: str) -> bool:
    return filecmp.cmp(a, b, shallow=False)


def transfer(
    placement: Placement, part: Path, work: Path, *, move: bool, progress: bool = False
) -> None:
    """Put the images into their places; those that are there already stay.

    Args:
        placement: The places.
        part: The folder of the data set.
        work: What was unpacked; moved from here. All else is hard-linked, or copied where there is
            no other way.
        move: Whether to move all else, too.
        progress: Whether to show a bar.

    Raises:
        OSError: If an image has disappeared or cannot be written.
    """
    left = [(source, place) for source, place in placement.moves if not (part / place).exists()]
    copied = [source for source, _ in left if not _is_below(source, work)]
    require_space(part, _bytes_to_copy(copied, part, work))
    for folder in sorted({os.path.dirname(place) for _, place in left}):
        (part / folder).mkdir(parents=True, exist_ok=True)
    done = len(placement.moves) - len(left)
    bar = tqdm(left, "placing", len(placement.moves), initial=done, unit="image",
               disable=not progress)  # fmt: skip
    for source, place in bar:
        try:
            if _is_below(source, work) or (move and not os.path.islink(source)):
                _move(source, part / place, work)
            else:
                _link(source, part / place, work)
        except OSError as error:
            raise OSError(
                f"cannot put {source} into {part}: {error.strerror or error}; what is done is "
                "kept, so put this right and start again to go on, or remove this folder to start "
                "afresh"
            ) from error


def _move(source: str, place: Path, work: Path) -> None:
    try:
        os.rename(source, place)
    except OSError:
        if not os.path.exists(source):
            raise
        _copy(source, place, work)  # another disk
        os.unlink(source)


def _link(source: str, place: Path, work: Path) -> None:
    real = os.path.realpath(source)  # never a link to a link
    try:
        os.link(real, place)
    except OSError:
        _copy(real, place, work)  # another disk, or one without hard links


def _copy(source: str, place: Path, work: Path) -> None:
    """Copy so that the place never has half a file."""
    unfinished = work / ".copy"
    shutil.copy2(source, unfinished)
    os.replace(unfinished, place)


def _bytes_to_copy(sources: list[str], part: Path, work: Path) -> int:
    """How much is written if the images are not on the same disk; one trial tells."""
    if not sources:
        return 0
    trial = work / ".trial"
    trial.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(sources[0]), trial)
    except OSError:
        return sum(os.stat(source).st_size for source in sources)
    trial.unlink()
    return 0


def _is_below(path: str, folder: Path) -> bool:
    return path.startswith(f"{folder}{os.sep}")
