"""Whether a difference between two methods can be told from the spread of their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["TEST", "compare_with_best", "holm", "welch_p"]

LEVEL = 0.05
TEST = (
    "Significance: the best row of a column against each other one by Welch's t-test over the "
    "seeds, two-sided; p after Holm's correction for the number of tests in the column"
)


def welch_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The p-value of Welch's t-test, two-sided: may two samples have the same mean?

    Unpaired, since two methods have nothing in common at equal seeds but the seed's number; and for
    unequal variances, since some methods hardly depend on the seed. With the means m, the sample
    variances v and the numbers n: ``t = (m1 - m2) / sqrt(v1/n1 + v2/n2)``, on
    ``(v1/n1 + v2/n2)^2 / ((v1/n1)^2/(n1-1) + (v2/n2)^2/(n2-1))`` degrees of freedom (Welch, 1947).

    Args:
        first, second: a number per seed each.

    Returns:
        p, in [0, 1]; None where there is no test: fewer than two numbers in a sample, or no spread
        in either.
    """
    from scipy import stats  # here: a second, which reading results should not wait for

    if min(len(first), len(second)) < 2:
        return None
    spread = [float(np.std(sample, ddof=1)) for sample in (first, second)]
    if max(spread) <= 1e-12 * max(map(abs, (*first, *second)), default=0.0):
        return None
    test = stats.ttest_ind_from_stats(
        float(np.mean(first)),
        spread[0],
        len(first),
        float(np.mean(second)),
        spread[1],
        len(second),
        equal_var=False,
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's (1979) step-down rule, in the same order.

    The i-th smallest of m (from 0) becomes ``max over j <= i of min(1, (m - j) p_j)``.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def compare_with_best(
    quantity: str, values: Mapping[str, Sequence[float]], *, better: str = "high"
) -> str | None:
    """Say which methods differ significantly from the best one of those with the most seeds.

    Args:
        quantity: what the numbers are, for the text.
        values: method -> a number per seed.
        better: ``"high"`` or ``"low"``.

    Returns:
        The verdicts, with p-values as in ``TEST``; None if nothing can be tested, because too few
        methods have two seeds.
    """
    values = {name: list(numbers) for name, numbers in values.items() if len(numbers)}
    if len(values) < 2:
        return None
    sign = 1 if better == "high" else -1
    most = max(map(len, values.values()))
    height = {name: sign * float(np.mean(numbers)) for name, numbers in values.items()}
    best = max((name for name in values if len(values[name]) == most), key=height.__getitem__)
    others = [name for name in values if name != best]
    # One with fewer seeds is not the best, so it is not tested where it is above it either.
    fewer = {name for name in others if height[name] > height[best]}
    tested = {
        name: None if name in fewer else welch_p(values[best], values[name]) for name in others
    }
    known = {name: p for name, p in tested.items() if p is not None}
    if not known:
        return None
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    parts = [
        (
            f"significantly better, at {LEVEL:g}, than",
            [n for n, p in corrected.items() if p < LEVEL],
        ),
        ("not significantly better than", [n for n, p in corrected.items() if p >= LEVEL]),
    ]
    told = [
        f"{verdict} " + ", ".join(f"{n} ({_p(corrected[n])})" for n in names)
        for verdict, names in parts
        if names
    ]
    untested = [f"{n} ({_reason(values[n], n in fewer)})" for n in others if n not in known]
    told += [f"not tested: {', '.join(untested)}"] if untested else []
    seeds = f"{len(values[best])} {'seed' if len(values[best]) == 1 else 'seeds'}"
    return f"{quantity}: {best} ({seeds}) is best; {'; '.join(told)}"


def _reason(numbers: Sequence[float], fewer: bool) -> str:
    if len(numbers) < 2:
        return "one seed"
    return f"better, but of only {len(numbers)} seeds" if fewer else "no spread"


def _p(p: float) -> str:
    return (
        "p < 0.0001" if p < 1e-4 else f"p = {p:.{1 - math.floor(math.log10(p)) if p < 1 else 2}f}"
    )
