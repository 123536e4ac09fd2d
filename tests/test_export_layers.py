"""The pieces of the graphs, one by one, against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from export.layers import Graph, gated_mlp, linear, norm, plain_norm, rope_tables
from export.quantize import RECIPES, Target, unpack
from export.weights import Weight
from model_onnx.config import LayerSpec
from tests.graphs import packed, run

RNG = np.random.default_rng(2)
FLOAT = TensorProto.FLOAT
EXACT = Target(RECIPES["fp32"], "cpu", "float32")

LOCAL_12B = LayerSpec("local", 256, 8, 10_000.0, 128, False)
GLOBAL_12B = LayerSpec("global", 512, 1, 1_000_000.0, 64, True)


def random(*shape: int) -> npt.NDArray[np.float32]:
    return RNG.standard_normal(shape, np.float32)


def test_norm_computes_the_root_mean_square_and_multiplies_by_the_weight(tmp_path: Path) -> None:
    graph, weight = Graph("g", EXACT), Weight("w", (8,), "vector")
    x, scale = random(2, 3, 8), random(8)
    y = norm(graph, graph.input("x", FLOAT, x.shape), weight, 1e-3)
    z = plain_norm(graph, "x", 8, 1e-3, np.float32)
    graph.output(y, FLOAT, x.shape)
    graph.output(z, FLOAT, x.shape)
    got, plain = run(graph, tmp_path, {"w": scale}, {"x": x})
    expected = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    np.testing.assert_allclose(got, expected * scale, rtol=1e-5)


@pytest.mark.parametrize("spec", [LOCAL_12B, GLOBAL_12B], ids=["local", "global"])
def test_rope_turns_the_right_pairs_by_the_right_angles(tmp_path: Path, spec: LayerSpec) -> None:
    """The 12B's numbers. Global: dimension j < 64 turns with j + 256, the others stand still."""
    graph, positions = Graph("g", EXACT), np.array([[0, 1, 1023, 5000]])
    x = random(1, 4, 2 * spec.head_dim)
    cos, sin = rope_tables(graph, graph.input("p", TensorProto.INT64, positions.shape), spec)
    graph.input("x", FLOAT, x.shape)
    graph.op("RotaryEmbedding", "x", cos, sin, num_heads=2, outputs=["y"])
    graph.output("y", FLOAT, x.shape)
    (got,) = run(graph, tmp_path, {}, {"p": positions, "x": x})

    half, turning = spec.head_dim // 2, 128 if spec.kind == "local" else 64
    expected = x.reshape(4, 2, 2, half).astype(np.float64)
    for place, position in enumerate(positions[0]):
        for j in range(turning):
            angle = position * spec.rope_theta ** (-2 * j / spec.head_dim)
            first, second = expected[place, :, 0, j].copy(), expected[place, :, 1, j].copy()
            expected[place, :, 0, j] = first * np.cos(angle) - second * np.sin(angle)
            expected[place, :, 1, j] = second * np.cos(angle) + first * np.sin(angle)
    np.testing.assert_allclose(got, expected.reshape(x.shape), atol=3e-3)
    np.testing.assert_allclose(got[0, :2], expected.reshape(x.shape)[0, :2], atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("exact", [True, False])
def test_linear_multiplies_by_the_stored_matrix(tmp_path: Path, recipe: str, exact: bool) -> None:
    graph = Graph("g", Target(RECIPES[recipe], "cpu", "float32", exact=exact))
    weight, values, x = Weight("w", (48, 96), "linear"), random(48, 96), random(1, 5, 96)
    x[0, 3] = 0  # an empty row must not divide by zero
    x[0, 4] *= 1e4  # its neighbours must not lose their bits to it
    graph.output(linear(graph, graph.input("x", FLOAT, x.shape), weight), FLOAT, (1, 5, 48))
    arrays = packed(graph, weight, values)
    (got,) = run(graph, tmp_path, arrays, {"x": x})
    expected = x[0] @ unpack(tuple(arrays.values()), weight, graph.target).T
    error = np.linalg.norm(got[0] - expected, axis=-1)
    allowed = 1e-5 if exact or recipe == "fp32" else 0.015
    assert (error <= allowed * np.linalg.norm(expected, axis=-1)).all()


def test_gated_mlp_uses_the_tanh_form_of_gelu(tmp_path: Path) -> None:
    graph = Graph("g", EXACT)
    weights = {
        f"{name}.weight": Weight(name, shape, "linear")
        for name, shape in (("gate_proj", (6, 4)), ("up_proj", (6, 4)), ("down_proj", (4, 6)))
    }
    matrices, x = {weight.name: random(*weight.shape) for weight in weights.values()}, random(3, 4)
    graph.output(gated_mlp(graph, graph.input("x", FLOAT, x.shape), weights), FLOAT, (3, 4))
    stored = {name: np.ascontiguousarray(matrix.T) for name, matrix in matrices.items()}
    (got,) = run(graph, tmp_path, stored, {"x": x})
    gate = x @ matrices["gate_proj"].T
    gelu = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    expected = (gelu * (x @ matrices["up_proj"].T)) @ matrices["down_proj"].T
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_equal_constants_are_one_and_different_ones_are_not(tmp_path: Path) -> None:
    graph = Graph("g", EXACT)
    a, b = graph.constant([1.5], np.float32), graph.constant([1.5], np.float32)
    c, d = graph.constant(np.arange(9), np.float32), graph.constant(np.arange(9) + 1, np.float32)
    assert a == b
    assert c != d
    assert graph.constant(1.5, np.float32) != a
    assert graph.constant([1], np.int64) != graph.constant([1], np.int32)
    graph.output(graph.op("Add", c, d), FLOAT, (9,))
    (got,) = run(graph, tmp_path, {}, {})
    np.testing.assert_array_equal(got, 2 * np.arange(9) + 1)
