"""A benchmark like OmniBenchmark-1K, drawn from OmniBenchmark V2 by the rule that the paper states.

The CaRE paper: 1,000 classes of OmniBenchmark V2, balanced over its 21 realms, each with at least
100 images, drawn with the seed 1993. The result has 168,718 training images (100 to 403 a class,
169 on average) and 19,849 test images (17 to 20 a class). How exactly the classes and images were
drawn is not said, so that no rule can be sure to give the published list. :func:`curate` has the
rule of this package; it is meant for methods to be compared with each other on what it gives.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks._curation_rule import (
    ClassPool,
    class_pool,
    draw,
    fair_shares,
    size_limit,
)
from avalanche_care.benchmarks._omnibenchmark_v2 import V2Tree, read_v2
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing._own_files import FileWriter
from avalanche_care.benchmarks.importing._own_names import (
    new_target,
    refusal,
    some,
    unique_names,
)
from avalanche_care.benchmarks.importing._own_plan import ImagePlan, Images, make_dataset
from avalanche_care.benchmarks.protocol import DEFAULT_SEED
from avalanche_care.benchmarks.realms import OMNIBENCHMARK_REALMS

__all__ = ["curate"]

logger = logging.getLogger(__name__)

NOT_THE_PUBLISHED_LIST = (
    "Drawn from OmniBenchmark V2 by the rule that the CaRE paper states. The classes and images "
    "are not guaranteed to be those of the published OmniBenchmark-1K: do not compare accuracies "
    "on this set with published ones."
)
LICENCE = (
    "OmniBenchmark V2's licence allows no derivatives without permission. The authors of "
    "OmniBenchmark-1K had it. For this set ask the authors of OmniBenchmark before you share it."
)
ENOUGH_TEST_IMAGES = 0.85  # of those wanted; the published set has 17 to 20 of 20
MISSING_FILE = "missing_images.txt"


def curate(
    source: str | os.PathLike[str],
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    classes: int = 1000,
    seed: int = DEFAULT_SEED,
    train_per_class: int | None = 170,
    test_per_class: int = 20,
    min_images: int = 100,
    link: bool = False,
    progress: bool = False,
) -> DatasetRecord:
    """Draw a benchmark like OmniBenchmark-1K from OmniBenchmark V2's own files.

    The rule:

    1. A class can be drawn if it has at least ``min_images`` training images and 85 % of
       ``test_per_class`` test images (17 of 20) whose files are there. Training images are those of
       ``<realm>.train``. Test images are those of ``<realm>.test`` and, where these are too few,
       also of ``<realm>.val``. Of a realm with neither list, training images are set aside.
    2. The realms, in the order of their names, take turns in getting one class more until there are
       enough. So all have equally many, give or take one, except those with too few classes, which
       are there in full.
    3. Which classes of a realm: the first in the order of the SHA-256 of seed, realm and class id.
    4. Test images: the first ``test_per_class`` in the order of the SHA-256 of seed, class and
       path, or all. Training images: likewise, at most so many per class that the average over
       the classes is ``train_per_class``; this limit is one number for all classes.

    So the result depends only on the lists, on which files are there, and on the seed. The record
    says that it is not guaranteed to be the published list, how many classes each realm gave, where
    the test images are from, and what the licence says; ``missing_images.txt`` in the folder names
    the files that were listed and not there.

    Args:
        source: A directory with a folder per realm, as ``<realm>/<realm>.train/record.txt`` and
            the images, and ``trainid2name_v2.json``.
        name: Name of the data set and of its folder; no name of a known benchmark.
        root: Directory of all data sets; else ``AVALANCHE_CARE_DATA``, else
            ``~/.avalanche_care/data``.
        classes: How many classes.
        seed: Any integer; another one draws other classes and images.
        train_per_class: Average number of training images, at most; None for all there are.
        test_per_class: Number of test images, at most.
        min_images: Number of training images that a class needs.
        link: Make symbolic links and not hard links or copies.
        progress: Whether to show bars.

    Returns:
        What is known about the data set; the same is in ``<root>/<name>/dataset.json``.

    Raises:
        FileNotFoundError: If the source does not exist or has not these files.
        FileExistsError: If there is a data set of that name.
        ValueError: If a list cannot be read, or too few classes have enough images.
        OSError: If there is too little space or the folder cannot be written.
    """
    problems = _setting_problems(classes, seed, train_per_class, test_per_class, min_images)
    if problems:
        raise refusal("no benchmark can be drawn like that", problems)
    target = new_target(name, root)
    source = Path(os.path.abspath(Path(source).expanduser()))
    if not source.is_dir():
        raise FileNotFoundError(f"no such directory: {source}")
    tree = read_v2(source, progress)
    enough = math.ceil(ENOUGH_TEST_IMAGES * test_per_class)
    pools = [
        class_pool(one, tree.held_out[one.realm], seed, test_per_class) for one in tree.classes
    ]
    usable = [pool for pool in pools if len(pool.train) >= min_images and len(pool.test) >= enough]
    shares = _shares(tree, usable, classes, f"{min_images} training and {enough} test images")
    chosen = draw(usable, shares, seed)
    limit = size_limit([len(pool.train) for pool in chosen], train_per_class)
    chosen = [dataclasses.replace(pool, train=pool.train[:limit]) for pool in chosen]
    settings = {
        "classes": classes,
        "seed": seed,
        "train_per_class": train_per_class,
        "test_per_class": test_per_class,
        "min_images": min_images,
    }
    details = _details(tree, usable, chosen) | {"settings": settings, "train_limit": limit}
    logger.warning(NOT_THE_PUBLISHED_LIST)
    realms: dict[str, list[str]] = {}
    for pool in chosen:
        realms.setdefault(pool.of.realm, []).append(pool.of.folder)
    return make_dataset(
        target,
        ImagePlan(_files(chosen, "train"), _files(chosen, "test"), realms, details),
        FileWriter(link),
        source=str(source),
        notes={MISSING_FILE: "".join(f"{path}\n" for path in sorted(tree.missing))},
        progress=progress,
    )


def _shares(tree: V2Tree, usable: Sequence[ClassPool], classes: int, needed: str) -> dict[str, int]:
    """How many classes each realm gives."""
    available = dict.fromkeys(tree.held_out, 0) | Counter(pool.of.realm for pool in usable)
    if len(usable) < classes:
        listed = Counter(one.realm for one in tree.classes)
        realms = [f"{realm} {available[realm]} of {listed[realm]}" for realm in sorted(available)]
        raise ValueError(
            f"only {len(usable):,} of {len(tree.classes):,} classes have {needed}, and {classes:,} "
            f"are wanted. {len(tree.missing):,} listed files are not there"
            + (f", such as {tree.missing[0]}" if tree.missing else "")
            + f". By realm: {', '.join(realms)}. Complete the download, or ask for fewer classes "
            "or images"
        )
    return fair_shares(available, classes)


def _files(chosen: Sequence[ClassPool], split: str) -> Images[str]:
    """Class -> file name -> file."""
    return {
        pool.of.folder: {
            name: pool.file(key)
            for name, key in unique_names(pool.train if split == "train" else pool.test).items()
        }
        for pool in chosen
    }


def _details(
    tree: V2Tree, usable: Sequence[ClassPool], chosen: Sequence[ClassPool]
) -> dict[str, Any]:
    """What the record says."""
    listed = Counter(one.realm for one in tree.classes)
    could, did = (Counter(pool.of.realm for pool in pools) for pools in (usable, chosen))
    absent = sorted(set(OMNIBENCHMARK_REALMS) - set(listed))
    if absent:
        logger.warning("%d of the 21 realms are not there: %s", len(absent), some(absent, 21))
    if tree.missing:
        logger.warning("%d listed files are not there: %s", len(tree.missing), some(tree.missing))
    return {
        "layout": "OmniBenchmark V2",
        "not_published": NOT_THE_PUBLISHED_LIST,
        "licence": LICENCE,
        "realms_absent": absent,
        "classes_by_realm": {
            realm: {"drawn": did[realm], "usable": could[realm], "listed": listed[realm]}
            for realm in sorted(listed)
        },
        "train_images_per_class": _range([len(pool.train) for pool in chosen]),
        "test_images_per_class": _range([len(pool.test) for pool in chosen]),
        "test_images_from": dict(
            sorted(Counter(key.partition("/")[0] for pool in chosen for key in pool.test).items())
        ),
        "files_missing": len(tree.missing),
        **tree.notes,
    }


def _range(sizes: Sequence[int]) -> dict[str, float]:
    return {
        "least": min(sizes),
        "most": max(sizes),
        "mean": round(sum(sizes) / len(sizes), 1),
    }


def _setting_problems(
    classes: int, seed: int, train_per_class: int | None, test_per_class: int, min_images: int
) -> list[str]:
    least = {"classes": (classes, 1), "test_per_class": (test_per_class, 1)}
    least["min_images"] = (min_images, 1)
    problems = [
        f"{name} must be an integer of at least {low}, got {value!r}"
        for name, (value, low) in least.items()
        if not _is_integer(value) or value < low
    ]
    if not _is_integer(seed):
        problems.append(f"seed must be an integer, got {seed!r}")
    if problems or train_per_class is None:
        return problems
    if not _is_integer(train_per_class) or train_per_class < min_images:
        problems.append(
            f"train_per_class must be None or an integer of at least min_images={min_images}, got "
            f"{train_per_class!r}"
        )
    return problems


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
