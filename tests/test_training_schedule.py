"""Learning rate, mix and lengths over a run."""

import pytest

from training.schedule import longest, rate_factor, shares

TASKS = ("copy_text", "extract_text", "read_line", "extract_page", "speech", "something_new")


def test_rate_warms_up_stays_and_falls_to_zero() -> None:
    assert rate_factor(0.0, 0) < 0.05
    assert rate_factor(0.1, 100) == rate_factor(0.3, 5000) == 1.0
    assert rate_factor(0.65, 5000) == pytest.approx(0.5)
    assert rate_factor(1.0, 9000) == 0.0


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.2, 0.5, 0.99, 1.0])
def test_shares_sum_to_one_and_none_is_missing(progress: float) -> None:
    mix = shares(TASKS, progress)
    assert sum(mix.values()) == pytest.approx(1.0)
    assert set(mix) == set(TASKS) and min(mix.values()) > 0


def test_copying_comes_first_and_pages_later() -> None:
    early, late = shares(TASKS, 0.0), shares(TASKS, 0.9)
    assert early["copy_text"] == max(early.values())
    assert early["extract_page"] < 0.05 < late["extract_page"]


def test_inputs_grow() -> None:
    lengths = [longest(p / 20) for p in range(21)]
    assert lengths == sorted(lengths) and lengths[0] < 300 and lengths[-1] > 1500
