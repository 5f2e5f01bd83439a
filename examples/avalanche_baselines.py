"""Avalanche's own strategies on our benchmark and backbone: three tasks of ten characters each.

No strategy and no plugin of this package takes part: the network is a frozen ViT with Avalanche's
growing classifier behind it. Naive, LwF and EWC train on new images only, StreamingLDA sees each
image once, Replay uses exemplars, and JointTraining has all images at once. A line per strategy is
printed: the accuracy (%) on all classes seen after each task, of JointTraining after the last one.

The same methods are registered in this package as finetune, lwf, ewc, slda, replay and joint, for
runs that can be broken off, result files and tables.
"""

import argparse

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import IncrementalClassifier
from avalanche.training import EWC, JointTraining, LwF, Naive, Replay, StreamingLDA
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_care.benchmarks import GlyphBenchmark
from avalanche_care.nn import FrozenViT

METHODS = {
    "Naive": (Naive, {}),
    "LwF": (LwF, {"alpha": 1.0, "temperature": 2.0}),
    "EWC": (EWC, {"ewc_lambda": 10_000.0, "mode": "online", "decay_factor": 1.0}),
    "Replay": (Replay, {"mem_size": 100}),
    "StreamingLDA": (StreamingLDA, {}),
    "JointTraining": (JointTraining, {}),
}


def build(name, backbone, benchmark, args):
    """Return one of Avalanche's strategies on the frozen backbone."""
    kind, options = METHODS[name]
    options = {
        **options,
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 32,
        "eval_mb_size": 128,
        "device": torch.device(f"cuda:{args.cuda}" if args.cuda >= 0 else "cpu"),
        "evaluator": EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
    }
    if kind is StreamingLDA:
        classes = benchmark.n_classes
        return kind(
            slda_model=backbone, input_size=backbone.embed_dim, num_classes=classes, **options
        )
    model = nn.Sequential(backbone, IncrementalClassifier(backbone.embed_dim, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return kind(model=model, optimizer=optimizer, train_epochs=args.epochs, **options)


def main(args):
    """Train each method on three experiences; print its accuracy on all classes seen after each."""
    benchmark = GlyphBenchmark("B0-Inc10", n_classes=30)
    for name in METHODS:
        torch.manual_seed(1)
        strategy = build(name, FrozenViT.create("glyph_vit_micro"), benchmark, args)
        stream = benchmark.train_stream
        curve = []
        for step, experience in enumerate(stream if name != "JointTraining" else [stream]):
            strategy.train(experience)
            seen = benchmark.seen_stream[step if name != "JointTraining" else -1]
            result = strategy.eval(seen)["Top1_Acc_Stream/eval_phase/test_seen_stream/Task000"]
            curve.append(f"{100 * result:5.1f}")
        print(f"{name:14} {'  '.join(curve):>19}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", type=int, default=-1, help="GPU number, -1 for the CPU")
    parser.add_argument("--epochs", type=int, default=3)
    main(parser.parse_args())
