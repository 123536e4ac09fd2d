"""Metrics as pure functions of what was expected and what came out.

Knows no model and no file. Nearly every metric is a ratio of sums over items, so one item gives a
Ratio (numerator, denominator), a set gives their sums, and a bootstrap resamples items.

Normalisers:
    fold    upper/lower case and runs of white space aside, NFKC
    words   for WER: `fold`, then punctuation removed but for that inside words: 12.50, don't
    tight   letters and digits only, folded: ignores spaces and punctuation
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

Ratio = tuple[float, float]
Floats = NDArray[np.float64]


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    kept = re.sub(r"[^\w\s]+(?!(?<=\w[.,:'/-])\w)", " ", fold(text))
    return re.sub(r"(?<!\w)[^\w\s]+", " ", kept).replace("_", " ").split()


def tight(text: str) -> str:
    return "".join(character for character in fold(text) if character.isalnum())


def character_errors(expected: str, got: str) -> Ratio:
    """Edits per expected character; white space folded, case kept."""
    one, two = " ".join(expected.split()), " ".join(got.split())
    return float(Levenshtein.distance(one, two)), float(len(one))


def word_errors(expected: str, got: str) -> Ratio:
    """Edits per expected word after `words`."""
    one, two = words(expected), words(got)
    return float(Levenshtein.distance(one, two)), float(len(one))


def leaves(output: Any, path: str = "") -> list[tuple[str, str]]:
    """(path, text) of every value that is not null.

    Positions in lists are dropped, so that a missed row does not make the other rows wrong.
    """
    if output is None or output == "":
        return []
    if isinstance(output, Mapping):
        inner = [leaves(value, f"{path}.{key}" if path else key) for key, value in output.items()]
        return [leaf for part in inner for leaf in part]
    if isinstance(output, list | tuple):
        return [leaf for value in output for leaf in leaves(value, f"{path}[]")]
    return [(path, str(output))]


@dataclass(frozen=True)
class FieldCounts:
    """right: values that agree; got, expected: values that are not null."""

    right: int
    got: int
    expected: int

    @property
    def precision(self) -> Ratio:
        return self.right, self.got

    @property
    def recall(self) -> Ratio:
        return self.right, self.expected

    @property
    def f1(self) -> Ratio:
        return 2 * self.right, self.got + self.expected


def field_counts(expected: Any, got: Any, key: Callable[[str], str] = fold) -> FieldCounts:
    """Values that agree under `key`, field by field."""
    one = Counter((path, key(value)) for path, value in leaves(expected))
    two = Counter((path, key(value)) for path, value in leaves(got))
    return FieldCounts((one & two).total(), two.total(), one.total())


def exact_fields(
    expected: Mapping[str, Any], got: Mapping[str, Any], key: Callable[[str], str]
) -> Ratio:
    """Top-level fields that agree, null with null included, per field of `expected`."""
    right = sum(_same(value, got.get(name), key) for name, value in expected.items())
    return right, len(expected)


def _same(one: Any, two: Any, key: Callable[[str], str]) -> bool:
    counts = field_counts(one, two, key)
    return counts.right == counts.got == counts.expected


def anls(expected: Any, got: Any) -> Ratio:
    """Average normalised Levenshtein similarity over the expected values, 0 below one half."""
    return anls_of(leaves(expected), leaves(got))


def anls_of(expected: Sequence[tuple[str, str]], got: Sequence[tuple[str, str]]) -> Ratio:
    """`anls` of (path, text) pairs: each expected value against the likest one of its path."""
    have: dict[str, list[str]] = {}
    for path, value in got:
        have.setdefault(path, []).append(fold(value))
    total = 0.0
    for path, value in expected:
        best = max((_similarity(fold(value), other) for other in have.get(path, ())), default=0.0)
        total += best if best >= 0.5 else 0.0
    return total, len(expected)


def _similarity(one: str, two: str) -> float:
    return Levenshtein.normalized_similarity(one, two)


def abstention(expected: Mapping[str, Any], got: Mapping[str, Any]) -> Ratio:
    """Fields that are rightly null, per expected null."""
    absent = [name for name, value in expected.items() if not leaves(value)]
    return sum(not leaves(got.get(name)) for name in absent), len(absent)


def line_changes(dirty: str, clean: str, got: str) -> tuple[int, int, int]:
    """(worse, better, lines): lines that have more or fewer character errors than before.

    Lines are paired by number; with other line counts the whole text is one line.
    """
    texts = [text.split("\n") for text in (dirty, clean, got)]
    if len({len(lines) for lines in texts}) > 1:
        texts = [[" ".join(text.split())] for text in (dirty, clean, got)]
    worse = better = 0
    for one, right, two in zip(*texts, strict=True):
        change = character_errors(right, two)[0] - character_errors(right, one)[0]
        worse, better = worse + (change > 0), better + (change < 0)
    return worse, better, len(texts[0])


@dataclass(frozen=True)
class Interval:
    """A metric's value with a 95 % bootstrap interval; n: its items. value is None where n is 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def pooled(ratios: Sequence[Ratio], *, seed: int = 0, rounds: int = 1000) -> Interval:
    """Ratio of sums; the interval resamples items, seeded, so reports repeat exactly."""
    table = np.array([ratio for ratio in ratios if ratio[1] > 0], np.float64).reshape(-1, 2)
    if not len(table):
        return Interval(None, None, None, 0)
    sums = resample(table, seed=seed, rounds=rounds)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    top, bottom = table.sum(0)
    return Interval(float(top / bottom), float(low), float(high), len(table))


def resample(table: Floats, *, seed: int, rounds: int) -> Floats:
    """Column sums of `rounds` resamples of the rows [n, k] -> [rounds, k]."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=rounds)
    return np.asarray(counts @ table, np.float64)


@dataclass(frozen=True)
class Bin:
    """Confidences in [low, high): how many, their mean, and the share that was right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Equal-width bins that hold something."""
    values, truth = np.asarray(confidences, float), np.asarray(right, float)
    index = np.minimum((values * bins).astype(int), bins - 1)
    out = []
    for place in range(bins):
        inside = index == place
        if inside.any():
            low, high = place / bins, (place + 1) / bins
            mean, accuracy = float(values[inside].mean()), float(truth[inside].mean())
            out.append(Bin(low, high, int(inside.sum()), mean, accuracy))
    return out


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error: |confidence - accuracy| over the bins, weighted by their size."""
    table = reliability(confidences, right, bins)
    total = sum(row.n for row in table)
    return (
        sum(row.n * abs(row.confidence - row.accuracy) for row in table) / total if total else 0.0
    )


def calibration_interval(
    items: Sequence[Sequence[tuple[float, bool]]], *, seed: int = 0, rounds: int = 200
) -> Interval:
    """Calibration error over the (confidence, right) pairs of items, which are resampled."""

    def error(chosen: Sequence[int]) -> float:
        pairs = [pair for place in chosen for pair in items[place]]
        return calibration_error([c for c, _ in pairs], [r for _, r in pairs])

    if not items:
        return Interval(None, None, None, 0)
    generator = np.random.default_rng(seed)
    drawn = [error(generator.integers(0, len(items), len(items)).tolist()) for _ in range(rounds)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(error(range(len(items))), float(low), float(high), len(items))


def fit_calibration(
    confidences: Sequence[float], right: Sequence[bool], *, least: int = 25
) -> tuple[tuple[float, float], ...]:
    """Points (raw, calibrated) for `Habits.calibration`, never to be fitted on held-out data.

    Isotonic regression over groups of at least `least` values: a few lucky ones make no step.
    """
    order = np.argsort(confidences, kind="stable")
    values, truth = np.asarray(confidences, float)[order], np.asarray(right, float)[order]
    count = max(1, len(values) // least)
    groups = [
        [float(part.mean()), float(hits.mean()), float(len(part))]
        for part, hits in zip(
            np.array_split(values, count), np.array_split(truth, count), strict=True
        )
        if len(part)
    ]
    pooled_groups: list[list[float]] = []
    for group in groups:  # neighbours that fall become one
        pooled_groups.append(group)
        while len(pooled_groups) > 1 and pooled_groups[-2][1] > pooled_groups[-1][1]:
            x, y, n = pooled_groups.pop()
            last = pooled_groups[-1]
            share = n / (n + last[2])
            last[0] += (x - last[0]) * share
            last[1] += (y - last[1]) * share
            last[2] += n
    return tuple((round(x, 4), round(y, 4)) for x, y, _ in pooled_groups)
