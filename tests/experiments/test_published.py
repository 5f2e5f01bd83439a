"""The published numbers that stand beside ours in tables: the file, and how it is read."""

from __future__ import annotations

import configparser
import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from avalanche_care.experiments import published as module
from avalanche_care.experiments._published_entries import parse
from avalanche_care.experiments.published import (
    BACKBONES,
    PROVENANCE,
    SOURCES,
    PublishedNumber,
    published,
    published_quantities,
)

TEXT = (resources.files("avalanche_care") / "assets" / "published.json").read_text("utf-8")
EVERYTHING = published(variant=None)
OB1K = "omnibenchmark1k"
FOUR = ("B0-Inc10", "B0-Inc5", "B100-Inc6", "B100-Inc3")  # 100, 200, 151 and 301 tasks

BENCHMARKS = {
    *("omnibenchmark1k", "omnibenchmark", "cifar100", "imagenet-r", "imagenet-a", "objectnet"),
    *("vtab", "cub", "cars", "food101", "five-datasets", "tiny-imagenet", "imagenet-subset"),
    "imagenet1k",
}
METHODS = {
    *("care", "l2p", "dualprompt", "coda-prompt", "simplecil", "ease", "ranpac", "ssiat", "slca"),
    *("aper-adapter", "aper-ssf", "aper-vpt-shallow", "aper-vpt-deep", "aper-finetune"),
    *("mos", "tuna", "min", "sema", "moal", "moe-adapters", "fetril", "finetune", "joint"),
    *("acil", "clare", "inflora", "sd-lora"),
}


def only(method: str, benchmark: str, protocol: str, source: str, **more: Any) -> PublishedNumber:
    found = published(method, benchmark, protocol, **more)
    (number,) = [n for n in found if n.source == source]
    return number


@pytest.mark.parametrize(
    ("method", "benchmark", "protocol", "backbone", "source", "A_avg", "A_last"),
    [
        # Lou et al., ICML 2026: OmniBenchmark-1K, 301, 151, 200 and 100 tasks
        ("care", OB1K, "B100-Inc3", "in21k", "lou2026care", 77.18, 68.51),
        ("mos", OB1K, "B100-Inc6", "in21k", "lou2026care", 76.01, 65.20),
        ("sema", OB1K, "B0-Inc5", "in21k", "lou2026care", 45.06, 19.95),
        ("l2p", OB1K, "B100-Inc3", "in21k", "lou2026care", 23.07, 9.03),
        # the same, IN1K weights; sequences of 50 and 5 tasks; curves figure
        ("tuna", OB1K, "B0-Inc10", "in1k-ft", "lou2026care", 73.16, 61.72),
        ("care", "imagenet-r", "B0-Inc4", "in21k", "lou2026care", 82.92, 76.98),
        ("care", "vtab", "B0-Inc10", "in21k", "lou2026care", 96.93, 93.80),
        ("moal", OB1K, "B0-Inc10", "in21k", "lou2026care-figure", None, 43.2),
        # Zhou et al., CVPR 2024 (EASE), table 1
        ("aper-vpt-shallow", "cifar100", "B0-Inc5", "in21k", "zhou2024ease", 90.43, 84.57),
        ("simplecil", "imagenet-a", "B0-Inc20", "in21k", "zhou2024ease", 59.77, 48.91),
        ("dualprompt", "cub", "B0-Inc10", "in21k", "zhou2024ease", 77.47, 66.54),
        # RevisitingCIL's and EASE's logs
        ("aper-ssf", "objectnet", "B0-Inc10", "in21k", "zhou2024revisiting-logs", 68.91, 56.25),
        ("ease", "objectnet", "B0-Inc10", "in1k-ft", "zhou2024ease-logs", 69.15, 55.85),
        # Sun et al., AAAI 2025 (MOS), results table and logs
        ("mos", "imagenet-a", "B0-Inc20", "in21k", "sun2025mos", 69.13, 59.12),
        ("mos", "imagenet-a", "B0-Inc20", "in21k", "sun2025mos-logs", 67.078, 56.22),
        # Jiang et al., NeurIPS 2025 (MIN), ImageNet-R in 50 steps; MOS as they ran it
        ("min", "imagenet-r", "B0-Inc4", "in21k", "jiang2025min", 82.26, 75.72),
        ("mos", "omnibenchmark", "B0-Inc15", "in21k", "jiang2025min", None, 78.58),
        # Gao et al., CVPR 2025 (MoAL), OmniBenchmark in 30 tasks
        ("moal", "omnibenchmark", "B0-Inc10", "in21k", "gao2025moal", 84.04, 74.02),
        # Wang et al., ICCV 2025 (TUNA), and RanPAC in that paper
        ("tuna", "objectnet", "B0-Inc20", "in21k", "wang2025tuna", 76.46, 66.32),
        ("ranpac", "cifar100", "B0-Inc5", "in21k", "wang2025tuna", 94.00, 90.62),
        # McDonnell et al., NeurIPS 2023 (RanPAC), table of the repository
        ("ranpac", "cars", "B16-Inc20", "in21k", "mcdonnell2023ranpac", None, 77.5),
        # Wang et al., CVPR 2025 (SEMA); Smith et al., CVPR 2023 (CODA-Prompt), 5 tasks
        ("sema", "vtab", "B0-Inc10", "in1k-ft", "wang2025sema", 91.26, 89.64),
        ("coda-prompt", "imagenet-r", "B0-Inc40", "in1k-ft", "smith2023coda", 82.04, 76.51),
        # Tan et al., CVPR 2024 (SSIAT) and its README; Zhang et al., ICCV 2023 (SLCA), Cars
        ("ssiat", "imagenet-a", "B0-Inc20", "in21k", "tan2024ssiat", 70.83, 62.43),
        ("l2p", "cub", "B0-Inc20", "in21k", "tan2024ssiat-readme", 79.62, 67.02),
        ("slca", "cars", "10 tasks", "in21k", "zhang2023slca", 76.93, 67.73),
        # Petit et al., WACV 2023 (FeTrIL); Yu et al., CVPR 2024 (MoE-Adapters), logs
        ("moe-adapters", "tiny-imagenet", "B100-Inc20", "clip", "yu2024moe-adapters", 81.12, 76.87),
        ("fetril", "cifar100", "half first, T=60", "resnet18-scratch", "petit2023fetril",
         59.8, None),
    ],
)  # fmt: skip
def test_numbers_typed_a_second_time(
    method: str,
    benchmark: str,
    protocol: str,
    backbone: str,
    source: str,
    A_avg: float | None,
    A_last: float | None,
) -> None:
    number = only(method, benchmark, protocol, source, backbone=backbone)
    assert (number.A_avg, number.A_last) == (A_avg, A_last)


def test_spread_and_runs() -> None:
    # Lou et al., four class orders: 78.17 +- 1.03 and 65.58 +- 0.88
    number = only("mos", OB1K, "B0-Inc10", "lou2026care-orders")
    assert (number.A_avg_std, number.A_last_std, number.runs) == (1.03, 0.88, 4)
    # Zhang et al. (SLCA), CIFAR-100: 94.09 +- 0.87 and 91.53 +- 0.28
    number = only("slca", "cifar100", "B0-Inc10", "zhang2023slca")
    assert (number.A_avg_std, number.A_last_std, number.runs) == (0.87, 0.28, None)
    seeds = (76.08, 75.85, 75.08, 76.07, 75.72)  # EASE, issue 2: class orders 1993 to 1997
    number = only("ease", "imagenet-r", "B0-Inc20", "zhou2024ease-issue-2")
    assert number.A_last == pytest.approx(statistics.mean(seeds), abs=0.005)
    assert number.A_last_std == pytest.approx(statistics.stdev(seeds), abs=0.005)


def test_the_main_table_is_complete_and_has_the_margins_that_the_paper_names() -> None:
    table = {(n.method, n.protocol): n for n in published(benchmark=OB1K, backbone="in21k")[::-1]}
    methods = {n.method for n in published(benchmark=OB1K) if n.source == "lou2026care"}
    assert len(methods) == 12
    assert {(m, p) for m in methods for p in FOUR} <= table.keys()
    for protocol, margin in zip(FOUR, (4.00, 3.95, 3.81, 4.14), strict=True):
        care, mos = (
            only(m, OB1K, protocol, "lou2026care", backbone="in21k") for m in ("care", "mos")
        )
        assert care.A_last - mos.A_last == pytest.approx(margin)  # type: ignore[operator]


def test_figure_and_table_of_one_paper_agree_where_they_are_of_one_run() -> None:
    apart = set()
    for read in published(benchmark=OB1K):
        if read.source == "lou2026care-figure":
            printed = only(read.method, OB1K, read.protocol, "lou2026care", backbone="in21k")
            if abs(read.A_last - printed.A_last) > 0.3:  # type: ignore[operator]
                apart.add((read.method, read.protocol))
    assert apart == {(m, "B0-Inc10") for m in ("l2p", "dualprompt", "moal")}


def test_ablations_stand_apart_and_follow_from_the_printed_changes() -> None:
    whole = only("care", OB1K, "B0-Inc10", "lou2026care", backbone="in21k")
    ablations = [n for n in published("care", OB1K, variant=None) if n.variant]
    assert len(ablations) == 30
    for number in ablations:
        change = re.search(r"change of (-[\d.]+) against 68\.27", number.note)
        assert change is not None
        assert number.A_last == pytest.approx(whole.A_last + float(change[1]))  # type: ignore[operator]
    assert not any(n.variant for n in published("care"))
    (one,) = published("care", variant="selection by autoencoders")
    assert one.A_last == 64.35  # also named in the text on task locators


def test_average_is_at_least_last_but_for_vtab() -> None:
    # VTAB's domains come in a fixed order, and the later ones are easier.
    above = {
        (n.method, n.benchmark, n.backbone, n.source)
        for n in EVERYTHING
        if n.A_avg is not None and n.A_last is not None and n.A_last > n.A_avg
    }
    assert above == {
        ("mos", "vtab", "in21k", "sun2025mos"),
        ("mos", "vtab", "in21k", "sun2025mos-logs"),
        ("mos", "vtab", "in1k-ft", "sun2025mos-logs"),
        ("ease", "vtab", "in1k-ft", "zhou2024ease-logs"),
    }


def test_curves_end_in_the_last_and_average_to_the_average() -> None:
    curves = [n for n in EVERYTHING if n.curve]
    assert Counter(n.method for n in curves) == {"simplecil": 6, "ease": 2, "l2p": 1}
    for n in curves:
        assert n.A_avg is not None
        assert n.curve[-1] == n.A_last
        assert statistics.mean(n.curve) == pytest.approx(n.A_avg, abs=0.0051)


def test_names_are_the_known_ones() -> None:
    assert {n.benchmark for n in EVERYTHING} == BENCHMARKS
    assert {n.method for n in EVERYTHING} == METHODS
    assert {n.provenance for n in EVERYTHING} == set(PROVENANCE) - {"code"}
    others = published_quantities(variant=None)
    assert {n.backbone for n in (*EVERYTHING, *others)} == set(BACKBONES)
    assert {n.unit for n in others} == {"%", "points", "million", "s"}


def test_each_setting_has_a_source_once_and_every_source_is_cited() -> None:
    rows = json.loads(TEXT)["numbers"]
    keys = ("method", "variant", "benchmark", "protocol", "backbone", "source")
    assert len({tuple(row.get(key) for key in keys) for row in rows}) == len(rows)
    cited = {n.source for n in (*EVERYTHING, *published_quantities(variant=None))}
    assert cited == set(SOURCES)
    for source in SOURCES.values():
        assert len(source.citation) > 20
        assert re.fullmatch(r"(\d{4}\.\d{5})?", source.arxiv)


def test_no_text_is_a_path() -> None:
    texts = [*SOURCES, *(part for source in SOURCES.values() for part in source)]
    for row in (*EVERYTHING, *published_quantities(variant=None)):
        texts += [row.method, row.benchmark, row.protocol, row.source, row.variant, row.note]
    pathlike = re.compile(r"(^|\s)[~.]*/|[\w.]/[\w.-]+/|\\|\.(md|py|json|png|txt)\b|\bcards?\b")
    assert [text for text in texts if pathlike.search(text)] == []


def test_one_object_per_line_in_order() -> None:
    lines = TEXT.splitlines()
    rows = [json.loads(line.rstrip(",")) for line in lines if line.startswith('  {"method"')]
    assert len(rows) == len(EVERYTHING) + len(published_quantities(variant=None))
    keys = [
        (row["method"], row.get("variant", ""), row["benchmark"], naturally(row["protocol"]),
         row["backbone"], row["source"])
        for row in rows[: len(EVERYTHING)]
    ]  # fmt: skip
    assert keys == sorted(keys)


def naturally(text: str) -> list[tuple[int, str]]:
    return [(int(t), "") if t.isdigit() else (-1, t) for t in re.split(r"(\d+)", text)]


def test_the_best_provenance_comes_first_and_nothing_is_no_error() -> None:
    ranks = [list(PROVENANCE).index(n.provenance) for n in published("coda-prompt", "cifar100")]
    assert len(set(ranks)) > 3
    assert ranks == sorted(ranks)
    assert published("care", "glyphs") == ()
    assert published() == published(variant="")
    assert len(published()) < len(EVERYTHING)


def test_other_quantities() -> None:
    recall = published_quantities("care", "top-2 routers contain the true task, block 12")
    assert [q.value for q in recall] == [80.6]  # Lou et al., routing recall at 301 tasks
    added = {q.method: q.value for q in published_quantities(quantity="parameters added")}
    assert added["care"] == 90.99  # Lou et al., table 6
    forgetting = published_quantities(quantity="forgetting")
    assert ("tuna", "imagenet-a", 12.94) in {(q.method, q.benchmark, q.value) for q in forgetting}


GOOD = {
    **{"method": "care", "benchmark": "cub", "protocol": "B0-Inc10", "backbone": "in21k"},
    **{"A_avg": 90.0, "A_last": 80.0, "source": "x", "provenance": "paper"},
}


def text_with(*rows: Any, **sections: Any) -> str:
    sources = {"x": {"citation": "X. A paper. 2030"}}
    whole = {"format": 1, "sources": sources, "numbers": rows, "quantities": []}
    return json.dumps(whole | sections)


def test_a_good_file_is_read() -> None:
    (number,) = parse(text_with(GOOD)).numbers
    assert (number.method, number.A_last, number.runs, number.curve) == ("care", 80.0, None, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A_last": 0.8e3}, r"numbers\[1\], care: A_last must be in per cent, .* got 800.0"),
        ({"A_last": "80"}, "A_last must be in per cent"),
        ({"A_avg": None, "A_last": None}, "A_avg or A_last must be given"),
        ({"A_avg_std": -1.0}, "A_avg_std must be the spread of a given A_avg, got -1.0"),
        ({"A_avg": None, "A_avg_std": 1.0}, "A_avg_std must be the spread of a given A_avg"),
        ({"runs": 0}, "runs must be a whole number of at least 1, got 0"),
        ({"curve": [90.0, 101.0]}, "curve must be numbers within 0 and 100"),
        ({"A_lst": 80.0}, "unknown key 'A_lst', did you mean 'A_last'?"),
        ({"provenance": "hearsay"}, "provenance must be one of paper, log, .* got 'hearsay'"),
        ({"backbone": "vit"}, "backbone must be one of in21k, .* got 'vit'"),
        ({"protocol": "10x10"}, "protocol must be like 'B0-Inc10'.* got '10x10'"),
        ({"method": ""}, "method must be a text, got ''"),
        ({"note": 3}, "note must be a text, got 3"),
        ({"source": "y"}, "source 'y' is cited, but not among the sources"),
        ({}, r"care \|  \| cub \| B0-Inc10 \| in21k \| x .* 2 times; give each its own source"),
    ],
)
def test_a_broken_entry_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text_with(GOOD, GOOD | changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "published.json is not JSON"),
        ("[]", "must be a JSON object of format 1"),
        (text_with(format=2), "must be a JSON object of format 1"),
        (text_with(["care"]), r"numbers\[0\] must be an object, got \['care'\]"),
        (text_with({"method": "care"}), r"numbers\[0\], care: .*missing"),
        (text_with(quantities=[GOOD]), r"quantities\[0\]: unknown key 'A_"),
    ],
)
def test_a_broken_file_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="A_last must") as error:
        parse(text_with(GOOD | {"A_last": 101, "runs": 0}, GOOD | {"backbone": "vit"}))
    assert "runs must" in str(error.value)
    assert "backbone must" in str(error.value)


def test_the_file_ships_and_is_read_when_somebody_asks() -> None:
    config = configparser.ConfigParser()
    if config.read(Path(__file__).parents[2] / "setup.cfg"):
        assert "assets/*" in config["options.package_data"]["avalanche_care"].split()
    code = """if True:
        import sys
        from avalanche_care.experiments import published
        assert published._asset.cache_info().currsize == 0
        published.published("care"), published.SOURCES
        assert published._asset.cache_info().misses == 1
        assert not {"torch", "avalanche", "numpy"} & set(sys.modules)
        """
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'SOURCE'"):
        _ = module.SOURCE
