"""Reading arrays of images from an .npz file, which become PNG files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from avalanche_care.benchmarks.importing._own_names import class_problems, refusal, some
from avalanche_care.benchmarks.importing._own_plan import ImagePlan, Images
from avalanche_care.benchmarks.importing.staging import require_space

__all__ = ["ArrayWriter", "read_npz"]

NEEDED = ("train_images", "train_labels", "test_images", "test_labels")
FORM = (
    "expected train_images and test_images (uint8, N x height x width x 3, or without the 3), "
    "train_labels and test_labels (N integers) and, if wanted, class_names"
)
Header = tuple[tuple[int, ...], np.dtype[Any]]


def read_npz(file: Path) -> ImagePlan[int]:
    """Images of an ``.npz`` file; an image is its index in ``train_images`` or ``test_images``.

    Only labels and names are loaded here.

    Args:
        file: The file, with the arrays that ``import_data`` describes.

    Returns:
        The plan. Without ``class_names`` the classes are called by their label, with leading zeros.

    Raises:
        ValueError: If the arrays have the wrong names, shapes or types; every problem is listed.
    """
    headers = _headers(file)
    if missing := [name for name in NEEDED if name not in headers]:
        found = some(sorted(headers)) or "nothing"
        raise ValueError(f"{file} lacks {', '.join(missing)}; {FORM}. Found: {found}")
    if problems := _header_problems(headers):
        raise refusal(f"{file} cannot be imported; {FORM}", problems)
    with np.load(file, allow_pickle=False) as arrays:
        labels = {split: arrays[f"{split}_labels"].astype(np.int64) for split in ("train", "test")}
        names = arrays["class_names"] if "class_names" in headers else None
    values = np.unique(np.concatenate(list(labels.values())))
    names, problems = _class_names(values, names)
    if problems:
        raise refusal(f"{file} cannot be imported; {FORM}", problems)
    train, test = (_by_class(labels[split], names) for split in ("train", "test"))
    return ImagePlan(train, test, None, {"layout": "arrays"})


class ArrayWriter:
    """Writes images of an ``.npz`` file as PNG, one array in memory at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._split = ""
        self._images: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def fingerprint(self, plan: ImagePlan[int]) -> str:
        """The file, its size and time."""
        status = self._file.stat()
        return f"{self._file.resolve()} {status.st_size} {status.st_mtime_ns}"

    def begin(self, folder: Path, images: list[int]) -> None:
        """Check the space; PNG files take less than the pixels, and a little for each."""
        headers = _headers(self._file)
        total = sum(headers[name][0][0] for name in ("train_images", "test_images"))
        pixels = sum(int(np.prod(headers[name][0])) for name in ("train_images", "test_images"))
        require_space(folder, pixels * len(images) // max(total, 1) + 1000 * len(images))

    def write(self, split: str, image: int, path: Path) -> None:
        """Write one image."""
        if split != self._split:
            with np.load(self._file, allow_pickle=False) as arrays:
                self._images, self._split = arrays[f"{split}_images"], split
        pixels = self._images[image]  # (H, W), (H, W, 1) or (H, W, 3)
        Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(path, "PNG")

    def details(self) -> dict[str, Any]:
        """How the files were made."""
        return {"files": "PNG files of the arrays"}


def _headers(file: Path) -> dict[str, Header]:
    """Shape and type of every array; the arrays are not loaded."""
    try:
        with zipfile.ZipFile(file) as archive:
            headers = {}
            for member in archive.namelist():
                with archive.open(member) as stream:
                    headers[member.removesuffix(".npy")] = _header(stream)
            return headers
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(
            f"{file} is not an .npz file that can be read ({error}); write it with "
            "numpy.savez_compressed"
        ) from error


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    one = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _header_problems(headers: dict[str, Header]) -> list[str]:
    problems = []
    for split in ("train", "test"):
        shape, dtype = headers[f"{split}_images"]
        if dtype != np.uint8:
            problems.append(f"{split}_images must be uint8 (0 to 255), got {dtype}")
        if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
            problems.append(
                f"{split}_images must be (N, height, width, 3) or (N, height, width), got {shape}"
                + ("; move the channels to the end" if shape[1:2] in ((1,), (3,)) else "")
            )
        count, (shape, dtype) = shape[:1], headers[f"{split}_labels"]
        if dtype.kind not in "iu":
            problems.append(f"{split}_labels must be integers, got {dtype}")
        if shape != count:
            problems.append(f"{split}_labels must have one label per image, {count}, got {shape}")
    if "class_names" in headers:
        shape, dtype = headers["class_names"]
        if dtype.kind != "U" or len(shape) != 1:
            problems.append(f"class_names must be a list of texts, got {dtype} of shape {shape}")
    return problems


def _class_names(
    labels: npt.NDArray[np.int64], names: npt.NDArray[np.str_] | None
) -> tuple[dict[int, str], list[str]]:
    """Label -> class name, and what is wrong with the labels or names."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        return {}, [f"labels must not be negative, got {low}"]
    if names is None:
        width = len(str(high))
        return {int(label): f"{label:0{width}d}" for label in labels}, []
    problems = class_problems(names.tolist())
    if high >= len(names):
        problems.append(f"there are {len(names)} class_names, but labels up to {high}")
    without = sorted(set(range(len(names))) - set(labels.tolist()))
    if without:
        problems.append(f"class_names without images: {some([names[i] for i in without])}")
    if len(set(names.tolist())) < len(names):
        problems.append("class_names has the same name more than once")
    return dict(enumerate(names.tolist())), problems


def _by_class(labels: npt.NDArray[np.int64], names: dict[int, str]) -> Images[int]:
    """Class -> file name -> index."""
    images: Images[int] = {}
    width = len(str(len(labels) - 1))
    for index, label in enumerate(labels.tolist()):
        images.setdefault(names[label], {})[f"{index:0{width}d}.png"] = index
    return images
