"""Where to cut by confidence, and how sure a share is: functions of (confidence, right) pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

TARGET = 0.95  # precision that the suggested threshold has to reach
_FEWEST = 10  # values above a threshold: fewer prove nothing

Pairs = Sequence[tuple[float, bool]]  # (confidence, right)


def threshold_rows(pairs: Pairs) -> list[tuple[float, float, float]]:
    """(threshold, share right among what is kept, share kept), from the most confident down.

    Values of one confidence are kept or left together.
    """
    right, rows = 0, []
    ordered = sorted(pairs, reverse=True)
    for count, (confidence, good) in enumerate(ordered, 1):
        right += good
        if count == len(ordered) or ordered[count][0] < confidence:
            rows.append((confidence, right / count, count / len(ordered)))
    return rows


def suggested_threshold(pairs: Pairs) -> float | None:
    """The lowest confidence from which on TARGET of the values are right; None where none is."""
    fewest = _FEWEST / max(len(pairs), 1)
    proven = [at for at, right, kept in threshold_rows(pairs) if right >= TARGET and kept >= fewest]
    return min(proven, default=None)


def share_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` (Wilson's)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = (
        z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    )
    return middle - reach, middle + reach
