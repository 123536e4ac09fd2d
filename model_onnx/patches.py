"""An image -> patch vectors and their places. The resize rule is the reference processor's.

Knows arrays only: conversion of files, greyscale, alpha or 16 bits to RGB happens before.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_onnx.config import ModelConfig
from model_onnx.errors import RequestError

SOFT_TOKEN_BUDGETS = (70, 140, 280, 560, 1120)

# Multiplied in float32 as torch does it; dividing by 255 differs in the last bit of 126 values.
_RESCALED = np.arange(256, dtype=np.float32) * np.float32(1 / 255)


def image_patches(
    pixels: NDArray[np.uint8], soft_tokens: int | None, config: ModelConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """uint8 RGB [H, W, 3] -> patches in [0, 1] [N, patch_dim] and their (x, y) [N, 2], row by row.

    soft_tokens: the budget, one of SOFT_TOKEN_BUDGETS, N <= soft_tokens; None takes the image as it
    is, which needs sides that are multiples of the patch size. Raises RequestError.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise RequestError(
            f"got an image {pixels.dtype} {list(pixels.shape)}, expected uint8 [height, width, 3] "
            "with at least one pixel; convert it to RGB first"
        )
    height, width = pixels.shape[:2]
    size = config.patch_size
    if soft_tokens is not None:
        target = target_size(height, width, soft_tokens, size)
        if target != (height, width):
            pixels = _resize(pixels, *target)
    elif height % size or width % size:
        raise RequestError(
            f"got an image of {width} x {height} pixels without a soft-token budget, expected "
            f"multiples of {size}; pad it, or give a budget of {SOFT_TOKEN_BUDGETS}"
        )
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    if max(rows, columns) > config.patch_positions:
        raise RequestError(
            f"got {columns} x {rows} patches, expected at most {config.patch_positions} a side; "
            "cut the image or give it a smaller soft-token budget"
        )
    tiles = pixels.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4)
    y, x = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
    return _RESCALED[tiles.reshape(rows * columns, -1)], np.stack((x, y), axis=1)


def target_size(height: int, width: int, soft_tokens: int, patch_size: int) -> tuple[int, int]:
    """(height, width) after resizing: multiples of the patch size, the largest within the budget
    that keep the proportions (rounded down); small images grow. Raises RequestError."""
    if soft_tokens not in SOFT_TOKEN_BUDGETS:
        raise RequestError(
            f"got a soft-token budget of {soft_tokens}, expected one of {SOFT_TOKEN_BUDGETS}"
        )
    factor = math.sqrt(soft_tokens * patch_size**2 / (height * width))
    rows = math.floor(factor * height / patch_size)
    columns = math.floor(factor * width / patch_size)
    # An image longer than the budget is wide: one row or column of patches, so never both are 0.
    if rows == 0:
        rows, columns = 1, min(width // height, soft_tokens)
    elif columns == 0:
        rows, columns = min(height // width, soft_tokens), 1
    return rows * patch_size, columns * patch_size


def _resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
