"""Attention over the caller's caches, for one layer of the decoder.

Global layers of a decoder for long contexts have two caches, floats and codes of 8 bits, and a
branch for each: the weights are there once, and the branch in use writes into its buffers in place
as it would outside. A code times its scale is the value. The scales are inputs, one per sequence
and channel; the kernel knows none of them (its own is 1), because queries are multiplied by those
of the keys and results by those of the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from export.layers import MICROSOFT, Graph, linear, norm, plain_norm
from export.weights import Weight
from model_onnx import bundle as names
from model_onnx.config import LayerSpec, ModelConfig


@dataclass(frozen=True)
class AttentionInputs:
    """What the layers of one kind share."""

    rope: tuple[str, str]
    seqlens: str
    total: str
    bias: str = ""  # additive; "" = causal


@dataclass(frozen=True)
class Caches:
    """A layer's buffers: key and value, before and after the step. With `codes`, a second pair of
    8 bits with their scales, of which one pair is in use."""

    past: tuple[str, str]
    present: tuple[str, str]
    codes: Codes | None = None


@dataclass(frozen=True)
class Codes:
    past: tuple[str, str]
    present: tuple[str, str]
    scales: tuple[str, str]


def attention(
    graph: Graph,
    x: str,
    weights: Mapping[str, Weight],
    spec: LayerSpec,
    config: ModelConfig,
    shared: AttentionInputs,
    caches: Caches,
) -> str:
    """x [B, S, H] -> [B, S, H]. The cache keeps keys after norm and rope, values after their norm.

    weights: by the names inside `self_attn`. The scale is 1: the query and key norms carry it.
    """
    epsilon = config.rms_norm_eps
    queries = linear(graph, x, weights["q_proj.weight"])
    keys = linear(graph, x, weights["k_proj.weight"])
    values = keys if spec.key_equals_value else linear(graph, x, weights["v_proj.weight"])
    normed = []
    for raw, heads, weight in (
        (queries, config.heads, weights["q_norm.weight"]),
        (keys, spec.kv_heads, weights["k_norm.weight"]),
    ):
        split = _split_heads(graph, raw, heads, spec.head_dim)
        flat = _join_heads(graph, norm(graph, split, weight, epsilon), heads, spec.head_dim)
        normed.append(graph.op("RotaryEmbedding", flat, *shared.rope, num_heads=heads))
    split = _split_heads(graph, values, spec.kv_heads, spec.head_dim)
    plain = plain_norm(graph, split, spec.head_dim, epsilon, graph.target.dtype)
    step = (*normed, _join_heads(graph, plain, spec.kv_heads, spec.head_dim))
    attend = switched_attention if caches.codes else cached_attention
    mixed = attend(graph, step, spec, config, shared, caches)
    return linear(graph, mixed, weights["o_proj.weight"])


def cached_attention(
    graph: Graph,
    step: tuple[str, ...],
    spec: LayerSpec,
    config: ModelConfig,
    shared: AttentionInputs,
    caches: Caches,
    scale: str = "",
) -> str:
    """step: queries, keys, values [B, S, heads * head_dim]. scale: of a cache of 8 bits, [1]."""
    extra: tuple[str, ...] = ("", "", "", shared.bias, "", scale, scale)
    while extra and not extra[-1]:
        extra = extra[:-1]
    eight_bits = {
        "kv_cache_bit_width": 8,
        "k_quant_type": "PER_TENSOR",
        "v_quant_type": "PER_TENSOR",
    }
    return graph.op(
        "GroupQueryAttention",
        *step,
        *caches.past,
        shared.seqlens,
        shared.total,
        *extra,
        domain=MICROSOFT,
        outputs=(f"{caches.present[0]}.attention", *caches.present),
        num_heads=config.heads,
        kv_num_heads=spec.kv_heads,
        scale=1.0,
        do_rotary=0,
        causal=0 if shared.bias else 1,
        **(eight_bits if scale else {}),
    )


def switched_attention(
    graph: Graph,
    step: tuple[str, ...],
    spec: LayerSpec,
    config: ModelConfig,
    shared: AttentionInputs,
    caches: Caches,
) -> str:
    """`cached_attention` over the floats or over the codes, as the input INT8_CACHE says. The cache
    that is not in use goes through untouched: bound to one buffer, it costs nothing."""
    codes = caches.codes
    assert codes is not None
    outputs = (f"{caches.present[0]}.attention", *caches.present, *codes.present)
    types = [graph.float_type] * 3 + [TensorProto.INT8] * 2

    def inside(kind: str) -> tuple[str, Caches, Codes, dict[str, int]]:
        """A branch's own names for the results, and their types."""
        mixed, key, value, key_code, value_code = own = [f"{kind}.{name}" for name in outputs]
        results = dict(zip(own, types, strict=True))
        floats = replace(caches, present=(key, value))
        return mixed, floats, replace(codes, present=(key_code, value_code)), results

    name, own, unused, results = inside("floats")
    with graph.branch(name, results) as floats:
        cached_attention(graph, step, spec, config, shared, own)
        _pass_through(graph, unused)
    name, unused_floats, own_codes, results = inside("codes")
    with graph.branch(name, results) as eight_bits:
        mixed = _coded_attention(graph, step, spec, config, shared, own_codes)
        graph.op("Identity", mixed, outputs=[name])
        _pass_through(graph, unused_floats)
    graph.op("If", names.INT8_CACHE, outputs=outputs, then_branch=eight_bits, else_branch=floats)
    return outputs[0]


def _pass_through(graph: Graph, unused: Caches | Codes) -> None:
    for past, present in zip(unused.past, unused.present, strict=True):
        graph.op("Identity", past, outputs=[present])


def _coded_attention(
    graph: Graph,
    step: tuple[str, ...],
    spec: LayerSpec,
    config: ModelConfig,
    shared: AttentionInputs,
    codes: Codes,
) -> str:
    queries, keys, values = step
    key_scale, value_scale = codes.scales
    step = (
        _per_channel(graph, queries, key_scale, spec, config),
        graph.op("Div", keys, key_scale),
        graph.op("Div", values, value_scale),
    )
    one = graph.constant([1], np.float32)
    mixed = cached_attention(
        graph, step, spec, config, shared, Caches(codes.past, codes.present), one
    )
    return _per_channel(graph, mixed, value_scale, spec, config)


def _per_channel(graph: Graph, x: str, scale: str, spec: LayerSpec, config: ModelConfig) -> str:
    """x [B, S, heads * head_dim] times scale [B, 1, kv_heads * head_dim] of each head's group."""
    group, size = config.heads // spec.kv_heads, spec.head_dim
    split = graph.op("Reshape", x, graph.constant([0, 0, spec.kv_heads, group, size], np.int64))
    by_head = graph.op("Reshape", scale, graph.constant([0, 1, spec.kv_heads, 1, size], np.int64))
    return _join_heads(graph, graph.op("Mul", split, by_head), config.heads, size)


def _split_heads(graph: Graph, x: str, heads: int, size: int) -> str:
    """[B, S, heads * size] -> [B, S, heads, size]"""
    return graph.op("Reshape", x, graph.constant([0, 0, heads, size], np.int64))


def _join_heads(graph: Graph, x: str, heads: int, size: int) -> str:
    return graph.op("Reshape", x, graph.constant([0, 0, heads * size], np.int64))
