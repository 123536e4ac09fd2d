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
from typing import Any, Literal

from model_onnx.config import ModelConfig
from model_onnx.errors import BundleError

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
GRAPHS = (EMBEDDING, VISION_EMBEDDER, AUDIO_EMBEDDER, DECODER, HEAD)
EMBEDDING_WEIGHTS, PROJECTOR_WEIGHTS, DECODER_WEIGHTS = (
    "embedding.bin",
    "projectors.bin",
    "decoder.bin",
)

INPUT_IDS, INPUTS_EMBEDS = "input_ids", "inputs_embeds"
PIXEL_VALUES, IMAGE_POSITION_IDS = "pixel_values", "image_position_ids"
INPUT_FEATURES, SOFT_TOKENS = "input_features", "soft_tokens"
POSITION_IDS, HIDDEN_STATES, LOGITS = "position_ids", "hidden_states", "logits"
LOCAL_ATTENTION_BIAS = "local_attention_bias"
LOCAL_SEQLENS, LOCAL_TOTAL = "local_seqlens_k", "local_total_sequence_length"
GLOBAL_SEQLENS, GLOBAL_TOTAL = "global_seqlens_k", "global_total_sequence_length"

ActivationType = Literal["float32", "float16", "bfloat16"]


def past_names(layer: int) -> tuple[str, str]:
    """Graph inputs of one layer's cache, each [B, kv_heads, capacity, head_dim]."""
    return f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"


def present_names(layer: int) -> tuple[str, str]:
    """Graph outputs, bound to the same buffers as `past_names`."""
    return f"present.{layer}.key", f"present.{layer}.value"


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `recipe`: fp32, int4, int4-b128 or int8; `device`: cpu or cuda."""

    directory: Path
    config: ModelConfig
    recipe: str
    device: Literal["cpu", "cuda"]
    activation_type: ActivationType
    embedding_factor: float
    files: Mapping[str, Mapping[str, Any]]  # name -> {"sha256", "bytes"}
    source_sha256: str  # of the checkpoint

    @classmethod
    def open(cls, directory: Path | str, *, verify: bool = False) -> Bundle:
        """Reads and checks a bundle: every file is there with its size; with `verify`, its hash too
        (seconds per gigabyte). Raises BundleError."""
        directory = Path(directory)
        raw = _read_manifest(directory)
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
                device=raw["device"],
                activation_type=raw["activation_type"],
                embedding_factor=raw["embedding_factor"],
                files=raw["files"],
                source_sha256=raw["source_sha256"],
            )
        except KeyError as error:
            raise BundleError(f"{directory / MANIFEST} has no {error}; export again") from error
        bundle._check_files(verify)
        return bundle

    def manifest(self) -> dict[str, Any]:
        """The content of bundle.json."""
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

    @cached_property
    def sha256(self) -> str:
        """Identity of the bundle: the hash of its manifest, which holds the hash of every file."""
        return hashlib.sha256(json.dumps(self.manifest(), sort_keys=True).encode()).hexdigest()

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        raw = json.loads(self.path(GENERATION_CONFIG).read_text(encoding="utf-8"))
        assert isinstance(raw, dict)
        return raw

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every id that ends a turn."""
        eos = self.generation_config["eos_token_id"]
        return tuple(eos) if isinstance(eos, list) else (int(eos),)

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
        return tuple(sorted(media.union(self.generation_config.get("suppress_tokens") or ())))

    def _check_files(self, verify: bool) -> None:
        for name, entry in self.files.items():
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


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{directory} has no {MANIFEST}; expected a bundle of `flows export CHECKPOINT OUT`"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {error}; export the bundle again") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: expected a JSON object; export the bundle again")
    return raw
