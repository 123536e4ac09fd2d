"""Long line strips cut between words, so that no picture is wider than a model was made for.

Knows no page and no model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pieces(strip: NDArray[np.uint8], patch: int, most: int) -> list[tuple[int, int]]:
    """Column ranges of a grey strip [patch, W], each at most `most` patches wide.

    A cut stands in the middle of the widest gap of its last half, or where the ink is thinnest.
    """
    ink = np.asarray(np.median(strip) - strip.astype(np.int16) > 40).sum(axis=0)
    ranges, start, width = [], 0, strip.shape[1]
    while width - start > most * patch:
        low, high = start + most * patch // 2, start + most * patch
        cut = low + _gap(ink[low:high])
        ranges.append((start, cut))
        start = cut
    return [*ranges, (start, width)]


def _gap(ink: NDArray[np.int64]) -> int:
    """The middle of the longest run of columns with the least ink."""
    least = np.pad(ink == ink.min(), 1).astype(np.int8)
    edges = np.diff(least)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + ends[longest]) // 2


def padded(strip: NDArray[np.uint8], patch: int) -> NDArray[np.uint8]:
    """The strip with its width made a multiple of the patch by columns of paper."""
    missing = -strip.shape[1] % patch
    paper = int(np.median(strip))
    return np.pad(strip, ((0, 0), (0, missing)), constant_values=paper)
