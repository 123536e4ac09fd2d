"""The architecture as frozen data, read once from a checkpoint's config.json.

Knows no file of a bundle and no tensor. Unknown, missing or contradictory fields are errors, so a
misspelt field can never become a default and a wrong but valid graph.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_type_hints

from model_onnx.errors import ConfigError

if TYPE_CHECKING:
    from model_onnx.drafter_config import DrafterConfig

LayerKind = Literal["local", "global"]
Config = TypeVar("Config", "ModelConfig", "DrafterConfig")

_LAYER_KINDS: dict[str, LayerKind] = {"sliding_attention": "local", "full_attention": "global"}

# Fields that change nothing in the forward pass at inference. transformers writes the first group
# into every part of a config; the published 12B has them in its vision and audio configs.
_USE = "; use the config.json that came with the checkpoint"
_IGNORED = {
    "_name_or_path", "architectures", "auto_map", "chunk_size_feed_forward", "dtype", "id2label",
    "initializer_range", "is_encoder_decoder", "label2id", "model_type", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "torch_dtype", "transformers_version",
    "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip
_IGNORED_TOP = {"quantization_config", "vision_soft_tokens_per_image"}
IGNORED_TEXT = {
    "attention_dropout", "use_cache", "vocab_size_per_layer_input", "expert_intermediate_size",
    "moe_intermediate_size", "num_experts", "top_k_experts",
    "sliding_window_pattern", "_sliding_window_pattern",  # layer_types says it layer by layer
}  # fmt: skip

# Fields that must have this value, because no released `gemma4_unified` model has another.
REQUIRED_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "hidden_activation": "gelu_pytorch_tanh",
    "use_bidirectional_attention": "vision",
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
    "enable_moe_block": False,
    "hidden_size_per_layer_input": 0,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class LayerSpec:
    """One decoder layer's attention. `rope_frequencies`: pairs that rotate."""

    kind: LayerKind
    head_dim: int
    kv_heads: int
    rope_theta: float
    rope_frequencies: int
    key_equals_value: bool  # no v_proj: V is the raw k_proj output (before k_norm and rope)


@dataclass(frozen=True)
class ModelConfig:
    """Everything the graphs and the engine need to know of a `gemma4_unified` checkpoint."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    sliding_window: int
    max_positions: int
    rms_norm_eps: float
    final_logit_softcapping: float
    layers: tuple[LayerSpec, ...]
    patch_size: int  # pixels per side of one soft token (48 for the 12B)
    patch_positions: int  # rows of the position table per axis
    vision_dim: int  # width inside the patch projector
    frame_size: int  # samples per audio frame (640 for the 12B)
    image_token_id: int
    video_token_id: int
    audio_token_id: int
    boi_token_id: int
    eoi_token_id: int
    boa_token_id: int
    eoa_token_id: int

    @property
    def patch_dim(self) -> int:
        """Values in one RGB patch vector."""
        return self.patch_size * self.patch_size * 3

    @classmethod
    def from_checkpoint(cls, directory: Path) -> ModelConfig:
        """Reads `config.json` of a Hugging Face directory. Raises ConfigError."""
        return cls.from_hugging_face(read_config(directory))

    @classmethod
    def from_hugging_face(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """Normalises the nested config; both spellings of the global head size are known."""
        try:
            return _parse(raw)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"config.json is malformed ({error!r}); use the config.json of the checkpoint"
            ) from error

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_json`, as strict as the rest."""
        try:
            layers = tuple(LayerSpec(**layer) for layer in raw["layers"])
            return checked(cls(**{**raw, "layers": layers}))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"bundle config: {error!r}; export the bundle again") from error


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of a Hugging Face directory. Raises ConfigError."""
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; expected a JSON config.json") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: got {type(raw).__name__}, expected a JSON object{_USE}")
    return raw


class Fields:
    """A mapping whose every key must be taken once or be known to be irrelevant."""

    def __init__(self, where: str, raw: Mapping[str, Any], ignored: set[str]) -> None:
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where}: got {raw!r}, expected an object; use the full checkpoint")
        self._where, self._left, self._ignored = where, dict(raw), ignored | _IGNORED

    _MISSING = object()

    def take(self, name: str, default: Any = _MISSING) -> Any:
        value = self._left.pop(name, default)
        if value is self._MISSING:
            raise ConfigError(
                f"{self._where}.{name} is missing; use the config.json of the checkpoint"
            )
        return value

    def peek(self, name: str) -> Any:
        """A field that is taken later."""
        value = self.take(name)
        self._left[name] = value
        return value

    def require(self, name: str, expected: Any) -> None:
        """Takes a field that may be absent but has no other value than this one."""
        got = self.take(name, expected)
        if got != expected:
            raise ConfigError(f"{self._where}.{name}: got {got!r}, expected {expected!r}{_USE}")

    def finish(self) -> None:
        unknown = sorted(set(self._left) - self._ignored)
        if unknown:
            raise ConfigError(
                f"{self._where} has unknown fields {unknown}; expected those of gemma4_unified; "
                "they may change the architecture, so nothing was exported"
            )


def _parse(raw: Mapping[str, Any]) -> ModelConfig:
    if raw.get("model_type") != "gemma4_unified":
        raise ConfigError(
            f"got model_type {raw.get('model_type')!r}, expected 'gemma4_unified' "
            "(the encoder-free Gemma 4 12B family); other architectures cannot be exported"
        )
    top = Fields("config.json", raw, _IGNORED_TOP)
    text = Fields("text_config", top.take("text_config"), IGNORED_TEXT)
    vision = Fields("vision_config", top.take("vision_config"), {"num_soft_tokens"})
    audio = Fields("audio_config", top.take("audio_config"), set())
    top.require("tie_word_embeddings", True)
    for name, expected in REQUIRED_TEXT.items():
        text.require(name, expected)
    hidden_size, epsilon = text.take("hidden_size"), text.take("rms_norm_eps")
    patch_size = vision.take("patch_size") * vision.take("pooling_kernel_size")
    vision_dim = vision.take("mm_embed_dim", hidden_size)
    frame_size = audio.take("audio_embed_dim")
    vision.require("model_patch_size", patch_size)
    vision.require("output_proj_dims", vision_dim)
    vision.require("rms_norm_eps", epsilon)
    for name in ("audio_samples_per_token", "hidden_size", "output_proj_dims"):
        audio.require(name, frame_size)
    audio.require("rms_norm_eps", epsilon)
    config = ModelConfig(
        vocab_size=text.take("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=text.take("intermediate_size"),
        heads=text.take("num_attention_heads"),
        sliding_window=text.take("sliding_window"),
        max_positions=text.take("max_position_embeddings"),
        rms_norm_eps=epsilon,
        final_logit_softcapping=text.take("final_logit_softcapping"),
        layers=layer_specs(text),
        patch_size=patch_size,
        patch_positions=vision.take("mm_posemb_size"),
        vision_dim=vision_dim,
        frame_size=frame_size,
        image_token_id=top.take("image_token_id"),
        video_token_id=top.take("video_token_id"),
        audio_token_id=top.take("audio_token_id"),
        boi_token_id=top.take("boi_token_id"),
        eoi_token_id=top.take("eoi_token_id"),
        boa_token_id=top.take("boa_token_id"),
        eoa_token_id=top.take("eoa_token_index"),
    )
    for fields in (top, text, vision, audio):
        fields.finish()
    return checked(config)


def checked(config: Config) -> Config:
    """The config if every field has its type and a size that can be; JSON may hold anything."""
    for part in (config, *config.layers):
        for name, kind in get_type_hints(type(part)).items():
            value = getattr(part, name)
            least = 0 if name.endswith("_id") or name == "rope_frequencies" else 1e-12
            if kind in (int, float):
                wanted = f"{kind.__name__} of at least {least:g}"
                good = isinstance(value, int | kind) and not isinstance(value, bool)
                good = good and least <= value < math.inf
            elif kind is bool:
                wanted, good = "true or false", isinstance(value, bool)
            else:
                wanted, good = "a layer kind", name == "layers" or value in get_args(kind)
            if not good:
                raise ConfigError(f"config field {name}: got {value!r}, expected {wanted}{_USE}")
    return config


def layer_specs(text: Fields) -> tuple[LayerSpec, ...]:
    count, kinds = text.take("num_hidden_layers"), text.take("layer_types")
    head_dim, kv_heads = text.take("head_dim"), text.take("num_key_value_heads")
    global_head_dim = text.take("global_head_dim", None)
    global_kv_heads = text.take("num_global_key_value_heads", None)
    per_layer = text.take("per_layer_config", None) or {}
    overrides = {int(key): dict(value) for key, value in per_layer.items()}  # also "05"
    key_equals_value, rope = text.take("attention_k_eq_v"), text.take("rope_parameters")
    if len(kinds) != count or set(kinds) - set(_LAYER_KINDS):
        raise ConfigError(
            f"layer_types: got {kinds}, expected {count} of {sorted(_LAYER_KINDS)}{_USE}"
        )
    if kinds[-1] != "full_attention":
        raise ConfigError(f"layer_types: got {kinds[-1]} last, expected full_attention{_USE}")

    def spec(index: int) -> LayerSpec:
        kind, own = _LAYER_KINDS[kinds[index]], overrides.pop(index, {})
        is_global = kind == "global"
        default_dim = global_head_dim or head_dim if is_global else head_dim
        default_kv = global_kv_heads or kv_heads if is_global else kv_heads
        dim = own.pop("head_dim", default_dim)
        theta, frequencies = _rope(rope[kinds[index]], dim, is_global)
        heads = own.pop("num_key_value_heads", default_kv)
        if own:
            raise ConfigError(
                f"per_layer_config of layer {index} has unknown fields {sorted(own)}{_USE}"
            )
        return LayerSpec(
            kind=kind,
            head_dim=dim,
            kv_heads=heads,
            rope_theta=theta,
            rope_frequencies=frequencies,
            key_equals_value=is_global and key_equals_value,
        )

    layers = tuple(spec(index) for index in range(count))
    if overrides:
        raise ConfigError(
            f"per_layer_config: got layers {sorted(overrides)}, expected 0 to {count - 1}{_USE}"
        )
    return layers


def _rope(parameters: Mapping[str, Any], head_dim: int, is_global: bool) -> tuple[float, int]:
    """(theta, rotated pairs). Proportional rope rotates the first `factor` of the pairs, the
    exponent's denominator stays the full head size (transformers 5.23, modeling_rope_utils)."""
    fields = Fields("rope_parameters", parameters, set())
    fields.require("rope_type", "proportional" if is_global else "default")
    factor = fields.take("partial_rotary_factor", 1.0)
    if not 0 < factor <= 1 or (factor < 1 and not is_global):
        raise ConfigError(
            f"partial_rotary_factor: got {factor!r}, expected 1, or less if global{_USE}"
        )
    theta = float(fields.take("rope_theta"))
    fields.finish()
    return theta, int(factor * head_dim // 2)
