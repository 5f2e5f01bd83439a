"""Reports: from the files of runs to tables, a page and figures."""

from __future__ import annotations

import csv
import dataclasses
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from runs import IN21K, made_up, save

from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.config import run_config
from avalanche_care.experiments.figures import write as writing
from avalanche_care.experiments.published import SOURCES, published
from avalanche_care.experiments.report import write_report
from avalanche_care.experiments.reporting.cells import cells
from avalanche_care.experiments.reporting.collect import collect_runs
from avalanche_care.experiments.reporting.comparison import Comparison
from avalanche_care.experiments.reporting.drawings import draw
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.suite import Suite
from avalanche_care.experiments.suite_list import write_suite_list

VIT = {"name": IN21K, "sha256": "a" * 64}
CIFAR = {"benchmark": "cifar100", "protocol": Protocol(0, 10, 100), "backbone": VIT}
DEFAULTS = {"epochs": 20, "lr": 0.01, "brmoe": {"top_k": 3}}


def known(method: str) -> Mapping[str, Any] | None:
    return DEFAULTS if method == "care" else None


def report(root: Path, **options: Any) -> Path:
    options = {"figures": False, "defaults": known} | options
    page = write_report(root / "runs", root / "report", **options)
    assert page == root / "report" / "index.html"
    return page.parent


def rows(out: Path, name: str) -> dict[str, dict[str, str]]:
    """First cell of a table's row -> the row."""
    with (out / "tables" / f"{name}.csv").open(newline="") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def notes(out: Path, name: str) -> str:
    """What stands below a table in the text."""
    title = re.search(r"\\caption\{(.*)\}", (out / "tables" / f"{name}.tex").read_text())
    assert title is not None
    text = (out / "report.md").read_text().replace("\\", "")
    start = text.index(f"## {title[1].replace(chr(92), '')}\n")
    return text[start:].split("\n## ")[0]


def links_of(text: str) -> dict[str, str]:
    """What each label in Markdown stands for."""
    defined = re.findall(r"^\[(\w+)\]: (\S+)$", text, re.M)
    assert len(dict(defined)) == len(defined)
    assert set(re.findall(r"\]\[(\w+)\]", text)) == set(dict(defined))  # all, and no others
    return dict(defined)


def linked_from(cell: str, text: str) -> list[str]:
    """The runs behind a cell in Markdown, through the line that names them if there are several."""
    links = links_of(text)
    [label] = re.findall(r"\]\[(\w+)\]", cell)
    if not links[label].startswith("#"):
        return [links[label]]
    [line] = re.findall(rf'<a id="{links[label][1:]}"></a>(.*)', text)
    return [links[name] for name in re.findall(r"\]\[(\w+)\]", line)]


def table_lines(text: str) -> list[str]:
    """Rows of a table in Markdown, without its heading."""
    return [line for line in text.split("\n") if line.startswith("| ")][2:]


def test_every_number_is_the_mean_of_the_files(tmp_path: Path) -> None:
    realms = {"realm_accuracy": {"arabic": 0.7, "latin": 0.8}, "A_last_top5": 0.9}
    paths = [save(tmp_path / "runs", made_up(seed=s, extra=realms)) for s in (1, 2, 3)]
    save(tmp_path / "runs", made_up("simplecil"))
    out = report(tmp_path)
    results = [RunResult.load(path / "result.json") for path in paths]
    assert len({r.A_last for r in results}) == 3  # or the deviations would be of nothing

    def check(table: str, column: str, values: list[float]) -> None:
        row = rows(out, f"glyphs-b0-inc2{table}")["care"]
        assert float(row[column]) == pytest.approx(sum(values) / 3, rel=1e-9)
        deviation = (sum((v - sum(values) / 3) ** 2 for v in values) / 2) ** 0.5  # 3 - 1
        spread = row.get(f"{column}, standard deviation")
        assert float(spread or 0) == pytest.approx(deviation, abs=1e-9)

    check("", "A_last (%)", [100 * r.A_last for r in results])
    check("", "A_avg (%)", [100 * r.A_avg for r in results])
    check("", "forgetting (%)", [100 * (r.forgetting or 0) for r in results])
    for column, name in {
        "A_last (%): classes alike": "A_last_class_mean",
        "A_last (%): top-5": "A_last_top5",
        "A_avg (%): classes alike": "A_avg_class_mean",
        "A_avg (%): all steps' images alike": "A_avg_over_samples",
        "forgetting (%): first minus last": "forgetting_from_first",
        "BWT (%)": "backward_transfer",
    }.items():
        check("-definitions", column, [100 * r.extra[name] for r in results])
    check("-definitions", "forgetting (%): max minus last", [100 * r.forgetting for r in results])  # type: ignore[operator]
    for name in ("train", "eval", "total"):
        check("-cost", f"seconds: {name}", [r.seconds[name] for r in results])
    check("-cost", "parameters: trainable", [r.parameters["trainable"] for r in results])
    check("-realms", "arabic", [70.0] * 3)
    main = rows(out, "glyphs-b0-inc2")
    assert (main["care"]["n"], main["care"]["seeds"]) == ("3", "1, 2, 3")
    assert main["simplecil"]["A_last (%), standard deviation"] == ""
    assert rows(out, "glyphs-b0-inc2-realms")["simplecil"]["latin"] == "not recorded"
    assert "peak" not in str(rows(out, "glyphs-b0-inc2-cost"))  # no run recorded it
    assert "sample standard deviation (n - 1 in the denominator)" in notes(out, "glyphs-b0-inc2")


def test_the_best_is_bold_and_tested(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        save(tmp_path / "runs", made_up(seed=seed, last=0.8))
        save(tmp_path / "runs", made_up("simplecil", seed=seed, last=0.4))
    out = report(tmp_path)
    text = notes(out, "glyphs-b0-inc2")
    first, second = ([c.count("**") for c in line.split("|")] for line in table_lines(text))
    assert (first[4:6], second[4:6]) == ([2, 2], [0, 0])  # A_last and A_avg
    assert first[6] + second[6] == 2
    assert "Significance: the best row of a column against each other one by Welch's" in text
    assert re.search(r"- A_last: care \(3 seeds\) is best; significantly better, .* simplec", text)


def test_links_lead_to_the_runs(tmp_path: Path) -> None:
    runs = [save(tmp_path / "runs", made_up(seed=seed)) for seed in (1, 2)]
    odd = save(tmp_path / "runs" / "50% & more", made_up("simplecil"))
    by_hand = made_up("finetune").save(tmp_path / "runs" / "finetune.json")
    out = report(tmp_path)
    linked = {
        "index.html": re.findall(r'href="([^"#][^"]*)"', (out / "index.html").read_text()),
        "report.md": [
            link
            for link in links_of((out / "report.md").read_text()).values()
            if not link.startswith("#")
        ],
    }
    for links in linked.values():
        found = {(out / unquote(link)).resolve() for link in links if not link.startswith("data:")}
        assert found == {path.resolve() for path in (*runs, odd, by_hand)}
        assert all(link.startswith(("../runs/", "data:")) for link in links)
    assert rows(out, "glyphs-b0-inc2")["care"]["runs"].split("; ") == [
        f"../../runs/{path.name}" for path in runs
    ]


def test_every_number_of_the_text_names_its_runs(tmp_path: Path) -> None:
    runs = [save(tmp_path / "runs", made_up(seed=seed)) for seed in (1, 2)]
    runs.append(save(tmp_path / "runs", made_up("mos", 1)))
    save(tmp_path / "runs", made_up("mos", 2), status="failed")
    text = (report(tmp_path) / "report.md").read_text()
    behind = {
        "care": [f"../runs/{run.name}" for run in runs[:2]],
        "mos": [f"../runs/{runs[2].name}"],
    }
    rows = [line.split(" | ") for line in text.split("\n") if re.match(r"\| (care|mos) ", line)]
    numbers = 0
    for row in rows:
        method = row[0][2:].split()[0]
        for cell in row[3:]:
            assert linked_from(cell, text) == behind[method], cell
            numbers += 1
    assert numbers == 2 * (3 + 8 + 6)  # main table, definitions, cost


def test_the_text_does_not_say_twice_what_it_can_link(tmp_path: Path) -> None:
    paths = [save(tmp_path / "runs", made_up(seed=seed)) for seed in (1, 2, 3)]
    save(tmp_path / "runs", made_up("simplecil"))
    text = (report(tmp_path) / "report.md").read_text()
    for path in paths:
        assert text.count(f"../runs/{path.name}") == 1
    assert text.count("epochs = 4 (default 20)") == 1
    below = notes(tmp_path / "report", "glyphs-b0-inc2-definitions")
    assert "<sup>a, b</sup> see [glyphs, B0-Inc2, 5 tasks](#glyphs-b0-inc2)" in below
    anchors = re.findall(r'<a id="([^"]*)"></a>', text)
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\(#([^)]*)\)", text)) <= set(anchors)
    assert {link[1:] for link in links_of(text).values() if link[0] == "#"} <= set(anchors)


def test_what_is_missing_or_failed_says_so(tmp_path: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / "runs", made_up(seed=seed))
    save(tmp_path / "runs", made_up(seed=3), status="failed", error="CUDA out of memory")
    save(tmp_path / "runs", made_up("finetune", 1), status="failed", error="killed")
    save(tmp_path / "runs", made_up("finetune", 2), status="unfinished")
    save(tmp_path / "runs", made_up(benchmark="omniglot"))
    (tmp_path / "runs" / "broken.json").write_text("{")
    out = report(tmp_path)
    grid = rows(out, "overview-a-last")
    assert grid["finetune"]["glyphs, B0-Inc2, 5 tasks"] == "failed and unfinished"
    assert grid["finetune"]["omniglot, B0-Inc2, 5 tasks"] == "not run"
    assert "not all seeds are complete" in grid["care"]["notes"]
    main = rows(out, "glyphs-b0-inc2")
    assert (main["care"]["n"], main["care"]["seeds"]) == ("2", "1, 2, 3 failed")
    assert "seed 3: failed: CUDA out of memory" in main["care"]["notes"]
    assert float(main["care"]["A_last (%), standard deviation"]) > 0
    assert (main["finetune"]["n"], main["finetune"]["A_avg (%)"]) == ("0", "failed and unfinished")
    assert "seed 2: unfinished, 3 of 5 tasks done" in main["finetune"]["notes"]
    states = {row["run"]: row["state"] for row in rows(out, "runs").values()}
    assert states["broken.json"].startswith("unreadable: ")
    assert len(states) == 7
    counted = "7 runs: 3 complete, 2 failed, 1 unfinished, 1 unreadable."
    for name in ("index.html", "report.md"):
        assert counted in (out / name).read_text()


def test_fewer_evaluations_are_neither_averaged_nor_ranked_with_more(tmp_path: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / "runs", made_up(seed=seed, last=0.5))
        save(tmp_path / "runs", made_up("mos", seed=seed, last=0.3))
        save(tmp_path / "runs", made_up(seed=2 + seed, last=0.95, every=2))
    out = report(tmp_path)
    text = notes(out, "glyphs-b0-inc2")
    sparse, full, _ = (line.split("|") for line in table_lines(text))  # the highest A_last first
    assert (sparse[4].strip(), full[4].strip()) == ("3 of 5", "5 of 5")
    assert "**" in sparse[5]  # A_last does not depend on the evaluations before
    assert "**" not in full[5]
    assert "**" not in sparse[6]
    assert "**" in full[6]  # A_avg
    assert "over the 3 of 5 tasks that were evaluated; not ranked with rows over more of" in text
    assert "A_avg: care (2 seeds) is best" in text
    with (out / "tables" / "glyphs-b0-inc2.csv").open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["2", "2", "2"]


def test_evaluated_alike_runs_are_ranked_among_themselves(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up(last=0.8, every=2))
    save(tmp_path / "runs", made_up("simplecil", last=0.4, every=2))
    save(tmp_path / "runs", made_up("mos"), status="unfinished")  # a full one will come
    text = notes(report(tmp_path), "glyphs-b0-inc2")
    assert "not ranked" not in text
    assert "**" in table_lines(text)[0].split("|")[6]  # A_avg


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / "runs", made_up(seed=seed, last=0.9, config=DEFAULTS, **CIFAR))
    save(tmp_path / "runs", made_up("unheard-of", last=0.8, **CIFAR))
    out = report(tmp_path)
    theirs = published("care", "cifar100", "B0-Inc10", "in21k")[0]
    assert theirs.A_last is not None
    row = rows(out, "cifar100-b0-inc10")["care"]
    for name in ("A_last", "A_avg"):
        ours, value = float(row[f"{name} (%): ours"]), getattr(theirs, name)
        assert float(row[f"{name} (%): published"]) == value
        assert float(row[f"{name} (%): difference"]) == pytest.approx(ours - value, abs=1e-6)
    source = SOURCES[theirs.source]
    assert f"published by {theirs.source}, arXiv {source.arxiv}" in row["notes"]
    assert f"https://arxiv.org/abs/{source.arxiv}" in (out / "index.html").read_text()
    assert rows(out, "cifar100-b0-inc10")["unheard-of"]["A_last (%): published"] == "–"
    text = notes(out, "cifar100-b0-inc10")
    assert "3,000 train images, where CIFAR-100 has 50,000" in text
    everything = rows(out, "cifar100-b0-inc10-published")
    count = {number.method for number in published(None, "cifar100", "B0-Inc10", "in21k")}
    assert set(everything) == count
    assert source.citation in notes(out, "cifar100-b0-inc10-published")


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": Protocol(0, 10, 50)},  # a part of the data set
        {"backbone": {**VIT, "name": "vit_tiny_patch16_224.augreg_in21k"}},
        {"benchmark": "cifar100_100x150"},
        {"protocol": Protocol(50, 10, 100)},
    ],
    ids=str,
)
def test_nothing_is_published_for_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up(**(CIFAR | changes)))
    out = report(tmp_path)
    assert "published" not in (out / "report.md").read_text()


def test_published_averages_are_not_compared_with_fewer_evaluations(tmp_path: Path) -> None:
    order = Protocol(0, 10, 100, class_order_seed=1990)
    save(tmp_path / "runs", made_up(every=5, config=DEFAULTS, **(CIFAR | {"protocol": order})))
    out = report(tmp_path)
    (row,) = rows(out, "cifar100-b0-inc10").values()
    assert row["A_avg (%): difference"] == "not comparable"
    assert float(row["A_last (%): difference"]) < 0
    assert "most published numbers are of class order 1993, ours: class order" in notes(
        out, "cifar100-b0-inc10"
    )


def test_no_difference_between_other_settings(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up(**CIFAR))  # 4 epochs
    name, four = "cifar100-b0-inc10", {"cifar100/B0-Inc10": DEFAULTS | {"epochs": 4}}
    row = rows(report(tmp_path), name)["care"]
    assert row["A_last (%): difference"] == "other settings"
    assert "other settings: epochs = 4 (default 20)" in row["notes"]
    row = rows(report(tmp_path, presets=lambda method: four), name)["care"]
    assert float(row["A_last (%): difference"]) < 0  # the preset of this benchmark has four
    row = rows(report(tmp_path, presets=lambda method: {"cub/B0-Inc10": {}}), name)["care"]
    assert row["A_last (%): difference"] == "other settings"


def test_fewer_seeds_are_not_ranked(tmp_path: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / "runs", made_up(seed=seed, last=0.5))
        save(tmp_path / "runs", made_up("mos", seed=seed, last=0.3))
    save(tmp_path / "runs", made_up("simplecil", last=0.9))
    text = notes(report(tmp_path), "glyphs-b0-inc2")
    first, second, _ = (line.split("|")[4] for line in table_lines(text))
    assert "**" not in first
    assert "**" in second
    assert "1 seed, where other rows have 2; not ranked with them" in text
    assert re.search(
        r"A_last: care \(2 seeds\) is best; .*not tested: simplecil \(one seed\)", text
    )


def test_runs_of_a_suite_that_were_not_begun(tmp_path: Path) -> None:
    seeds = [run_config({"method": "simplecil", "seed": seed}) for seed in (1, 2, 3)]
    other = run_config({"method": "simplecil", "benchmark": {"name": "omniglot"}})
    never = run_config({"method": "finetune"})
    root = tmp_path / "runs"
    root.mkdir()
    write_suite_list(Suite("a/b", (*seeds, other)), root)
    write_suite_list(Suite("a b", (seeds[0], never)), root)  # keeps a list of its own
    for run in seeds[:2]:
        settings = dataclasses.asdict(run.settings)
        save(root, made_up("simplecil", run.seed, config=settings)).rename(
            root / run.directory_name
        )
    save(root, made_up(benchmark="cub"))
    out = report(tmp_path)
    main = rows(out, "glyphs-b0-inc2")
    assert (main["simplecil"]["n"], main["simplecil"]["seeds"]) == ("2", "1, 2, 3 not run")
    assert main["finetune"]["A_last (%)"] == "not run"
    grid = rows(out, "overview-a-last")["simplecil"]
    assert "2 of 3 seeds" in grid["notes"]
    states = {row["run"]: (row["state"], row["setting"]) for row in rows(out, "runs").values()}
    assert states[seeds[2].directory_name] == ("not run", "glyphs, B0-Inc2, 5 tasks")
    assert states[other.directory_name] == ("not run", "–")
    assert "6 runs: 3 complete, 3 not run." in (out / "report.md").read_text()
    for links in (
        re.findall(r'href="([^"#]*)"', (out / "index.html").read_text()),
        [x for x in links_of((out / "report.md").read_text()).values() if x[0] != "#"],
    ):
        assert all((out / link).exists() for link in links if not link.startswith("data:"))


def test_deviations_in_force_are_shown(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    save(tmp_path / "runs", made_up("simplecil"))
    out = report(tmp_path)
    main = rows(out, "glyphs-b0-inc2")
    assert re.fullmatch(
        r"deviates from the defaults of version \S+: epochs = 4 \(default 20\)",
        main["care"]["notes"],
    )
    assert main["simplecil"]["notes"] == ""  # whose defaults are not known
    assert 'title="epochs = 4 (default 20)"' in (out / "index.html").read_text()


def test_registered_methods_bring_their_defaults(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    save(tmp_path / "runs", made_up("simplecil", config={"batch_size": 64}))
    save(tmp_path / "runs", made_up("unheard-of"))
    main = rows(report(tmp_path, defaults=None), "glyphs-b0-inc2")
    assert "epochs = 4 (default 20)" in main["care"]["notes"]
    assert "lr" not in main["care"]["notes"]  # 0.01 is the default
    assert main["simplecil"]["notes"] == main["unheard-of"]["notes"] == ""


def test_seconds_of_different_machines_are_told(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    save(tmp_path / "runs", made_up("simplecil", hardware={"device": "NVIDIA H100", "cpu": "x"}))
    text = notes(report(tmp_path), "glyphs-b0-inc2-cost")
    assert "different machines: NVIDIA H100, x; Processor, 1 thread" in text
    assert "over runs of different machines" not in text  # each row is of one


def test_a_report_replaces_one_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    save(tmp_path / "runs" / "later", made_up(benchmark="omniglot"))
    out = report(tmp_path)
    (out / "tables" / "mine.txt").write_text("kept")
    assert (out / "tables" / "omniglot-b0-inc2.csv").exists()
    write_report(tmp_path / "runs" / "later", out, figures=False, defaults=known)
    assert not (out / "tables" / "glyphs-b0-inc2.csv").exists()
    assert (out / "tables" / "mine.txt").exists()
    before = (out / "index.html").read_bytes()
    write_report(tmp_path / "runs" / "later", out, figures=False, defaults=known)
    assert (out / "index.html").read_bytes() == before
    with pytest.raises(FileExistsError, match="no report of this package"):
        write_report(tmp_path / "runs", tmp_path / "runs", figures=False, defaults=known)


def test_there_must_be_a_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no run was found in .*empty"):
        write_report(tmp_path / "empty", tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_failed_runs_alone_make_a_report(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up(), status="failed", error="killed")
    out = report(tmp_path, figures=True)
    assert rows(out, "glyphs-b0-inc2")["care"]["A_last (%)"] == "failed"


def test_figures_are_embedded(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    out = report(tmp_path, figures=True)
    drawn = sorted((out / "figures").glob("*.png"))
    page = (out / "index.html").read_text()
    assert drawn
    assert page.count('src="data:image/png;base64,') == len(drawn)
    for path in drawn:
        assert f"(figures/{path.name})" in (out / "report.md").read_text()


def test_figures_name_their_runs(tmp_path: Path) -> None:
    routing = {"router_recall": [0.4], "expert_recall": [0.5], "top_m": 2, "top_k": 3}
    routed = [
        save(tmp_path / "runs", made_up(seed=seed, extra={"routing": routing})) for seed in (1, 2)
    ]
    others = [save(tmp_path / "runs", made_up("mos")), save(tmp_path / "runs", made_up(seed=3))]
    save(tmp_path / "runs", made_up("mos", 2), status="failed")
    out = report(tmp_path, figures=True)
    text, page = ((out / name).read_text() for name in ("report.md", "index.html"))
    whole = "all complete runs of [glyphs, B0-Inc2, 5 tasks](#glyphs-b0-inc2)."
    figures = re.findall(r"^### (.*)\n\n!.*\n\n.*\n\nRuns: (.*)$", text, re.M)
    assert len(figures) == len(list((out / "figures").glob("*.png"))) == 6
    told = {title.split(" on ")[0]: runs for title, runs in figures}
    recall = told.pop("Routing recall of care")
    assert set(told.values()) == {whole}
    names = re.fullmatch(r"care, seeds \[1\]\[(\w+)\], \[2\]\[(\w+)\]\.", recall)
    assert names is not None
    assert [links_of(text)[name] for name in names.groups()] == [
        f"../runs/{p.name}" for p in routed
    ]
    linked = '<a href="#glyphs-b0-inc2">glyphs, B0-Inc2, 5 tasks</a>.</figcaption>'
    assert page.count(f"<br>Runs: all complete runs of {linked}") == 5
    assert 'id="glyphs-b0-inc2"' in page
    seeds = ", ".join(f'<a href="../runs/{p.name}">{i}</a>' for i, p in enumerate(routed, 1))
    assert f"<br>Runs: care, seeds {seeds}.</figcaption>" in page
    for name, inside in {
        "glyphs-accuracy": [*routed, *others],
        "glyphs-b0-inc2-care-recall": routed,
    }.items():
        with Image.open(out / "figures" / f"{name}.png") as image:
            source = image.info["Source"]
        assert set(source.removeprefix("Runs: ").split("; ")) == {path.name for path in inside}


def test_a_figure_of_two_settings_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "save", lambda figure, path, **_: path)
    longer = Protocol(4, 2, 10)
    made = [(1, {}), (1, {"protocol": longer}), (2, {"protocol": longer, "every": 4})]
    for seed, changes in made:
        save(tmp_path, made_up(seed=seed, **changes))
    comparison = Comparison(cells(collect_runs(tmp_path)), known)
    drawn = {d.file.path.stem: d for d in draw(comparison, tmp_path / "figures")}
    both = (
        ("glyphs-b0-inc2", "glyphs, B0-Inc2, 5 tasks"),
        ("glyphs-b4-inc2", "glyphs, B4-Inc2, 4 tasks"),
    )
    assert (drawn["glyphs-accuracy"].tables, drawn["glyphs-accuracy"].groups) == (both, ())
    assert drawn["glyphs-b4-inc2-matrix"].tables == both[1:]
    forgetting = drawn["glyphs-forgetting"]  # of which the last run knows nothing
    assert forgetting.tables == both[:1]
    [(name, [run])] = forgetting.groups
    assert (name, run.label) == ("care", "1")
    assert "B4-Inc2-seed1" in str(run.path)


def test_settings_with_one_title_are_told_apart(tmp_path: Path) -> None:
    other = {"name": "glyph_vit_micro", "sha256": "b" * 64}
    save(tmp_path / "runs", made_up())
    save(tmp_path / "runs", made_up(backbone=other))
    save(tmp_path / "runs", made_up(protocol=Protocol(0, 2, 10, class_order_seed=None)))
    out = report(tmp_path)
    titles = [row["setting"] for row in rows(out, "runs").values()]
    assert len(set(titles)) == 3
    assert any("classes in their natural order" in title for title in titles)
    assert any("bbbbbbbb" in title for title in titles)
    names = sorted(path.stem for path in (out / "tables").glob("glyphs*cost.csv"))
    assert names == ["glyphs-b0-inc2-2-cost", "glyphs-b0-inc2-3-cost", "glyphs-b0-inc2-cost"]


def test_what_a_report_imports(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    code = f"""
import sys
from avalanche_care.experiments.report import write_report
write_report({str(tmp_path / "runs")!r}, {str(tmp_path / "report")!r}, defaults=lambda method: None)
print(sorted({{"torch", "avalanche", "pandas"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
