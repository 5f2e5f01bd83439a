"""CaRE and SimpleCIL on your own images, with pre-trained weights from a local file.

Images come either from two folders with one sub-folder per class, or from an .npz file with
``train_images``, ``train_labels``, ``test_images``, ``test_labels`` (uint8, N x H x W x 3). For
example CIFAR-100 at 96 pixels on a ViT-Tiny:

    python examples/own_images.py --npz cifar100.npz \
        --arch vit_tiny_patch16_224.augreg_in21k_ft_in1k --weights vit_tiny.safetensors \
        --img-size 96 --protocol B0-Inc10 --epochs 6 --lr 0.02 --batch-size 32 \
        --alignment-epochs 5 --out runs/cifar100

Each method's accuracies and a table are printed; a result file per method and a figure,
``accuracy.png``, go to ``--out``.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from avalanche_care.benchmarks import Protocol, benchmark_from_folders, class_incremental
from avalanche_care.experiments import accuracy_figure, results_table, run_method
from avalanche_care.nn import FrozenViT
from avalanche_care.strategies import CaREConfig, SimpleCILConfig

TRANSFORMS = {
    True: "bicubic resize of the uint8 image, mean and deviation 0.5; flip in training",
    False: "benchmark_from_folders: resize and centre crop, 0.5; random resized crop and flip",
}


def load_npz(path, split, size):
    """Read one split, resize it once (bicubic, antialiased), and keep it as uint8 in memory."""
    with np.load(path) as arrays:
        images = torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2)  # (N, 3, H, W)
        labels = torch.from_numpy(arrays[f"{split}_labels"]).long()
    resize = v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    resized = torch.cat([resize(chunk) for chunk in images.split(1000)])
    return TensorDataset(resized, labels)


def make_benchmark(args):
    """Return the benchmark: images in [-1, 1], flipped at random in training."""
    scale = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    train_transform = v2.Compose([v2.RandomHorizontalFlip(), *scale])
    if args.npz:
        train, test = (load_npz(args.npz, split, args.img_size) for split in ("train", "test"))
        n_classes = len(train.tensors[1].unique())
        protocol = Protocol.parse(
            args.protocol, n_classes=n_classes, class_order_seed=args.class_order
        )
        return class_incremental(
            train,
            test,
            protocol,
            train_transform=train_transform,
            eval_transform=v2.Compose(scale),
            name=Path(args.npz).stem,
        )
    return benchmark_from_folders(
        args.train_dir,
        args.test_dir,
        protocol=args.protocol,
        class_order_seed=args.class_order,
        image_size=args.img_size,
    )


def main(args):
    """Run the methods, write result files, a table and a figure."""
    benchmark = make_benchmark(args)
    backbone = FrozenViT.create(args.arch, weights=args.weights, img_size=args.img_size)
    configs = {
        "simplecil": SimpleCILConfig(),
        "care": CaREConfig(
            epochs=args.epochs,
            lr=args.lr,
            batch_size=args.batch_size,
            alignment_epochs=args.alignment_epochs,
            iterative_prediction=args.iterative,
        ),
    }
    results = []
    for method in args.methods.split(","):
        result = run_method(
            method,
            benchmark,
            backbone,
            config=configs.get(method),
            seed=args.seed,
            device=args.device,
            notes={"img_size": args.img_size, "transforms": TRANSFORMS[bool(args.npz)]},
        )
        result.save(Path(args.out) / f"{method}-seed{args.seed}.json", overwrite=True)
        print(method, " ".join(f"{100 * a:.2f}" for a in result.accuracy))
        results.append(result)
    print(results_table(results))
    accuracy_figure(results, Path(args.out) / "accuracy.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", help="images as arrays; or give the two folders")
    parser.add_argument("--train-dir")
    parser.add_argument("--test-dir")
    parser.add_argument("--arch", default="vit_base_patch16_224.augreg_in21k")
    parser.add_argument("--weights", help="local file; without it timm downloads them")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--protocol", default="B0-Inc10")
    parser.add_argument("--class-order", type=int, default=1993)
    parser.add_argument("--methods", default="simplecil,care")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--alignment-epochs", type=int, default=30)
    parser.add_argument("--iterative", action="store_true", help="iterative prediction")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="runs/own-images")
    main(parser.parse_args())
