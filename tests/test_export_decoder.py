"""The decoder graph as a contract: names, shapes, one tensor per initializer, every weight used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import pytest

from benchmarks.shapes import published_config
from export.decoder import decoder_graph
from export.layers import Graph, Location
from export.quantize import RECIPES, Target, parts
from export.weights import TABLE, all_weights
from model_onnx.bundle import past_names, present_names
from model_onnx.config import ModelConfig
from tests.tiny import tiny_config

TINY = ModelConfig.from_hugging_face(tiny_config())


def saved(graph: Graph, path: Path) -> onnx.ModelProto:
    """The graph with invented places for its weights; the files are not there."""
    places = {
        name: Location("decoder.bin", 64 * index, part.bytes)
        for index, (name, part) in enumerate(graph.stored.items())
    }
    graph.save(path, places)
    return onnx.load(str(path), load_external_data=False)


def shapes(values: object) -> dict[str, list[int | str]]:
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


def test_inputs_and_outputs(tmp_path: Path) -> None:
    graph = saved(decoder_graph(TINY, Target(RECIPES["fp32"], "cpu", "float32")), tmp_path / "g")
    caches: dict[str, list[int | str]] = {}
    presents: dict[str, list[int | str]] = {}
    for index, spec in enumerate(TINY.layers):
        shape: list[int | str] = ["batch", spec.kv_heads, f"{spec.kind}_capacity", spec.head_dim]
        caches |= dict.fromkeys(past_names(index), shape)
        presents |= dict.fromkeys(present_names(index), shape)
    assert shapes(graph.graph.input) == {
        "inputs_embeds": ["batch", "sequence", 64],
        "position_ids": ["batch", "sequence"],
        "local_attention_bias": ["batch", 1, "sequence", "local_rows"],
        "local_seqlens_k": ["batch"],
        "local_total_sequence_length": [],
        "global_seqlens_k": ["batch"],
        "global_total_sequence_length": [],
        **caches,
    }
    assert shapes(graph.graph.output) == {
        "hidden_states": ["batch", "sequence", 64],
        **presents,
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_initializer_has_one_tensor_and_every_weight_is_used(
    tmp_path: Path, recipe: str
) -> None:
    target = Target(RECIPES[recipe], "cpu", "float32")
    graph = decoder_graph(TINY, target)
    expected = {
        part.name
        for weight in all_weights(TINY).values()
        if weight.use in ("linear", "vector")
        for part in parts(weight, target)
    }
    assert set(graph.stored) == expected
    model = saved(graph, tmp_path / "g")
    initializers = Counter(tensor.name for tensor in model.graph.initializer)
    used = {name for node in model.graph.node for name in node.input}
    assert set(initializers.values()) == {1}
    assert expected <= set(initializers)
    assert set(initializers) <= used


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_cuda_graphs_are_valid_and_of_one_float_type(
    tmp_path: Path, recipe: str, kind: str
) -> None:
    target = Target(RECIPES[recipe], "cuda", kind)  # type: ignore[arg-type]
    graph = decoder_graph(TINY, target)
    model = saved(graph, tmp_path / "g")
    (tmp_path / "decoder.bin").touch()
    onnx.checker.check_model(str(tmp_path / "g"))
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    floats = {part.dtype for part in graph.stored.values() if part.dtype != "uint8"}
    assert floats == {target.dtype}
    assert not any(node.op_type == "MatMulInteger" for node in model.graph.node)


def with_branches(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        inside = {a.name: a.g.node for a in node.attribute if node.op_type == "If"}
        for branch in sorted(inside):  # else, then
            yield from inside[branch]


def test_the_12b_graph_has_every_layer_and_computes_rope_once_a_kind(tmp_path: Path) -> None:
    config = ModelConfig.from_hugging_face(published_config())
    graph = decoder_graph(config, Target(RECIPES["int4"], "cpu", "float32"))
    model = saved(graph, tmp_path / "decoder.onnx")
    count = Counter(node.op_type for node in model.graph.node)
    assert (count["Cos"], count["Sin"]) == (2, 2)
    assert (count["GroupQueryAttention"], count["If"]) == (40, 8)
    assert count["MatMulNBits"] == 48 * 7 - 8
    assert (tmp_path / "decoder.onnx").stat().st_size < 2_000_000
    kinds = [
        {attribute.name: attribute.i for attribute in node.attribute}
        for node in with_branches(model.graph.node)
        if node.op_type == "GroupQueryAttention"
    ]
    assert [kind["causal"] for kind in kinds] == [0, 0, 0, 0, 0, 1, 1] * 8
    eight = [False, False, False, False, False, False, True]  # global layers: floats, then codes
    assert [kind.get("kv_cache_bit_width") == 8 for kind in kinds] == eight * 8
    assert TABLE not in graph.stored
