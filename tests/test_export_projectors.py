"""Token table, patch and frame projectors and the head, against plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.layers import Graph
from export.projectors import audio_graph, embedding_graph, head_graph, vision_graph
from export.quantize import RECIPES, Target, unpack
from export.weights import TABLE, all_weights, published_name
from model_onnx.config import ModelConfig
from tests.graphs import packed, run
from tests.tiny import tiny_config, tiny_weights

CONFIG = ModelConfig.from_hugging_face(tiny_config())
WEIGHTS = all_weights(CONFIG)
VALUES = {
    name: tiny_weights(CONFIG, seed=3)[published_name(weight)] for name, weight in WEIGHTS.items()
}
RNG = np.random.default_rng(3)
EXACT = Target(RECIPES["fp32"], "cpu", "float32")


def stored(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, weight in WEIGHTS.items():
        arrays |= packed(graph, weight, VALUES[name]) if name != "norm.weight" else {}
    shaped = {name: arrays[name].reshape(part.shape) for name, part in graph.stored.items()}
    return shaped


def layer_norm(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    scale, bias = (VALUES[f"vision_embedder.{name}.{part}"] for part in ("weight", "bias"))
    centred = x - x.mean(-1, keepdims=True)
    normed: npt.NDArray[Any] = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
    return normed * scale + bias


def plain_norm(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    normed: npt.NDArray[Any] = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    return normed


@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["bright", "almost black"])
def test_patches(tmp_path: Path, size: float) -> None:
    """Almost black patches tell the LayerNorms' epsilon 1e-5 from 1e-6."""
    pixels = size * RNG.random((3, CONFIG.patch_dim), np.float32)
    places = np.array([[0, 0], [5, 1], [1, 39]])
    feeds = {"pixel_values": pixels, "image_position_ids": places}
    graph = vision_graph(CONFIG, EXACT)
    (got,) = run(graph, tmp_path, stored(graph), feeds)
    x = layer_norm(pixels.astype(np.float64), "patch_ln1")
    dense = (VALUES[f"vision_embedder.patch_dense.{part}"] for part in ("weight", "bias"))
    matrix, bias = dense
    x = layer_norm(x @ matrix.T + bias, "patch_ln2")
    table = VALUES["vision_embedder.pos_embedding"]
    x = x + table[places[:, 0], 0] + table[places[:, 1], 1]
    x = plain_norm(layer_norm(x, "pos_norm"))
    expected = x @ VALUES["embed_vision.embedding_projection.weight"].T
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_patches_beyond_float16_survive_a_float16_bundle(tmp_path: Path) -> None:
    graph = vision_graph(CONFIG, Target(RECIPES["int4"], "cuda", "float16"))
    arrays = stored(graph)
    name = "vision_embedder.patch_dense.bias"
    arrays[name] = arrays[name] + np.float32(77_000) * np.sign(RNG.standard_normal(64)).astype("f4")
    feeds: dict[str, npt.NDArray[Any]] = {
        "pixel_values": RNG.random((2, CONFIG.patch_dim), np.float32),
        "image_position_ids": np.zeros((2, 2), np.int64),
    }
    (got,) = run(graph, tmp_path, arrays, feeds)
    assert got.dtype == np.float16
    assert np.isfinite(got).all()


def test_frames_do_not_depend_on_loudness(tmp_path: Path) -> None:
    frames = RNG.standard_normal((4, CONFIG.frame_size), np.float32)
    frames[3] = 0
    graph = audio_graph(CONFIG, EXACT)
    (got,) = run(graph, tmp_path, stored(graph), {"input_features": frames})
    expected = plain_norm(frames) @ VALUES["embed_audio.embedding_projection.weight"].T
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert not got[3].any()


@pytest.mark.parametrize("recipe", ["fp32", "int4"])
def test_tokens_are_rows_of_the_table_times_the_factor(tmp_path: Path, recipe: str) -> None:
    graph = embedding_graph(CONFIG, Target(RECIPES[recipe], "cpu", "float32"), 7.5)
    arrays, ids = stored(graph), np.array([[0, 511, 17], [17, 3, 3]])
    (got,) = run(graph, tmp_path, arrays, {"input_ids": ids})
    np.testing.assert_allclose(got, 7.5 * table(graph, arrays)[ids], rtol=1e-6)


@pytest.mark.parametrize("recipe", ["fp32", "int4"])
def test_logits_are_soft_capped_products_with_the_table(tmp_path: Path, recipe: str) -> None:
    graph = head_graph(CONFIG, Target(RECIPES[recipe], "cpu", "float32", exact=True))
    arrays, hidden = stored(graph), 20 * RNG.standard_normal((3, 64), np.float32)
    (got,) = run(graph, tmp_path, arrays, {"hidden_states": hidden})
    raw = hidden @ table(graph, arrays).T
    assert np.abs(raw).max() > 30
    np.testing.assert_allclose(got, 30 * np.tanh(raw / 30), rtol=1e-4, atol=1e-4)
    assert got.dtype == np.float32


def table(graph: Graph, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """The table as the graph sees it, taken from what is stored for it."""
    weight = WEIGHTS[TABLE]
    made = packed(graph, weight, VALUES[TABLE])
    for name, array in made.items():
        np.testing.assert_array_equal(array.ravel(), arrays[name].ravel())
    return unpack(tuple(made.values()), weight, graph.target)
