"""Routing usage: counts against the plain, slow layer, and the figures made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brmoe_reference import Recorder, randomise, routers_of
from matplotlib.figure import Figure
from tiny import tiny_images, tiny_vit
from torch import Tensor

from avalanche_care.experiments.figures import routing as drawing
from avalanche_care.experiments.figures import write_routing_figures
from avalanche_care.experiments.routing import RoutingUsage, batches_of, decisions, routing_usage
from avalanche_care.nn import BRMoEConfig, CaREModel

SMALL: dict[str, Any] = {"bottleneck": 4, "shared_bottleneck": 6}
SIZES = (9, 2, 5, 2, 4)  # unequal, so that normalised entropies rank otherwise


def grown(tasks: int, depth: int = 2, **config: Any) -> tuple[CaREModel, list[Recorder]]:
    """A model of random weights, and every triplet that its layers ever had."""
    torch.manual_seed(0)
    model = CaREModel(tiny_vit(depth=depth), BRMoEConfig(**SMALL | config))
    recorders = [Recorder(layer) for layer in model.layers()]
    for task in range(tasks):
        first = sum(SIZES[:task])
        model.expand(task, range(first, first + SIZES[task]))
        for recorder in recorders:
            layer = recorder.layer
            for part in (layer.expert, layer.router, layer.perceptron):
                randomise(part)
            recorder.keep()
            for part in recorder.triplets[-1]:
                part.eval()
    return model.eval(), recorders


def slow_usage(
    model: CaREModel, recorders: list[Recorder], x: Tensor, own: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image by image and expert by expert: routers, experts, hits."""
    blocks, tasks, config = len(recorders), model.tasks, model.config
    routers = np.zeros((blocks, tasks, tasks), int)
    experts, hits = np.zeros((blocks, tasks, tasks)), np.zeros((blocks, tasks), int)

    def look(block: int, recorder: Recorder, h: Tensor) -> Tensor:
        rows = [expert(h)[:, 0] for expert, _, _ in recorder.triplets]
        if config.routing_input == "block":
            rows = [h[:, 0]] * tasks
        logits = [
            perceptron(row) for (_, _, perceptron), row in zip(recorder.triplets, rows, strict=True)
        ]
        for image, task in enumerate(own):
            gates = np.zeros(tasks)
            for router in routers_of(logits, image, config, None):
                routers[block, task, router] += 1
                if tasks == 1:
                    gates[0] = 1
                    continue
                scores = recorder.triplets[router][1](rows[router][image]).numpy()
                best = sorted(range(router + 1), key=lambda e: -scores[e])[: config.top_k]
                share = np.exp(scores[best] - scores[best].max())
                gates[best] += share / share.sum()
            experts[block, task] += gates
            first = sorted(range(tasks), key=lambda e: -gates[e])[: config.top_k]
            hits[block, task] += task in first and gates[task] > 0
        return recorder(h)[0]

    plugs = [lambda h, b=b, r=r: look(b, r, h) for b, r in enumerate(recorders)]
    with torch.no_grad():
        model.backbone(x, parallel=plugs)
    return routers, experts, hits


@pytest.mark.parametrize(
    ("tasks", "config"),
    [
        (1, {}),
        (2, {}),
        (5, {}),
        (5, {"top_m": 1, "top_k": 2}),
        (5, {"top_m": 3, "normalised_entropy": True}),
        (5, {"routing_input": "block", "perceptron_norm": False}),
    ],
)
def test_counts_are_those_of_the_slow_layer(tasks: int, config: dict[str, Any]) -> None:
    model, recorders = grown(tasks, **config)
    x = tiny_images(12, per_class=2).tensors[0]
    own = [i % tasks for i in range(24)]
    parts = [slice(0, 10), slice(10, 24)]
    usage = routing_usage(model, [(x[part], torch.tensor(own[part])) for part in parts])
    routers, experts, hits = slow_usage(model, recorders, x, own)
    np.testing.assert_array_equal(usage.images, np.bincount(own, minlength=tasks))
    np.testing.assert_array_equal(usage.routers, routers)
    np.testing.assert_allclose(usage.experts, experts, atol=1e-4)
    np.testing.assert_array_equal(usage.expert_hits, hits)
    selected = min(model.config.top_m, tasks)
    assert (usage.routers.sum((1, 2)) == 24 * selected).all()
    np.testing.assert_allclose(usage.experts.sum((1, 2)), 24 * selected, rtol=1e-5)
    if tasks == 5:  # not all the same, or the test would show little
        assert 0 < usage.router_recall.mean() < 1
        assert len(np.unique(usage.routers)) > 2


def test_gates_are_those_that_the_layer_mixes_with() -> None:
    _, recorders = grown(5)
    h = torch.randn(6, 5, 16)
    for recorder in recorders:
        with torch.no_grad():
            expected, _ = recorder.layer(h)
            _, gates = decisions(recorder.layer, h)
            outputs = torch.stack([expert(h) for expert, _, _ in recorder.triplets], 1)
            mixed = torch.einsum("be,bend->bnd", gates, outputs) + recorder.layer.shared(h)
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    model, _ = grown(3)
    x = tiny_images(3, per_class=2).tensors[0]
    with torch.no_grad():
        before = model(x)
    model.train()
    quiet = routing_usage(model, [(x, 1)])
    assert model.training
    assert all(layer.training for layer in model.layers())
    again = routing_usage(model, [(x, 1)])
    np.testing.assert_array_equal(quiet.routers, again.routers)  # dropout was off
    with pytest.raises(ValueError, match="no image"):
        routing_usage(model, [])
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), before)


def test_one_data_set_per_task() -> None:
    model, _ = grown(3)
    sets = [tiny_images(n, per_class=3) for n in (1, 2, 1)]
    made = list(batches_of(sets, batch_size=4))
    assert [(len(x), task) for x, task in made] == [(3, 0), (4, 1), (2, 1), (3, 2)]
    usage = routing_usage(model, made)
    assert usage.images.tolist() == [3, 6, 3]
    whole = routing_usage(model, batches_of(sets, batch_size=99))
    np.testing.assert_array_equal(usage.routers, whole.routers)


def test_bad_input_is_refused() -> None:
    x = tiny_images(1).tensors[0]
    with pytest.raises(ValueError, match="no task yet"):
        routing_usage(CaREModel(tiny_vit()), [(x, 0)])
    model, _ = grown(2)
    for task in (2, -1, torch.tensor([0, 1])):
        with pytest.raises(ValueError, match=r"a task in \[0, 2\) for each of 6 images"):
            routing_usage(model, [(x, task)])


# Made by hand: two blocks, three tasks of 4, 0 and 2 images, M = 2, K = 3.
ROUTERS = [[[4, 3, 1], [0, 0, 0], [2, 1, 1]], [[1, 3, 4], [0, 0, 0], [1, 1, 2]]]
HAND = RoutingUsage(
    images=np.array([4, 0, 2]),
    routers=np.array(ROUTERS),
    experts=np.array(ROUTERS, float) / 2,
    expert_hits=np.array([[4, 0, 0], [2, 0, 1]]),
    top_m=2,
    top_k=3,
)


def test_recall_and_shares() -> None:
    np.testing.assert_allclose(HAND.router_recall, [5 / 6, 3 / 6])
    np.testing.assert_allclose(HAND.expert_recall, [4 / 6, 3 / 6])
    np.testing.assert_allclose(HAND.router_recall_by_task, [[1, np.nan, 0.5], [0.25, np.nan, 1]])
    np.testing.assert_allclose(HAND.router_share[0], [[1, 0.75, 0.25], [np.nan] * 3, [1, 0.5, 0.5]])
    np.testing.assert_allclose(HAND.expert_share[1, 2], [0.25, 0.25, 0.5])
    assert HAND.summary() == {
        "router_recall": pytest.approx([5 / 6, 1 / 2]),
        "expert_recall": pytest.approx([2 / 3, 1 / 2]),
        "top_m": 2,
        "top_k": 3,
        "images": 6,
    }


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    loaded = RoutingUsage.load(HAND.save(tmp_path / "new" / "routing.npz"))
    for name in ("images", "routers", "experts", "expert_hits", "top_m", "top_k"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(HAND, name))
    assert isinstance(loaded.top_m, int)
    other = tmp_path / "other.npz"
    np.savez(other, images=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz holds no routing usage: it lacks routers"):
        RoutingUsage.load(other)


@pytest.mark.parametrize(("depth", "blocks"), [(12, [2, 5, 8, 11]), (24, [5, 11, 17, 23])])
def test_the_papers_blocks_are_shown(depth: int, blocks: list[int]) -> None:
    assert drawing.shown_blocks(depth) == blocks
    assert drawing.shown_blocks(1) == [0]
    assert drawing.shown_blocks(6) == [1, 2, 4, 5]


def tables(figure: Figure) -> dict[str, np.ndarray]:
    shown = [axes for axes in figure.axes if axes.images and axes.get_title("left")]
    return {
        axes.get_title("left"): np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)
        for axes in shown
    }


def test_figures_show_the_usage() -> None:
    figure = drawing.draw_recall([HAND.summary()], tasks=3)
    routers, experts, chance = figure.axes[0].lines
    np.testing.assert_array_equal(routers.get_xdata(), [1, 2])
    np.testing.assert_allclose(routers.get_ydata(), 100 * HAND.router_recall)
    np.testing.assert_allclose(experts.get_ydata(), 100 * HAND.expert_recall)
    assert chance.get_ydata()[0] == pytest.approx(100 * 2 / 3)

    cases: list[tuple[Callable[[], Figure], np.ndarray]] = [
        (lambda: drawing.draw_choices(HAND), HAND.router_share),
        (lambda: drawing.draw_choices(HAND, experts=True), HAND.expert_share),
    ]
    for draw, share in cases:
        figure = draw()
        found = tables(figure)
        assert list(found) == ["block 1", "block 2"]
        np.testing.assert_allclose(found["block 1"], 100 * share[0])
        np.testing.assert_allclose(found["block 2"], 100 * share[1])
        assert [t.get_text() for t in figure.legends[0].texts] == ["no image"]

    recall, used, mass = tables(drawing.draw_usage(HAND)).values()
    np.testing.assert_allclose(recall, 100 * HAND.router_recall_by_task)
    np.testing.assert_allclose(used, [[6 / 4, 4 / 4, 2 / 4], [2 / 4, 4 / 4, 6 / 4]])
    np.testing.assert_allclose(mass, used)


def test_recall_of_several_runs_is_their_mean() -> None:
    one = HAND.summary()
    figure = drawing.draw_recall([one, one | {"router_recall": [0.5, 0.1]}], tasks=3)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [100 * (5 / 6 + 0.5) / 2, 30])
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(10), pytest.approx(500 / 6))


def test_routing_figures_are_written(tmp_path: Path) -> None:
    written = write_routing_figures(HAND, tmp_path, title="glyphs, care", formats=("png",))
    assert [file.path.name for file in written] == [
        "glyphs-care-routing-recall.png",
        "glyphs-care-routers.png",
        "glyphs-care-experts.png",
        "glyphs-care-usage.png",
    ]
    assert all(file.path.stat().st_size > 1000 for file in written)
    assert all(file.caption.endswith("6 test images, 3 tasks.") for file in written)
