"""Test images as the default evaluation transform crops them, decoded once and for all.

After every task all test images seen so far are evaluated, so over 301 tasks each is decoded,
resized and cropped up to 301 times. All that is the same each time, so it can be kept: as a packed
file of uint8 squares, from which normalisation goes on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.datasets import ImageFolder

from avalanche_care.benchmarks._cache import cache_directory
from avalanche_care.benchmarks._pack_format import VERSION, PackSettings
from avalanche_care.benchmarks._pack_source import folder_source, packed_source
from avalanche_care.benchmarks.images import default_eval_transform, eval_resize
from avalanche_care.benchmarks.pack import pack_lock, write_pack
from avalanche_care.benchmarks.packed import PackedImages

__all__ = ["EvalTransform", "cached_eval_images"]

logger = logging.getLogger(__name__)


class EvalTransform:
    """:func:`default_eval_transform`, which also takes images that the cache has cropped before.

    Args:
        image_size, mean, std: As there.
    """

    def __init__(self, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.whole: Callable[[Image.Image], Any] = default_eval_transform(image_size, mean, std)
        self.normalise = transforms.Normalize(mean, std)

    def __call__(self, image: Image.Image | Tensor) -> Any:
        """Return a float tensor, (3, image_size, image_size), of a PIL image or a uint8 crop."""
        if isinstance(image, Tensor):
            # What ToTensor does to a PIL image: contiguous, then uint8 to [0, 1].
            return self.normalise(image.contiguous().float().div(255))
        return self.whole(image)


def cached_eval_images(
    test: ImageFolder | PackedImages, image_size: int, cache_dir: str | Path | None = None
) -> PackedImages:
    """Return the resized and centre-cropped test images, packing them first if need be.

    The file's name has in it where the images come from, their names, sizes and times of change,
    the sizes in pixels, and Pillow's version: if one of these changes, another file is made. Of
    several processes one packs, and the others wait for it.

    Args:
        test: The images.
        image_size: Side of the crop in pixels.
        cache_dir: Directory of the cache; None: `AVALANCHE_CARE_CACHE`, or the user's cache.

    Returns:
        The images, as uint8 tensors of shape (3, image_size, image_size).

    Raises:
        ValueError: If an image cannot be read; all are named.
        OSError: If the cache cannot be written.
    """
    settings = PackSettings(size=eval_resize(image_size), crop=image_size)
    if isinstance(test, PackedImages):
        source, origin = packed_source(test, settings), test.sha256
    else:
        source, origin = folder_source(test, settings), str(Path(test.root).resolve())
    key = hashlib.sha256(source.plan.to_bytes() + origin.encode(errors="surrogateescape"))
    path = cache_directory(cache_dir) / f"eval-v{VERSION}-{key.hexdigest()[:24]}.pack"
    images = _read(path)
    if images is not None:
        return images
    try:
        with pack_lock(path, wait=True):
            images = _read(path)  # another process may have made it while this one waited
            if images is None:
                logger.info("keeping the cropped test images in %s", path)
                write_pack(source, path, progress=True)
                images = PackedImages(path, output="tensor")
    except OSError as error:
        raise OSError(
            f"the test images cannot be cached: {error}; pass cache_eval=<a directory>, set "
            "AVALANCHE_CARE_CACHE to one, or leave cache_eval out"
        ) from error
    return images


def _read(path: Path) -> PackedImages | None:
    """The images of an intact file, or None with a log message that says what is wrong."""
    if not path.is_file():
        return None
    try:
        return PackedImages(path, output="tensor")
    except ValueError as error:
        logger.warning("the cache of test images cannot be used and is made again: %s", error)
        return None
