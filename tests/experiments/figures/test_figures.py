"""Figures: what is drawn is compared with numbers computed here, never with pixels."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from PIL import Image

from avalanche_care import metrics
from avalanche_care._version import __version__
from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.figures import (
    FigureFile,
    accuracy_figure,
    data,
    lines,
    maps,
    realms,
    write_figures,
)
from avalanche_care.experiments.figures import cost as costs
from avalanche_care.experiments.figures import style as styles
from avalanche_care.experiments.figures import write as writing
from avalanche_care.experiments.results import RunResult

TEN = Protocol(0, 2, 20)
COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results"


def result(
    method: str = "care", seed: int = 0, protocol: Protocol = TEN, every: int = 1, **changes: Any
) -> RunResult:
    """Random counts, other ones for each method, seed and protocol."""
    tasks, classes = protocol.tasks, protocol.n_classes
    random = np.random.default_rng([seed, *method.encode(), *protocol.name.encode()])
    seen = np.arange(classes) < np.cumsum(protocol.sizes)[:, None]
    evaluated = np.array([(t + 1) % every == 0 or t == tasks - 1 for t in range(tasks)])
    total = np.where(seen & evaluated[:, None], 20, 0)
    values: dict[str, Any] = {
        "benchmark": "glyphs",
        "seconds": {"train": 9.0, "eval": 1.0, "total": 10.0},
        "parameters": {"trainable": 1, "total": 2_000_000},
    }
    hits = random.binomial(total, 0.3 + 0.6 * random.random((tasks, classes)))
    return RunResult.from_counts(
        hits, total, method=method, protocol=protocol, seed=seed, **(values | changes)
    )


def panels(results: Iterable[RunResult]) -> list[data.Panel]:
    [sheet] = data.arrange(list(results))
    return sheet.panels


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in axes.texts if t.get_text()]


def curves(axes: Axes) -> list[Line2D]:
    """The lines of a panel, without the markers beside the labels."""
    return [line for line in axes.lines if line.get_linestyle() != "None"]


def images(figure: Figure) -> Iterator[tuple[Axes, np.ndarray]]:
    """The heat maps of a figure, without the colour bar."""
    for axes in figure.axes:
        for image in axes.images:
            assert isinstance(image, AxesImage)
            yield axes, np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)


# Which results belong together


def test_seeds_are_put_together_and_settings_kept_apart() -> None:
    made = [
        result(seed=1, config={"lr": 0.1, "brmoe": {"top_m": 2}}),
        result(seed=2, config={"lr": 0.1}),  # from before there was a top_m
        result("other", seed=1),
        result(seed=1, config={"lr": 0.2, "brmoe": {"top_m": 2}}),
    ]
    [panel] = panels(made)
    assert panel.title == "B0-Inc2: 10 tasks"
    assert list(panel.runs) == ["care (lr=0.1)", "care (lr=0.2)", "other"]
    assert panel.runs["care (lr=0.1)"] == made[:2]
    assert panel.runs["care (lr=0.2)"] == [made[3]]


def test_benchmarks_backbones_and_data_make_sheets() -> None:
    made = [
        result(backbone={"name": "vit", "sha256": "a" * 64}),
        result(backbone={"name": "vit", "sha256": "b" * 64}),
        result(benchmark="folders"),
        result(benchmark="folders", extra={"img_size": 96}),
    ]
    titles = [sheet.title for sheet in data.arrange(made)]
    assert titles == [
        "glyphs, backbone vit aaaaaaaa",
        "glyphs, backbone vit bbbbbbbb",
        "folders",
        "folders, img_size 96",
    ]


def test_class_orders_and_protocols_make_panels() -> None:
    reverse = Protocol(0, 2, 20, None, tuple(range(20))[::-1])
    made = [result(), result(protocol=reverse), result(protocol=Protocol(10, 5, 20))]
    assert [panel.title for panel in panels(made)] == [
        "B0-Inc2, class order 1: 10 tasks",
        "B0-Inc2, class order 2: 10 tasks",
        "B10-Inc5: 3 tasks",
    ]
    assert len(lines.draw_accuracy(panels(made)).axes) == 3


# Curves


def test_accuracy_lines_are_means_and_bands_reach_from_lowest_to_highest() -> None:
    made = [result(m, s) for m in ("care", "other") for s in range(3)]
    [axes] = lines.draw_accuracy(panels(made)).axes
    assert axes.get_xlim() == (0, 20)
    assert axes.get_ylim() == (0, 100)
    drawn = {line.get_color(): line for line in curves(axes)}
    bands = {tuple(band.get_facecolor()[0][:3]): band for band in axes.collections}
    for index, method in enumerate(("care", "other")):
        runs = np.array([r.curve for r in made if r.method == method])  # (3, T)
        line = drawn[styles.COLOURS[index]]
        np.testing.assert_array_equal(line.get_xdata(), np.arange(2, 21, 2))
        np.testing.assert_allclose(line.get_ydata(), 100 * runs.mean(0))
        edge = bands[to_rgb(styles.COLOURS[index])].get_paths()[0].vertices
        for step in range(10):
            heights = edge[edge[:, 0] == 2 * step + 2][:, 1]
            assert heights.min() == pytest.approx(100 * runs[:, step].min())
            assert heights.max() == pytest.approx(100 * runs[:, step].max())
        label = f"{method}  {100 * runs[:, -1].mean():.1f}"
        assert [t for t in texts(axes.figure) if t.startswith(method)] == [label]  # type: ignore[arg-type]
    assert axes.get_title("left") == "B0-Inc2: 10 tasks, mean of 3 runs"


def test_a_line_joins_the_steps_that_all_seeds_have_evaluated() -> None:
    made = [result(seed=0, every=2), result(seed=1, every=3)]
    [axes] = lines.draw_accuracy(panels(made)).axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [12, 20])  # after tasks 6 and 10


def test_long_sequences_have_markers_at_some_steps_only() -> None:
    made = [result(m, protocol=Protocol(0, 1, 301)) for m in ("care", "other")]
    [axes] = lines.draw_accuracy(panels(made)).axes
    marked = [line.get_markevery() for line in curves(axes)]
    assert all(8 <= len(places) <= 9 for places in marked)
    assert not set(marked[0]) & set(marked[1])
    short = lines.draw_accuracy(panels([result()])).axes[0].lines[0]
    assert sorted(short.get_markevery()) == list(range(10))


def test_forgetting_is_that_of_a_run_which_ends_there() -> None:
    made = [result(seed=s, every=s + 1) for s in range(3)]
    for run in made:
        curve = data.forgetting_curve(run.matrix)
        for step in range(10):
            part = run.matrix[: step + 1, : step + 1]
            known = step > 0 and not np.isnan(part[-1]).any()
            expected = metrics.forgetting(part) if known else np.nan
            np.testing.assert_allclose(curve[step], expected)
        assert 100 * curve[-1] == pytest.approx(100 * run.forgetting)
    figure = lines.draw_forgetting(panels(made[:1]))
    assert figure is not None
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(4, 21, 2))
    np.testing.assert_allclose(line.get_ydata(), 100 * data.forgetting_curve(made[0].matrix)[1:])
    assert figure.axes[0].get_ylim()[1] > max(line.get_ydata())


def test_nothing_is_drawn_of_forgetting_that_is_unknown() -> None:
    single = panels([result(protocol=Protocol(0, 20, 20))])
    at_the_end = panels([result(every=10)])
    for found in (single, at_the_end):
        assert lines.draw_forgetting(found) is None
        assert maps.draw_losses(found) is None


def test_a_method_looks_alike_in_all_panels_and_no_two_do() -> None:
    made = [result("b"), result("a"), result("a", protocol=Protocol(10, 5, 20))]
    figure = lines.draw_accuracy(panels(made), styles.looks_of(["b", "a"]))
    colours = [{line.get_color() for line in curves(axes)} for axes in figure.axes]
    assert colours == [{styles.COLOURS[0], styles.COLOURS[1]}, {styles.COLOURS[1]}]
    looks = styles.looks_of(f"method {i}" for i in range(100))
    assert len({(look.colour, look.marker) for look in looks.values()}) == 100
    assert len({(look.colour, look.dash) for look in list(looks.values())[:28]}) == 28


@pytest.mark.parametrize("tall", [4.2, 2.9])
def test_labels_of_fifteen_methods_do_not_collide(tall: float) -> None:
    made = [result(f"method_{i}") for i in range(15)]
    if tall < 4:
        made += [result(f"method_{i}", protocol=Protocol(10, 5, 20)) for i in range(15)]
    figure = lines.draw_accuracy(panels(made))
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        labels = [t for t in axes.texts if t.get_text()]
        assert len(labels) == 15
        boxes = sorted((t.get_window_extent() for t in labels), key=lambda box: box.y0)
        assert all(a.y1 <= b.y0 + 3 for a, b in pairwise(boxes))
        assert all(page.x0 <= b.x0 and b.x1 <= page.x1 for b in boxes)
        assert axes.get_window_extent().y0 - 3 <= boxes[0].y0
        assert boxes[-1].y1 <= axes.get_window_extent().y1 + 3
        # In the order of the lines' ends, and each with a thin line from there.
        ends = sorted(line.get_ydata()[-1] for line in curves(axes))
        leading = sorted((t.xy[1], t.xyann[1]) for t in axes.texts if isinstance(t, Annotation))
        assert [end for end, _ in leading] == pytest.approx(ends)
        assert [height for _, height in leading] == sorted(height for _, height in leading)
        middles = axes.transData.transform([(0, height) for _, height in leading])[:, 1]
        np.testing.assert_allclose(middles, [(b.y0 + b.y1) / 2 for b in boxes], atol=2)


def test_labels_are_moved_apart_and_no_further() -> None:
    assert styles.spread([80.0, 10.0, 50.0], 5.0) == [80.0, 10.0, 50.0]
    assert styles.spread([51.0, 50.0], 5.0) == pytest.approx([53.0, 48.0])
    assert styles.spread([1.0, 2.0], 5.0, 0.0, 100.0) == pytest.approx([0.0, 5.0])
    assert styles.spread([99.0, 98.0], 5.0, 0.0, 100.0) == pytest.approx([100.0, 95.0])
    assert styles.spread([1.0, 1.0, 1.0], 9.0, 0.0, 4.0) == pytest.approx([0.0, 2.0, 4.0])
    crowded = [50.0, 50.0, 51.0, 57.0, 90.0]
    moved = styles.spread(crowded, 5.0)
    assert (np.diff(moved) >= 5.0 - 1e-9).all()
    assert moved[-1] == 90.0
    assert np.mean(moved[:4]) == pytest.approx(np.mean(crowded[:4]))


# Maps


def test_matrices_are_means_and_blank_above_the_diagonal() -> None:
    made = [result(m, s) for m in ("care", "other") for s in range(2)]
    figure = maps.draw_matrices(panels(made)[0])
    shown = list(images(figure))
    assert [axes.get_title("left") for axes, _ in shown] == ["care", "other"]
    for axes, table in shown:
        runs = [r for r in made if r.method == axes.get_title("left")]
        np.testing.assert_allclose(table, 100 * np.mean([r.matrix for r in runs], axis=0))
        assert axes.images[0].get_clim() == (0, 100)
        numbers = {t.get_position(): t.get_text() for t in axes.texts}
        assert numbers == {(j, t): f"{table[t, j]:.0f}" for t in range(10) for j in range(t + 1)}
        assert not axes.collections  # nothing is hatched
    assert not figure.legends


def test_steps_without_evaluation_are_hatched_and_not_zero() -> None:
    figure = maps.draw_matrices(panels([result(every=4)])[0])
    [(axes, table)] = images(figure)
    evaluated = {3, 7, 9}
    for step in range(10):
        assert np.isnan(table[step]).all() == (step not in evaluated)
    boxes = [patch.get_paths()[0].get_extents() for patch in axes.collections]
    hatched = {round(box.y0 + 0.5): (box.x0, box.x1) for box in boxes}
    assert hatched == {t: (-0.5, t + 0.5) for t in range(10) if t not in evaluated}
    assert all(patch.get_hatch() for patch in axes.collections)
    assert [t.get_text() for t in figure.legends[0].texts] == ["not evaluated"]
    assert len(axes.texts) == 4 + 8 + 10


def test_sparse_rows_of_a_long_sequence_are_thicker() -> None:
    matrix = np.full((301, 301), np.nan)
    for step in (0, 3, 99, 300):
        matrix[step, : step + 1] = step / 300
    thick = maps.thickened(matrix)
    shown = np.flatnonzero(~np.isnan(thick[:, 0]))
    assert shown.tolist() == [0, 1, 2, 3, *range(94, 100), *range(295, 301)]
    np.testing.assert_array_equal(thick[[0, 3, 99, 300]], matrix[[0, 3, 99, 300]])
    np.testing.assert_array_equal(thick[94], matrix[99])
    short = result(every=2).matrix
    np.testing.assert_array_equal(maps.thickened(short), short)


def test_losses_are_max_minus_last_of_each_task() -> None:
    made = [result(m, s, every=e) for m, e in (("care", 1), ("other", 3)) for s in range(2)]
    figure = maps.draw_losses(panels(made))
    assert figure is not None
    [(axes, table)] = images(figure)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["care", "other"]
    for row, method in enumerate(("care", "other")):
        drops = []
        for run in (r for r in made if r.method == method):
            r = run.matrix
            drops.append([np.nanmax(r[:, j]) - r[-1, j] for j in range(9)])
            assert np.mean(drops[-1]) == pytest.approx(run.forgetting)
        np.testing.assert_allclose(table[row], 100 * np.mean(drops, axis=0))


def test_what_a_task_lost_is_unknown_if_it_was_evaluated_once() -> None:
    made = [result(every=4)]  # tasks 9 and 10 are evaluated at the end only
    loss = data.forgetting_by_task(made[0].matrix)
    assert np.flatnonzero(np.isnan(loss)).tolist() == [8]
    assert np.nanmean(loss) == pytest.approx(made[0].forgetting)
    figure = maps.draw_losses(panels(made))
    assert figure is not None
    assert [t.get_text() for t in figure.legends[0].texts] == ["unknown: evaluated only once"]


def test_task_ticks_count_from_one() -> None:
    def ticks(tasks: int) -> list[str]:
        axes = Figure().subplots()
        maps.task_ticks(axes, tasks, axes.xaxis)
        return [t.get_text() for t in axes.get_xticklabels()]

    assert ticks(10) == [str(i) for i in range(1, 11)]
    assert ticks(100) == ["1", "20", "40", "60", "80", "100"]
    assert ticks(301) == ["1", "100", "200", "300"]


# Costs


def test_points_are_at_mean_cost_and_mean_accuracy() -> None:
    made = [
        result(
            m,
            s,
            seconds={"total": 10.0 ** (i + 1) * (1 + s)},
            parameters={"trainable": 0, "total": 1_000_000 * (i + s + 1)},
        )
        for i, m in enumerate(("care", "other", "third"))
        for s in range(2)
    ]
    figure = costs.draw_costs(panels(made)[0])
    left, right = figure.axes
    for i, method in enumerate(("care", "other", "third")):
        accuracy = 100 * np.mean([r.A_last for r in made if r.method == method])
        for axes, cost in ((left, i + 1.5), (right, 10.0 ** (i + 1) * 1.5)):
            [bars] = [c for c in axes.containers if c.get_label() == method]
            np.testing.assert_allclose(bars.lines[0].get_xydata(), [[cost, accuracy]])
    assert (left.get_xscale(), right.get_xscale()) == ("linear", "log")


def test_labels_of_points_do_not_collide() -> None:
    random = np.random.default_rng(0)
    made = [
        result(f"method_{i}", seconds={"total": float(random.uniform(100, 300))}) for i in range(15)
    ]
    figure = costs.draw_costs(panels(made)[0])
    figure.draw_without_rendering()
    axes = figure.axes[1]
    found = [t for t in axes.texts if isinstance(t, Annotation)]
    assert sorted(t.get_text() for t in found) == sorted(r.method for r in made)
    boxes = [super(Annotation, t).get_window_extent() for t in found]
    for i, one in enumerate(boxes):
        assert axes.get_window_extent().contains(one.x0, one.y0)
        assert axes.get_window_extent().contains(one.x1, one.y1)
        assert not any(one.overlaps(other) for other in boxes[:i])
        points = [c.lines[0].get_xydata()[0] for c in axes.containers]
        assert not any(one.contains(*axes.transData.transform(point)) for point in points)


@pytest.mark.parametrize("most", [2e3, 2.5e5, 8e6], ids=str)
def test_numbers_on_the_axis_of_costs_stand_apart(most: float) -> None:
    made = [
        result(
            f"m{i}",
            seconds={"total": float(seconds)},
            parameters={"trainable": 0, "total": int(1e6 * (85_800 + i))},
        )
        for i, seconds in enumerate(np.geomspace(900, most, 6))
    ]
    figure = costs.draw_costs(panels(made)[0])
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [t for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert len(boxes) >= 2
        assert all(left.x1 + 0.5 * left.height < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("many", [8, 9])
def test_no_line_to_a_label_crosses_another_label(many: int) -> None:
    made = [  # a crowd, and one far away
        result(
            "far" if i == many - 1 else f"method_{i}",
            i % 3,
            seconds={"total": 1000.0 if i == many - 1 else 100.0 + 3 * i},
            parameters={"trainable": 0, "total": (5 if i == many - 1 else 1) * 10**6 + 10**4 * i},
        )
        for i in range(many)
    ]
    far = made[-1]
    hopeless = np.zeros((10, 20), int)
    made[-1] = RunResult.from_counts(
        hopeless,
        np.where(np.arange(20) < 2 * np.arange(1, 11)[:, None], 20, 0),
        protocol=TEN,
        **{n: getattr(far, n) for n in ("method", "benchmark", "seed", "seconds", "parameters")},
    )
    figure = costs.draw_costs(panels(made)[0])
    figure.draw_without_rendering()
    lines = 0
    for axes in figure.axes:
        found = [t for t in axes.texts if isinstance(t, Annotation)]
        boxes = {t: super(Annotation, t).get_window_extent() for t in found}
        for text in found:
            if text.arrow_patch is None or not text.arrow_patch.get_visible():
                continue
            lines += 1
            start = axes.transData.transform(text.xy)
            middle = np.mean(boxes[text].get_points(), axis=0)
            way = start + np.linspace(0, 1, 300)[:, None] * (middle - start)
            others = [box for other, box in boxes.items() if other is not text]
            assert not any(box.contains(*step) for box in others for step in way)
    assert lines


# Realms

REALMS = {"bird": 0.5, "food": 0.9, "ship": None}


def test_realms_are_ordered_by_their_mean() -> None:
    made = [
        result(seed=0, extra={"realm_accuracy": REALMS}),
        result(seed=1, extra={"realm_accuracy": REALMS | {"bird": 0.7}}),
        result("other", extra={"realm_accuracy": REALMS | {"ship": 0.8}}),
        result("unknown"),
    ]
    names, rows = realms.realm_table(panels(made)[0].runs)
    assert names == ["food", "ship", "bird"]
    np.testing.assert_allclose(rows["care"], [90, np.nan, 60])
    np.testing.assert_allclose(rows["other"], [90, 80, 50])
    assert "unknown" not in rows
    figure = realms.draw_realms(panels(made)[0])
    assert figure is not None
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == names
    drawn = {line.get_label(): line.get_xdata() for line in axes.lines}
    np.testing.assert_allclose(drawn["care"], rows["care"])
    assert realms.draw_realms(panels([result()])[0]) is None


def test_realms_of_many_methods_are_written_as_numbers() -> None:
    random = np.random.default_rng(0)
    table = random.random((6, 21))
    made = [
        result(f"m{i}", extra={"realm_accuracy": {f"realm_{j}": a for j, a in enumerate(row)}})
        for i, row in enumerate(table)
    ]
    figure = realms.draw_realms(panels(made)[0])
    assert figure is not None
    axes = figure.axes[0]
    order = np.argsort(-table.mean(0))
    assert [t.get_text() for t in axes.get_yticklabels()] == [f"realm {j}" for j in order]
    assert [t.get_text() for t in axes.get_xticklabels()] == [f"m{i}" for i in range(6)]
    numbers = {t.get_position(): t.get_text() for t in axes.texts}
    assert numbers == {
        (i, row): f"{100 * table[i, j]:.0f}" for i in range(6) for row, j in enumerate(order)
    }


# Files


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, but spare the time that writing takes."""
    monkeypatch.setattr(writing, "save", lambda figure, path, **_: path)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_that_the_results_allow_is_written(tmp_path: Path) -> None:
    routing = {"router_recall": [0.4, 0.8], "expert_recall": [0.5, 0.9], "top_m": 2, "top_k": 3}
    made = [
        result(extra={"realm_accuracy": REALMS, "routing": routing}),
        result("other"),
        result("other", protocol=Protocol(10, 5, 20)),
    ]
    before = dict(mpl.rcParams)
    written = write_figures(made, tmp_path / "new", formats=("png", "svg"))
    assert dict(mpl.rcParams) == before
    names = [file.path.name for file in written]
    assert names == [
        "glyphs-accuracy.png",
        "glyphs-forgetting.png",
        "glyphs-forgetting-by-task.png",
        "glyphs-b0-inc2-matrix.png",
        "glyphs-b0-inc2-cost.png",
        "glyphs-b0-inc2-realms.png",
        "glyphs-b0-inc2-care-recall.png",
        "glyphs-b10-inc5-matrix.png",
        "glyphs-b10-inc5-cost.png",
    ]
    expected = {name.replace(".png", ending) for name in names for ending in (".png", ".svg")}
    assert files_of(tmp_path / "new") == expected
    for file in written:
        assert isinstance(file, FigureFile)
        assert [path.suffix for path in file.paths] == [".png", ".svg"]
        assert file.path == file.paths[0]
        assert file.title
        assert file.caption.endswith(".")
        with Image.open(file.path) as image:
            assert image.width >= 500


def test_text_in_svg_files_is_text_and_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    made = [result(), result("my_method")]
    first = accuracy_figure(made, tmp_path / "a.svg").read_text()
    found = re.findall(r"<text[^>]*>([^<]+)</text>", first)
    assert any(text.startswith("my_method") for text in found)
    assert "classes seen" in found
    assert first == accuracy_figure(made, tmp_path / "b.svg").read_text()


PROGRAM = rf"avalanche_care {re.escape(__version__)}, Matplotlib \S+"


def test_files_name_the_runs_that_are_in_them(tmp_path: Path) -> None:
    names = ["care-seed1-0a", "ändere & <other>-seed2-0b"]
    source = f"Runs: {'; '.join(names)}"

    def written(folder: str, ending: str) -> Path:
        path = tmp_path / folder / f"a.{ending}"
        return styles.save(styles.new_figure(2, 1), path, title="Accuracy", runs=names)

    png, svg, pdf = paths = [written("1", ending) for ending in ("png", "svg", "pdf")]
    with Image.open(png) as image:
        told = dict(image.info)
    assert (told["Source"], told["Title"]) == (source, "Accuracy")
    assert re.fullmatch(PROGRAM, told["Software"])
    dublin = "{http://purl.org/dc/elements/1.1/}"
    texts = {
        entry.tag.removeprefix(dublin): "".join(entry.itertext()).strip()
        for entry in ElementTree.parse(svg).getroot().iter()
        if entry.tag.startswith(dublin)
    }
    assert texts["source"] == source
    assert re.fullmatch(PROGRAM, texts["creator"])
    assert "date" not in texts
    raw = pdf.read_bytes()
    assert b"Date" not in raw
    assert "care-seed1-0a; ändere".encode("utf-16-be") in raw
    again = [written("2", ending) for ending in ("png", "svg", "pdf")]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_the_runs_of_a_figure_are_written_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(
        writing, "save", lambda figure, path, **about: told.update({path.name: about}) or path
    )
    made = [result(seed=1), result("other", seed=2, extra={"realm_accuracy": REALMS})]
    write_figures(made, tmp_path, formats=("png",), sources=["care-0a", "other-0b"])
    assert told["glyphs-accuracy.png"] == {
        "title": "Accuracy on glyphs",
        "runs": ["care-0a", "other-0b"],
    }
    assert told["glyphs-b0-inc2-realms.png"]["runs"] == ["other-0b"]


@pytest.mark.usefixtures("unwritten")
def test_figures_know_which_results_are_in_them(tmp_path: Path) -> None:
    routing = {"router_recall": [0.4, 0.8], "expert_recall": [0.5, 0.9], "top_m": 2, "top_k": 3}
    made = [
        result("other", extra={"realm_accuracy": REALMS}),
        result(seed=1, extra={"routing": routing}),
        result(seed=2),
        result("at_the_end", every=10),  # knows of no forgetting
        result("other", protocol=Protocol(10, 5, 20), every=3),  # no forgetting in its panel
    ]
    shown = {f.path.stem: f.results for f in write_figures(made, tmp_path)}
    assert shown == {
        "glyphs-accuracy": (0, 1, 2, 3, 4),
        "glyphs-forgetting": (0, 1, 2),
        "glyphs-forgetting-by-task": (0, 1, 2),
        "glyphs-b0-inc2-matrix": (0, 1, 2, 3),
        "glyphs-b0-inc2-cost": (0, 1, 2, 3),
        "glyphs-b0-inc2-realms": (0,),
        "glyphs-b0-inc2-care-recall": (1,),
        "glyphs-b10-inc5-matrix": (4,),
        "glyphs-b10-inc5-cost": (4,),
    }


def test_results_without_directories_are_named_by_what_they_are(tmp_path: Path) -> None:
    made = [result(seed=1, created="2026-11-22T20:51:01+00:00")]
    with Image.open(accuracy_figure(made, tmp_path / "a.png")) as image:
        told = image.info["Source"]
    assert told == "Runs: care-glyphs-B0-Inc2-seed1, ended 2026-11-22T20:51:01+00:00"


@pytest.mark.usefixtures("unwritten")
def test_names_of_files_never_clash(tmp_path: Path) -> None:
    made = [result(benchmark="a b"), result(benchmark="a-b")]
    written = write_figures(made, tmp_path)
    assert len({path for file in written for path in file.paths}) == 2 * len(written) == 20


@pytest.mark.usefixtures("unwritten")
def test_seconds_of_different_machines_are_called_so(tmp_path: Path) -> None:
    one = {"device": "cpu", "cpu": "A CPU", "threads": 2}

    def caption(*hardware: dict[str, Any]) -> str:
        made = [result(seed=i, hardware=h) for i, h in enumerate(hardware)]
        [file] = [f for f in write_figures(made, tmp_path) if f.path.stem.endswith("-cost")]
        return file.caption

    assert "All on: A CPU, 2 threads." in caption(one, one)
    assert "different machines (A CPU, 2 threads; H100), so not" in caption(one, {"device": "H100"})
    assert "different machines (A CPU, 1 thread; A CPU, 2" in caption(one, one | {"threads": 1})


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one RunResult"):
        write_figures([], tmp_path)
    with pytest.raises(ValueError, match=r"formats must be endings such as \('png', 'svg'\), got"):
        write_figures([result()], tmp_path, formats="png")
    with pytest.raises(ValueError, match=r"a source for each of 1 results, got \['a', 'b'\]"):
        write_figures([result()], tmp_path, sources=["a", "b"])
    with pytest.raises(ValueError, match="bmp"):
        write_figures([result()], tmp_path, formats=("bmp",))
    with pytest.raises(ValueError, match="one sequence of tasks, got glyphs B0-Inc2, glyphs B10"):
        accuracy_figure([result(), result(protocol=Protocol(10, 5, 20))], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unwritten")
def test_committed_results_are_drawn(tmp_path: Path) -> None:
    made = [RunResult.load(path) for path in sorted(COMMITTED.rglob("*-seed*.json"))]
    kinds = Counter(figure.title.split(" on ")[0] for figure in write_figures(made, tmp_path))
    for one_a_benchmark in ("Accuracy", "Forgetting", "What each task lost"):
        assert kinds.pop(one_a_benchmark) == len({r.benchmark for r in made})
    for one_a_protocol in ("Accuracy matrices", "Accuracy against cost"):
        assert kinds.pop(one_a_protocol) == len({(r.benchmark, r.protocol) for r in made})
    recalled = {(r.benchmark, r.protocol, r.method) for r in made if "routing" in r.extra}
    assert kinds == Counter(f"Routing recall of {method}" for _, _, method in recalled)


def test_importing_figures_imports_nothing_heavy() -> None:
    code = (
        "import avalanche_care.experiments.figures, avalanche_care.experiments.routing, sys\n"
        "print(sorted({'torch', 'avalanche', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
