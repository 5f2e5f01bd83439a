"""Pre-trains `glyph_vit_micro` on characters that are no class of the glyph benchmark.

    python benchmarks/pretrain_glyph_vit.py

Contrastive: of every character in a batch there are two drawings, in random typefaces and poses,
and each has to find the other among all of them (InfoNCE, van den Oord et al., 2018, arXiv
1807.03748). No class of the background has weights of its own, so what is learned carries over to
characters that were never seen.

It writes `avalanche_care/assets/glyph_vit_micro.safetensors` and a `.json` with the settings and
what `measure` finds: nearest class mean of background characters in typefaces that pre-training
never drew, nearest class mean and a linear probe on the benchmark's classes, and the same for a
network that was not trained. `--measure-only` measures the file that is there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm

from avalanche_care.benchmarks._glyph_cache import TRAIN_PER_CLASS, draw_class
from avalanche_care.benchmarks._glyph_choice import (
    PRETRAIN_FACES,
    TEST_FACES,
    background_characters,
    shipped_characters,
)
from avalanche_care.benchmarks._glyph_render import GlyphRenderer, Pose, charmap

ARCHITECTURE: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "in_chans": 3,
    "num_classes": 0,
    "class_token": True,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
}
ASSET = Path(__file__).parents[1] / "avalanche_care" / "assets" / "glyph_vit_micro.safetensors"

# Patterns of dots and strokes on a grid: nothing in them helps with letters and signs.
LEFT_OUT = ((0x2800, 0x28FF), (0x1D300, 0x1D35F), (0x1F030, 0x1F09F))


def background() -> list[int]:
    codes = background_characters(shipped_characters())
    return [c for c in codes if not any(first <= c <= last for first, last in LEFT_OUT)]


class Sampler:
    """Freshly drawn background characters in random typefaces and poses."""

    def __init__(self, codes: list[int], seed: int) -> None:
        self.rng = np.random.RandomState(seed)
        self.renderer = GlyphRenderer()
        faces = {c: [f for f in PRETRAIN_FACES if c in charmap(f)] for c in codes}
        self.faces = {c: found for c, found in faces.items() if len(found) > 1}

    def pose(self) -> Pose:
        """A random pose."""
        low, high = (-9.0, -0.15, -0.1, -0.12, -1.4, -1.4), (9.0, 0.08, 0.1, 0.0, 1.4, 1.4)
        rotation, scale, shear, stretch, right, down = self.rng.uniform(low, high).tolist()
        return Pose(rotation, 1 + scale, shear, 1 + stretch, (right, down))

    def pairs(self, size: int) -> Tensor:
        """Two drawings of each of `size` different characters, (2 size, 1, 32, 32) in [0, 1]."""
        chosen = self.rng.choice(list(self.faces), size, replace=False)
        images = []
        for code in [*chosen, *chosen]:
            face = self.faces[code][self.rng.randint(len(self.faces[code]))]
            images.append(self.renderer.draw(int(code), face, self.pose()))
        return torch.from_numpy(np.stack(images))[:, None].float() / 255


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Thicker strokes on a quarter of the images, thinner ones on an eighth, by up to a pixel."""
    n = len(images)

    def amount(share: float) -> Tensor:
        chosen = torch.rand(n, 1, 1, 1, generator=generator) < share
        return chosen * torch.rand(n, 1, 1, 1, generator=generator)

    thicker, thinner = amount(0.25), amount(0.125)
    images = thicker * F.max_pool2d(images, 3, 1, 1) + (1 - thicker) * images
    return thinner * -F.max_pool2d(-images, 3, 1, 1) + (1 - thinner) * images


def to_input(images: Tensor) -> Tensor:
    """Grey (B, 1, 32, 32) in [0, 1] to the network's (B, 3, 32, 32) in [-1, 1]."""
    return (images * 2 - 1).expand(-1, 3, -1, -1)


def make_vit() -> VisionTransformer:
    return VisionTransformer(**ARCHITECTURE)


def start_well(vit: VisionTransformer) -> None:
    """Position embeddings of sines and cosines, and Xavier weights.

    With timm's start (standard deviation 0.02) the tokens carry next to no position.
    """
    rows, columns = vit.patch_embed.grid_size
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    frequency = math.pi * torch.logspace(-3, 0, vit.embed_dim // 4, base=2)  # (D / 4,)
    angles = [axis.flatten()[:, None] * frequency for axis in (x, y)]  # 2 of (patches, D / 4)
    waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
    with torch.no_grad():
        vit.pos_embed[0, vit.num_prefix_tokens :] = 0.7 * torch.cat(waves, dim=1)
        for module in vit.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)


def train(args: argparse.Namespace, codes: list[int]) -> VisionTransformer:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    vit = make_vit()
    start_well(vit)
    sampler = Sampler(codes, args.seed)
    optimizer = torch.optim.AdamW(
        vit.parameters(), lr=args.lr, weight_decay=args.weight_decay, betas=(0.9, 0.98)
    )
    bar = tqdm(range(args.steps), desc="pre-training", unit="step", mininterval=10)
    loss_mean = accuracy_mean = 0.0
    for step in bar:
        images = augment(sampler.pairs(args.batch_pairs), generator)
        one, other = F.normalize(vit(to_input(images)), dim=1).chunk(2)  # each (B, D)
        similarity = one @ other.T / args.temperature  # (B, B)
        mate = torch.arange(len(one))
        loss = (F.cross_entropy(similarity, mate) + F.cross_entropy(similarity.T, mate)) / 2
        for group in optimizer.param_groups:
            annealed = 0.5 + 0.5 * math.cos(math.pi * step / args.steps)
            group["lr"] = args.lr * min(1.0, (step + 1) / 20) * annealed
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vit.parameters(), 1.0)
        optimizer.step()
        hit = (similarity.argmax(dim=1) == mate).float().mean().item()
        loss_mean += 0.05 * (loss.item() - loss_mean)
        accuracy_mean += 0.05 * (hit - accuracy_mean)
        bar.set_postfix(loss=f"{loss_mean:.3f}", accuracy=f"{accuracy_mean:.3f}", refresh=False)
        if step % 100 == 99:
            save(vit, args.out)
    return vit.eval()


def save(vit: VisionTransformer, path: Path) -> None:
    """Weights with the architecture in the file's metadata, by a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    tensors = {name: value.contiguous() for name, value in vit.state_dict().items()}
    save_file(tensors, temporary, metadata={"architecture": json.dumps(ARCHITECTURE)})
    os.replace(temporary, path)


@torch.no_grad()
def features(vit: VisionTransformer, images: np.ndarray) -> Tensor:
    """Pooled features (N, D) of uint8 images (N, 32, 32)."""
    vit.eval()
    batches = torch.from_numpy(images)[:, None].split(256)
    return torch.cat([vit(to_input(batch.float() / 255)) for batch in batches])


def held_out_face_accuracy(vit: VisionTransformer, codes: list[int]) -> float:
    """Background characters in the test typefaces, by the nearest mean of the others' features."""
    renderer = GlyphRenderer()
    known = [c for c in codes if any(c in charmap(f) for f in TEST_FACES)]
    means, queries, labels = [], [], []
    for i, code in enumerate(known):
        faces = [f for f in PRETRAIN_FACES if code in charmap(f)]
        drawn = features(vit, np.stack([renderer.draw(code, f) for f in faces]))
        means.append(drawn.mean(dim=0))
        held_out = [renderer.draw(code, f) for f in TEST_FACES if code in charmap(f)]
        queries.append(features(vit, np.stack(held_out)))
        labels += [i] * len(held_out)
    similarity = F.normalize(torch.cat(queries), dim=1) @ F.normalize(torch.stack(means), dim=1).T
    return (similarity.argmax(dim=1) == torch.tensor(labels)).float().mean().item()


def nearest_class_mean(train: Tensor, test: Tensor) -> float:
    """Accuracy of the nearest mean by cosine; (C, n, D) training and (C, m, D) test features."""
    means = F.normalize(train.mean(dim=1), dim=-1)  # (C, D)
    predicted = (F.normalize(test, dim=-1) @ means.T).argmax(dim=-1)  # (C, m)
    return (predicted == torch.arange(len(means))[:, None]).float().mean().item()


def linear_probe(train: Tensor, test: Tensor, epochs: int = 60) -> float:
    """Test accuracy of a linear classifier on standardised features, by AdamW; shapes as above."""
    torch.manual_seed(0)
    n_classes, per_class, dim = train.shape
    x, labels = train.reshape(-1, dim), torch.arange(n_classes).repeat_interleave(per_class)
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-6
    x = (x - mean) / std
    head = nn.Linear(dim, n_classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(512):
            loss = F.cross_entropy(head(x[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    with torch.no_grad():
        predicted = head((test - mean) / std).argmax(dim=-1)  # (C, m)
    return (predicted == torch.arange(n_classes)[:, None]).float().mean().item()


def measure(vit: VisionTransformer, images: np.ndarray, prefix: str) -> dict[str, float]:
    """Nearest mean and linear probe on all classes and on the first 100 of class order 1993."""
    n_classes, per_class = images.shape[:2]
    x = features(vit, images.reshape(-1, 32, 32)).reshape(n_classes, per_class, -1)
    first = torch.from_numpy(np.random.RandomState(1993).permutation(n_classes)[:100])
    result = {}
    for name, part in ((f"all_{n_classes}", x), ("first_100_of_order_1993", x[first])):
        train, test = part[:, :TRAIN_PER_CLASS], part[:, TRAIN_PER_CLASS:]
        result[f"{prefix}nearest_class_mean_{name}"] = round(nearest_class_mean(train, test), 4)
        result[f"{prefix}linear_probe_{name}"] = round(linear_probe(train, test), 4)
    return result


def pixels(images: np.ndarray) -> float:
    """Nearest class mean by cosine on raw pixels: what no network at all achieves."""
    x = F.normalize(torch.from_numpy(images).float().flatten(2), dim=-1)
    return nearest_class_mean(x[:, :TRAIN_PER_CLASS], x[:, TRAIN_PER_CLASS:])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ASSET, help="where the weights go")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-pairs", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--temperature", type=float, default=1 / 15)
    parser.add_argument("--seed", type=int, default=1993)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure-only", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    record_path = args.out.with_suffix(".json")
    codes = background()
    record: dict[str, Any] = {}
    if args.measure_only:
        vit = make_vit()
        vit.load_state_dict(load_file(args.out))
        record = json.loads(record_path.read_text()) if record_path.is_file() else {}
    else:
        start = time.perf_counter()
        vit = train(args, codes)
        save(vit, args.out)
        record = {
            "architecture": ARCHITECTURE,
            "parameters": sum(p.numel() for p in vit.parameters()),
            "background_characters": len(codes),
            "pretraining_faces": list(PRETRAIN_FACES),
            "held_out_faces": list(TEST_FACES),
            "settings": {k: v for k, v in vars(args).items() if isinstance(v, (int, float))},
            "seconds": round(time.perf_counter() - start),
            "versions": {"torch": torch.__version__, "timm": timm.__version__},
            "held_out_face_accuracy_background": round(held_out_face_accuracy(vit, codes), 4),
        }
    renderer = GlyphRenderer()
    classes = tqdm(shipped_characters(), desc="drawing", unit="class")
    images = np.stack([draw_class(code, renderer) for code in classes])
    torch.manual_seed(args.seed)
    record |= measure(vit, images, "") | measure(make_vit(), images, "untrained_")
    record["pixels_nearest_class_mean_all_1000"] = round(pixels(images), 4)
    record_path.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
