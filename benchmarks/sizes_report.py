"""What state_sizes.py prints and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring

ROUTERS = 300


def print_rows(rows: Sequence[dict[str, Any]], backbone: int) -> None:
    """Print a table per number of tasks, in megabytes."""
    for tasks in dict.fromkeys(row["tasks"] for row in rows):
        part = [row for row in rows if row["tasks"] == tasks]
        print(f"\nT = {tasks}, {part[0]['classes']} classes; MB")
        table = []
        for row in part:
            line = {"kind": row["kind"]}
            for key in ("predicted", "measured", "released", "released_counted"):
                value = row[f"{key}_bytes"]
                line[key.replace("_", ", ")] = value if value == "" else f"{value / 1e6:.3f}"
            table.append({**line, "difference %": row["difference_percent"]})
        measuring.print_table(table)
        print(triplets(part))
    print(f"\nThe frozen ViT, for scale: {backbone / 1e6:.1f} MB, in no checkpoint.")


def triplets(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line on all that grows with T in the layers."""
    kinds = ("experts", "routers", "perceptrons")
    ours = sum(row["measured_bytes"] for row in rows if row["kind"] in kinds)
    newest = sum(row["measured_bytes"] for row in rows if row["kind"] == "newest triplet")
    theirs = sum(row["released_bytes"] for row in rows if row["kind"] in kinds)
    return (
        f"all triplets: {ours / 1e6:.1f} MB, and {newest / 1e6:.1f} MB of parameters of the newest;"
        f" released {theirs / 1e6:.1f} MB"
    )


def print_routers(sizes: Any) -> None:
    """Print what 300 routers take: the routers alone, and all that routing reads with them.

    Args:
        sizes: a ``state_sizes.Sizes``.
    """
    d, r, blocks = sizes.dim, sizes.bottleneck, sizes.depth
    pairs = ROUTERS * (ROUTERS + 1) // 2
    classes = sizes.classes(ROUTERS)
    adapters = ROUTERS * (2 * d + (r * d + r) + (d * r + d) + d)
    lines = {
        "released, routers alone: D + 1 per expert": pairs * (d + 1),
        "folded, routers alone: r + 2 per expert": pairs * (r + 2),
        "released, with the experts and perceptrons that feed them": (
            pairs * (d + 1) + adapters + ROUTERS * 2 * d + classes * (d + 1)
        ),
        "folded, with down-projections, grams and perceptrons": (
            pairs * (r + 2) + ROUTERS * (r * d + r + (r + 1) ** 2) + classes * (r + 2)
        ),
    }
    table = []
    for what, per_block in lines.items():
        numbers = blocks * per_block
        table.append(
            {
                f"{ROUTERS} task routers at once, {blocks} blocks": what,
                "numbers": f"{numbers:,}",
                "MB float32": f"{4 * numbers / 1e6:.1f}",
                "MB bfloat16": f"{2 * numbers / 1e6:.1f}",
            }
        )
    print()
    measuring.print_table(table)
    print("The package keeps routers in float32; bank_dtype='bfloat16' halves the experts.")


def draw(
    ours: Mapping[int, Mapping[str, int]],
    released: Mapping[int, Mapping[str, int]],
    rows: Sequence[dict[str, Any]],
    path: Path,
) -> None:
    """Draw what a checkpoint is made of, and its growth beside the released layout.

    Args:
        ours: predicted bytes by number of tasks and kind.
        released: the same in the released layout.
        rows: of ``state_sizes.py``, with what was measured.
        path: of the PNG file.
    """
    figure, (left, right) = measuring.new_figure(1, 2, width=4.8)
    tasks = list(ours)
    kinds = [kind for kind in ours[tasks[-1]] if kind not in ("checkpoint", "optimiser")]
    kinds.sort(key=lambda kind: -ours[tasks[-1]][kind])
    shown, rest = kinds[:4], kinds[4:]
    layers = [[ours[t][kind] / 1e9 for t in tasks] for kind in shown]
    layers.append([sum(ours[t][kind] for kind in rest) / 1e9 for t in tasks])
    left.stackplot(tasks, layers, labels=[*shown, "all else"], colors=measuring.COLOURS, alpha=0.85)
    measured = {r["tasks"]: r["measured_bytes"] / 1e9 for r in rows if r["kind"] == "checkpoint"}
    dots = {"color": "black", "ls": "", "marker": "o", "ms": 4, "label": "checkpoint, measured"}
    left.plot(list(measured), list(measured.values()), **dots)
    order = left.get_legend_handles_labels()
    beside = {"frameon": False, "fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)}
    left.legend(order[0][::-1], order[1][::-1], **beside)
    measuring.finish_panel(left, title="state after T tasks", x="tasks", y="GB")

    right.set(xscale="log", yscale="log")
    tasks = [t for t in tasks if t >= min(measured)]
    for index, kind in enumerate(("checkpoint", "routers")):
        for style, name, sizes in (("-", "ours", ours), ("--", "released", released)):
            values = [sizes[t][kind] / 1e6 for t in tasks]
            colour = measuring.COLOURS[index]
            right.plot(tasks, values, style, color=colour, label=f"{kind}, {name}")
    right.legend(**beside)
    ticks = sorted(measured)
    measuring.finish_panel(right, title="growth", x="tasks", y="MB", ticks=ticks)
    measuring.save_figure(figure, path)
