"""Patches against the reference processors, as far as they run without torchvision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.config import ModelConfig
from model_onnx.errors import RequestError
from model_onnx.patches import SOFT_TOKEN_BUDGETS, image_patches, target_size

CONFIG = ModelConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    heads=4,
    sliding_window=16,
    max_positions=4096,
    rms_norm_eps=1e-6,
    final_logit_softcapping=30.0,
    layers=(),
    patch_size=48,
    patch_positions=1120,
    vision_dim=64,
    frame_size=640,
    image_token_id=18,
    video_token_id=23,
    audio_token_id=21,
    boi_token_id=17,
    eoi_token_id=19,
    boa_token_id=20,
    eoa_token_id=22,
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "budget", "expected"),
    [
        (1654, 2339, 280, (672, 912)),
        (1654, 2339, 560, (912, 1344)),
        (1654, 2339, 1120, (1344, 1872)),
        (1920, 1080, 280, (1056, 576)),
        (1920, 1080, 560, (1488, 816)),
        (1920, 1080, 1120, (2112, 1200)),
        (1700, 2200, 1120, (1392, 1824)),
        (32, 32, 280, (768, 768)),
        (1, 1, 70, (384, 384)),
        (100_000, 1, 1120, (1120 * 48, 48)),
        (1, 100_000, 70, (48, 70 * 48)),
        (2_000, 7, 280, (285 * 48 - 5 * 48, 48)),
    ],
)
def test_sizes_of_the_model_card(
    width: int, height: int, budget: int, expected: tuple[int, int]
) -> None:
    assert target_size(height, width, budget, 48) == expected[::-1]


@settings(deadline=None)
@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    budget=st.sampled_from(SOFT_TOKEN_BUDGETS),
    patch=st.sampled_from([2, 8, 16]),
)
def test_size_rule_is_the_reference_rule(height: int, width: int, budget: int, patch: int) -> None:
    from transformers.models.gemma4_unified.processing_gemma4_unified import (
        get_aspect_ratio_preserving_size,
    )

    reference = get_aspect_ratio_preserving_size(height, width, patch, budget * 9, 3)
    assert target_size(height, width, budget, patch * 3) == reference


@pytest.mark.parametrize("budget", [70, 280])
@pytest.mark.parametrize("shape", [(300, 211), (31, 900), (1, 1), (3, 2000), (960, 672)])
def test_patches_are_those_of_the_reference_processor(shape: tuple[int, int], budget: int) -> None:
    """The unified processor needs torchvision; Gemma 4's Pillow processor resizes the same way and
    cuts 16-pixel patches, which are put together here place by place."""
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    pixels = noise(*shape)
    processor = Gemma4ImageProcessorPil(max_soft_tokens=budget)
    reference = processor(pixels, return_tensors="np", input_data_format="channels_last")
    count = reference["num_soft_tokens_per_image"][0]
    merged = np.zeros((count, 48, 48, 3), np.float32)
    places = reference["image_position_ids"][0]
    columns = (places[:, 0].max() + 1) // 3
    small = reference["pixel_values"][0]
    for (x, y), patch in zip(places[: count * 9], small, strict=False):
        tile = merged[(y // 3) * columns + x // 3]
        top, left = (y % 3) * 16, (x % 3) * 16
        tile[top : top + 16, left : left + 16] = patch.reshape(16, 16, 3)
    patches, positions = image_patches(pixels, budget, CONFIG)
    assert patches.dtype == np.float32 and positions.dtype == np.int64
    assert np.array_equal(np.rint(patches * 255), np.rint(merged.reshape(count, -1) * 255))
    np.testing.assert_allclose(patches, merged.reshape(count, -1), rtol=0, atol=1e-7)
    assert positions.tolist() == [[i % columns, i // columns] for i in range(count)]


def test_resizing_is_close_to_torch_resizing() -> None:
    """torchvision's resize calls this torch function, which rounds its weights differently: on
    noise 0.8 % of the values differ, by one level but for 5 in 1.8 million."""
    import torch

    pixels = noise(300, 211)
    height, width = target_size(300, 211, 280, 48)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        image, size=(height, width), mode="bicubic", antialias=True
    )
    expected = resized[0].permute(1, 2, 0).numpy().astype(np.int64)
    patches, _ = image_patches(pixels, 280, CONFIG)
    tiles = patches.reshape(height // 48, width // 48, 48, 48, 3).transpose(0, 2, 1, 3, 4)
    difference = np.abs(np.rint(tiles.reshape(height, width, 3) * 255) - expected)
    assert difference.max() <= 2 and (difference > 0).mean() < 0.01


def test_rescaling_is_bit_exact_with_torch() -> None:
    import torch

    levels = np.arange(256, dtype=np.uint8)
    pixels = np.broadcast_to(levels.repeat(9)[:, None].reshape(48, 48, 1), (48, 48, 3))
    patches, _ = image_patches(pixels, None, CONFIG)
    expected = (torch.from_numpy(levels) * (1 / 255)).numpy()
    assert np.array_equal(patches.reshape(-1, 3)[::9, 0], expected)


def test_a_fitting_image_is_taken_as_it_is() -> None:
    pixels = noise(48 * 2, 48 * 40)
    patches, positions = image_patches(pixels, None, CONFIG)
    assert patches.shape == (80, 6912) and positions[-1].tolist() == [39, 1]
    row_1_column_3 = pixels[48:96, 144:192].reshape(-1)
    assert np.array_equal(np.rint(patches[43] * 255), row_1_column_3)


def test_the_patch_size_is_the_models() -> None:
    tiny = replace(CONFIG, patch_size=6, patch_positions=30)
    patches, positions = image_patches(noise(100, 100), 70, tiny)
    assert patches.shape == (64, 108) and positions.max() == 7


@pytest.mark.parametrize(
    ("pixels", "budget", "message"),
    [
        (np.zeros((48, 48), np.uint8), 70, "expected uint8"),
        (np.zeros((48, 48, 4), np.uint8), 70, "expected uint8"),
        (np.zeros((48, 48, 3), np.float32), 70, "expected uint8"),
        (np.zeros((0, 48, 3), np.uint8), 70, "at least one pixel"),
        (np.zeros((48, 48, 3), np.uint8), 100, "expected one of"),
        (np.zeros((48, 49, 3), np.uint8), None, "multiples of 48"),
        (np.zeros((48, 48 * 1121, 3), np.uint8), None, "at most 1120"),
    ],
)
def test_unusable_images_are_refused(pixels: Any, budget: int | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        image_patches(pixels, budget, CONFIG)
