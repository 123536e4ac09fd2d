from __future__ import annotations

import pytest

from model_onnx.errors import ConfigError
from pipelines.comparison import compare
from pipelines.evaluate import Report, Score, report
from tests.fakes import FakeEngine


def made(
    errors: list[float], *, seconds: float = 1.0, judged: tuple[tuple[float, bool], ...] = ()
) -> Report:
    rows = [
        Score(
            f"{n}.txt",
            {
                "clean.cer": (e, 10.0),
                "clean.exact": (float(e == 0), 1.0),
                "clean.seconds": (seconds, 1.0),
            },
            judged,
        )
        for n, e in enumerate(errors)
    ]
    return report(rows, "set", FakeEngine(lambda asked: ""))


def verdicts(before: Report, after: Report) -> dict[str, str]:
    return {change.metric: change.verdict for change in compare(before, after).changes}


def test_a_report_is_the_same_as_itself() -> None:
    one = made([0, 1, 2, 3])
    result = compare(one, one)
    assert not result.regressed
    assert {change.verdict for change in result.changes} == {"same"}


def test_fewer_errors_are_better_and_fewer_hits_worse() -> None:
    bad, good = made([2.0] * 20), made([0.0] * 20)
    assert verdicts(bad, good)["clean.cer"] == verdicts(bad, good)["clean.exact"] == "better"
    assert verdicts(good, bad)["clean.cer"] == verdicts(good, bad)["clean.exact"] == "worse"
    assert compare(good, bad).regressed and not compare(bad, good).regressed
    assert "worse" in compare(good, bad).table()


def test_items_are_paired() -> None:
    """Every item gets a little worse: seen in pairs, lost in the spread of the items."""
    spread = [float(n % 10) for n in range(40)]
    before, after = made(spread), made([value + 0.1 for value in spread])
    low, high = before.metrics["clean.cer"], after.metrics["clean.cer"]
    assert low.high is not None and high.low is not None and low.high > high.low
    assert verdicts(before, after)["clean.cer"] == "worse"


def test_noise_is_no_verdict() -> None:
    before, after = made([0, 1, 0, 1, 0, 1, 0, 1]), made([1, 0, 0, 1, 1, 0, 0, 1])
    assert verdicts(before, after)["clean.cer"] == "same"


def test_slower_is_worse_but_no_regression() -> None:
    result = compare(made([1.0] * 9), made([1.0] * 9, seconds=5.0))
    assert {c.metric: c.verdict for c in result.changes}["clean.seconds"] == "worse"
    assert not result.regressed


def test_calibration_is_compared_by_its_intervals() -> None:
    good, bad = made([0.0] * 30, judged=((0.99, True),)), made([0.0] * 30, judged=((0.99, False),))
    assert verdicts(good, bad)["clean.ece"] == "worse"
    assert verdicts(bad, good)["clean.ece"] == "better"


def test_reports_without_a_common_item_cannot_be_compared() -> None:
    other = report([Score("x.txt", {"clean.cer": (0, 1)})], "b", FakeEngine(lambda asked: ""))
    with pytest.raises(ConfigError, match="common item"):
        compare(made([1.0]), other)
