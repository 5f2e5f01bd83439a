"""Baselines in Avalanche's training loop: the first drawn characters, ten a task, no download.

    python examples/baselines_on_glyphs.py
    python examples/baselines_on_glyphs.py --methods ease,l2p,coda-prompt
    python examples/baselines_on_glyphs.py --methods all --n-classes 20

The default takes a minute or two, and each further method about half a minute. Training is short,
so the table shows that the methods run, and not which is the best. With their own schedules:

    avalanche-care suite examples/suites/quick.toml
"""

import argparse
import time
from dataclasses import fields

import torch

from avalanche_care.benchmarks import GlyphBenchmark
from avalanche_care.nn import FrozenViT
from avalanche_care.plugins import ClassCounts, silent_evaluator
from avalanche_care.strategies import available_methods, get_method

SHORT = {
    "care": {"epochs": 2, "lr": 0.003, "batch_size": 32, "alignment_epochs": 5},
    "ranpac": {"epochs": 4, "projection": 1000},
    "l2p": {"epochs": 2, "lr": 0.01, "batch_size": 16},
    "dualprompt": {"epochs": 2, "lr": 0.01, "batch_size": 16},
    "coda-prompt": {"epochs": 2, "lr": 0.005, "batch_size": 16},
}
"""Every other method that trains has four epochs, and its own settings."""


def short_config(method):
    """Return settings of a method that fit a small backbone and few images."""
    names = {field.name for field in fields(method.config)}
    return method.config(**SHORT.get(method.name, {"epochs": 4} if "epochs" in names else {}))


def main(args):
    """Train each method on every experience, evaluating all classes seen after each."""
    names = list(available_methods()) if args.methods == "all" else args.methods.split(",")
    methods = [get_method(name) for name in names]  # a misspelt name should not cost minutes
    benchmark = GlyphBenchmark("B0-Inc10", n_classes=args.n_classes)
    device = torch.device(f"cuda:{args.cuda}" if args.cuda >= 0 else "cpu")
    print(f"{'method':<18} {'A_last':>7} {'A_avg':>7} {'seconds':>8} {'trainable':>10}")
    for method in methods:
        torch.manual_seed(1)
        counts = ClassCounts()
        strategy = method.strategy(
            model=FrozenViT.create("glyph_vit_micro"),
            config=short_config(method),
            eval_mb_size=128,
            device=device,
            evaluator=silent_evaluator(counts),
        )
        start = time.perf_counter()
        curve = []  # accuracy on all classes seen, after each task
        for step, experience in enumerate(benchmark.train_stream):
            strategy.train(experience)
            strategy.eval(benchmark.seen_stream[step])
            curve.append(100 * counts.result())
        seconds = time.perf_counter() - start
        trainable = sum(p.numel() for p in strategy.model.parameters() if p.requires_grad)
        average = sum(curve) / len(curve)
        note = f"  uses {method.exemplars}" if method.exemplars else ""
        row = f"{method.name:<18} {curve[-1]:7.2f} {average:7.2f} {seconds:8.1f} {trainable:10,}"
        print(row + note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", type=int, default=-1, help="GPU number, -1 for the CPU")
    parser.add_argument("--methods", default="simplecil,finetune,fetril,ranpac,aper-adapter")
    parser.add_argument("--n-classes", type=int, default=30)
    main(parser.parse_args())
