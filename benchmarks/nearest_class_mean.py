"""Nearest class mean by plain means, to compare SimpleCIL with: timm, Pillow and NumPy only.

Nothing of this package takes part. Features are those of the CLS token after the last
normalisation; a class is the mean of the features of its training images; an image belongs to the
class of the largest cosine among those seen so far. With

    python benchmarks/nearest_class_mean.py cifar100_100x150.npz vit_tiny.safetensors \
        --result benchmarks/results/cifar100-vit-tiny/simplecil-seed1.json

it prints its accuracies beside those of a result file.
"""

import argparse
import json

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tqdm import tqdm


def features_of(network, images, size):
    """Features (N, D), float64, of uint8 images (N, H, W, 3): bicubic, mean and deviation 0.5."""
    rows = []
    for first in tqdm(range(0, len(images), 100), unit="batch"):
        resized = [
            np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
            for image in images[first : first + 100]
        ]
        pixels = np.stack(resized).astype(np.float32) / 127.5 - 1
        with torch.no_grad():
            out = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
        rows.append(out.numpy().astype(np.float64))
    return np.concatenate(rows)


def unit(rows):
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def curve(train, train_labels, test, test_labels, increment, seed):
    """Accuracy in percent on the classes seen after each task."""
    classes = np.unique(train_labels)
    order = np.random.RandomState(seed).permutation(len(classes))
    means = np.stack([train[train_labels == classes[c]].mean(0) for c in order])
    cosines = unit(test) @ unit(means).T  # (N, classes), in class order
    position = {classes[c]: place for place, c in enumerate(order)}
    targets = np.array([position[label] for label in test_labels])
    accuracies = []
    for seen in range(increment, len(classes) + 1, increment):
        rows = targets < seen
        hits = cosines[rows, :seen].argmax(1) == targets[rows]
        accuracies.append(100 * hits.mean())
    return accuracies


def main(args):
    """Print the accuracies of both, one line per task."""
    torch.set_num_threads(args.threads)
    network = timm.create_model(args.arch, num_classes=0, img_size=args.img_size)
    state = {k: v for k, v in load_file(args.weights).items() if not k.startswith("head.")}
    state = timm.models.vision_transformer.checkpoint_filter_fn(state, network)
    network.load_state_dict(state)
    network.eval()
    with np.load(args.npz) as data:
        parts = {
            split: (
                features_of(network, data[f"{split}_images"], args.img_size),
                data[f"{split}_labels"],
            )
            for split in ("train", "test")
        }
    here = curve(*parts["train"], *parts["test"], args.increment, args.class_order)
    there = [float("nan")] * len(here)
    if args.result:
        with open(args.result, encoding="utf-8") as file:
            there = [100 * value for value in json.load(file)["accuracy"]]
    print("task  nearest class mean  result file")
    for task, (ours, theirs) in enumerate(zip(here, there, strict=True), 1):
        print(f"{task:4}  {ours:18.2f}  {theirs:11.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", help="train_images, train_labels, test_images, test_labels")
    parser.add_argument("weights", help="safetensors file with timm's names")
    parser.add_argument("--arch", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--increment", type=int, default=10)
    parser.add_argument("--class-order", type=int, default=1993)
    parser.add_argument("--result", help="a result file of SimpleCIL")
    parser.add_argument("--threads", type=int, default=2)
    main(parser.parse_args())
