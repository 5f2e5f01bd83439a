"""The command ``avalanche-care``. Nothing heavy is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avalanche_care._version import __version__
from avalanche_care.cli_data import add_data_commands
from avalanche_care.cli_runs import add_run_commands

DEMO_METHODS = "care,simplecil,finetune"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None: those of the process.

    Returns:
        The exit status: 0, or 2 if the input was at fault.
    """
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not hasattr(args, "settings"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.settings = rest  # of a run: parsed when the method is known
    try:
        status: int = args.run(args)
    except (ValueError, OSError) as error:
        print(f"avalanche-care: {error}", file=sys.stderr)
        return 2
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    parser = argparse.ArgumentParser(
        prog="avalanche-care",
        description="Class-incremental learning on frozen vision transformers, for Avalanche.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="learn a sequence of drawn characters with three methods (CPU, a few minutes)",
        description="CaRE, SimpleCIL and sequential fine-tuning on the embedded glyph benchmark, "
        "10 classes a task. Prints a table; writes result files and a figure.",
    )
    demo.add_argument("--tasks", type=int, default=10, help="tasks of 10 classes, 1 to 100 (10)")
    demo.add_argument("--methods", default=DEMO_METHODS, help=f"comma-separated ({DEMO_METHODS})")
    demo.add_argument("--seed", type=int, default=1, help="of everything but the class order (1)")
    demo.add_argument("--eval-every", type=int, default=1, help="evaluate after every k tasks (1)")
    demo.add_argument("--out", default="runs/demo", help="directory to write to (runs/demo)")
    demo.add_argument("--device", default="cpu", help="such as cpu, cuda, cuda:1 (cpu)")
    demo.add_argument("--quiet", action="store_true", help="no progress bars")
    demo.set_defaults(run=_demo)
    add_run_commands(commands)
    methods = commands.add_parser("methods", help="list the methods")
    methods.set_defaults(run=_methods)
    benchmarks = commands.add_parser("benchmarks", help="list the benchmarks")
    benchmarks.set_defaults(run=_benchmarks)
    add_data_commands(commands.add_parser("data", help="get, check and prepare image data"))
    return parser


def _demo(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.demo import run_demo
    from avalanche_care.experiments.report import results_table

    results = run_demo(
        tasks=args.tasks,
        methods=[name.strip() for name in args.methods.split(",") if name.strip()],
        seed=args.seed,
        eval_every=args.eval_every,
        out=args.out,
        device=args.device,
        progress=not args.quiet,
    )
    print(results_table(results))
    print(f"results: {args.out}/<method>/result.json, figure: {args.out}/accuracy.png")
    return 0


def _methods(args: argparse.Namespace) -> int:
    from avalanche_care.strategies.registry import available_methods

    for name, method in available_methods().items():
        uses = f"; uses {method.exemplars}" if method.exemplars else ""
        print(f"{name:16} {method.paper:30} trains: {method.trains}{uses}")
    return 0


def _benchmarks(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.registry import available_benchmarks

    for name, description in available_benchmarks().items():
        print(f"{name:12} {description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
