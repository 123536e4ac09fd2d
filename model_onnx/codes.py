"""Rows of a cache as codes of 8 bits: value = code * scale, with a scale for each channel.

The scales of a sequence come from its own prompt, thousands of rows, with some room above: what is
written later is clipped only where it is a quarter larger than anything in the prompt.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from model_onnx.session import Array

# Which sequences are decoded with codes: those with a long prompt, none, all.
CacheKind = Literal["auto", "float", "int8"]

# Tokens of a prompt above which codes pay: 8192 rows of a global layer of the 12B take 14 ms a
# token instead of 30, fewer are little beside the weights, and the scales have rows enough.
LONG = 8192
_ROOM = 1.25
_LEAST = np.float32(1e-6)  # a channel that is always 0
_AT_ONCE = 4096  # rows, so that a long sequence needs no second copy


def scales_of(rows: Array) -> Array:
    """rows [heads, rows, dim] -> float32 [heads, dim]: the largest value of a channel is 127 / 1.25
    codes."""
    largest = np.zeros((rows.shape[0], rows.shape[2]), np.float32)
    for start in range(0, rows.shape[1], _AT_ONCE):
        part = np.abs(rows[:, start : start + _AT_ONCE]).max(axis=1)
        np.maximum(largest, part, out=largest)
    return np.maximum(largest * np.float32(_ROOM / 127), _LEAST)


def encode(rows: Array, scales: Array, codes: Array) -> None:
    """Writes rows [heads, rows, dim] as int8 into `codes` of the same shape."""
    for start in range(0, rows.shape[1], _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        codes[:, part] = np.rint(np.clip(rows[:, part] / scales[:, None], -127, 127))
