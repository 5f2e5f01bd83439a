"""What settings are called in tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.protocol import DEFAULT_SEED, Protocol
from avalanche_care.experiments.reporting.run_entry import Setting

FACT_WORDS = {"train_images": "training images", "test_images": "test images"}


def titles(settings: Sequence[Setting]) -> dict[Setting, str]:
    """A title for each setting: benchmark, protocol, tasks, and what tells it from the others."""
    parts = {setting: _parts(setting) for setting in settings}
    chosen = {}
    for setting, own in parts.items():
        same = [other for other in parts.values() if other[:3] == own[:3]]
        extra = [part for i, part in enumerate(own[3:], 3) if len({other[i] for other in same}) > 1]
        chosen[setting] = ", ".join([*own[:3], *extra])
    return chosen


def describe(setting: Setting) -> str:
    """All that is known of a setting, as a sentence."""
    benchmark, protocol, tasks, backbone, order, facts = _parts(setting)
    told = [f"{tasks}, {len(setting.class_order):,} classes", order, f"backbone {backbone}"]
    return f"{benchmark}, {protocol}: {', '.join(told)}" + (f"; {facts}." if facts else ".")


def _parts(setting: Setting) -> tuple[str, str, str, str, str, str]:
    count = len(setting.task_sizes)
    tasks = f"{count} task" + ("" if count == 1 else "s")
    weights = f" ({setting.sha256[:8]})" if setting.sha256 else ""
    facts = [
        f"{int(value):,} {FACT_WORDS[name]}" if name in FACT_WORDS else f"{name}: {value}"
        for name, value in setting.facts
    ]
    return (
        setting.benchmark,
        setting.protocol,
        tasks,
        setting.backbone + weights,
        class_order_name(setting),
        ", ".join(facts),
    )


def class_order_name(setting: Setting) -> str:
    """The seed of the class order, if a published one gives it; else the start of its hash."""
    order = list(setting.class_order)
    if order == sorted(order):
        return "classes in their natural order"
    card = CARDS.get(setting.benchmark)
    totals = {len(order), max(order) + 1, *([card.classes] if card else [])}
    for seed in (DEFAULT_SEED, *(card.class_orders if card else ())):
        for total in totals:
            if total >= len(order) and _permutation(len(order), seed, total) == order:
                return f"class order {seed}"
    return f"class order {hashlib.sha256(str(order).encode()).hexdigest()[:8]}"


def _permutation(n_classes: int, seed: int, total: int) -> list[int]:
    protocol = Protocol(0, n_classes, n_classes, class_order_seed=seed, total_classes=total)
    return list(protocol.class_order)
