from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import metrics as m

PLAIN = st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=1, max_size=8).map(
    " ".join
)


def test_character_errors_by_hand() -> None:
    assert m.character_errors("kitten", "sitting") == (3, 6)
    assert m.character_errors("a  b\nc", "a b c") == (0, 5)
    assert m.character_errors("", "x") == (1, 0)


def test_words_are_normalised() -> None:
    assert m.words("Don't pay 12.50, OK? -- (Yes)") == ["don't", "pay", "12.50", "ok", "yes"]
    assert m.word_errors("Hello, world!", "hello word") == (1, 2)


@given(PLAIN, PLAIN)
def test_word_errors_agree_with_jiwer(one: str, two: str) -> None:
    errors, count = m.word_errors(one, two)
    assert errors / count == pytest.approx(jiwer.wer(one, two))


@given(PLAIN, PLAIN)
def test_character_errors_agree_with_jiwer(one: str, two: str) -> None:
    errors, count = m.character_errors(one, two)
    assert errors / count == pytest.approx(jiwer.cer(one, two))


def test_field_counts_by_hand() -> None:
    expected = {"a": "X y", "b": None, "c": "3", "items": [{"n": "p"}, {"n": "q"}]}
    got = {"a": "x  Y", "b": "invented", "c": None, "items": [{"n": "q"}]}
    counts = m.field_counts(expected, got)
    assert counts == m.FieldCounts(right=2, got=3, expected=4)
    assert (counts.precision, counts.recall, counts.f1) == ((2, 3), (2, 4), (4, 7))
    assert m.field_counts(expected, got, key=str).right == 1
    assert m.exact_fields(expected, got, m.fold) == (1, 4)
    assert m.abstention(expected, got) == (0, 1)


def test_tight_ignores_spaces_and_punctuation() -> None:
    assert m.tight("12, High St.") == m.tight("12 HIGH ST") == "12highst"


def test_anls_is_zero_below_one_half() -> None:
    assert m.anls({"a": "abcd"}, {"a": "abcx"}) == (0.75, 1)
    assert m.anls({"a": "abcd"}, {"a": "axyz"}) == (0.0, 1)
    assert m.anls({"a": "abcd"}, {"a": None}) == (0.0, 1)


def test_lines_made_worse() -> None:
    dirty, clean = "tbe cat\nsat 0n\na mat", "the cat\nsat on\na mat"
    assert m.line_changes(dirty, clean, "the cat\nsat 0n\na mut") == (1, 1, 3)
    assert m.line_changes(dirty, clean, "the cat sat on a mat") == (0, 1, 1)


def test_pooled_is_a_ratio_of_sums_with_a_repeatable_interval() -> None:
    ratios = [(1.0, 2.0), (0.0, 8.0), (5.0, 0.0)]
    interval = m.pooled(ratios)
    assert (interval.value, interval.n) == (0.1, 2)
    assert interval == m.pooled(ratios)
    assert interval.low is not None and interval.high is not None
    assert 0.0 <= interval.low <= 0.1 <= interval.high <= 0.5
    assert m.pooled([(0, 0)]) == m.Interval(None, None, None, 0)


def test_the_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for seed in range(60):
        ratios = [(float(x), 1.0) for x in generator.random(80) < 0.7]
        interval = m.pooled(ratios, seed=seed, rounds=300)
        assert interval.low is not None and interval.high is not None
        inside += interval.low <= 0.7 <= interval.high
    assert inside >= 50


def test_calibration_by_hand() -> None:
    confidences, right = [0.95, 0.95, 0.15, 1.0], [True, False, False, True]
    assert m.calibration_error(confidences, right) == pytest.approx(
        0.75 * abs(2.9 / 3 - 2 / 3) + 0.25 * 0.15
    )
    assert [row.n for row in m.reliability(confidences, right)] == [1, 3]
    assert m.calibration_error([], []) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_is_a_share(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = zip(*pairs, strict=True)
    assert 0.0 <= m.calibration_error(confidences, right) <= 1.0
    assert sum(row.n for row in m.reliability(confidences, right)) == len(pairs)


def test_a_fitted_calibration_is_monotone_and_lowers_the_error() -> None:
    generator = np.random.default_rng(3)
    raw = generator.random(4000)
    right = (generator.random(4000) < raw**3).tolist()
    points = m.fit_calibration(raw.tolist(), right)
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)
    fresh = generator.random(4000)
    truth = (generator.random(4000) < fresh**3).tolist()
    fitted = np.interp(fresh, xs, ys).tolist()
    assert m.calibration_error(fitted, truth) < 0.05 < m.calibration_error(fresh.tolist(), truth)
    assert m.fit_calibration([0.4], [True]) == ((0.4, 1.0),)
