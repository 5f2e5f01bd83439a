"""What brmoe_scaling.py prints and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import measuring

Rows = Sequence[dict[str, Any]]


def find(rows: Rows, name: str, tasks: int, mode: str) -> dict[str, Any]:
    """Return a measured row, {} if there is none."""
    wanted = {"implementation": name, "tasks": tasks, "mode": mode}
    return next((r for r in rows if wanted.items() <= r.items() and r["seconds"] != ""), {})


def print_rows(rows: Rows) -> None:
    """Print the rows with bytes as megabytes, without what is the same in all of them."""
    shown = []
    for row in rows:
        line = {key: row[key] for key in ("implementation", "tasks", "mode", "seconds")}
        line["images/s"] = row["images_per_second"]
        for key in ("peak", "saved", "model"):
            value = row[f"{key}_bytes"]
            line[f"{key} MB"] = value if value == "" else round(value / 1e6, 1)
        for key in ("seconds_to_floor", "memory_to_floor", "seconds_to_fewest", "memory_to_fewest"):
            line[key.replace("_to_", "/")] = row[key]
        shown.append({**line, "note": row["note"]})
    measuring.print_table(shown)


def print_goals(rows: Rows) -> None:
    """Print the ratios that the layer is built for."""
    header = f"{'ratio':<50}{'train':>10}{'infer':>10}   goal"
    print(f"\n{header}")
    for label, key, above, below, goal in _ratios(rows):
        cells = []
        for mode in ("train", "infer"):
            one, other = find(rows, *above, mode), find(rows, *below, mode)
            known = one and other and one[key] != ""
            cells.append(f"{one[key] / other[key]:.3f}" if known else "-")
        print(f"{label:<50}{cells[0]:>10}{cells[1]:>10}   {goal}")


def _ratios(rows: Rows) -> Iterator[tuple[str, str, tuple[str, int], tuple[str, int], str]]:
    """Yield label, column, (implementation, tasks) above and below the line, and the goal."""
    tasks = sorted({r["tasks"] for r in rows if r["implementation"] == "ours"})
    if not tasks:
        return
    few, many = ("ours", tasks[0]), ("ours", tasks[-1])
    if len(tasks) > 1:
        ends = f"ours, T={tasks[-1]} / T={tasks[0]}"
        yield f"seconds, {ends}", "seconds", many, few, "<= 1.15"
        yield f"peak memory, {ends}", "peak_bytes", many, few, ""
    yield f"seconds, ours / floor, T={tasks[-1]}", "seconds", many, ("floor", tasks[-1]), "<= 1.3"
    dense = [t for t in tasks if find(rows, "dense", t, "train")]
    if dense:
        at = 100 if 100 in dense else dense[-1]
        pair = ("dense", at), ("ours", at)
        yield f"seconds, dense / ours, T={at}", "seconds", *pair, ">= 5 at T=100"
        yield f"peak memory, dense / ours, T={at}", "peak_bytes", *pair, ">= 5 at T=100"
        yield f"saved for backward, dense / ours, T={at}", "saved_bytes", *pair, ""


def draw(rows: Rows, path: Path) -> None:
    """Draw seconds and memory against T, training step and inference, on logarithmic axes."""
    figure, panels = measuring.new_figure(2, 2)
    ticks = sorted({row["tasks"] for row in rows})
    shown = list(dict.fromkeys(row["implementation"] for row in rows))
    places = [(key, mode) for key in ("seconds", "peak_bytes") for mode in ("train", "infer")]
    titles = {"train": "training step", "infer": "inference"}
    labels = {"seconds": "seconds", "peak_bytes": "peak memory (MB)"}
    for panel, (key, mode) in zip(panels, places, strict=True):
        panel.set(xscale="log", yscale="log")
        for index, name in enumerate(shown):
            measured = [r for t in ticks if (r := find(rows, name, t, mode))]
            panel.plot(
                [r["tasks"] for r in measured],
                [r[key] / (1e6 if key == "peak_bytes" else 1) for r in measured],
                color=measuring.COLOURS[index],
                marker=measuring.MARKERS[index],
                ms=5 + 2 * index,  # lines that coincide stay visible: the first one on top
                zorder=3 - 0.1 * index,
                label=name,
            )
        title = f"{titles[mode]}, batch {rows[0]['batch']}"
        measuring.finish_panel(panel, title=title, x="tasks", y=labels[key], ticks=ticks)
    panels[0].legend(frameon=False)
    measuring.save_figure(figure, path)
