"""Two reports on one set -> a verdict per metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_onnx.errors import ConfigError
from pipelines.evaluate import LOWER, Report
from pipelines.metrics import resample

Verdict = Literal["better", "worse", "same"]
# Speed differs from run to run and length is no fault: they get a verdict, but are no regression.
_NEVER_REGRESS = ("seconds", "tokens", "cer_before")


@dataclass(frozen=True)
class Change:
    """One metric. low, high: 95 % interval of after - before, items paired."""

    metric: str
    before: float
    after: float
    low: float
    high: float
    verdict: Verdict

    @property
    def regression(self) -> bool:
        return self.verdict == "worse" and not _is(self.metric, _NEVER_REGRESS)


@dataclass(frozen=True)
class Comparison:
    changes: tuple[Change, ...]

    @property
    def regressed(self) -> bool:
        return any(change.regression for change in self.changes)

    def table(self) -> str:
        width = max((len(change.metric) for change in self.changes), default=0)
        return "\n".join(
            f"{c.metric:{width}}  {c.before:8.3f} -> {c.after:8.3f}  "
            f"({c.low:+.3f} .. {c.high:+.3f})  {c.verdict}"
            for c in self.changes
        )


def compare(before: Report, after: Report, *, seed: int = 0, rounds: int = 1000) -> Comparison:
    """Compares item by item: the same resamples of the common items are drawn for both reports.

    A metric is better or worse when the interval of the difference leaves out zero. Calibration
    error, which belongs to no item, is when the two intervals do not overlap. Raises ConfigError
    when the reports have no item in common.
    """
    files = sorted(before.items.keys() & after.items.keys())
    if not files:
        raise ConfigError(
            f"got reports on {before.set!r} and {after.set!r} without a common item, expected two "
            "reports on one set; measure both on it"
        )
    changes = []
    for metric in sorted(before.metrics.keys() & after.metrics.keys()):
        change = _pooled_change(before, after, metric, files, seed, rounds)
        change = change or _interval_change(before, after, metric)
        if change:
            changes.append(change)
    return Comparison(tuple(changes))


def _pooled_change(
    before: Report, after: Report, metric: str, files: list[str], seed: int, rounds: int
) -> Change | None:
    pairs = [
        (*before.items[file][metric], *after.items[file][metric])
        for file in files
        if metric in before.items[file] and metric in after.items[file]
    ]
    table = np.array(pairs, float).reshape(-1, 4)
    if not len(table) or not table[:, 1].any() or not table[:, 3].any():
        return None
    one, two = _quotients(table.sum(0, keepdims=True))
    drawn = _quotients(resample(table, seed=seed, rounds=rounds))
    low, high = np.nanpercentile(drawn[1] - drawn[0], [2.5, 97.5])
    verdict = _verdict(metric, float(low), float(high))
    return Change(metric, float(one[0]), float(two[0]), float(low), float(high), verdict)


def _quotients(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no value at all
        return sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]


def _interval_change(before: Report, after: Report, metric: str) -> Change | None:
    one, two = before.metrics[metric], after.metrics[metric]
    if one.value is None or two.value is None:
        return None
    assert one.low is not None and one.high is not None
    assert two.low is not None and two.high is not None
    low, high = two.low - one.high, two.high - one.low
    return Change(metric, one.value, two.value, low, high, _verdict(metric, low, high))


def _verdict(metric: str, low: float, high: float) -> Verdict:
    if low <= 0.0 <= high:
        return "same"
    return "better" if (low > 0.0) != _is(metric, LOWER) else "worse"


def _is(metric: str, names: tuple[str, ...]) -> bool:
    """`extract.seconds`, `clean.cer.unseen`: the part behind the subtask."""
    return metric.split(".")[1] in names
