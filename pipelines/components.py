"""Ink and its connected components, with numpy and Pillow alone.

Knows nothing of text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Boxes = NDArray[np.int64]  # [N, 4]: x0, y0, x1, y1 in pixels, x1 and y1 behind the last one

_DEPTH = 0.25  # of the strongest ink's darkness: fainter is paper


def ink_of(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where a pixel is clearly darker than the mean of its neighbourhood. [H, W]

    The neighbourhood is 1/24 of the shorter side, so shadows and stains do not become ink. Strokes
    grow by half a pixel, so that faint dot print holds together.
    """
    radius = max(8, min(grey.shape) // 48)
    picture = Image.fromarray(grey)
    soft = np.asarray(picture.filter(ImageFilter.BoxBlur(0.5)), dtype=np.int16)
    mean = np.asarray(picture.filter(ImageFilter.BoxBlur(radius)), dtype=np.int16)
    depth = mean - soft
    strong = np.percentile(depth[::2, ::2], 99)
    result: NDArray[np.bool_] = depth > np.clip(_DEPTH * strong, 8, 40)
    return result


def components(ink: NDArray[np.bool_]) -> Boxes:
    """Boxes of the 8-connected components of ink, from runs of pixels joined row by row."""
    edges = np.diff(np.pad(ink, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    if not len(rows):
        return np.zeros((0, 4), np.int64)
    label = join(len(rows), *_touching(rows, starts, ends, ink.shape[1]))
    count = int(label.max()) + 1
    boxes = np.empty((count, 4), np.int64)
    for column, values, ufunc, start in (
        (0, starts, np.minimum, ink.shape[1]),
        (1, rows, np.minimum, ink.shape[0]),
        (2, ends, np.maximum, 0),
        (3, rows + 1, np.maximum, 0),
    ):
        boxes[:, column] = start
        ufunc.at(boxes[:, column], label, values)
    return boxes


def _touching(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of runs (above, below) that touch, corners included."""
    stride = width + 2  # one sorted axis for all rows
    low = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, side="left")
    high = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, side="right")
    counts = np.maximum(high - low, 0)
    below = np.repeat(np.arange(len(rows)), counts)
    first = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return first + np.arange(len(below)), below


def join(count: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers 0..k-1 of the connected sets of `count` things, given pairs that belong together."""
    parent = np.arange(count)
    while True:
        low = np.minimum(parent[left], parent[right])
        before = parent.copy()
        np.minimum.at(parent, parent[left], low)
        np.minimum.at(parent, parent[right], low)
        while True:  # every chain of parents becomes one step
            shorter = parent[parent]
            if np.array_equal(shorter, parent):
                break
            parent = shorter
        if np.array_equal(before, parent):
            return np.unique(parent, return_inverse=True)[1]
