"""The image transforms of the papers, by name.

Crops and normalisation move accuracies by points, and the reference repositories disagree about
them. So each family is spelled out here, and a benchmark carries the words of its own into results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torchvision import transforms
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks._transform_steps import (
    BICUBIC,
    BILINEAR,
    CIFAR,
    FLIP,
    HALVES,
    IMAGENET,
    UNIT,
    Normalisation,
    Step,
    any_crop,
    anywhere,
    brightness,
    centre,
    crop,
    resize,
)
from avalanche_care.benchmarks.catalogue import suggestion
from avalanche_care.benchmarks.images import eval_resize

__all__ = [
    "TransformFamily",
    "available_transform_families",
    "own_normalisation",
    "transform_family",
]


@dataclass(frozen=True, kw_only=True)
class TransformFamily:
    """How images are turned into what the network sees.

    Attributes:
        name: Name of the family.
        train, eval: From an RGB PIL image to a float tensor, shape (3, image_size, image_size).
        train_words, eval_words: What they do.
        mean, std: Normalisation per channel, of pixels in [0, 1]; zeros and ones if there is none.
        image_size: Side of the square that the network sees, in pixels.
        resize: Shorter side before the crop of ``eval``, in pixels; 0 if nobody knows.
        cacheable: Whether ``eval`` is the bicubic resize and centre crop that ``cache_eval`` keeps.
    """

    name: str
    train: Callable[[Any], Any]
    eval: Callable[[Any], Any]
    train_words: str
    eval_words: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    resize: int = 0
    cacheable: bool = False

    @property
    def description(self) -> str:
        """The family in words, for results and logs."""
        return f"{self.name}; train: {self.train_words}; eval: {self.eval_words}"

    def with_own(self, train: Any = None, eval: Any = None) -> TransformFamily:
        """Return the family with another transform in training, in evaluation, or both."""
        changed: dict[str, Any] = {}
        if train is not None:
            changed |= {"train": train, "train_words": "a transform of the user's"}
        if eval is not None:
            changed |= {"eval": eval, "eval_words": "a transform of the user's"}
            changed |= {"resize": 0, "cacheable": False}
        if train is not None and eval is not None:
            changed["name"] = "own"
        return dataclasses.replace(self, **changed)


def _family(
    name: str,
    image_size: int,
    normalisation: Normalisation,
    train: Sequence[Step],
    *,
    mode: InterpolationMode = BICUBIC,
    shorter: int | None = None,
) -> TransformFamily:
    """A family from its training steps; evaluation resizes and crops the centre."""
    shorter = eval_resize(image_size) if shorter is None else shorter
    training = _compose(train, normalisation)
    evaluation = _compose([resize(shorter, mode), centre(image_size)], normalisation)
    return TransformFamily(
        name=name,
        train=training.apply,
        eval=evaluation.apply,
        train_words=training.words,
        eval_words=evaluation.words,
        mean=normalisation.mean,
        std=normalisation.std,
        image_size=image_size,
        resize=shorter,
        cacheable=mode is BICUBIC and shorter == eval_resize(image_size),
    )


def _compose(steps: Sequence[Step], normalisation: Normalisation) -> Step:
    """All steps one after the other, and from pixels to numbers."""
    last: list[Any] = [transforms.ToTensor()]
    if normalisation is not UNIT:
        last.append(transforms.Normalize(normalisation.mean, normalisation.std))
    words = [step.words for step in steps] + [normalisation.words]
    return Step(transforms.Compose([step.apply for step in steps] + last), ", ".join(words))


def _care(dataset: str, size: int) -> TransformFamily:
    if dataset == "cifar100":
        larger = eval_resize(size)
        steps = [crop(larger, 0.08, BICUBIC), centre(size), FLIP, brightness(0.25)]
        return _family("care", size, HALVES, steps)
    if dataset == "imagenet-a":
        return _family("care", size, HALVES, [any_crop(size), FLIP])
    if dataset == "vtab":
        return _family("care", size, HALVES, [any_crop(size), FLIP, brightness(0.25)])
    return _family("care", size, UNIT, [crop(size), FLIP])


def _pilot(dataset: str, size: int) -> TransformFamily:
    return _family("pilot", size, UNIT, [crop(size), FLIP])


def _l2p(dataset: str, size: int) -> TransformFamily:
    return _family("l2p", size, UNIT, [crop(size), FLIP])


def _coda(dataset: str, size: int) -> TransformFamily:
    shorter = size if dataset == "cifar100" else None
    steps = [crop(size, 0.08), FLIP]
    return _family("coda", size, UNIT, steps, mode=BILINEAR, shorter=shorter)


def _ranpac(dataset: str, size: int) -> TransformFamily:
    shorter = size if dataset == "cifar100" else None
    return _family("ranpac", size, UNIT, [crop(size), FLIP], shorter=shorter)


def _slca(dataset: str, size: int) -> TransformFamily:
    if dataset == "cifar100":
        steps = [crop(size, 0.08, BICUBIC), FLIP, brightness(63 / 255)]
        return _family("slca", size, CIFAR, steps)
    steps = [crop(size, 0.08), FLIP]
    if dataset == "cub":
        square = round(size * 300 / 224)
        steps = [resize((square, square), BILINEAR), anywhere(size), FLIP]
    return _family("slca", size, IMAGENET, steps, mode=BILINEAR)


def _normalized(dataset: str, size: int) -> TransformFamily:
    return _family("normalized", size, HALVES, [crop(size), FLIP])


def _plain(dataset: str, size: int) -> TransformFamily:
    steps = [resize(size, BICUBIC), centre(size), FLIP]
    return _family("plain", size, HALVES, steps, shorter=size)


_FAMILIES: dict[str, tuple[Callable[[str, int], TransformFamily], str]] = {
    "care": (_care, "the released CaRE code: by data set; only three of them are normalised"),
    "pilot": (_pilot, "PILOT, RevisitingCIL, EASE, MOS, TUNA, SSIAT: not normalised"),
    "l2p": (_l2p, "L2P and DualPrompt: as pilot"),
    "coda": (_coda, "CODA-Prompt: larger crops, bilinear; not normalised"),
    "ranpac": (_ranpac, "RanPAC: as pilot, but CIFAR-100 is evaluated without a crop"),
    "slca": (_slca, "SLCA: CIFAR-100's or ImageNet's statistics"),
    "normalized": (_normalized, "the crops of pilot, with mean 0.5 and deviation 0.5"),
    "plain": (_plain, "the whole of a square image, flipped at random; mean and deviation 0.5"),
}


def available_transform_families() -> dict[str, str]:
    """Name and one-line description of every family."""
    return {name: words for name, (_, words) in _FAMILIES.items()}


def transform_family(name: str, dataset: str, image_size: int = 224) -> TransformFamily:
    """Return the transforms that a family of papers uses on a data set.

    Args:
        name: ``"care"``, ``"pilot"``, ``"l2p"``, ``"coda"``, ``"ranpac"``, ``"slca"`` or
            ``"normalized"`` or ``"plain"``.
        dataset: Name as in the catalogue, because some families treat some data sets in a way of
            their own. Any other name stands for the ordinary way.
        image_size: Side of the square that the network sees, in pixels. The papers' is 224; the
            other sizes are scaled with it.

    Returns:
        The family. Where the sources do not state an interpolation it is torchvision's, bilinear.

    Raises:
        ValueError: If there is no such family, or the size is not a positive integer.
    """
    if name not in _FAMILIES:
        raise ValueError(
            f"no transforms are called {name!r}{suggestion(name, _FAMILIES)}; there are "
            + ", ".join(_FAMILIES)
        )
    if not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f"image_size must be a positive number of pixels, got {image_size!r}")
    return _FAMILIES[name][0](dataset, image_size)


def own_normalisation(
    image_size: int, mean: Sequence[float], std: Sequence[float]
) -> TransformFamily:
    """The family ``"normalized"`` with another mean and deviation per channel.

    Zeros and ones make it ``"pilot"``, which has the same crops.
    """
    if tuple(mean) == UNIT.mean and tuple(std) == UNIT.std:
        return _pilot("", image_size)
    words = f"normalised with mean {_numbers(mean)} and deviation {_numbers(std)}"
    given = Normalisation(tuple(mean), tuple(std), words)
    return _family("normalized", image_size, given, [crop(image_size), FLIP])


def _numbers(values: Sequence[float]) -> str:
    """One number if all are equal, else all of them."""
    shown = [f"{value:g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else "/".join(shown)
