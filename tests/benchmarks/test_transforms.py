"""The transforms of the papers: evaluation and training against slow references, and the words."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance
from torchvision.transforms import RandomCrop, RandomResizedCrop

from avalanche_care.benchmarks._eval_cache import EvalTransform
from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.transforms import (
    TransformFamily,
    available_transform_families,
    own_normalisation,
    transform_family,
)

NONE = ((0.0,) * 3, (1.0,) * 3)
HALF = ((0.5,) * 3, (0.5,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
Statistics = tuple[Sequence[float], Sequence[float]]


class Expected(NamedTuple):
    """What the papers' repositories do; sizes in pixels at 224."""

    normalisation: Statistics = NONE
    mode: Image.Resampling = BICUBIC  # evaluation
    shorter: int = 256  # before the centre crop of evaluation
    least: float = 0.05  # part of the area that a training crop has at least
    crop_modes: tuple[Image.Resampling, ...] = (BILINEAR,)
    crop_to: int = 224  # then the centre, if that is more
    whole: bool = False  # resized as for evaluation, in place of the random resized crop
    jitter: float = 0.0
    square: int = 0  # resized to, then cut anywhere, in place of the random resized crop


PILOT = Expected()
TIMM = Expected(HALF, least=0.08, crop_modes=(BILINEAR, BICUBIC))
CODA = Expected(mode=BILINEAR, least=0.08)
SLCA = Expected(IMAGENET, mode=BILINEAR, least=0.08)
USUAL = {
    "care": PILOT,
    "pilot": PILOT,
    "l2p": PILOT,
    "coda": CODA,
    "ranpac": PILOT,
    "slca": SLCA,
    "normalized": Expected(HALF),
    "plain": Expected(HALF, shorter=224, whole=True),
}
SPECIAL = {
    ("care", "cifar100"): Expected(
        HALF, least=0.08, crop_modes=(BICUBIC,), crop_to=256, jitter=0.25
    ),
    ("care", "imagenet-a"): TIMM,
    ("care", "vtab"): TIMM._replace(jitter=0.25),
    ("coda", "cifar100"): CODA._replace(shorter=224),
    ("ranpac", "cifar100"): PILOT._replace(shorter=224),
    ("slca", "cifar100"): Expected(CIFAR, least=0.08, crop_modes=(BICUBIC,), jitter=63 / 255),
    ("slca", "cub"): SLCA._replace(square=300),
}
DATASETS = [*CARDS, "my-own-set"]
PAIRS = [(family, dataset) for family in USUAL for dataset in DATASETS]
DIFFERENT = [(family, "imagenet-r") for family in USUAL] + list(SPECIAL)


def expected_of(family: str, dataset: str) -> Expected:
    return SPECIAL.get((family, dataset), USUAL[family])


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def numbers(image: Image.Image, normalisation: Statistics) -> torch.Tensor:
    """Pixel by pixel, as a formula: (v / 255 - mean) / deviation, channels first."""
    pixels: npt.NDArray[np.float64] = np.asarray(image, np.float64) / 255
    mean, deviation = (np.array(values) for values in normalisation)
    return torch.from_numpy(((pixels - mean) / deviation).transpose(2, 0, 1)).float()


def middle(image: Image.Image, size: int) -> Image.Image:
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def whole(image: Image.Image, expected: Expected, size: int) -> Image.Image:
    shorter = expected.shorter * size // 224
    scale = shorter / min(image.size)
    target = (int(image.width * scale + 1e-9), int(image.height * scale + 1e-9))
    return middle(image.resize(target, expected.mode), size)


def evaluated(image: Image.Image, expected: Expected, size: int) -> torch.Tensor:
    return numbers(whole(image, expected, size), expected.normalisation)


def test_the_tables_here_name_every_family_and_known_data_sets() -> None:
    assert list(available_transform_families()) == list(USUAL)
    assert {dataset for _, dataset in SPECIAL} <= set(CARDS)


@pytest.mark.parametrize(("family", "dataset"), PAIRS)
def test_evaluation_is_resize_crop_and_arithmetic(family: str, dataset: str) -> None:
    transform = transform_family(family, dataset, 28).eval
    for number, (width, height) in enumerate([(57, 33), (33, 57), (20, 20), (32, 32), (64, 48)]):
        image = noise(width, height, number)
        reference = evaluated(image, expected_of(family, dataset), 28)
        torch.testing.assert_close(transform(image), reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "dataset"), DIFFERENT)
def test_evaluation_at_the_size_of_the_papers(family: str, dataset: str) -> None:
    made = transform_family(family, dataset)
    image = noise(32, 32) if dataset == "cifar100" else noise(301, 260)
    reference = evaluated(image, expected_of(family, dataset), 224)
    assert reference.shape == (3, 224, 224)
    torch.testing.assert_close(made.eval(image), reference, rtol=0, atol=1e-5)


def trained(image: Image.Image, expected: Expected, size: int) -> torch.Tensor:
    """The training transform step by step, with the random numbers that torchvision would draw."""
    mode = expected.crop_modes[0]
    if len(expected.crop_modes) > 1:
        mode = expected.crop_modes[int(torch.randint(len(expected.crop_modes), ()))]
    if expected.whole:
        image = whole(image, expected, size)
    elif expected.square:
        side = round(expected.square * size / 224)
        image = image.resize((side, side), mode)
        top, left, height, width = RandomCrop.get_params(torch.empty(3, side, side), (size, size))
        image = image.crop((left, top, left + width, top + height))
    else:
        scale, ratio = [expected.least, 1.0], [3 / 4, 4 / 3]
        box = RandomResizedCrop.get_params(torch.empty(3, image.height, image.width), scale, ratio)
        top, left, height, width = box
        side = round(expected.crop_to * size / 224)
        image = image.crop((left, top, left + width, top + height)).resize((side, side), mode)
        image = middle(image, size)
    if torch.rand(1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if expected.jitter:
        torch.randperm(4)  # torchvision shuffles brightness, contrast, saturation and hue
        factor = torch.empty(1).uniform_(1 - expected.jitter, 1 + expected.jitter).item()
        image = ImageEnhance.Brightness(image).enhance(factor)
    return numbers(image, expected.normalisation)


@pytest.mark.parametrize(("family", "dataset"), PAIRS)
def test_training_is_what_the_papers_do(family: str, dataset: str) -> None:
    transform = transform_family(family, dataset, 28).train
    image = noise(57, 43)
    for seed in range(8):
        torch.manual_seed(seed)
        reference = trained(image, expected_of(family, dataset), 28)
        torch.manual_seed(seed)
        torch.testing.assert_close(transform(image), reference, rtol=0, atol=1e-5)


def crops_of(family: TransformFamily, draws: int = 300) -> npt.NDArray[np.float64]:
    """Width and height of random crops, as parts of the image; a negative width is flipped.

    The red channel of the image is the column and the green one the row, so that what comes out
    says itself where it is from.
    """
    row, column = np.mgrid[:256, :256].astype(np.uint8)
    image = Image.fromarray(np.dstack([column, row, np.zeros_like(row)]))
    torch.manual_seed(0)
    found = []
    for _ in range(draws):
        red, green, _ = family.train(image).double()
        # Away from the border, where interpolation has nothing to lean on.
        slopes = (red[4, 6] - red[4, 1]) / 5, (green[6, 4] - green[1, 4]) / 5
        found.append([float(slope) * 8 * 255 / 256 for slope in slopes])
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "least"), [("pilot", 0.05), ("care", 0.05), ("coda", 0.08), ("ranpac", 0.05)]
)
def test_size_and_shape_of_the_crops_and_the_flips(name: str, least: float) -> None:
    width, height = crops_of(transform_family(name, "imagenet-r", 8)).T
    assert 0.42 < np.mean(width < 0) < 0.58
    area, ratio = np.abs(width) * height, np.abs(width) / height
    assert 0.93 * least < area.min() < least + 0.02
    assert 0.97 < area.max() < 1.03
    # Large crops of extreme shape do not fit, so the mean is a little below that of [least, 1].
    assert 0.45 < area.mean() < (1 + least) / 2 + 0.03
    assert 0.72 < ratio.min() < 0.79
    assert 1.27 < ratio.max() < 1.38


@pytest.mark.parametrize(("family", "dataset"), DIFFERENT)
def test_brightness(family: str, dataset: str) -> None:
    made = transform_family(family, dataset, 8)
    plain, jitter = Image.new("RGB", (20, 20), (100,) * 3), expected_of(family, dataset).jitter
    mean, std = (torch.tensor(values)[:, None, None] for values in (made.mean, made.std))
    torch.manual_seed(0)
    factors = [float((made.train(plain) * std + mean).mean()) * 2.55 for _ in range(200)]
    if jitter:
        assert 1 - jitter - 0.01 < min(factors) < 1 - jitter + 0.03
        assert 1 + jitter - 0.03 < max(factors) < 1 + jitter + 0.01
    else:
        assert max(abs(factor - 1) for factor in factors) < 1e-3


def test_the_random_interpolation_leaves_pythons_generator_alone() -> None:
    transform, image = transform_family("care", "imagenet-a", 28).train, noise(57, 43)
    state = random.getstate()
    first, second = ((torch.manual_seed(3), transform(image))[1] for _ in range(2))
    assert random.getstate() == state
    assert torch.equal(first, second)


@pytest.mark.parametrize(("family", "dataset"), PAIRS)
def test_what_the_cache_keeps_is_what_evaluation_sees(family: str, dataset: str) -> None:
    made, expected = transform_family(family, dataset, 28), expected_of(family, dataset)
    assert made.cacheable == (expected.mode is BICUBIC and expected.shorter == 256)
    assert made.resize == expected.shorter // 8
    if made.cacheable:
        cached = EvalTransform(made.image_size, made.mean, made.std)
        assert torch.equal(cached(noise(57, 33)), made.eval(noise(57, 33)))


@pytest.mark.parametrize(("family", "dataset"), PAIRS)
def test_words(family: str, dataset: str) -> None:
    made, expected = transform_family(family, dataset), expected_of(family, dataset)
    assert (made.mean, made.std) == expected.normalisation
    assert made.description.startswith(f"{family}; train: ")
    assert f"; eval: shorter side to {expected.shorter} pixels ({expected.mode.name.lower()})" in (
        made.description
    )
    assert made.description.count("not normalised") == 2 * (expected.normalisation is NONE)
    assert ("mean 0.5 and deviation 0.5" in made.eval_words) == (expected.normalisation is HALF)
    assert ("brightness" in made.train_words) == bool(expected.jitter)
    assert "\n" not in made.description


def test_families_have_a_description_each() -> None:
    families = available_transform_families()
    assert len(set(families.values())) == len(families)
    assert all(text and "\n" not in text for text in families.values())


def test_workers_can_be_spawned_with_them() -> None:
    for family, dataset in DIFFERENT:
        made: Any = transform_family(family, dataset, 28)
        again = pickle.loads(pickle.dumps(made))
        assert torch.equal(again.eval(noise(40, 30)), made.eval(noise(40, 30)))


def test_other_normalisation() -> None:
    mean, std = (0.1, 0.2, 0.1), (0.3, 0.3, 0.3)
    made = own_normalisation(28, mean, std)
    torch.testing.assert_close(
        made.eval(noise(57, 33)),
        evaluated(noise(57, 33), Expected((mean, std)), 28),
        rtol=0,
        atol=1e-5,
    )
    assert "mean 0.1/0.2/0.1 and deviation 0.3" in made.description
    plain = own_normalisation(28, [0, 0, 0], [1, 1, 1])
    assert plain.description == transform_family("pilot", "", 28).description


def test_own_transforms_are_recorded() -> None:
    def own(image: Image.Image) -> Image.Image:
        return image

    family = transform_family("pilot", "cub", 28)
    for_training, for_evaluation = family.with_own(train=own), family.with_own(eval=own)
    assert for_training.train is own
    assert for_training.eval is family.eval
    assert for_training.cacheable
    assert for_training.description == (
        f"pilot; train: a transform of the user's; eval: {family.eval_words}"
    )
    assert for_evaluation.eval is own
    assert not for_evaluation.cacheable
    assert for_evaluation.resize == 0
    assert family.with_own(own, own).description.startswith("own; train: a transform of")
    assert family.with_own() == family


def test_bad_requests() -> None:
    with pytest.raises(ValueError, match="no transforms are called 'pilott', did you mean 'pilot'"):
        transform_family("pilott", "cub")
    with pytest.raises(ValueError, match="there are care, pilot, l2p, coda, ranpac, slca, norm"):
        transform_family("timm", "cub")
    for size in (0, -1, "224", 224.0):
        with pytest.raises(ValueError, match="image_size must be a positive number of pixels, got"):
            transform_family("care", "cub", size)  # type: ignore[arg-type]
