"""Packing of weights: exactness on lattices, the best scale elsewhere, byte layouts."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.quantize import RECIPES, Packed, Target, fit, is_transposed, pack, parts, unpack
from export.weights import Use, Weight
from model_onnx.errors import ConfigError
from tests.tiny import lattice_values

FLOAT32 = np.dtype(np.float32)
RNG = np.random.default_rng(1)


def target(recipe: str, **fields: Any) -> Target:
    return Target(RECIPES[recipe], **{"device": "cpu", "activation_type": "float32", **fields})


def packed_and_back(
    values: npt.NDArray[np.float32], use: Use, made_for: Target
) -> tuple[Packed, npt.NDArray[np.float32]]:
    weight = Weight("w", values.shape, use)
    packed = pack(values, weight, made_for)
    for part, array in zip(parts(weight, made_for), packed.arrays, strict=True):
        assert (array.shape, array.dtype) == (part.shape, part.dtype)
    return packed, unpack(packed.arrays, weight, made_for)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("use", ["linear", "table"])
def test_the_reported_error_is_the_error(recipe: str, use: Use) -> None:
    values = RNG.standard_normal((48, 160), np.float32)
    packed, back = packed_and_back(values, use, target(recipe))
    assert packed.squared_error == pytest.approx(np.square(back - values).sum(), rel=1e-4)
    assert packed.squared_norm == pytest.approx(np.square(values).sum(), rel=1e-5)


@pytest.mark.parametrize(("use", "limit"), [("linear", 1e-6), ("table", 1e-6)])
def test_a_lattice_comes_back_exactly(use: Use, limit: float) -> None:
    """Blocks with scales of both signs, and with every largest code from 1 to 8."""
    values = lattice_values(RNG, (64, 512))
    packed, back = packed_and_back(values, use, target("int4"))
    assert np.sqrt(packed.squared_error / packed.squared_norm) <= limit
    np.testing.assert_allclose(back, values, rtol=1e-6)


def test_a_lattice_survives_rounding_to_bfloat16() -> None:
    """The published quantisation-aware weights are bfloat16: every code is still found."""
    values = lattice_values(RNG, (64, 512))
    rounded = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    _, back = packed_and_back(rounded, "linear", target("int4"))
    scale = np.abs(values.reshape(64, -1, 32)).max(-1, keepdims=True)
    assert np.abs((back - values).reshape(64, -1, 32) / np.maximum(scale, 1e-9)).max() < 2**-8


@pytest.mark.parametrize(("bits", "size"), [(4, 32), (4, 128), (8, 32)])
def test_the_search_is_nearly_as_good_as_a_dense_one(bits: int, size: int) -> None:
    values = RNG.standard_t(5, (size, 512)).astype(np.float32)
    found = fit(values, bits, FLOAT32).squared_error
    high = 2.0 ** (bits - 1) - 1
    largest = np.abs(values).max(axis=0)
    best = np.full(512, np.inf)
    for share in np.linspace(0.5, 1.1, 61):
        for sign in (1, -1):
            scale = sign * share * largest / high
            codes = np.clip(np.rint(values / scale), -high - 1, high)
            best = np.minimum(best, np.square(codes * scale - values).sum(axis=0))
    plain = np.clip(np.rint(values / (largest / high)), -high - 1, high) * (largest / high)
    assert found <= 1.04 * best.sum()
    if bits == 4:
        assert found < 0.85 * np.square(plain - values).sum()


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)),
        elements=st.floats(-1e4, 1e4, width=32),
    ),
    st.sampled_from(sorted(RECIPES)),
)  # fmt: skip
def test_any_matrix_comes_back_within_a_step(values: Any, recipe: str) -> None:
    """Also sizes that end inside a block, zeros, outliers and tiny values."""
    packed, back = packed_and_back(values, "linear", target(recipe))
    assert back.shape == values.shape
    assert np.isfinite(back).all()
    step = {"fp32": 0.0, "int8": 1 / 124}.get(recipe, 1 / 6)
    assert np.abs(back - values).max() <= step * np.abs(values).max() + 1e-6
    assert packed.squared_error <= packed.squared_norm + 1e-6


def test_zeros_stay_zero() -> None:
    for recipe in RECIPES:
        _, back = packed_and_back(np.zeros((4, 64), np.float32), "linear", target(recipe))
        assert not back.any()


def test_bytes_of_four_bits() -> None:
    """Two codes to a byte, the first in the low half, 8 added."""
    codes = np.arange(32) % 16 - 8
    weight = Weight("w", (1, 32), "linear")
    packed = pack((codes * 0.5).astype(np.float32)[None], weight, target("int4"))
    assert packed.arrays[0].tolist() == [[[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE] * 2]]
    assert packed.arrays[1].tolist() == [[0.5]]


def test_matrices_of_plain_and_row_packings_are_stored_transposed() -> None:
    weight = Weight("w", (64, 96), "linear")
    for recipe, shape in (("fp32", (96, 64)), ("int8", (96, 64)), ("int4", (64, 3, 16))):
        assert parts(weight, target(recipe))[0].shape == shape
    assert not is_transposed(Weight("t", (64, 96), "table"), RECIPES["fp32"].table)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_scales_take_the_activation_type_and_projectors_stay_float32(kind: str) -> None:
    made_for = target("int4", device="cuda", activation_type=kind)
    codes, scales = parts(Weight("w", (64, 96), "linear"), made_for)
    assert codes.dtype == np.uint8
    assert scales.dtype == made_for.dtype
    assert parts(Weight("p", (64, 96), "projector_linear"), made_for)[0].dtype == np.float32
    assert parts(Weight("v", (64,), "vector"), made_for)[0].dtype == made_for.dtype
    values = RNG.standard_normal((64, 96), np.float32)
    packed, back = packed_and_back(values, "linear", made_for)
    assert packed.squared_error == pytest.approx(np.square(back - values).sum(), rel=1e-4)


def test_int8_on_cuda_is_blocks() -> None:
    made_for = target("int8", device="cuda", activation_type="float16")
    assert parts(Weight("w", (64, 256), "linear"), made_for)[0].shape == (64, 2, 128)


def test_a_table_that_does_not_split_into_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_size: got 48, expected a multiple of 32"):
        parts(Weight("t", (8, 48), "table"), target("int4"))
