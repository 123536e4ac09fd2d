"""Every weight of the architecture as data: its name, shape and what it is used for.

Names are the checkpoint's own without their prefix, and the graphs use the same names. Knows no
file and no number format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from model_onnx import bundle
from model_onnx.config import LayerSpec, ModelConfig
from model_onnx.errors import CheckpointError

# table: the token embedding, also the head. linear: a matrix of the decoder. vector: a norm or
# scalar of the decoder. projector_linear, projector: the same two of the patch and frame projectors
Use = Literal["table", "linear", "vector", "projector_linear", "projector"]

WEIGHT_FILES: Mapping[Use, str] = {
    "table": bundle.EMBEDDING_WEIGHTS,
    "linear": bundle.DECODER_WEIGHTS,
    "vector": bundle.DECODER_WEIGHTS,
    "projector_linear": bundle.PROJECTOR_WEIGHTS,
    "projector": bundle.PROJECTOR_WEIGHTS,
}

TABLE = "embed_tokens.weight"

# Spellings of one weight: the published files, transformers in memory, text-only checkpoints.
_SPELLINGS = (
    (r"^(model\.language_model|language_model\.model)\.", ""),
    (r"^model\.(?=layers\.|embed_tokens|norm)", ""),
    (r"^model\.embed_vision\.(?=patch_|pos_)", "vision_embedder."),
    (r"^model\.vision_embedder\.", "vision_embedder."),
    (r"^model\.(embed_vision|embed_audio)\.(multimodal_embedder\.)?", r"\1."),
)

# In a checkpoint but not in the graphs. lm_head is the embedding table again (the config is tied).
_SKIPPED = {"lm_head.weight"}


@dataclass(frozen=True)
class Weight:
    """One weight. Matrices are [out, in], as in the checkpoint."""

    name: str
    shape: tuple[int, ...]
    use: Use


def all_weights(config: ModelConfig) -> dict[str, Weight]:
    """Name -> weight, for the whole model."""
    weights = [
        Weight(TABLE, (config.vocab_size, config.hidden_size), "table"),
        Weight("norm.weight", (config.hidden_size,), "vector"),
        *_projector_weights(config),
    ]
    for index, spec in enumerate(config.layers):
        weights += _layer_weights(f"layers.{index}.", spec, config)
    return {weight.name: weight for weight in weights}


def _layer_weights(prefix: str, spec: LayerSpec, config: ModelConfig) -> Iterator[Weight]:
    hidden, mlp = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    linear: dict[str, tuple[int, int]] = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (mlp, hidden),
        "mlp.up_proj": (mlp, hidden),
        "mlp.down_proj": (hidden, mlp),
    }
    if spec.key_equals_value:
        del linear["self_attn.v_proj"]
    for name, shape in linear.items():
        yield Weight(f"{prefix}{name}.weight", shape, "linear")
    for name in ("q_norm", "k_norm"):
        yield Weight(f"{prefix}self_attn.{name}.weight", (spec.head_dim,), "vector")
    for place in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        yield Weight(f"{prefix}{place}_layernorm.weight", (hidden,), "vector")
    yield Weight(f"{prefix}layer_scalar", (1,), "vector")


def _projector_weights(config: ModelConfig) -> Iterator[Weight]:
    hidden, width = config.hidden_size, config.vision_dim
    for norm, size in (("patch_ln1", config.patch_dim), ("patch_ln2", width), ("pos_norm", width)):
        yield Weight(f"vision_embedder.{norm}.weight", (size,), "projector")
        yield Weight(f"vision_embedder.{norm}.bias", (size,), "projector")
    dense = "vision_embedder.patch_dense"
    yield Weight(f"{dense}.weight", (width, config.patch_dim), "projector_linear")
    yield Weight(f"{dense}.bias", (width,), "projector")
    positions = (config.patch_positions, 2, width)
    yield Weight("vision_embedder.pos_embedding", positions, "projector")
    for kind, size in (("embed_vision", width), ("embed_audio", config.frame_size)):
        name = f"{kind}.embedding_projection.weight"
        yield Weight(name, (hidden, size), "projector_linear")


def canonical_name(key: str) -> str:
    """A checkpoint's key without its prefix, whichever spelling it uses."""
    for pattern, replacement in _SPELLINGS:
        key, found = re.subn(pattern, replacement, key)
        if found:
            break
    return key


def published_name(weight: Weight) -> str:
    """The weight's name in the published files."""
    outside = weight.name.startswith(("vision_embedder.", "embed_vision.", "embed_audio."))
    return f"model.{weight.name}" if outside else f"model.language_model.{weight.name}"


@dataclass(frozen=True)
class Assignment:
    """Which checkpoint key fills which weight, and the keys that fill none on purpose."""

    weights: Mapping[str, Weight]  # by checkpoint key
    skipped: tuple[str, ...]


def assign(shapes: Mapping[str, tuple[int, ...]], expected: Iterable[Weight]) -> Assignment:
    """Matches checkpoint keys with weights, one to one. Raises CheckpointError naming the keys."""
    left, weights, skipped = {weight.name: weight for weight in expected}, {}, []
    unexpected = []
    for key, shape in shapes.items():
        name = canonical_name(key)
        if name in _SKIPPED or name.removeprefix("language_model.") in _SKIPPED:
            skipped.append(key)
        elif name not in left:
            unexpected.append(key)
        else:
            weights[key] = weight = left.pop(name)
            if shape != weight.shape:
                raise CheckpointError(
                    f"tensor {key}: got shape {list(shape)}, expected {list(weight.shape)} from "
                    "config.json; use the config.json of this checkpoint"
                )
    if unexpected:
        raise CheckpointError(
            f"unexpected tensors {_some(unexpected)}; expected only those of gemma4_unified, once "
            "each; towers, adapters and quantised checkpoints cannot be exported"
        )
    if left:
        raise CheckpointError(
            f"missing tensors {_some(sorted(left))}; the checkpoint is incomplete, download every "
            "shard again"
        )
    return Assignment(weights, tuple(skipped))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
