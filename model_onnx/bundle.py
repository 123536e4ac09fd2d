"""The on-disk contract between the exporter and the engine: file, graph and tensor names, hashes.

A bundle is a directory. Nothing else in the project spells a graph's input or output; nothing knows
a token id or a dimension that the bundle does not say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from model_onnx.config import ModelConfig
from model_onnx.drafter_config import DrafterConfig
from model_onnx.errors import BundleError, ConfigError

FORMAT_VERSION = 1

MANIFEST = "bundle.json"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
GENERATION_CONFIG = "generation_config.json"
QUANTIZATION_REPORT = "quantization.json"

EMBEDDING, VISION_EMBEDDER, AUDIO_EMBEDDER = (
    "embedding.onnx",
    "vision_embedder.onnx",
    "audio_embedder.onnx",
)
DECODER, HEAD = "decoder.onnx", "head.onnx"
DECODER_INT8 = "decoder-int8.onnx"  # optional: the decoder again, for many rows at a time on a CPU
GRAPHS = (EMBEDDING, VISION_EMBEDDER, AUDIO_EMBEDDER, DECODER, HEAD)
EMBEDDING_WEIGHTS, PROJECTOR_WEIGHTS, DECODER_WEIGHTS, DECODER_INT8_WEIGHTS = (
    "embedding.bin",
    "projectors.bin",
    "decoder.bin",
    "decoder-int8.bin",
)
DRAFTER, DRAFTER_WEIGHTS = "drafter.onnx", "drafter.bin"  # optional
_NEEDED = {
    *GRAPHS, EMBEDDING_WEIGHTS, PROJECTOR_WEIGHTS, DECODER_WEIGHTS,
    TOKENIZER, CHAT_TEMPLATE, GENERATION_CONFIG,
}  # fmt: skip

INPUT_IDS, INPUTS_EMBEDS = "input_ids", "inputs_embeds"
PIXEL_VALUES, IMAGE_POSITION_IDS = "pixel_values", "image_position_ids"
INPUT_FEATURES, SOFT_TOKENS = "input_features", "soft_tokens"
POSITION_IDS, HIDDEN_STATES, LOGITS = "position_ids", "hidden_states", "logits"
LOCAL_ATTENTION_BIAS = "local_attention_bias"
LOCAL_SEQLENS, LOCAL_TOTAL = "local_seqlens_k", "local_total_sequence_length"
GLOBAL_SEQLENS, GLOBAL_TOTAL = "global_seqlens_k", "global_total_sequence_length"
NEXT_HIDDEN_STATES = "next_hidden_states"
# Global layers of a decoder for long contexts have a second cache: rows of 8 bits.
INT8_CACHE = "int8_cache"  # bool []: that cache is the one in use

ActivationType = Literal["float32", "float16", "bfloat16"]
Device = Literal["cpu", "cuda"]


def past_names(layer: int) -> tuple[str, str]:
    """Graph inputs of one layer's cache, each [B, kv_heads, capacity, head_dim]."""
    return f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"


def present_names(layer: int) -> tuple[str, str]:
    """Graph outputs, bound to the same buffers as `past_names`."""
    return f"present.{layer}.key", f"present.{layer}.value"


def past_code_names(layer: int) -> tuple[str, str]:
    """Graph inputs of a global layer's 8-bit cache, int8, of the shape of `past_names`."""
    return f"past_codes.{layer}.key", f"past_codes.{layer}.value"


def present_code_names(layer: int) -> tuple[str, str]:
    """Graph outputs, bound to the same buffers as `past_code_names`."""
    return f"present_codes.{layer}.key", f"present_codes.{layer}.value"


def code_scale_names(layer: int) -> tuple[str, str]:
    """Graph inputs, float [B, 1, kv_heads * head_dim]: a code times its scale is the value."""
    return f"code_scales.{layer}.key", f"code_scales.{layer}.value"


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class DrafterEntry:
    """A drafter beside the graphs. It changes no answer, so it is no part of the bundle's hash."""

    config: DrafterConfig
    files: Mapping[str, Mapping[str, Any]]  # as those of the bundle
    source_sha256: str

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DrafterEntry:
        config = DrafterConfig.from_json(raw["config"])
        return cls(config, _file_entries(raw["files"]), str(raw["source_sha256"]))

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(),
            "files": {name: dict(self.files[name]) for name in sorted(self.files)},
            "source_sha256": self.source_sha256,
        }


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `recipe`: fp32, int4, int4-b128 or int8; `device`: cpu or cuda."""

    directory: Path
    config: ModelConfig
    recipe: str
    device: Device
    activation_type: ActivationType
    embedding_factor: float
    files: Mapping[str, Mapping[str, Any]]  # name -> {"sha256", "bytes"}
    source_sha256: str  # of the checkpoint
    drafter: DrafterEntry | None = None

    @classmethod
    def open(cls, directory: Path | str, *, verify: bool = False) -> Bundle:
        """Reads and checks a bundle: every file is there with its size; with `verify`, its hash too
        (seconds per gigabyte). Raises BundleError."""
        directory = Path(directory)
        raw = _read_object(directory / MANIFEST)
        if raw.get("format") != FORMAT_VERSION:
            raise BundleError(
                f"{directory}: got bundle format {raw.get('format')!r}, expected {FORMAT_VERSION}; "
                "export the checkpoint again with this version"
            )
        try:
            bundle = cls(
                directory=directory,
                config=ModelConfig.from_json(raw["config"]),
                recipe=raw["recipe"],
                device=_one_of(raw["device"], get_args(Device)),
                activation_type=_one_of(raw["activation_type"], get_args(ActivationType)),
                embedding_factor=float(raw["embedding_factor"]),
                files=_file_entries(raw["files"]),
                source_sha256=raw["source_sha256"],
                drafter=_drafter(raw.get("drafter"), directory),
            )
            if bundle.drafter is not None:
                bundle.drafter.config.sources(bundle.config)
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{directory / MANIFEST} is damaged: {error!r}; copy or export the bundle again"
            ) from error
        bundle._check_files(verify)
        return bundle

    def manifest(self) -> dict[str, Any]:
        """The content of bundle.json."""
        drafter = {"drafter": self.drafter.to_json()} if self.drafter is not None else {}
        return self._identity() | drafter

    def _identity(self) -> dict[str, Any]:
        return {
            "format": FORMAT_VERSION,
            "recipe": self.recipe,
            "device": self.device,
            "activation_type": self.activation_type,
            "embedding_factor": self.embedding_factor,
            "source_sha256": self.source_sha256,
            "config": self.config.to_json(),
            "files": {name: dict(self.files[name]) for name in sorted(self.files)},
        }

    def path(self, name: str) -> Path:
        return self.directory / name

    @property
    def has_int8(self) -> bool:
        """Whether the decoder is there a second time, with 8-bit matrix products."""
        return DECODER_INT8 in self.files

    @cached_property
    def sha256(self) -> str:
        """Identity of the bundle: the hash of its manifest, which holds the hash of every file.

        Without the drafter: with another one, or none, the answers are the same."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        return _read_object(self.path(GENERATION_CONFIG))

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every id that ends a turn."""
        eos = self._token_ids("eos_token_id")
        if not eos:
            raise BundleError(
                f"{self.path(GENERATION_CONFIG)} has no eos_token_id; use the "
                "generation_config.json that came with the checkpoint"
            )
        return eos

    @property
    def suppress_tokens(self) -> tuple[int, ...]:
        """Ids that are never generated: those of the generation config, and every placeholder and
        marker of images, audio and video, which mean nothing without features behind them."""
        config = self.config
        media = {
            *(config.image_token_id, config.boi_token_id, config.eoi_token_id),
            *(config.audio_token_id, config.boa_token_id, config.eoa_token_id),
            config.video_token_id,
        }
        return tuple(sorted(media.union(self._token_ids("suppress_tokens"))))

    def _token_ids(self, name: str) -> tuple[int, ...]:
        """A field of the generation config that holds one id, several or none."""
        value = self.generation_config.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        wrong = [i for i in ids if type(i) is not int or not 0 <= i < self.config.vocab_size]
        if wrong:
            raise BundleError(
                f"{self.path(GENERATION_CONFIG)}: {name} has {wrong}, expected ids below "
                f"{self.config.vocab_size}; use the file that came with the checkpoint"
            )
        return tuple(ids)

    def _check_files(self, verify: bool) -> None:
        missing = sorted(_NEEDED.difference(self.files))
        if missing:
            raise BundleError(
                f"{self.directory / MANIFEST} does not list {missing}; the bundle is incomplete, "
                "copy or export it again"
            )
        drafter = self.drafter.files if self.drafter is not None else {}
        for name, entry in {**self.files, **drafter}.items():
            path = self.path(name)
            got = path.stat().st_size if path.is_file() else None
            if got != entry["bytes"]:
                raise BundleError(
                    f"{path}: got {got} bytes, expected {entry['bytes']}; the bundle is "
                    "incomplete, copy or export it again"
                )
            if verify and sha256_file(path) != entry["sha256"]:
                raise BundleError(
                    f"{path}: its sha256 is not the manifest's; export the bundle again"
                )


def _file_entries(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": str(entry["sha256"]), "bytes": int(entry["bytes"])}
        for name, entry in raw.items()
    }


def _drafter(raw: Mapping[str, Any] | None, directory: Path) -> DrafterEntry | None:
    """The bundle is whole without its drafter: one whose files were left behind is none."""
    if raw is None or not (directory / DRAFTER).exists():
        return None
    return DrafterEntry.from_json(raw)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{path.parent} has no {path.name}; expected a bundle of `flows export CHECKPOINT OUT`"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {error}; export the bundle again") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: expected a JSON object; export the bundle again")
    return raw


def _one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"got {value!r}, expected one of {allowed}")
    return value
