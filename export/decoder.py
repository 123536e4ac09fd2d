"""The backbone graph: embeddings, positions, masks and caches in, normed hidden states out.

One graph serves prefill, decode, verification and batches: windows and image blocks of the local
layers are a bias that the caller computes, positions are an input, and the caches are buffers of
the caller that the graph extends in place.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from export.attention import AttentionInputs, Caches, Codes, attention
from export.layers import Graph, gated_mlp, norm, rope_tables
from export.quantize import Target
from export.weights import Weight, all_weights
from model_onnx import bundle
from model_onnx.codes import LONG
from model_onnx.config import LayerKind, LayerSpec, ModelConfig


def decoder_graph(config: ModelConfig, target: Target) -> Graph:
    """`decoder.onnx`; the names of its inputs and outputs are those of `model_onnx.bundle`."""
    graph, weights = Graph("decoder", target), all_weights(config)
    has_codes = target.device == "cpu" and config.max_positions > LONG
    if has_codes:
        graph.input(bundle.INT8_CACHE, TensorProto.BOOL, ())
    hidden_shape = ("batch", "sequence", config.hidden_size)
    x = graph.input(bundle.INPUTS_EMBEDS, graph.float_type, hidden_shape)
    shared = _shared_inputs(graph, config)
    for index, spec in enumerate(config.layers):
        caches = _caches(graph, index, spec, has_codes)
        layer = _inside(weights, f"layers.{index}.")
        x = _layer(graph, x, layer, spec, config, shared[spec.kind], caches)
    normed = norm(graph, x, weights["norm.weight"], config.rms_norm_eps)
    graph.op("Identity", normed, outputs=[bundle.HIDDEN_STATES])
    graph.output(bundle.HIDDEN_STATES, graph.float_type, hidden_shape)
    return graph


def _layer(
    graph: Graph,
    x: str,
    weights: Mapping[str, Weight],
    spec: LayerSpec,
    config: ModelConfig,
    shared: AttentionInputs,
    caches: Caches,
) -> str:
    """Sandwich norms around both branches; layer_scalar scales the whole residual [B, S, H]."""
    epsilon = config.rms_norm_eps
    inner = norm(graph, x, weights["input_layernorm.weight"], epsilon)
    heads = _inside(weights, "self_attn.")
    mixed = attention(graph, inner, heads, spec, config, shared, caches)
    mixed = norm(graph, mixed, weights["post_attention_layernorm.weight"], epsilon)
    x = graph.op("Add", x, mixed)
    inner = norm(graph, x, weights["pre_feedforward_layernorm.weight"], epsilon)
    branch = gated_mlp(graph, inner, _inside(weights, "mlp."))
    branch = norm(graph, branch, weights["post_feedforward_layernorm.weight"], epsilon)
    return graph.op("Mul", graph.op("Add", x, branch), graph.weight(weights["layer_scalar"]))


def _shared_inputs(graph: Graph, config: ModelConfig) -> dict[LayerKind, AttentionInputs]:
    """Declares the inputs that all layers of a kind share, and computes cos and sin once a kind."""
    position_ids = graph.input(bundle.POSITION_IDS, TensorProto.INT64, ("batch", "sequence"))
    bias_shape = ("batch", 1, "sequence", "local_rows")
    bias = graph.input(bundle.LOCAL_ATTENTION_BIAS, graph.float_type, bias_shape)
    lengths = {
        "local": (bundle.LOCAL_SEQLENS, bundle.LOCAL_TOTAL),
        "global": (bundle.GLOBAL_SEQLENS, bundle.GLOBAL_TOTAL),
    }
    shared: dict[LayerKind, AttentionInputs] = {}
    for seqlens, total in lengths.values():
        graph.input(seqlens, TensorProto.INT32, ("batch",))
        graph.input(total, TensorProto.INT32, ())
    for spec in config.layers:
        if spec.kind not in shared:
            rope = rope_tables(graph, position_ids, spec)
            own_bias = bias if spec.kind == "local" else ""
            shared[spec.kind] = AttentionInputs(rope, *lengths[spec.kind], own_bias)
    return shared


def _caches(graph: Graph, index: int, spec: LayerSpec, has_codes: bool) -> Caches:
    shape = ("batch", spec.kv_heads, f"{spec.kind}_capacity", spec.head_dim)
    past, present = bundle.past_names(index), bundle.present_names(index)
    _declare(graph, past, present, graph.float_type, shape)
    if not has_codes or spec.kind == "local":
        return Caches(past, present)
    codes = Codes(
        bundle.past_code_names(index),
        bundle.present_code_names(index),
        bundle.code_scale_names(index),
    )
    shape = ("batch", spec.kv_heads, "code_capacity", spec.head_dim)
    _declare(graph, codes.past, codes.present, TensorProto.INT8, shape)
    for name in codes.scales:
        graph.input(name, graph.float_type, ("batch", 1, spec.kv_heads * spec.head_dim))
    return Caches(past, present, codes)


def _declare(
    graph: Graph,
    past: tuple[str, str],
    present: tuple[str, str],
    kind: int,
    shape: tuple[int | str, ...],
) -> None:
    for name in past:
        graph.input(name, kind, shape)
    for name in present:
        graph.output(name, kind, shape)


def _inside(weights: Mapping[str, Weight], prefix: str) -> dict[str, Weight]:
    """The weights under a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }
