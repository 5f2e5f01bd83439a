"""CaRE in a plain Avalanche script: five tasks of ten characters each, no download.

The loop is Avalanche's own. Its metrics and loggers work as with any other strategy: here its
logger prints the accuracy on all classes seen after each task.
"""

import argparse

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training.plugins import EvaluationPlugin

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.benchmarks import GlyphBenchmark
from avalanche_care.nn import FrozenViT


def main(args):
    """Train on five experiences, evaluating all classes seen after each."""
    device = torch.device(f"cuda:{args.cuda}" if args.cuda >= 0 else "cpu")
    benchmark = GlyphBenchmark("B0-Inc10", n_classes=50)
    strategy = CaREStrategy(
        model=FrozenViT.create("glyph_vit_micro"),
        config=CaREConfig(epochs=4, lr=0.003, batch_size=32, alignment_epochs=5),
        eval_mb_size=128,
        device=device,
        evaluator=EvaluationPlugin(
            accuracy_metrics(epoch=True, stream=True), loggers=[InteractiveLogger()]
        ),
    )
    for step, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[step])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", type=int, default=-1, help="GPU number, -1 for the CPU")
    main(parser.parse_args())
