"""The commands ``avalanche-care data ...``. Nothing heavy is imported until one of them runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_care.benchmarks.dataset_record import DatasetRecord

__all__ = ["add_data_commands"]

ROOT_HELP = "directory of the data sets ($AVALANCHE_CARE_DATA, else ~/.avalanche_care/data)"


def add_data_commands(data: argparse.ArgumentParser) -> None:
    """Add the subcommands to the parser of ``data``."""
    commands = data.add_subparsers(required=True, metavar="COMMAND")
    _add_download(commands)
    _add_verify(commands)
    _add_info(commands)
    _add_import(commands)
    _add_curate(commands)
    _add_pack(commands)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
) -> argparse.ArgumentParser:
    """A subcommand, with what all of them have."""

    def interruptible(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except KeyboardInterrupt:
            goes_on = "" if run is _verify else "; the same command goes on from here"
            print(f"avalanche-care: stopped{goes_on}", file=sys.stderr)
            return 130

    parser = commands.add_parser(name, help=help, description=description)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=interruptible)
    return parser


def _add_download(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "download",
        _download,
        help="get a published data set, or prepare files of it that you have",
        description="Downloads a data set and brings it into the layout that the benchmarks read, "
        "train/<class>/<image> and test/<class>/<image>. 'data info' lists the names.",
    )
    parser.add_argument("name", help="such as omnibenchmark1k, imagenet-r, cifar100")
    parser.add_argument("--root", help=ROOT_HELP)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help="take these files: a directory (of folders, archives, parquet files) or an archive",
    )
    parser.add_argument("--force", action="store_true", help="replace the data set if it is there")
    parser.add_argument("--keep", action="store_true", help="do not remove what was downloaded")


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "verify",
        _verify,
        help="check that a data set is complete and undamaged",
        description="Compares numbers of classes and images with what they should be, opens every "
        "image, and writes manifest.txt with the SHA-256 of each. Later only what has another size "
        "or time is opened. Of a packed file, all pixels are compared with their checksums.",
    )
    parser.add_argument("data", metavar="NAME_OR_PATH", help="data set, its folder, or packed file")
    parser.add_argument("--root", help=ROOT_HELP)
    parser.add_argument(
        "--deep", action="store_true", help="decode every image and compare every SHA-256"
    )
    parser.add_argument(
        "--renew", action="store_true", help="forget the manifest and write another"
    )
    parser.add_argument("--workers", type=int, help="threads that read (some more than cores)")


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "info",
        _info,
        help="what is known about a data set; without a name, the list of all",
        description="Prints classes, images, realms, protocols, class orders, transforms, licence, "
        "citation, how to get the data set, and what is on the disk.",
    )
    parser.add_argument("name", nargs="?", help="such as omnibenchmark1k, or an imported data set")
    parser.add_argument("--root", help=ROOT_HELP)


def _add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "import",
        _import,
        help="make a data set of your own images",
        description="Brings images into the layout that the benchmarks read. They are linked or "
        "copied, never encoded again, and your files are not changed.",
    )
    parser.add_argument(
        "source",
        help="directory with train and test; directory of class folders; CSV file with the columns "
        "path, label and perhaps split and realm; .npz file; archive; or hub:owner/name",
    )
    _add_target(parser)
    parser.add_argument("--test-fraction", type=float, help="share of each class for testing")
    parser.add_argument("--test-per-class", type=int, help="images of each class for testing")
    parser.add_argument("--split-seed", type=int, default=0, help="another one: another split (0)")
    parser.add_argument(
        "--realm-level", action="store_true", help="class folders are in folders of realms"
    )


def _add_curate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "curate",
        _curate,
        help="draw a benchmark like OmniBenchmark-1K from OmniBenchmark V2",
        description="Draws classes from OmniBenchmark V2's own files, balanced over the realms, by "
        "the rule that the CaRE paper states. The class list is not guaranteed to be the published "
        "one. OmniBenchmark V2's licence forbids derivatives without permission.",
    )
    parser.add_argument(
        "source", help="directory with a folder per realm, <realm>/<realm>.train/record.txt ..."
    )
    _add_target(parser)
    parser.add_argument("--classes", type=int, default=1000, help="classes to draw (1000)")
    parser.add_argument("--seed", type=int, default=1993, help="of the draw (1993)")
    parser.add_argument(
        "--train-per-class", type=int, default=170, help="training images, on average (170)"
    )
    parser.add_argument("--test-per-class", type=int, default=20, help="test images, at most (20)")
    parser.add_argument(
        "--min-images", type=int, default=100, help="training images that a class needs (100)"
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="name of the data set and of its folder")
    parser.add_argument("--root", help=ROOT_HELP)
    parser.add_argument(
        "--link", action="store_true", help="symbolic links; the data set then needs your files"
    )


def _add_pack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "pack",
        _pack,
        help="decode an image folder once, into one file",
        description="Packs a directory with one folder of images per class into one file of "
        "uint8 pixels, which benchmarks take in place of the directory. Stopped at any moment, the "
        "same command goes on where it was.",
    )
    parser.add_argument("folder", help="directory with one folder of images per class")
    parser.add_argument("--out", required=True, help="file to make, such as data/train.pack")
    parser.add_argument(
        "--size", type=int, default=256, help="pixels of the shorter side; 0: unchanged (256)"
    )
    parser.add_argument("--workers", type=int, help="threads that decode (one per core)")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--restart", action="store_true", help="do not go on with an unfinished file"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out broken images")


def _download(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.dataset_record import DatasetRecord
    from avalanche_care.benchmarks.importing.download import download_dataset

    folder = download_dataset(
        args.name,
        args.root,
        source=args.source,
        force=args.force,
        keep=args.keep,
        progress=not args.quiet,
    )
    record = DatasetRecord.load(folder)
    print(_summary(record, folder) if record else f"{folder} is there")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.checking.locate import locate

    path, card = locate(args.data, args.root)
    if path.is_file():
        return _verify_packed(str(path), progress=not args.quiet)
    from avalanche_care.benchmarks.checking.verify import verify_dataset

    report = verify_dataset(
        path,
        card=card,
        deep=args.deep,
        renew=args.renew,
        workers=args.workers,
        progress=not args.quiet,
    )
    if not report.ok:
        raise ValueError(str(report))
    print(report)
    return 0


def _verify_packed(file: str, *, progress: bool) -> int:
    from avalanche_care.benchmarks.packed import PackedImages

    images = PackedImages(file)
    damaged = images.verify(progress=progress)
    if damaged:
        raise ValueError(
            f"{len(damaged)} of {len(images)} images in {file} are damaged; copy the file or "
            "pack the images again:\n- " + "\n- ".join(damaged)
        )
    print(f"{file}: {len(images):,} images of {len(images.classes):,} classes, all intact")
    return 0


def _info(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.checking.info import dataset_info, dataset_table

    print(dataset_table(args.root) if args.name is None else dataset_info(args.name, args.root))
    return 0


def _import(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks._cache import data_root
    from avalanche_care.benchmarks.importing.own import import_data

    record = import_data(
        args.source,
        args.name,
        args.root,
        test_fraction=args.test_fraction,
        test_per_class=args.test_per_class,
        split_seed=args.split_seed,
        realm_level=args.realm_level,
        link=args.link,
        progress=not args.quiet,
    )
    print(_summary(record, data_root(args.root) / args.name))
    return 0


def _curate(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks._cache import data_root
    from avalanche_care.benchmarks.curation import curate

    record = curate(
        args.source,
        args.name,
        args.root,
        classes=args.classes,
        seed=args.seed,
        train_per_class=args.train_per_class,
        test_per_class=args.test_per_class,
        min_images=args.min_images,
        link=args.link,
        progress=not args.quiet,
    )
    print(_summary(record, data_root(args.root) / args.name))
    for key in ("not_published", "licence"):
        if key in record.details:
            print(record.details[key])
    return 0


def _pack(args: argparse.Namespace) -> int:
    from avalanche_care.benchmarks.pack import pack_folder

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
    print(f"{args.out}: {len(images):,} images of {len(images.classes):,} classes")
    return 0


def _summary(record: DatasetRecord, folder: Path) -> str:
    realms = f" in {len(record.realms)} realms" if record.realms else ""
    return (
        f"{folder}: {record.classes:,} classes{realms}, {record.train_images:,} training and "
        f"{record.test_images:,} test images"
    )
