"""A drafter's checkpoint -> `drafter.onnx` beside the graphs of its target, in the same bundle.

The graph guesses one token: the target's embedding of the last token and its hidden state before
that go through a few layers that have queries only. Their attention reads the rows that the target
has cached in its last local and its last global layer, in place, and adds none.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto

from export.attention import AttentionInputs
from export.checkpoint import Checkpoint
from export.layers import (
    MICROSOFT,
    Graph,
    Location,
    block_linear,
    gated_mlp,
    linear,
    norm,
    rope_tables,
)
from export.quantize import RECIPES, Blocks, Recipe, Target, pack, parts
from export.weights import TABLE, Weight, assign
from model_onnx import bundle as names
from model_onnx.bundle import Bundle, DrafterEntry
from model_onnx.config import LayerKind, LayerSpec, ModelConfig, read_config
from model_onnx.drafter_config import MODEL_TYPE, DrafterConfig
from model_onnx.errors import CheckpointError, ConfigError, OutputError

# 8 bits whatever the target's recipe: a coarser drafter guesses worse, and it is small.
_EIGHT_BITS = Recipe("drafter", Blocks(8, 32), Blocks(8, 32))
_ALIGNMENT = 64


def is_drafter(checkpoint: Path) -> bool:
    """Whether a directory, or the one that a file of weights is in, holds a drafter."""
    try:
        return read_config(_directory(checkpoint)).get("model_type") == MODEL_TYPE
    except ConfigError:  # the export says what is wrong
        return False


def check_pair(drafter: Path, checkpoint: Path) -> None:
    """Raises ConfigError when the one is no drafter of the other."""
    check_drafter(drafter, ModelConfig.from_checkpoint(_directory(checkpoint)))


def check_drafter(checkpoint: Path, target: ModelConfig) -> DrafterConfig:
    """Its config. Raises ConfigError when it is no drafter, or the drafter of another model."""
    config = DrafterConfig.from_checkpoint(_directory(checkpoint))
    config.sources(target)
    return config


def _directory(checkpoint: Path) -> Path:
    return checkpoint if checkpoint.is_dir() else checkpoint.parent


def add_drafter(checkpoint: Path, directory: Path) -> Bundle:
    """Puts a drafter into a bundle, in place of the one it may have. Raises ConfigError,
    CheckpointError or OutputError; the bundle is then as it was or, at worst, without a drafter."""
    bundle = Bundle.open(directory)
    source = Checkpoint(checkpoint)
    config = check_drafter(source.directory, bundle.config)
    recipe = RECIPES["fp32"] if bundle.recipe == "fp32" else _EIGHT_BITS
    target = Target(recipe, bundle.device, bundle.activation_type)
    try:
        with tempfile.TemporaryDirectory(prefix=".drafter-", dir=directory) as temporary:
            made = Path(temporary)
            locations = _write_weights(source, config, target, made / names.DRAFTER_WEIGHTS)
            drafter_graph(config, bundle.config, target).save(made / names.DRAFTER, locations)
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": names.sha256_file(path)}
                for path in sorted(made.iterdir())
            }
            _write_manifest(replace(bundle, drafter=None), made)
            for name in files:
                os.replace(made / name, directory / name)
            entry = DrafterEntry(config, files, source.sha256)
            _write_manifest(replace(bundle, drafter=entry), made)
    except OSError as error:
        raise OutputError(
            f"cannot write the drafter to {directory}: {error.strerror}; make room or check the "
            "permissions, then export it again"
        ) from error
    return Bundle.open(directory)


def drafter_weights(config: DrafterConfig) -> dict[str, Weight]:
    """Name -> weight, in the checkpoint's own names."""
    hidden, mlp = config.hidden_size, config.intermediate_size
    weights = [
        Weight(TABLE, (config.vocab_size, hidden), "table"),
        Weight("norm.weight", (hidden,), "vector"),
        Weight("pre_projection.weight", (hidden, 2 * config.backbone_hidden_size), "linear"),
        Weight("post_projection.weight", (config.backbone_hidden_size, hidden), "linear"),
    ]
    for index, spec in enumerate(config.layers):
        prefix, queries = f"layers.{index}.", config.heads * spec.head_dim
        linears = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
        }
        vectors = {"self_attn.q_norm.weight": spec.head_dim, "layer_scalar": 1}
        for place in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            vectors[f"{place}_layernorm.weight"] = hidden
        weights += [Weight(f"{prefix}{n}.weight", s, "linear") for n, s in linears.items()]
        weights += [Weight(f"{prefix}{n}", (size,), "vector") for n, size in vectors.items()]
    return {weight.name: weight for weight in weights}


def drafter_graph(config: DrafterConfig, target_config: ModelConfig, target: Target) -> Graph:
    """`drafter.onnx`, for one sequence and one token; names as in `model_onnx.bundle`."""
    graph, weights = Graph("drafter", target), drafter_weights(config)
    backbone = (1, 1, config.backbone_hidden_size)
    embeds = graph.input(names.INPUTS_EMBEDS, graph.float_type, backbone)
    state = graph.input(names.HIDDEN_STATES, graph.float_type, backbone)
    sources = config.sources(target_config)
    shared = _shared_inputs(graph, config, sources)
    x = graph.op("Concat", embeds, state, axis=-1)
    x = linear(graph, x, weights["pre_projection.weight"])
    for index, spec in enumerate(config.layers):
        inside = {
            name.removeprefix(f"layers.{index}."): weight
            for name, weight in weights.items()
            if name.startswith(f"layers.{index}.")
        }
        present = names.present_names(index)
        for name in present:
            graph.output(name, graph.float_type, _rows_shape(spec))
        past = names.past_names(sources[spec.kind])
        x = _layer(graph, x, inside, spec, config, shared[spec.kind], past, present)
    x = norm(graph, x, weights["norm.weight"], config.rms_norm_eps)
    projected = linear(graph, x, weights["post_projection.weight"])
    graph.op("Identity", projected, outputs=[names.NEXT_HIDDEN_STATES])
    graph.output(names.NEXT_HIDDEN_STATES, graph.float_type, backbone)
    row = graph.op("Reshape", x, graph.constant([1, config.hidden_size], np.int64))
    graph.op(
        "Cast", _head(graph, row, weights[TABLE]), to=TensorProto.FLOAT, outputs=[names.LOGITS]
    )
    graph.output(names.LOGITS, TensorProto.FLOAT, (1, config.vocab_size))
    return graph


def _shared_inputs(
    graph: Graph, config: DrafterConfig, sources: Mapping[LayerKind, int]
) -> dict[LayerKind, AttentionInputs]:
    """Declares the inputs of each kind of layer: the target's rows, how many, what is masked."""
    position = graph.input(names.POSITION_IDS, TensorProto.INT64, (1, 1))
    lengths = {
        "local": (names.LOCAL_SEQLENS, names.LOCAL_TOTAL),
        "global": (names.GLOBAL_SEQLENS, names.GLOBAL_TOTAL),
    }
    specs = {spec.kind: spec for spec in config.layers}
    shared: dict[LayerKind, AttentionInputs] = {}
    for kind, spec in specs.items():
        seqlens, total = lengths[kind]
        graph.input(seqlens, TensorProto.INT32, (1,))
        graph.input(total, TensorProto.INT32, ())
        for name in names.past_names(sources[kind]):
            graph.input(name, graph.float_type, _rows_shape(spec))
        bias = ""
        if kind == "local":
            shape = (1, 1, 1, "local_rows")
            bias = graph.input(names.LOCAL_ATTENTION_BIAS, graph.float_type, shape)
        shared[kind] = AttentionInputs(rope_tables(graph, position, spec), seqlens, total, bias)
    return shared


def _rows_shape(spec: LayerSpec) -> tuple[int | str, ...]:
    return 1, spec.kv_heads, f"{spec.kind}_capacity", spec.head_dim


def _layer(
    graph: Graph,
    x: str,
    weights: Mapping[str, Weight],
    spec: LayerSpec,
    config: DrafterConfig,
    shared: AttentionInputs,
    past: tuple[str, str],
    present: tuple[str, str],
) -> str:
    """The decoder's layer without keys and values: x [1, 1, H] -> [1, 1, H]."""
    epsilon = config.rms_norm_eps
    inner = norm(graph, x, weights["input_layernorm.weight"], epsilon)
    mixed = _borrowed_attention(graph, inner, weights, spec, config, shared, past, present)
    mixed = norm(graph, mixed, weights["post_attention_layernorm.weight"], epsilon)
    x = graph.op("Add", x, mixed)
    inner = norm(graph, x, weights["pre_feedforward_layernorm.weight"], epsilon)
    mlp = {name: weights[f"mlp.{name}"] for name in _MLP}
    branch = norm(
        graph, gated_mlp(graph, inner, mlp), weights["post_feedforward_layernorm.weight"], epsilon
    )
    return graph.op("Mul", graph.op("Add", x, branch), graph.weight(weights["layer_scalar"]))


_MLP = ("gate_proj.weight", "up_proj.weight", "down_proj.weight")


def _borrowed_attention(
    graph: Graph,
    x: str,
    weights: Mapping[str, Weight],
    spec: LayerSpec,
    config: DrafterConfig,
    shared: AttentionInputs,
    past: tuple[str, str],
    present: tuple[str, str],
) -> str:
    """Queries of x over cached rows; no new ones: the operator takes 0 keys and writes nothing
    when past and present are one buffer."""
    heads, size = config.heads, spec.head_dim
    queries = linear(graph, x, weights["self_attn.q_proj.weight"])
    split = graph.op("Reshape", queries, graph.constant([0, 0, heads, size], np.int64))
    normed = norm(graph, split, weights["self_attn.q_norm.weight"], config.rms_norm_eps)
    flat = graph.op("Reshape", normed, graph.constant([0, 0, heads * size], np.int64))
    turned = graph.op("RotaryEmbedding", flat, *shared.rope, num_heads=heads)
    nothing = graph.activation(np.zeros((1, 0, spec.kv_heads * size)))
    mixed = f"{present[0]}.attention"
    graph.op(
        "GroupQueryAttention",
        turned,
        nothing,
        nothing,
        *past,
        shared.seqlens,
        shared.total,
        *(("", "", "", shared.bias) if shared.bias else ()),
        domain=MICROSOFT,
        outputs=(mixed, *present),
        num_heads=heads,
        kv_num_heads=spec.kv_heads,
        scale=1.0,
        do_rotary=0,
        causal=0 if shared.bias else 1,
    )
    return linear(graph, mixed, weights["self_attn.o_proj.weight"])


def _head(graph: Graph, row: str, table: Weight) -> str:
    """[1, H] -> [1, V]"""
    packing = graph.target.packing(table)
    if isinstance(packing, Blocks):
        codes, scales = (graph.part(part) for part in parts(table, graph.target))
        return block_linear(graph, row, codes, scales, table, packing)
    return graph.op("Gemm", row, graph.weight(table), transB=1)


def _write_weights(
    source: Checkpoint, config: DrafterConfig, target: Target, path: Path
) -> dict[str, Location]:
    """Packs the checkpoint into one file, tensor by tensor -> where each part lies."""
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    assignment = assign(shapes, drafter_weights(config).values())
    locations: dict[str, Location] = {}
    with path.open("wb") as file:
        for chunk in source.chunks(lambda tensor: tensor.rows):
            weight = assignment.weights.get(chunk.tensor.name)
            if weight is None:
                continue
            values = chunk.values.astype(np.float32)
            if not np.isfinite(values).all():
                raise CheckpointError(
                    f"{chunk.tensor.file}: tensor {chunk.tensor.name} has NaN or infinite values; "
                    "the checkpoint is damaged, download it again"
                )
            arrays = pack(values, weight, target).arrays
            for part, array in zip(parts(weight, target), arrays, strict=True):
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                locations[part.name] = Location(path.name, file.tell(), part.bytes)
                file.write(np.ascontiguousarray(array).tobytes())
    return locations


def _write_manifest(bundle: Bundle, temporary: Path) -> None:
    text = json.dumps(bundle.manifest(), indent=1, sort_keys=True, ensure_ascii=False)
    draft = temporary / names.MANIFEST
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, bundle.path(names.MANIFEST))
