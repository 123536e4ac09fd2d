"""Arrays -> the bytes of a bundle and back: blocks of 4 or 8 bits, rows of 8 bits, plain floats.

Knows no graph. A block is `size` neighbouring inputs of one output channel and has one scale.
Layout of 4 bits, as MatMulNBits reads it: code + 8, two to a byte, the first in the low half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

from export.weights import Weight
from model_onnx.bundle import ActivationType
from model_onnx.errors import ConfigError

FloatArray = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]

ACTIVATION_TYPES: dict[ActivationType, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# The scale of a block is tried at extremum / divisor, then fitted by least squares to the codes.
# On a 4-bit lattice (Q4_0, as Google's quantisation-aware checkpoints) the extremum has one of the
# codes -8 and 1..7 up to sign, so one of these divisors gives every value back exactly. Elsewhere
# clipping or stretching a little is best; more divisors lower the error by less than 1 %.
# 8 bits: one of these is a multiple of any largest code 1..8, so such a lattice stays exact.
_LATTICE = (-8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
_SEARCH = {4: (-8.0, 7.0, -7.5, -8.5, -9.0), 8: (-128.0, 126.0, 125.0, 124.0)}
_SAMPLE = 32  # one block in so many shows whether the others lie on a lattice
_EXPLAINED = 1 - 1e-5  # of |w|^2, on a lattice with values rounded to bfloat16
_VALUES_AT_ONCE = 65536  # values per numpy call: stays in the core's second-level cache


@dataclass(frozen=True)
class Float:
    """Not quantised."""


@dataclass(frozen=True)
class Blocks:
    bits: Literal[4, 8]
    size: int


@dataclass(frozen=True)
class Rows:
    """8 bits with one scale per output channel, for integer matrix products."""


Packing = Float | Blocks | Rows


@dataclass(frozen=True)
class Recipe:
    """How matrices are stored. CUDA has no fast integer matrix product with a scale per row of
    activations, so there int8 becomes blocks for MatMulNBits, which are also finer."""

    name: str
    linear: Packing
    table: Packing
    linear_on_cuda: Packing | None = None


_TABLE = Blocks(8, 32)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", Float(), Float()),
        Recipe("int4", Blocks(4, 32), _TABLE),
        Recipe("int4-b128", Blocks(4, 128), _TABLE),
        Recipe("int8", Rows(), _TABLE, linear_on_cuda=Blocks(8, 128)),
    )
}


@dataclass(frozen=True)
class Target:
    """What a bundle is made for. `exact`: quantised weights, but activations are not rounded.
    `exceptions`: decoder matrices that are stored in another way, by name."""

    recipe: Recipe
    device: Device
    activation_type: ActivationType
    exact: bool = False
    exceptions: Mapping[str, Packing] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[Any]:
        return ACTIVATION_TYPES[self.activation_type]

    def packing(self, weight: Weight) -> Packing:
        if weight.use == "table":
            return self.recipe.table
        if weight.use != "linear":
            return Float()
        if weight.name in self.exceptions:
            return self.exceptions[weight.name]
        on_cuda = self.recipe.linear_on_cuda if self.device == "cuda" else None
        return on_cuda or self.recipe.linear

    def float_dtype(self, weight: Weight) -> np.dtype[Any]:
        """The projectors stay in float32: patch_dense reaches 77,000, beyond float16's 65,504."""
        return np.dtype(np.float32) if weight.use.startswith("projector") else self.dtype


@dataclass(frozen=True)
class Part:
    """One array that is stored for a weight."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def is_transposed(weight: Weight, packing: Packing) -> bool:
    """Whether a matrix is stored [in, out], which MatMul and MatMulInteger want."""
    return weight.use.endswith("linear") and not isinstance(packing, Blocks)


def parts(weight: Weight, target: Target) -> tuple[Part, ...]:
    """What is stored for a weight: codes and scales, or the floats under the weight's own name."""
    packing = target.packing(weight)
    shape = weight.shape[::-1] if is_transposed(weight, packing) else weight.shape
    if isinstance(packing, Float):
        return (Part(weight.name, target.float_dtype(weight), shape),)
    if isinstance(packing, Rows):  # own names: a bundle may hold a matrix in blocks and in rows
        return (
            Part(f"{weight.name}.int8", np.dtype(np.int8), shape),
            Part(f"{weight.name}.int8_scales", np.dtype(np.float32), (weight.shape[0],)),
        )
    codes, scales = f"{weight.name}.codes", f"{weight.name}.scales"
    rows, columns = weight.shape
    if weight.use == "table" and columns % packing.size:
        raise ConfigError(
            f"hidden_size: got {columns}, expected a multiple of {packing.size} for recipe "
            f"{target.recipe.name}; use recipe fp32"
        )
    blocks = -(-columns // packing.size)
    return (
        Part(codes, np.dtype(np.uint8), (rows, blocks, packing.size * packing.bits // 8)),
        Part(scales, target.dtype, (rows, blocks)),
    )


@dataclass(frozen=True)
class Packed:
    """Arrays of some rows of a weight, in the order of `parts`, and sums for the error report."""

    arrays: tuple[npt.NDArray[Any], ...]
    squared_error: float
    squared_norm: float


def pack(values: FloatArray, weight: Weight, target: Target) -> Packed:
    """Rows of a weight -> rows of its parts; transposed parts are columns [in, rows]."""
    packing = target.packing(weight)
    if isinstance(packing, Float):
        stored = values.astype(target.float_dtype(weight), copy=False)
        error = 0.0 if stored.dtype == values.dtype else _squared_distance(stored, values)
        array = stored.T if is_transposed(weight, packing) else stored
        return Packed((array,), error, _squared_distance(values, None))
    size = packing.size if isinstance(packing, Blocks) else values.shape[1]
    bits = packing.bits if isinstance(packing, Blocks) else 8
    rows, blocks = len(values), -(-values.shape[1] // size)
    missing = blocks * size - values.shape[1]
    padded = np.pad(values, ((0, 0), (0, missing))) if missing else values
    flat = padded.reshape(rows * blocks, size)
    scale_type = target.dtype if isinstance(packing, Blocks) else np.dtype(np.float32)
    codes = np.empty((rows * blocks, size * bits // 8), np.uint8)
    scales = np.empty(rows * blocks, scale_type)
    error, step = 0.0, max(1, _VALUES_AT_ONCE // size)
    for start in range(0, len(flat), step):
        columns = np.ascontiguousarray(flat[start : start + step].T)
        fitted = fit(columns, bits, scale_type)
        codes[start : start + step] = _pack_codes(fitted.codes, bits).T
        scales[start : start + step] = fitted.scales
        error += fitted.squared_error
    if isinstance(packing, Rows):
        signed = (codes ^ 128).view(np.int8)
        return Packed((signed.T, scales), error, _squared_distance(values, None))
    arrays = (codes.reshape(rows, blocks, -1), scales.reshape(rows, blocks))
    return Packed(arrays, error, _squared_distance(values, None))


@dataclass(frozen=True)
class Fitted:
    codes: FloatArray  # whole numbers [size, blocks]
    scales: npt.NDArray[Any]  # [blocks]
    squared_error: float


def fit(values: FloatArray, bits: int, scale_type: np.dtype[Any]) -> Fitted:
    """values [size, blocks], one block per column -> the codes and scales that err least.

    For given codes c the best scale is <w,c>/<c,c>, and what it explains of |w|^2 is <w,c>^2/<c,c>:
    the divisor that explains most wins.
    """
    divisors = _SEARCH[bits]
    if bits == 4 and _is_lattice(values[:, ::_SAMPLE]):
        divisors = _LATTICE
    codes, scales, _ = _best(values, bits, divisors)
    rounded = scales.astype(scale_type)
    error = codes * rounded.astype(np.float32)
    error -= values
    return Fitted(codes, rounded, float(np.square(error, out=error).sum(dtype=np.float64)))


def _is_lattice(values: FloatArray) -> bool:
    """Whether most blocks that are not zero are whole numbers times a scale."""
    _, _, explained = _best(values, 4, _LATTICE)
    norm = np.square(values).sum(axis=0)
    on_lattice = np.count_nonzero((explained >= _EXPLAINED * norm) & (norm > 0))
    return bool(2 * on_lattice > np.count_nonzero(norm))


def _best(
    values: FloatArray, bits: int, divisors: tuple[float, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Codes [size, blocks] of the best divisor of each block, its scale and what it explains."""
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    largest, smallest = values.max(axis=0), values.min(axis=0)
    extremum = np.where(largest >= -smallest, largest, smallest)
    extremum[extremum == 0] = 1
    best = np.full(values.shape[1], -1, np.float32)
    scales, factors = np.zeros_like(best), np.zeros_like(best)
    codes, products = np.empty(values.shape, np.float32), np.empty(values.shape, np.float32)
    for divisor in divisors:
        factor = np.float32(divisor) / extremum
        _round_to_codes(values, factor, low, high, codes, clip=abs(divisor) > high)
        dot = np.multiply(values, codes, out=products).sum(axis=0)
        norm = np.square(codes, out=products).sum(axis=0)
        explained = dot * dot / np.maximum(norm, 1)
        better = explained > best
        np.copyto(best, explained, where=better)
        np.copyto(scales, dot / np.maximum(norm, 1), where=better)
        np.copyto(factors, factor, where=better)
    _round_to_codes(values, factors, low, high, codes, clip=True)
    return codes, scales, best


def _round_to_codes(
    values: FloatArray, factor: FloatArray, low: float, high: float, out: FloatArray, *, clip: bool
) -> None:
    np.multiply(values, factor, out=out)
    np.rint(out, out=out)
    if clip:
        np.clip(out, low, high, out=out)


def _pack_codes(codes: FloatArray, bits: int) -> npt.NDArray[np.uint8]:
    """Whole numbers [size, blocks] -> bytes [size * bits / 8, blocks]."""
    unsigned: npt.NDArray[np.uint8] = (codes + 2.0 ** (bits - 1)).astype(np.uint8)
    return unsigned if bits == 8 else unsigned[0::2] | (unsigned[1::2] * np.uint8(16))


def unpack(arrays: tuple[npt.NDArray[Any], ...], weight: Weight, target: Target) -> FloatArray:
    """The inverse of `pack` for a whole weight: the values that the graphs compute with."""
    packing = target.packing(weight)
    if isinstance(packing, Float):
        array = arrays[0].T if is_transposed(weight, packing) else arrays[0]
        return array.astype(np.float32)
    codes, scales = arrays[0], arrays[1].astype(np.float32)
    if isinstance(packing, Rows):
        return codes.T.astype(np.float32) * scales[:, None]
    if packing.bits == 4:
        codes = np.stack((codes & 15, codes >> 4), axis=-1).reshape(*codes.shape[:2], -1)
    signed = codes.astype(np.float32) - 2.0 ** (packing.bits - 1)
    whole = (signed * scales[..., None]).reshape(weight.shape[0], -1)
    return np.ascontiguousarray(whole[:, : weight.shape[1]], np.float32)


def _squared_distance(values: npt.NDArray[Any], other: FloatArray | None) -> float:
    """|values - other|^2, or |values|^2; in pieces, since a whole matrix in float64 is large."""
    total, flat = 0.0, values.reshape(-1)
    for start in range(0, flat.size, _VALUES_AT_ONCE):
        piece = flat[start : start + _VALUES_AT_ONCE].astype(np.float64)
        if other is not None:
            piece -= other.reshape(-1)[start : start + _VALUES_AT_ONCE]
        total += float(np.dot(piece, piece))
    return total
