"""Avalanche's own L2P beside ours, in Avalanche's training loop.

``LearningToPrompt`` of Avalanche 0.6 cannot be built with a current timm. ``learning_to_prompt``
gives it the frozen ViT and a head that fits, and changes nothing else. It is run twice: with the
settings that ours has here, and with its own prompts and learning rate. A table of the three is
printed; results go to ``<out>/<name>/result.json``, for ``avalanche-care report <out>``.

Characters, nothing is downloaded (about two minutes):

    python examples/avalanche_l2p.py

CIFAR-100 at 96 pixels on a ViT-Tiny:

    python examples/avalanche_l2p.py --benchmark cifar100-100x150 --n-classes 100 \
        --transforms plain --backbone vit_tiny_patch16_224.augreg_in21k_ft_in1k --img-size 96 \
        --epochs 6 --batch-size 16 --lr 0.001875 --out runs/l2p-cifar100
"""

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from avalanche_care import metrics
from avalanche_care.benchmarks import load_benchmark
from avalanche_care.experiments import RunResult, results_table, run_method
from avalanche_care.nn import FrozenViT
from avalanche_care.plugins import ClassCounts, silent_evaluator
from avalanche_care.strategies import L2PConfig, learning_to_prompt


def run_avalanche(name, benchmark, backbone, args, **options):
    """Train Avalanche's L2P on every experience, evaluating all classes seen after each."""
    torch.manual_seed(args.seed)
    counts = ClassCounts()
    strategy = learning_to_prompt(
        backbone,
        num_classes=benchmark.protocol.n_classes,
        train_mb_size=args.batch_size,
        train_epochs=args.epochs,
        eval_mb_size=128,
        device=args.device,
        evaluator=silent_evaluator(counts),
        **options,
    )
    correct, total, seconds = [], [], {"train": 0.0, "eval": 0.0}
    for step, experience in enumerate(benchmark.train_stream):
        start = time.perf_counter()
        strategy.train(experience)
        trained = time.perf_counter()
        strategy.eval(benchmark.seen_stream[step])
        seconds["train"] += trained - start
        seconds["eval"] += time.perf_counter() - trained
        correct.append(counts.correct)
        total.append(counts.total)
    parameters = [(p.numel(), p.requires_grad) for p in strategy.model.parameters()]
    n_classes = benchmark.protocol.n_classes
    return RunResult.from_counts(
        metrics.stack_counts(correct, n_classes),
        metrics.stack_counts(total, n_classes),
        method=name,
        benchmark=benchmark.name,
        protocol=benchmark.protocol,
        seed=args.seed,
        seconds={**seconds, "total": sum(seconds.values())},
        parameters={
            "trainable": sum(n for n, trains in parameters if trains),
            "total": sum(n for n, _ in parameters),
        },
        config={"epochs": args.epochs, "batch_size": args.batch_size, **options},
        backbone=dataclasses.asdict(backbone.info),
    )


def main(args):
    """Run the three, write result files and print a table."""
    transforms = {"transforms": args.transforms} if args.transforms else {}
    size = {"image_size": args.img_size} if args.img_size else {}
    benchmark = load_benchmark(
        args.benchmark, args.protocol, n_classes=args.n_classes, **transforms, **size
    )
    backbone = FrozenViT.create(args.backbone, weights=args.weights, img_size=args.img_size)
    config = L2PConfig(epochs=args.epochs, batch_size=args.batch_size, lr=args.lr)
    results = [
        run_method("l2p", benchmark, backbone, config=config, seed=args.seed, device=args.device),
        run_avalanche(
            "l2p-avalanche",
            benchmark,
            backbone,
            args,
            lr=args.lr,
            pool_size=config.pool,
            prompt_length=config.length,
            top_k=config.top_k,
            sim_coefficient=config.pull,
        ),
        run_avalanche("l2p-avalanche-defaults", benchmark, backbone, args),
    ]
    same = {
        name: value
        for name, value in results[0].extra.items()
        if name in ("train_images", "test_images", "transforms")  # a report compares equal ones
    }
    for result in results:
        result = dataclasses.replace(result, extra={**result.extra, **same})
        result.save(Path(args.out) / result.method / "result.json", overwrite=True)
    print(results_table(results))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="glyphs")
    parser.add_argument("--protocol", default="B0-Inc10")
    parser.add_argument("--n-classes", type=int, default=30)
    parser.add_argument("--transforms", help="a family, such as plain; not for glyphs")
    parser.add_argument("--backbone", default="glyph_vit_micro")
    parser.add_argument("--weights", help="local file; without it timm downloads them")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="runs/avalanche-l2p")
    main(parser.parse_args())
