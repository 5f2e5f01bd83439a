"""CaRE's plugins on Avalanche's own Naive strategy.

Naive trains the model as it would any other: one optimizer, one phase. The plugins let it grow by a
triplet of expert, router and perceptron per task, hold the shared expert, and align the head.
Avalanche's logger prints the accuracy on all classes seen after each task.
"""

import argparse

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch.nn import functional as F

from avalanche_care.benchmarks import GlyphBenchmark
from avalanche_care.nn import CaREModel, FrozenViT
from avalanche_care.plugins import (
    ClassifierAlignmentPlugin,
    SharedExpertEMAPlugin,
    TripletExpansionPlugin,
)


def current_classes_only(model):
    """Return a loss over the newest task's columns, so that old classes are not pushed away."""

    def loss(logits, targets):
        if not model.training:
            return F.cross_entropy(logits, targets)
        first = model.head.columns_of(model.tasks - 1).start
        return F.cross_entropy(logits[:, first:], targets - first)

    return loss


def main(args):
    """Train on five experiences, evaluating all classes seen after each."""
    torch.manual_seed(1)
    benchmark = GlyphBenchmark("B0-Inc10", n_classes=50)
    model = CaREModel(FrozenViT.create("glyph_vit_micro"))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.trainable_parameters(), lr=0.003, momentum=0.9),
        criterion=current_classes_only(model),
        train_mb_size=32,
        train_epochs=args.epochs,
        eval_mb_size=128,
        device=torch.device(f"cuda:{args.cuda}" if args.cuda >= 0 else "cpu"),
        plugins=[
            TripletExpansionPlugin(),
            SharedExpertEMAPlugin(),
            ClassifierAlignmentPlugin(epochs=5),
        ],
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True), loggers=[InteractiveLogger()]),
    )
    for step, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, reset_optimizer_state=True)
        strategy.eval(benchmark.seen_stream[step])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", type=int, default=-1, help="GPU number, -1 for the CPU")
    parser.add_argument("--epochs", type=int, default=4)
    main(parser.parse_args())
