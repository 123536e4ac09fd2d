"""The architecture of a drafter (`gemma4_unified_assistant`): a few layers without keys and values
of their own, which read those of the target's last local and last global layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_onnx.config import (
    IGNORED_TEXT,
    REQUIRED_TEXT,
    Fields,
    LayerKind,
    LayerSpec,
    ModelConfig,
    checked,
    layer_specs,
    read_config,
)
from model_onnx.errors import ConfigError

MODEL_TYPE = "gemma4_unified_assistant"

# Sizes of a head that is not supported, and token ids, which are the target's.
_IGNORED_TOP = {
    "num_centroids", "centroid_intermediate_top_k", "quantization_config",
    "image_token_id", "video_token_id", "audio_token_id",
    "boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index",
}  # fmt: skip


@dataclass(frozen=True)
class DrafterConfig:
    """What the drafter's graph and the engine need to know. backbone_hidden_size: the target's."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    sliding_window: int
    rms_norm_eps: float
    backbone_hidden_size: int
    layers: tuple[LayerSpec, ...]

    @classmethod
    def from_checkpoint(cls, directory: Path) -> DrafterConfig:
        """Reads `config.json` of a Hugging Face directory. Raises ConfigError."""
        return cls.from_hugging_face(read_config(directory))

    @classmethod
    def from_hugging_face(cls, raw: Mapping[str, Any]) -> DrafterConfig:
        try:
            return _parse(raw)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the drafter's config.json is malformed ({error!r}); use the config.json of the "
                "checkpoint"
            ) from error

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DrafterConfig:
        """The inverse of `to_json`, as strict as the rest."""
        try:
            layers = tuple(LayerSpec(**layer) for layer in raw["layers"])
            return checked(cls(**{**raw, "layers": layers}))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"drafter config: {error!r}; export the drafter again") from error

    def sources(self, target: ModelConfig) -> dict[LayerKind, int]:
        """For each kind of layer in the drafter, the target's layer whose rows it reads.

        Raises ConfigError when the drafter was made for another model.
        """
        pairs: list[tuple[str, object, object]] = [
            ("vocabulary", self.vocab_size, target.vocab_size),
            ("hidden size of its target", self.backbone_hidden_size, target.hidden_size),
            ("window", self.sliding_window, target.sliding_window),
        ]
        sources: dict[LayerKind, int] = {}
        for spec in self.layers:
            same = [index for index, layer in enumerate(target.layers) if layer.kind == spec.kind]
            read = _rows(target.layers[same[-1]]) if same else "none"
            pairs.append((f"{spec.kind} keys and values", _rows(spec), read))
            sources[spec.kind] = same[-1] if same else -1
        for what, got, expected in pairs:
            if got != expected:
                raise ConfigError(
                    f"the drafter was made for another model: {what}: got {got}, expected "
                    f"{expected}; use the drafter that was published with this checkpoint"
                )
        return sources


def _rows(spec: LayerSpec) -> str:
    """What the drafter's queries must agree on with the rows that they meet."""
    return (
        f"{spec.kv_heads} heads of {spec.head_dim}, {spec.rope_frequencies} pairs rotated with "
        f"theta {spec.rope_theta:g}"
    )


def _parse(raw: Mapping[str, Any]) -> DrafterConfig:
    if raw.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"got model_type {raw.get('model_type')!r}, expected {MODEL_TYPE!r}, the drafter of a "
            "gemma4_unified checkpoint; other drafters cannot be exported"
        )
    top = Fields("config.json", raw, _IGNORED_TOP)
    stated = {"attention_k_eq_v": False, **top.take("text_config")}  # no values of their own
    text = Fields("text_config", stated, IGNORED_TEXT)
    top.require("tie_word_embeddings", True)
    top.require("use_ordered_embeddings", False)
    text.take("final_logit_softcapping", None)  # it moves no guess: the likeliest stays it
    text.require("num_kv_shared_layers", len(text.peek("layer_types")))
    for name, expected in REQUIRED_TEXT.items():
        if name != "num_kv_shared_layers":
            text.require(name, expected)
    text.take("max_position_embeddings", None)
    config = DrafterConfig(
        vocab_size=text.take("vocab_size"),
        hidden_size=text.take("hidden_size"),
        intermediate_size=text.take("intermediate_size"),
        heads=text.take("num_attention_heads"),
        sliding_window=text.take("sliding_window"),
        rms_norm_eps=text.take("rms_norm_eps"),
        backbone_hidden_size=top.take("backbone_hidden_size"),
        layers=layer_specs(text),
    )
    for fields in (top, text):
        fields.finish()
    return checked(config)
