"""The published configuration of the 12B, and checkpoints of its shapes with made-up contents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from export.drafter import drafter_weights
from export.weights import Weight, all_weights, published_name
from model_onnx.config import ModelConfig
from model_onnx.drafter_config import DrafterConfig
from training import tokenizer

_POOL = 1 << 22  # random values that every tensor is cut from


# What transformers has written into the published vision and audio configs besides their sizes.
_COMMON: dict[str, Any] = {
    "_name_or_path": "",
    "architectures": None,
    "chunk_size_feed_forward": 0,
    "dtype": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_range": 0.02,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "output_attentions": False,
    "output_hidden_states": False,
    "problem_type": None,
    "return_dict": True,
    "rms_norm_eps": 1e-6,
}


_VISION: dict[str, Any] = {
    **_COMMON,
    "model_type": "gemma4_unified_vision",
    "model_patch_size": 48,
    "num_soft_tokens": 280,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "mm_embed_dim": 3840,
    "mm_posemb_size": 1120,
    "output_proj_dims": 3840,
}
_AUDIO: dict[str, Any] = {
    **_COMMON,
    "model_type": "gemma4_unified_audio",
    "audio_embed_dim": 640,
    "audio_samples_per_token": 640,
    "hidden_size": 640,
    "output_proj_dims": 640,
}


def published_config(layers: int = 48) -> dict[str, Any]:
    """config.json of the 12B, field by field, with as many layers as wanted, a multiple of 6."""
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * (layers // 6)
    return {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "dtype": "bfloat16",
        "tie_word_embeddings": True,
        "boi_token_id": 255999,
        "eoi_token_id": 258882,
        "image_token_id": 258880,
        "video_token_id": 258884,
        "boa_token_id": 256000,
        "eoa_token_index": 258883,
        "audio_token_id": 258881,
        "eos_token_id": [1, 106],
        "initializer_range": 0.02,
        "transformers_version": "5.10.0.dev0",
        "text_config": {
            "model_type": "gemma4_unified_text",
            "vocab_size": 262144,
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": layers,
            "layer_types": kinds,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "global_head_dim": 512,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "sliding_window": 1024,
            "rms_norm_eps": 1e-6,
            "final_logit_softcapping": 30.0,
            "max_position_embeddings": 262144,
            "hidden_activation": "gelu_pytorch_tanh",
            "use_bidirectional_attention": "vision",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 2,
            "enable_moe_block": False,
            "eos_token_id": 1,
            "hidden_size_per_layer_input": 0,
            "initializer_range": 0.02,
            "moe_intermediate_size": None,
            "num_experts": None,
            "num_kv_shared_layers": 0,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            "top_k_experts": None,
            "use_cache": True,
            "use_double_wide_mlp": False,
            "vocab_size_per_layer_input": 262144,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "proportional",
                    "rope_theta": 1000000.0,
                    "partial_rotary_factor": 0.25,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        "vision_config": dict(_VISION),
        "audio_config": dict(_AUDIO),
    }


def write_checkpoint(directory: Path, config: dict[str, Any]) -> Path:
    """A bfloat16 checkpoint with the published tensor names, written front to back.

    Contents: cuts of one pool of normal values, so that packing has real work to do. The tokenizer
    is the embedded model's: exporting only copies it.
    """
    directory.mkdir(parents=True)
    tokenizer.write(directory)
    weights = all_weights(ModelConfig.from_hugging_face(config)).values()
    _write_tensors(directory, config, {published_name(weight): weight for weight in weights})
    return directory


def published_drafter_config() -> dict[str, Any]:
    """config.json of the 12B's drafter: four layers, 1024 wide."""
    text = published_config()["text_config"]
    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    own = {
        "hidden_size": 1024,
        "intermediate_size": 8192,
        "num_hidden_layers": len(kinds),
        "num_kv_shared_layers": len(kinds),
        "layer_types": kinds,
        "final_logit_softcapping": None,
    }
    return {
        "model_type": "gemma4_unified_assistant",
        "dtype": "bfloat16",
        "backbone_hidden_size": 3840,
        "use_ordered_embeddings": False,
        "tie_word_embeddings": True,
        "text_config": {**text, **own},
    }


def write_drafter(directory: Path) -> Path:
    """A checkpoint of the drafter's shapes."""
    directory.mkdir(parents=True)
    config = published_drafter_config()
    weights = drafter_weights(DrafterConfig.from_hugging_face(config))
    names = {n if "projection" in n else f"model.{n}": weight for n, weight in weights.items()}
    _write_tensors(directory, config, names)
    return directory


def _write_tensors(directory: Path, config: dict[str, Any], weights: Mapping[str, Weight]) -> None:
    """config.json and model.safetensors. weights: by the name in the file."""
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    header, end = {}, 0
    for name, weight in weights.items():
        start, end = end, end + 2 * int(np.prod(weight.shape))
        header[name] = {
            "dtype": "BF16",
            "shape": list(weight.shape),
            "data_offsets": [start, end],
        }
    raw = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for index, weight in enumerate(weights.values()):
            for piece in _contents(weight, index):
                file.write(piece.data)


def _contents(weight: Weight, index: int) -> Iterator[npt.NDArray[np.uint16]]:
    """bfloat16 values as their bits, in pieces of the pool that start at another place each."""
    pool = _pool(1.0 if len(weight.shape) == 1 else weight.shape[-1] ** -0.5)
    left, start = int(np.prod(weight.shape)), (index * 7919) % _POOL
    while left:
        piece = pool[start : start + left]
        yield piece
        left, start = left - len(piece), (start * 31 + 17) % (_POOL // 2)


_pools: dict[float, npt.NDArray[np.uint16]] = {}


def _pool(deviation: float) -> npt.NDArray[np.uint16]:
    if deviation not in _pools:
        values = np.random.default_rng(0).standard_normal(_POOL, np.float32) * np.float32(deviation)
        _pools[deviation] = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    return _pools[deviation]
