"""pipelines/confidence.py: where to cut, and how sure a share is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.confidence import share_interval, suggested_threshold, threshold_rows


def test_the_threshold_is_the_lowest_that_keeps_the_promise() -> None:
    right = [(0.9, True)] * 19 + [(0.8, True)] * 19 + [(0.7, False)] * 2
    assert suggested_threshold(right) == 0.7
    assert suggested_threshold([*right, (0.6, False)]) == 0.7
    assert suggested_threshold([(0.7, False), *right]) == 0.8
    assert suggested_threshold([(0.9, True)] * 9) is None
    assert suggested_threshold([(0.5, True), (0.5, False)] * 20) is None
    assert suggested_threshold([]) is None


def test_values_of_one_confidence_are_kept_or_left_together() -> None:
    mixed = [(0.9, True)] * 19 + [(0.9, False)] * 19
    assert suggested_threshold(mixed) is None


def test_a_lower_threshold_keeps_more() -> None:
    assert threshold_rows([(0.5, False), (0.9, True)]) == [(0.9, 1.0, 0.5), (0.5, 0.5, 1.0)]
    assert threshold_rows([]) == []


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_interval_holds_its_share(count: int, share: float) -> None:
    low, high = share_interval(share, count)
    assert low - 1e-9 <= share <= high + 1e-9
    assert share_interval(0.5, 4 * count)[0] > share_interval(0.5, count)[0]


def test_the_interval_is_wilsons() -> None:
    assert share_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
