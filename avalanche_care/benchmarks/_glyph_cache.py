"""The images of the glyph benchmark: how they are drawn, and the file that keeps them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import ft2font
from tqdm import tqdm

from avalanche_care.benchmarks._cache import CACHE_VARIABLE, cache_directory
from avalanche_care.benchmarks._glyph_choice import (
    TRAIN_FACES,
    own_test_faces,
    shipped_characters,
)
from avalanche_care.benchmarks._glyph_render import IMAGE_SIZE, GlyphRenderer, Pose, charmap

logger = logging.getLogger(__name__)

TRAIN_PER_CLASS = 30
TEST_PER_CLASS = 8

_FORMAT = 1  # raise it when anything about the images changes
_PER_CLASS = TRAIN_PER_CLASS + TEST_PER_CLASS

# What a truncated, overwritten or foreign file makes numpy.load raise.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class GlyphImages:
    """All images of the benchmark.

    Args:
        train: (classes, 30, 32, 32) uint8, ink 255 on 0, in the typefaces without serifs.
        test: (classes, 8, 32, 32) uint8, in the typefaces with serifs.
        sha256: of the pixels and code points; the same on every machine.
    """

    train: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    sha256: str


def faces_of(code: int, renderer: GlyphRenderer) -> tuple[str, ...]:
    """Typeface of each of the 30 training and 8 test images of a character: they take turns."""
    train = [face for face in TRAIN_FACES if code in charmap(face)]
    test = own_test_faces(code, renderer)
    return tuple(
        [train[k % len(train)] for k in range(TRAIN_PER_CLASS)]
        + [test[k % len(test)] for k in range(TEST_PER_CLASS)]
    )


def poses_of(code: int) -> tuple[Pose, ...]:
    """Rotation, scale and shift of each image of a character; the same numbers on any machine."""
    low, high = (-12.0, 0.75, -2.0, -2.0), (12.0, 1.1, 2.0, 2.0)
    numbers = np.random.RandomState(code).uniform(low, high, size=(_PER_CLASS, 4))
    return tuple(
        Pose(rotation=rotation, scale=scale, shift=(right, down))
        for rotation, scale, right, down in numbers.tolist()
    )


def draw_class(code: int, renderer: GlyphRenderer) -> npt.NDArray[np.uint8]:
    """The 30 training and then the 8 test images of one character, (38, 32, 32)."""
    drawn = [
        renderer.draw(code, face, pose)
        for face, pose in zip(faces_of(code, renderer), poses_of(code), strict=True)
    ]
    return np.stack(drawn)


def cache_file_name() -> str:
    """Name of the cache file: the typefaces and their rasteriser belong to matplotlib's version."""
    versions = f"mpl{matplotlib.__version__}-ft{ft2font.__freetype_version__}"
    return f"glyphs-v{_FORMAT}-{versions}.npz"


def glyph_images(
    cache_dir: str | os.PathLike[str] | None = None, codes: Sequence[int] | None = None
) -> GlyphImages:
    """Load the images, drawing them first if there is no intact cache.

    The file is written under another name in the same directory and then renamed, so a reader never
    sees half of it. Two processes that start at once both draw; the bytes are equal, and the later
    rename replaces the earlier file.

    Args:
        cache_dir: directory of the cache; see `cache_directory`.
        codes: code points of the classes; default the 1,000 of the benchmark.

    Raises:
        OSError: the cache has to be written and cannot be.
    """
    codes = shipped_characters() if codes is None else tuple(codes)
    path = cache_directory(cache_dir) / cache_file_name()
    images = _read(path, codes)
    if images is None:
        images = _draw_and_write(path, codes)
    return GlyphImages(
        images[:, :TRAIN_PER_CLASS], images[:, TRAIN_PER_CLASS:], _digest(images, codes)
    )


def _digest(images: npt.NDArray[np.uint8], codes: Sequence[int]) -> str:
    digest = hashlib.sha256(np.asarray(codes, dtype="<u4").tobytes())
    digest.update(images.tobytes())
    return digest.hexdigest()


def _read(path: Path, codes: Sequence[int]) -> npt.NDArray[np.uint8] | None:
    """Images of an intact cache file, or None with a log message that says what is wrong."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            images, sha256 = arrays["images"], str(arrays["sha256"])
    except _UNREADABLE as error:
        logger.warning("the glyph cache %s cannot be read (%s); drawing it again", path, error)
        return None
    expected = (len(codes), _PER_CLASS, IMAGE_SIZE, IMAGE_SIZE)
    if images.dtype != np.uint8 or images.shape != expected or _digest(images, codes) != sha256:
        logger.warning("the glyph cache %s fails its checksum; drawing it again", path)
        return None
    result: npt.NDArray[np.uint8] = images
    return result


def _draw_and_write(path: Path, codes: Sequence[int]) -> npt.NDArray[np.uint8]:
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened first: nobody should wait for the drawing to learn that there is no permission.
        with temporary.open("wb") as file:
            renderer = GlyphRenderer()
            bar = tqdm(codes, desc="drawing glyphs, once", unit="class")
            images = np.stack([draw_class(code, renderer) for code in bar])
            np.savez_compressed(file, images=images, sha256=np.array(_digest(images, codes)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # only there if something went wrong, an interrupt for example
    return images


def _cannot_write(path: Path, error: OSError) -> OSError:
    return OSError(
        f"the glyph images cannot be written to {path} ({error.strerror or error}); pass "
        f"cache_dir=<a directory you may write to>, or set {CACHE_VARIABLE} to one"
    )
