"""Tests of differences between methods."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from avalanche_care.experiments.reporting.significance import compare_with_best, holm, welch_p


@pytest.mark.parametrize("seed", range(5))
def test_welch_equals_scipy_on_the_samples(seed: int) -> None:
    random = np.random.RandomState(seed)
    first = random.normal(70, 1, 3 + seed).tolist()
    second = random.normal(71, 3, 2 + seed).tolist()
    assert welch_p(first, second) == pytest.approx(
        stats.ttest_ind(first, second, equal_var=False).pvalue
    )


def test_welch_by_hand() -> None:
    # Means 2 and 5, variances 1, three each: t = 3 / sqrt(2/3) on 4 degrees of freedom.
    expected = 2 * stats.t.sf(3 / np.sqrt(2 / 3), 4)
    assert welch_p([1, 2, 3], [4, 5, 6]) == pytest.approx(expected)


def test_when_there_is_no_test() -> None:
    assert welch_p([1.0], [2.0, 3.0]) is None
    assert welch_p([1.0, 2.0], []) is None
    assert welch_p([84.25, 84.25], [84.3, 84.3]) is None  # methods without randomness
    assert welch_p([0.0, 0.0], [0.0, 0.0]) is None
    assert 0 < welch_p([84.25, 84.25], [84.3, 84.5]) < 1  # type: ignore[operator]


def test_holm_by_hand() -> None:
    # Sorted: 0.01 x 4, 0.02 x 3, then 0.03 x 2 (not below its predecessor), 0.9 x 1.
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_note() -> None:
    values = {
        "care": [80.0, 80.2, 80.4],
        "mos": [79.9, 80.3, 80.0],
        "l2p": [50.0, 50.3, 50.1],
        "single": [99.0],
    }
    del values["single"]
    known = [welch_p(values["care"], values[name]) for name in ("mos", "l2p")]
    assert all(p is not None for p in known)
    mos, l2p = holm([p for p in known if p is not None])
    assert l2p < 1e-4 < 0.05 < mos
    assert compare_with_best("A_last", values) == (
        "A_last: care (3 seeds) is best; significantly better, at 0.05, than l2p (p < 0.0001); "
        f"not significantly better than mos (p = {mos:.2f})"
    )
    low = compare_with_best("forgetting", values, better="low")
    assert low is not None
    assert low.startswith("forgetting: l2p (3 seeds) is best")
    more = compare_with_best("A_last", {**values, "simplecil": [60.0]})
    assert more is not None
    assert more.endswith("not tested: simplecil (one seed)")
    flat = compare_with_best("A_last", {"care": [80.0] * 3, "mos": [1.0] * 3, "l2p": [3.0, 4, 5]})
    assert flat is not None
    assert flat.endswith("not tested: mos (no spread)")
    few = compare_with_best("A_last", {**values, "simplecil": [90.0, 91.0]})
    assert few is not None
    assert few.startswith("A_last: care (3 seeds) is best")
    assert few.endswith("not tested: simplecil (better, but of only 2 seeds)")


def test_no_note_where_nothing_can_be_tested() -> None:
    assert compare_with_best("A_last", {"care": [1.0, 2.0]}) is None
    assert compare_with_best("A_last", {"care": [1.0], "mos": [2.0]}) is None
    assert compare_with_best("A_last", {"care": [3.0], "mos": [1.0, 2.0]}) is None
    assert compare_with_best("A_last", {"care": [1.0, 2.0], "mos": []}) is None
