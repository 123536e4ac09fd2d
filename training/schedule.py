"""What the model sees when: learning rate, task mix and longest input as functions of the run's
progress in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

WARM_UP_STEPS = 30
DECAY_FROM = 0.3
SHORTEST_FIRST = ((0.0, 288), (0.04, 448), (0.10, 768), (0.20, 1536), (1.0, 1536))

# Shares of the tokens at each of MOMENTS. Copying comes first, since it appears abruptly and the
# rest builds on it; lines come before pages, which learn little until lines read well.
MOMENTS = (0.0, 0.10, 0.30, 0.60, 1.0)
MIX: dict[str, tuple[float, ...]] = {
    "copy_text": (45, 25, 5, 3, 3),
    "extract_text": (16, 20, 20, 20, 20),
    "extract_real": (5, 8, 13, 13, 13),
    "clean": (3, 5, 9, 9, 9),
    "repair": (3, 5, 8, 8, 8),
    "tag": (1, 2, 2, 2, 2),
    "read_line": (15, 20, 21, 21, 21),
    "read_real": (4, 8, 16, 17, 17),
    "read_page": (1, 2, 3, 3, 3),
    "extract_page": (1, 4, 5, 5, 5),
    "speech": (8, 30, 40, 30, 18),
    "digits": (2, 5, 12, 12, 8),
}
OTHER = (2, 3, 4, 4, 4)  # a task without a line of its own


def interpolate(moments: Sequence[float], values: Sequence[float], progress: float) -> float:
    for (left, low), (right, high) in pairwise(zip(moments, values, strict=True)):
        if progress <= right:
            return low + (high - low) * (progress - left) / (right - left)
    return values[-1]


def rate_factor(progress: float, step: int) -> float:
    """Warm-up, constant, linear decay to zero: most of the gain comes during the decay."""
    decay = min(1.0, (1.0 - progress) / (1.0 - DECAY_FROM))
    return max(0.0, min((step + 1) / WARM_UP_STEPS, decay))


def shares(tasks: Sequence[str], progress: float) -> dict[str, float]:
    """Share of the tokens for each task; they sum to 1."""
    weights = {t: interpolate(MOMENTS, MIX.get(t, OTHER), progress) for t in tasks}
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def longest(progress: float) -> int:
    """Tokens of the longest text or line accepted now: short inputs first."""
    moments, lengths = zip(*SHORTEST_FIRST, strict=True)
    return int(interpolate(moments, lengths, progress))
