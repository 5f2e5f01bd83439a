"""The command ``avalanche-care``. Nothing heavy is imported until a subcommand runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avalanche_care._version import __version__

DEMO_METHODS = "care,simplecil,finetune"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None: those of the process.

    Returns:
        The exit status: 0, or 2 if the input was at fault.
    """
    args = build_parser().parse_args(argv)
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
    methods = commands.add_parser("methods", help="list the methods")
    methods.set_defaults(run=_methods)
    benchmarks = commands.add_parser("benchmarks", help="list the benchmarks")
    benchmarks.set_defaults(run=_benchmarks)
    _add_data_commands(commands.add_parser("data", help="prepare image data"))
    return parser


def _add_data_commands(data: argparse.ArgumentParser) -> None:
    commands = data.add_subparsers(required=True, metavar="COMMAND")
    pack = commands.add_parser(
        "pack",
        help="decode an image folder once, into one file",
        description="Packs a directory with one folder of images per class into one file of "
        "uint8 pixels, which benchmarks take in place of the directory. Stopped at any moment, the "
        "same command goes on where it was.",
    )
    pack.add_argument("folder", help="directory with one folder of images per class")
    pack.add_argument("--out", required=True, help="file to make, such as data/train.pack")
    pack.add_argument(
        "--size", type=int, default=256, help="pixels of the shorter side; 0: unchanged (256)"
    )
    pack.add_argument("--workers", type=int, help="threads that decode (one per core)")
    pack.add_argument("--force", action="store_true", help="replace the file if it is there")
    pack.add_argument("--restart", action="store_true", help="do not go on with an unfinished file")
    pack.add_argument("--skip-unreadable", action="store_true", help="leave out broken images")
    pack.add_argument("--quiet", action="store_true", help="no progress bars")
    pack.set_defaults(run=_data_pack)
    verify = commands.add_parser("verify", help="read a packed file and check every image in it")
    verify.add_argument("file", help="the packed file")
    verify.add_argument("--quiet", action="store_true", help="no progress bar")
    verify.set_defaults(run=_data_verify)


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
        print(f"{name:12} {method.paper:26} trains: {method.trains}")
    return 0


def _benchmarks(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.registry import available_benchmarks

    for name, description in available_benchmarks().items():
        print(f"{name:12} {description}")
    return 0


def _data_pack(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.pack import pack_folder

    try:
        images = pack_folder(
            args.folder,
            args.out,
            size=args.size,
            workers=args.workers,
            force=args.force,
            restart=args.restart,
            skip_unreadable=args.skip_unreadable,
            progress=not args.quiet,
        )
    except KeyboardInterrupt:
        print("avalanche-care: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{args.out}: {len(images):,} images of {len(images.classes):,} classes")
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.packed import PackedImages

    images = PackedImages(args.file)
    damaged = images.verify(progress=not args.quiet)
    if damaged:
        raise ValueError(
            f"{len(damaged)} of {len(images)} images in {args.file} are damaged; copy the file or "
            "pack the images again:\n- " + "\n- ".join(damaged)
        )
    print(f"{args.file}: {len(images):,} images of {len(images.classes):,} classes, all intact")
    return 0


if __name__ == "__main__":
    sys.exit(main())
