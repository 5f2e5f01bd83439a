"""Images per second that one core reads and transforms, from image files and from a packed file.

    python benchmarks/data_throughput.py --csv benchmarks/results/data_throughput.csv \\
        --figure benchmarks/results/data_throughput.png

PIL folder          ImageFolder, Pillow decodes, the default transforms on PIL images
torchvision folder  torchvision.io decodes (deprecated since 0.29), transforms.v2 on uint8 tensors
packed, PIL         PackedImages, the default transforms on PIL images
packed, tensors     PackedImages, transforms.v2 on uint8 tensors
eval cache          what benchmark_from_folders(..., cache_eval=True) reads; evaluation only

Mode `train` is a random resized crop and a flip, `eval` a resize and a centre crop; both end with a
normalised float tensor. One process with one thread goes through all images, the implementations in
turns. The files are in the system's memory by then, so this is the work of the processor and not of
the disk: from a disk that is slower than this, what counts is `stored_bytes`, bytes per image.

Without --folder, JPEG files are generated: 500 x 375 pixels, upright every other time, Gaussian
noise whose amplitude falls with spatial frequency as 1/f, as photographs' does (Field, 1987,
doi:10.1364/JOSAA.4.002379), quality 90: some 120 KB each. The row `packing` is what making the
packed file took, once, with one thread. Needs torch and torchvision only.
"""

from __future__ import annotations

import argparse
import functools
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2
from tqdm import tqdm

from avalanche_care.benchmarks import (
    PackedImages,
    default_eval_transform,
    default_train_transform,
    pack_folder,
)
from avalanche_care.benchmarks._eval_cache import EvalTransform, cached_eval_images
from avalanche_care.benchmarks.images import HALF, eval_resize, image_folder

CLASSES = 10
BASE = "PIL folder"
Row = dict[str, Any]


def generate(root: Path, count: int) -> Path:
    """Write JPEG files of 1/f noise, in folders of classes."""
    rng = np.random.default_rng(0)
    for number in tqdm(range(count), desc="generating", unit="image", leave=False):
        height, width = (375, 500) if number % 2 else (500, 375)
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(height, width, rng)).save(folder / f"{number}.jpg", quality=90)
    return root


def texture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return an image (height, width, 3) of 1/f noise whose channels are correlated."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # no constant part
    spectrum = rng.normal(size=(4, *frequency.shape)) + 1j * rng.normal(size=(4, *frequency.shape))
    grey, *colours = np.fft.irfft2(spectrum / frequency, (height, width))
    noise = np.stack([0.9 * grey / grey.std() + 0.4 * c / c.std() for c in colours], axis=-1)
    return np.clip(50 * noise + 120, 0, 255).astype(np.uint8)


def sample(folder: Path, count: int, root: Path) -> Path:
    """Link some images of a folder, drawn at random, in a folder of the same classes."""
    images = image_folder(folder)
    chosen = random.Random(0).sample(images.samples, min(count, len(images)))
    for number, (path, label) in enumerate(chosen):
        link = root / images.classes[label] / f"{number}{Path(path).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).resolve())
    return root


def tensor_transforms(size: int) -> dict[str, Callable[[Any], Any]]:
    """The two transforms for uint8 tensors."""
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(HALF, HALF)]
    crop = v2.RandomResizedCrop(size, scale=(0.05, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    resize = v2.Resize(eval_resize(size), v2.InterpolationMode.BICUBIC, antialias=True)
    return {
        "train": v2.Compose([crop, v2.RandomHorizontalFlip(), *end]),
        "eval": v2.Compose([resize, v2.CenterCrop(size), *end]),
    }


def data_sets(folder: Path, packed: Path, cache: Path, size: int) -> dict[str, dict[str, Any]]:
    """What is compared, by mode and name."""
    pil = {"train": default_train_transform(size), "eval": default_eval_transform(size)}
    tensors = tensor_transforms(size)
    decode = functools.partial(decode_image, mode=ImageReadMode.RGB)
    compared: dict[str, dict[str, Any]] = {
        mode: {
            BASE: image_folder(folder),
            "torchvision folder": ImageFolder(str(folder), tensors[mode], loader=decode),
            "packed, PIL": PackedImages(packed, transform=pil[mode]),
            "packed, tensors": PackedImages(packed, transform=tensors[mode], output="tensor"),
        }
        for mode in ("train", "eval")
    }
    for mode in compared:
        compared[mode][BASE].transform = pil[mode]
    cached = cached_eval_images(image_folder(folder), size, cache)
    cached.transform = EvalTransform(size, HALF, HALF)
    compared["eval"]["eval cache"] = cached
    return compared


def stored_bytes(images: Any) -> float:
    """Bytes on disk per image."""
    if isinstance(images, PackedImages):
        return sum(images.pixels(i).size for i in range(len(images))) / len(images)
    return sum(Path(path).stat().st_size for path, _ in images.samples) / len(images)


def go_through(images: Any) -> None:
    """Load and transform every image."""
    for index in range(len(images)):
        _ = images[index]


def measure(options: argparse.Namespace, root: Path) -> list[Row]:
    """Return a row for packing, and one for each mode and implementation."""
    if options.folder:
        folder = sample(options.folder, options.images, root / "images")
    else:
        folder = generate(root / "images", options.images)
    packed = root / "images.pack"
    seconds = measuring.seconds_of(
        lambda: pack_folder(folder, packed, size=options.size, workers=1), "cpu"
    )
    images = PackedImages(packed)
    rows = [row("packing", "once", images, seconds, options)]
    for mode, compared in data_sets(folder, packed, root, options.image_size).items():
        calls = {name: functools.partial(go_through, data) for name, data in compared.items()}
        taken = measuring.side_by_side(calls, repeats=options.repeats, device="cpu")
        for name, data in compared.items():
            rows.append(row(name, mode, data, taken[name], options))
            rows[-1]["ratio_to_pil"] = taken[BASE] / taken[name]
    return rows


def row(name: str, mode: str, images: Any, seconds: float, options: argparse.Namespace) -> Row:
    """One row of the table; the last column is how many times as fast as PIL it is."""
    return {
        "implementation": name,
        "mode": mode,
        "image_size": options.image_size,
        "packed_size": options.size,
        "images": len(images),
        "stored_bytes": round(stored_bytes(images)),
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
        "ratio_to_pil": "",
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw images per second, a bar for each implementation."""
    figure, panels = measuring.new_figure(1, 2)
    titles = {"train": "training: random crop, flip", "eval": "evaluation: resize, centre crop"}
    names = list(dict.fromkeys(r["implementation"] for r in rows if r["mode"] == "eval"))
    most = max(r["images_per_second"] for r in rows)
    for panel, (mode, title) in zip(panels, titles.items(), strict=True):
        for name, colour in zip(names, measuring.COLOURS, strict=False):
            for bar in (r for r in rows if (r["implementation"], r["mode"]) == (name, mode)):
                speed = bar["images_per_second"]
                panel.barh(name, speed, color=colour, height=0.65)
                panel.text(speed + most / 50, name, f"{bar['ratio_to_pil']:.1f} x", va="center")
        measuring.finish_panel(panel, title=title, x="images per second and core", y="")
        panel.set_xlim(0, 1.25 * most)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.grid(axis="y", visible=False)
    measuring.save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = measuring.parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="images of yours, one folder per class")
    parser.add_argument("--images", type=int, default=300, help="how many to generate or draw")
    parser.add_argument("--size", type=int, default=256, help="shorter side of packed images")
    parser.add_argument("--image-size", type=int, default=224, help="side that the network sees")
    parser.add_argument("--repeats", type=int, default=7, help="rounds; the median counts")
    parser.add_argument("--scratch", type=Path, help="directory for the files; None: temporary")
    options = parser.parse_args(argv)
    options.threads = 1  # the figures are per core
    if options.quick:
        options.images, options.repeats = min(options.images, 40), 2
    measuring.prepare(options)
    with tempfile.TemporaryDirectory(dir=options.scratch) as root:
        rows = measure(options, Path(root))
    measuring.print_table(rows)
    if options.csv:
        measuring.write_csv(options.csv, rows, "cpu")
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
