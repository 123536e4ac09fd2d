"""How many guesses pay follows from what they cost; no test takes time itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.costs import MOST, Costs, FixedCosts, MeasuredCosts

QUICK = settings(deadline=None)
COSTS = st.builds(Costs, row=st.floats(0, 2), draft=st.floats(0, 1), plain=st.floats(0.05, 1))


def gain(costs: Costs, rate: float, count: int) -> float:
    """Tokens a plain step's time, against plain decoding."""
    tokens = sum(rate**i for i in range(count + 1))
    return tokens * costs.plain / (1 + (costs.row + costs.draft) * count)


@given(costs=COSTS, rate=st.floats(0, 1))
@QUICK
def test_no_other_count_is_better(costs: Costs, rate: float) -> None:
    best = costs.best_count(rate)
    assert 0 <= best <= MOST
    reached = gain(costs, rate, best) if best else 1.0
    assert all(gain(costs, rate, count) <= reached + 1e-9 for count in range(1, MOST + 1))


@given(costs=COSTS)
@QUICK
def test_guessing_pays_above_break_even_only(costs: Costs) -> None:
    rate = costs.break_even()
    assert costs.best_count(rate - 1e-3) == 0
    assert rate == 1.0 or costs.best_count(min(1.0, rate + 1e-3)) > 0


def test_break_even_of_one_guess_is_its_cost() -> None:
    assert Costs(row=0.2, draft=0.1).break_even() == pytest.approx(0.3, abs=1e-4)
    assert Costs(row=0.0, draft=0.0).break_even() == pytest.approx(0.0, abs=1e-4)
    assert Costs(row=1.0, draft=0.5).break_even() == 1.0


def timed(*, plain: float, rows: tuple[int, float], draft: float, times: int = 8) -> MeasuredCosts:
    measured = MeasuredCosts()
    for _ in range(times):
        measured.add_step(1, 1, plain)
        measured.add_step(1, *rows)
        measured.add_draft(4, 4 * draft)
    return measured


def test_measured_costs_are_in_plain_steps() -> None:
    costs = timed(plain=2.0, rows=(5, 3.6), draft=0.1).costs(1)
    assert costs is not None
    assert (costs.row, costs.draft, costs.plain) == pytest.approx((0.2, 0.05, 1.0))


def test_one_slow_step_moves_nothing() -> None:
    measured = timed(plain=2.0, rows=(5, 3.6), draft=0.1)
    measured.add_step(1, 1, 100.0)
    measured.add_step(1, 5, 100.0)
    costs = measured.costs(1)
    assert costs is not None and costs.row == pytest.approx(0.2)


def test_plain_steps_are_timed_first_and_again_now_and_then() -> None:
    measured = MeasuredCosts()
    assert measured.costs(1) is None
    for _ in range(8):
        measured.add_step(1, 1, 1.0)
    asked = [measured.costs(1) for _ in range(3 * MeasuredCosts.PLAIN_EVERY)]
    assert asked.count(None) == 3


def test_in_company_a_plain_step_is_shared() -> None:
    measured = timed(plain=1.0, rows=(5, 1.8), draft=0.05)
    alone, unknown = measured.costs(1), measured.costs(4)
    assert alone is not None and unknown is not None
    assert unknown.plain == 0.25 and unknown.best_count(0.9) == 0
    for _ in range(8):
        measured.add_step(4, 1, 3.6)  # sharing saves next to nothing on this machine
    shared = measured.costs(4)
    assert shared is not None
    assert shared.plain == pytest.approx(0.9)
    assert 0 < alone.break_even() < shared.break_even() < 1


def test_fixed_costs_stay() -> None:
    fixed = FixedCosts(Costs(row=0.5))
    fixed.add_step(1, 1, 9.0)
    fixed.add_draft(1, 9.0)
    assert fixed.costs(3) == Costs(row=0.5)
