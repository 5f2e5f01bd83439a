"""Reading images and comparing them with the manifest."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from avalanche_care.benchmarks.checking._scan import Scan, ScannedImage, scan
from avalanche_care.benchmarks.checking.manifest import Manifest, ManifestEntry, sha256_of
from avalanche_care.benchmarks.checking.report import KINDS, VerifyReport
from avalanche_care.benchmarks.images import load_image

__all__ = ["compare", "reading_pool", "verify_images"]


def verify_images(
    folder: str | os.PathLike[str],
    parts: tuple[str, ...],
    *,
    deep: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> VerifyReport:
    """As ``verify_dataset``, of parts with other names, whatever their classes.

    Args:
        folder: The folder.
        parts: Names of folders in it, each with folders that hold images.
        deep, workers, progress: as there.
    """
    folder = Path(folder)
    with reading_pool(folder, workers) as pool:
        found = scan(folder, parts, pool)
        problems = defaultdict(list, {"missing folders": found.missing_parts})
        return compare(folder, found, problems, pool, deep=deep, renew=False, progress=progress)


@contextlib.contextmanager
def reading_pool(folder: Path, workers: int | None) -> Iterator[Executor]:
    """Threads that forget what is still to do when the block ends, as by control-C."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such directory: {folder}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    Image.init()  # threads that do it together may not know a format yet
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def compare(
    folder: Path,
    found: Scan,
    problems: dict[str, list[str]],
    pool: Executor,
    *,
    deep: bool,
    renew: bool,
    progress: bool,
) -> VerifyReport:
    """Compare with the manifest, open what has to be opened, and report."""
    problems["unreadable files"] += found.problems
    manifest = None if renew else Manifest.load(folder)
    groups = found.groups()
    total = sum(map(len, groups))
    known: Mapping[str, ManifestEntry] = {}
    if manifest is not None:
        known = manifest.entries
        there = {image.path for group in groups for image in group}
        problems["missing images"] += sorted(known.keys() - there)
        problems["extra images"] += sorted(there - known.keys())
    writable = os.access(folder, os.W_OK)
    look = _Look(folder, known, deep=deep, hashing=manifest is None and writable)
    entries: dict[str, ManifestEntry] = {}
    opened = 0
    with tqdm(total=total, desc="verifying", unit="image", disable=not progress) as bar:
        for outcomes in pool.map(look.at_all, groups):
            for outcome in outcomes:
                opened += outcome.opened
                if outcome.problem:
                    problems[outcome.kind].append(f"{outcome.path}: {outcome.problem}")
                elif outcome.entry is not None:
                    entries[outcome.path] = outcome.entry
            bar.update(len(outcomes))
    notes = [f"{found.ignored:,} files that are no images are not counted"] * bool(found.ignored)
    notes += _write_manifest(folder, manifest, entries, problems, writable=writable)
    fingerprint = None
    if total and len(entries) == total:
        notes += _leaks(entries)
        fingerprint = Manifest(entries).fingerprint
    return VerifyReport(
        folder=str(folder),
        classes=len({name for classes in found.images.values() for name in classes}),
        images={part: found.count(part) for part in found.images},
        opened=opened,
        deep=deep,
        problems={kind: tuple(problems[kind]) for kind in KINDS if problems.get(kind)},
        notes=tuple(notes),
        fingerprint=fingerprint,
    )


class _Outcome(NamedTuple):
    """What a look at an image gave: a problem of some kind, or perhaps its entry."""

    path: str
    opened: bool
    entry: ManifestEntry | None = None
    kind: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Look:
    """How images are looked at.

    Attributes:
        folder: Of the data set.
        known: What the manifest says.
        deep: Whether to decode.
        hashing: Whether contents of images that the manifest does not know are wanted, too.
    """

    folder: Path
    known: Mapping[str, ManifestEntry]
    deep: bool
    hashing: bool

    def at_all(self, images: list[ScannedImage]) -> list[_Outcome]:
        """Look at several images."""
        return [self.at(image) for image in images]

    def at(self, image: ScannedImage) -> _Outcome:
        """Look at an image."""
        path, size, mtime_ns = image
        entry = self.known.get(path)
        if entry is not None and entry[:2] == (size, mtime_ns) and not self.deep:
            return _Outcome(path, False, entry)
        problem = _unreadable(str(self.folder / path), self.deep)
        if problem:
            return _Outcome(path, True, None, "unreadable files", problem)
        if entry is not None and entry.size != size:
            problem = f"{size:,} bytes, {entry.size:,} in the manifest"
            return _Outcome(path, True, None, "changed images", problem)
        if entry is None and not self.hashing:
            return _Outcome(path, True)
        sha256 = sha256_of(self.folder / path)
        if entry is not None and entry.sha256 != sha256:
            return _Outcome(
                path, True, None, "changed images", "other content than in the manifest"
            )
        return _Outcome(path, True, ManifestEntry(size, mtime_ns, sha256))


def _unreadable(path: str, deep: bool) -> str:
    """Why an image cannot be opened or decoded; empty if it can."""
    try:
        if deep:
            load_image(path)
        else:
            with Image.open(path) as image:
                _ = image.size
    except Exception as error:  # whatever Pillow makes of a broken file is a finding
        return str(error.__cause__ or error) or type(error).__name__
    return ""


def _write_manifest(
    folder: Path,
    manifest: Manifest | None,
    entries: Mapping[str, ManifestEntry],
    problems: Mapping[str, list[str]],
    *,
    writable: bool,
) -> list[str]:
    """Write what is known now if it is all that there is; say what was done."""
    if any(problems.get(kind) for kind in ("unreadable files", "changed images")):
        return [] if manifest else ["no manifest is written while files cannot be read"]
    if not writable:
        return [] if manifest else [f"no manifest: {folder} cannot be written"]
    if manifest is None:
        Manifest(entries).save(folder)
        return [f"manifest written, {len(entries):,} files"] if entries else []
    if any(problems.get(kind) for kind in ("missing images", "extra images")):
        return ["if that is as it should be, renew the manifest (--renew)"]
    if manifest.entries != entries:  # other times, same contents
        Manifest(entries).save(folder)
    return []


def _leaks(entries: Mapping[str, ManifestEntry]) -> list[str]:
    """Test images that were trained on."""
    trained = {entry.sha256 for path, entry in entries.items() if path.startswith("train/")}
    leaks = sorted(p for p, e in entries.items() if p.startswith("test/") and e.sha256 in trained)
    if not leaks:
        return []
    return [f"{len(leaks):,} test images are training images, too, for example {leaks[0]}"]
