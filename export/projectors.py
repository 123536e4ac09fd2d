"""What turns tokens, patches and frames into embeddings, and hidden states into logits."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from export.layers import MICROSOFT, Graph, block_linear, linear, plain_norm
from export.quantize import Blocks, Target, parts
from export.weights import TABLE, Weight, all_weights
from model_onnx import bundle
from model_onnx.config import ModelConfig

_LAYER_NORM_EPSILON = 1e-5  # torch's default, which the reference uses here, not rms_norm_eps


def embedding_graph(config: ModelConfig, target: Target, factor: float) -> Graph:
    """`embedding.onnx`: input_ids [B, S] -> rows of the table times `factor` [B, S, H]."""
    graph, table = Graph("embedding", target), all_weights(config)[TABLE]
    ids = graph.input(bundle.INPUT_IDS, TensorProto.INT64, ("batch", "sequence"))
    rows = _lookup(graph, ids, table)
    graph.op("Mul", rows, graph.activation(factor), outputs=[bundle.INPUTS_EMBEDS])
    shape = ("batch", "sequence", config.hidden_size)
    graph.output(bundle.INPUTS_EMBEDS, graph.float_type, shape)
    return graph


def _lookup(graph: Graph, ids: str, table: Weight) -> str:
    packing = graph.target.packing(table)
    if not isinstance(packing, Blocks):
        return graph.op("Gather", graph.weight(table), ids, axis=0)
    codes, scales = parts(table, graph.target)
    blocks = graph.op(
        "GatherBlockQuantized",
        graph.part(codes),
        ids,
        graph.part(scales, (*scales.shape, 1)),  # this operator wants the rank of the codes
        domain=MICROSOFT,
        bits=packing.bits,
        block_size=packing.size,
        gather_axis=0,
        quantize_axis=2,
    )
    return graph.op("Reshape", blocks, graph.constant([0, 0, table.shape[1]], np.int64))


def head_graph(config: ModelConfig, target: Target) -> Graph:
    """`head.onnx`: hidden_states [M, H] -> soft-capped logits [M, V] in float32."""
    graph, table = Graph("head", target), all_weights(config)[TABLE]
    hidden = graph.input(bundle.HIDDEN_STATES, graph.float_type, ("rows", config.hidden_size))
    packing = target.packing(table)
    if isinstance(packing, Blocks):
        codes, scales = (graph.part(part) for part in parts(table, target))
        logits = block_linear(graph, hidden, codes, scales, table, packing)
    else:
        logits = graph.op("Gemm", hidden, graph.weight(table), transB=1)
    logits = graph.op("Cast", logits, to=TensorProto.FLOAT)
    cap = graph.constant(config.final_logit_softcapping, np.float32)
    capped = graph.op("Tanh", graph.op("Div", logits, cap))
    graph.op("Mul", capped, cap, outputs=[bundle.LOGITS])
    graph.output(bundle.LOGITS, TensorProto.FLOAT, ("rows", config.vocab_size))
    return graph


def vision_graph(config: ModelConfig, target: Target) -> Graph:
    """`vision_embedder.onnx`: patches [N, patch_dim] at (x, y) [N, 2] -> soft tokens [N, H].

    In float32 on every device, since patch_dense reaches 77,000 and float16 ends at 65,504.
    """
    graph, weights = Graph("vision_embedder", target), all_weights(config)
    x = graph.input(bundle.PIXEL_VALUES, TensorProto.FLOAT, ("patches", config.patch_dim))
    positions = graph.input(bundle.IMAGE_POSITION_IDS, TensorProto.INT64, ("patches", 2))
    inside = {
        name.removeprefix("vision_embedder."): weight
        for name, weight in weights.items()
        if name.startswith("vision_embedder.")
    }
    x = _layer_norm(graph, x, inside, "patch_ln1")
    x = linear(graph, x, inside["patch_dense.weight"])
    x = graph.op("Add", x, graph.weight(inside["patch_dense.bias"]))
    x = _layer_norm(graph, x, inside, "patch_ln2")
    x = graph.op("Add", x, _position_rows(graph, positions, inside["pos_embedding"]))
    x = _layer_norm(graph, x, inside, "pos_norm")
    return _soft_tokens(
        graph, x, "patches", weights["embed_vision.embedding_projection.weight"], config
    )


def audio_graph(config: ModelConfig, target: Target) -> Graph:
    """`audio_embedder.onnx`: frames [T, frame_size] -> soft tokens [T, H]."""
    graph = Graph("audio_embedder", target)
    x = graph.input(bundle.INPUT_FEATURES, TensorProto.FLOAT, ("frames", config.frame_size))
    projection = all_weights(config)["embed_audio.embedding_projection.weight"]
    return _soft_tokens(graph, x, "frames", projection, config)


def _soft_tokens(graph: Graph, x: str, axis: str, projection: Weight, config: ModelConfig) -> Graph:
    """Plain norm and projection: the end of both projectors. Soft tokens are not scaled."""
    x = plain_norm(graph, x, projection.shape[1], config.rms_norm_eps, np.float32)
    x = linear(graph, x, projection)
    graph.op("Cast", x, to=graph.float_type, outputs=[bundle.SOFT_TOKENS])
    graph.output(bundle.SOFT_TOKENS, graph.float_type, (axis, config.hidden_size))
    return graph


def _layer_norm(graph: Graph, x: str, weights: dict[str, Weight], name: str) -> str:
    scale, bias = (graph.weight(weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.op(
        "LayerNormalization", x, scale, bias, axis=-1, epsilon=_LAYER_NORM_EPSILON, stash_type=1
    )


def _position_rows(graph: Graph, positions: str, table: Weight) -> str:
    """table[x, 0] + table[y, 1]: with both axes flattened, row 2x plus row 2y + 1."""
    rows, axes, width = table.shape
    doubled = graph.op("Mul", positions, graph.constant(axes, np.int64))
    index = graph.op("Add", doubled, graph.constant([0, 1], np.int64))  # [N, 2]
    flat = graph.weight(table, (rows * axes, width))
    found = graph.op("Gather", flat, index, axis=0)  # [N, 2, width]
    return graph.op("ReduceSum", found, graph.constant([1], np.int64), keepdims=0)
