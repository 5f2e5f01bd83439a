"""The commands about runs: ``run``, ``resume``, ``suite``, ``report``, ``export``, ``predict``.

Nothing heavy is imported until one of them runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avalanche_care.experiments.results import RunResult

__all__ = ["add_run_commands"]

RUN_TEXT = """\
Learns a benchmark with a method, task by task, in a directory of its own below --out. Stopped at
any moment, the same command goes on where it was, and ends with the same numbers.

avalanche-care run METHOD --help lists all settings of the run and of the method; they can also come
from a TOML file, and options on the command line go before what is in the file. Everything that is
wrong with them is said at once. --benchmark and
--backbone stand for their names, and the first part may be left out of --benchmark.protocol,
--benchmark.class-order, --benchmark.n-classes, --benchmark.transforms, --benchmark.root,
--backbone.weights and --backbone.img-size.

    avalanche-care run care --benchmark glyphs --protocol B0-Inc10 --n-classes 100 --seed 1
"""


def add_run_commands(commands: Any) -> None:
    """Add the commands to the parser of the program."""
    _add_run(commands)
    _add_resume(commands)
    _add_export(commands)
    _add_predict(commands)
    _add_suite(commands)
    _add_report(commands)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="learn a benchmark with a method, or go on with it",
        description=RUN_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="avalanche-care run METHOD [options] [settings]",
        add_help=False,
        allow_abbrev=False,  # what is not known here is the method or a setting
    )
    run.add_argument("--config", metavar="FILE", help="a TOML file with settings")
    run.add_argument("--out", default="runs", help="directory of runs (runs)")
    run.add_argument("--dry-run", action="store_true", help="say what would be run, and its cost")
    _add_output_options(run)
    run.add_argument("-h", "--help", action="store_true", help="this; with METHOD: all settings")
    run.set_defaults(run=_run, parser=run, settings=[])


def _add_resume(commands: Any) -> None:
    resume = commands.add_parser(
        "resume",
        help="go on with a run",
        description="Goes on with the run in a directory that `avalanche-care run` has made.",
    )
    resume.add_argument("directory", help="the directory of the run")
    resume.add_argument("--device", help="such as cpu, cuda, cuda:1 (that of the run)")
    resume.add_argument("--num-workers", type=int, help="data loading processes (those of the run)")
    _add_output_options(resume)
    resume.set_defaults(run=_resume)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write the model of a run for use elsewhere",
        description="Writes model.safetensors and model.json, which avalanche_care.load() reads. "
        "Of an unfinished run it is the model so far.",
    )
    export.add_argument("directory", help="the directory of the run")
    export.add_argument("--out", required=True, help="directory to write to")
    export.add_argument("--with-backbone", action="store_true", help="the backbone's weights too")
    export.add_argument("--weights", help="local file with the backbone's weights (as in the run)")
    export.set_defaults(run=_export)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="classify images with an exported model")
    predict.add_argument("directory", help="what `avalanche-care export` has written")
    predict.add_argument("images", nargs="+", help="image files")
    predict.add_argument("--top", type=int, default=3, help="classes per image (3)")
    predict.add_argument("--weights", help="local file with the backbone's weights")
    predict.add_argument("--device", default="cpu", help="such as cpu, cuda, cuda:1 (cpu)")
    predict.set_defaults(run=_predict)


def _add_suite(commands: Any) -> None:
    suite = commands.add_parser(
        "suite",
        help="do many runs: methods x benchmarks x seeds",
        description="Does what is left of a suite of runs. Complete runs are skipped, interrupted "
        "ones go on, failed ones are tried again and do not stop the others.",
    )
    suite.add_argument("file", help="TOML file, such as examples/suites/quick.toml")
    suite.add_argument("--out", required=True, help="directory of its runs")
    suite.add_argument(
        "--engine", default="in-process", help="in-process, processes, or ray (in-process)"
    )
    suite.add_argument("--workers", type=int, help="of the engine processes (one per GPU or core)")
    suite.add_argument("--address", help="of a Ray cluster; auto: the one of this machine")
    suite.add_argument("--cpus", type=float, help="cores of a run, for Ray (1)")
    suite.add_argument("--gpus", type=float, help="GPUs of a run, for Ray (1 if it uses CUDA)")
    suite.add_argument("--quiet", action="store_true", help="no progress bar")
    suite.set_defaults(run=_suite)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="tables and figures of runs",
        description="Collects runs and result files and writes tables (Markdown, LaTeX, CSV), "
        "figures, and a page that holds all of them, index.html.",
    )
    report.add_argument("paths", nargs="+", help="directories of runs, or result files")
    report.add_argument("--out", required=True, help="directory to write to")
    report.add_argument("--no-figures", action="store_true", help="tables only")
    report.set_defaults(run=_report)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument(
        "--log-format",
        choices=["bar", "jsonl"],
        default="bar",
        help="what to print meanwhile: bars, or a line of JSON per task (bar)",
    )


def _run(args: argparse.Namespace) -> int:
    if args.help and (not args.settings or args.settings[0].startswith("-")):
        args.parser.print_help()
        return 0
    from avalanche_care.experiments.command_line import configure, show_settings

    if args.help:
        show_settings(args.settings, args.config)
    config = configure(args.settings, args.config)
    if args.dry_run:
        from avalanche_care.experiments.estimate import describe_run

        print(describe_run(config, args.out))
        return 0
    from avalanche_care.experiments.launch import run

    directory = Path(args.out) / config.directory_name
    print(f"directory: {directory}", file=sys.stderr)
    _show(_until_stopped(args, lambda **how: run(config, args.out, **how)), directory)
    return 0


def _resume(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.launch import resume

    given = {"device": args.device, "num_workers": args.num_workers}
    local = {name: value for name, value in given.items() if value is not None}
    result = _until_stopped(args, lambda **how: resume(args.directory, **local, **how))
    _show(result, Path(args.directory))
    return 0


def _export(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.export import export_run

    export_run(args.directory, args.out, with_backbone=args.with_backbone, weights=args.weights)
    print(f"model: {args.out}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.exported import load

    model = load(args.directory, weights=args.weights, device=args.device)
    for image, found in zip(args.images, model.predict(args.images, top=args.top), strict=True):
        print(f"{image}: " + ", ".join(f"{one.name} {one.score:.3f}" for one in found))
    return 0


def _suite(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.engines import make_engine
    from avalanche_care.experiments.suite import SuiteStopped, run_suite

    options = {name: getattr(args, name) for name in ("workers", "address", "cpus", "gpus")}
    engine = make_engine(args.engine, **options)
    try:
        done = run_suite(args.file, args.out, engine=engine, progress=not args.quiet)
    except SuiteStopped as stopped:
        print(f"avalanche-care: {stopped}", file=sys.stderr)
        return 130
    print(done)
    return 0 if len(done.of("complete")) == len(done.runs) else 1


def _report(args: argparse.Namespace) -> int:
    from avalanche_care.experiments.report import write_report

    print(f"report: {write_report(args.paths, args.out, figures=not args.no_figures)}")
    return 0


def _until_stopped(args: argparse.Namespace, start: Any) -> RunResult:
    as_json = args.log_format == "jsonl"
    try:
        result: RunResult = start(
            progress=not (args.quiet or as_json), on_event=_print_event if as_json else None
        )
    except KeyboardInterrupt:
        print("avalanche-care: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    return result


def _print_event(event: dict[str, Any]) -> None:
    """One line; counts of all classes together."""
    counts = ("correct", "correct_top5", "total")
    print(json.dumps({k: sum(v) if k in counts else v for k, v in event.items()}), flush=True)


def _show(result: RunResult, directory: Path) -> None:
    from avalanche_care.experiments.report import results_table

    print(results_table([result]))
    print(f"result: {directory / 'result.json'}")
