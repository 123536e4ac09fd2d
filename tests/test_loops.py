"""Loops are found soon, and text that merely repeats itself is left alone."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.loops import LEAST_COPIES, LEAST_TOKENS, LONGEST_PERIOD, LoopDetector

QUICK = settings(deadline=None)
STRETCH = st.lists(st.integers(0, 50), min_size=1, max_size=LONGEST_PERIOD)


def found_after(tokens: Iterable[int], source: list[int] | None = None) -> int | None:
    """How many ids it took to find the loop."""
    detector = LoopDetector(source or ())
    for count, token in enumerate(tokens, start=1):
        detector.add(token)
        if detector.found:
            return count
    return None


@given(start=st.lists(st.integers(0, 50), max_size=40), stretch=STRETCH)
@QUICK
def test_an_endless_stretch_is_found_within_its_limit(start: list[int], stretch: list[int]) -> None:
    limit = max(LEAST_TOKENS, LEAST_COPIES * len(stretch))
    count = found_after([*start, *stretch * LEAST_TOKENS])
    assert count is not None and count <= len(start) + limit


@given(stretch=STRETCH, data=st.data())
@QUICK
def test_few_copies_are_no_loop(stretch: list[int], data: st.DataObject) -> None:
    """Distinct ids within the stretch, so that it has no shorter period itself."""
    stretch = list(dict.fromkeys(stretch))
    most = max(LEAST_TOKENS, LEAST_COPIES * len(stretch)) - 1
    length = data.draw(st.integers(0, most))
    assert found_after((stretch * LEAST_TOKENS)[:length]) is None


def test_tables_rules_and_repeated_lines_of_moderate_length_are_no_loops() -> None:
    zeros = [48, 46, 48, 48, 9] * 5 + [10]  # "0.00\t" five times and a newline
    assert found_after(zeros * 6) is None
    assert found_after([45] * 100) is None
    line = list(range(30))
    assert found_after(line * 7) is None


@given(tokens=st.lists(st.integers(0, 3000), max_size=300, unique=True))
@QUICK
def test_text_without_repeats_is_never_a_loop(tokens: list[int]) -> None:
    assert found_after(tokens) is None


def test_a_slip_breaks_the_loop() -> None:
    assert found_after(([7, 8] * 75 + [9]) * 2) is None
    assert found_after([token for i in range(60) for token in (7, 8, 9, i + 100)]) is None


def test_a_source_that_repeats_allows_the_answer_to_repeat() -> None:
    column = [48, 10] * 200
    assert found_after(column) is not None
    assert found_after(column, source=[1, *column, 2]) is None
    count = found_after(column * 10, source=column)
    assert count is not None and count <= 1.5 * len(column) + 2


def test_found_stays() -> None:
    detector = LoopDetector()
    for token in [5] * LEAST_TOKENS:
        detector.add(token)
    assert detector.found
    detector.add(6)
    assert detector.found
