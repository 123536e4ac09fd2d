"""A tiny random checkpoint and bundle: every kind of layer, 64 wide, in a second.

Norms and `layer_scalar` are far from 1, so that a dropped one shows. Written with numpy alone, in
the published spelling of the tensors; transformers reads it like the real one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from export import export_bundle
from export.weights import Weight, all_weights, published_name
from model_onnx.config import ModelConfig
from training.tokenizer import vocabulary, write

WINDOW = 16
TYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def tiny_config(**text: Any) -> dict[str, Any]:
    """config.json as published: 4 layers (2 local, 2 global), heads of 16 and 32, window 16."""
    ids = vocabulary()
    layer_types = ["sliding_attention", "full_attention"] * 2
    return {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "dtype": "float32",
        "tie_word_embeddings": True,
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "boa_token_id": ids["<|audio>"],
        "eoa_token_index": ids["<audio|>"],
        "audio_token_id": ids["<|audio|>"],
        "text_config": {
            "model_type": "gemma4_unified_text",
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "layer_types": layer_types,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 32,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "sliding_window": WINDOW,
            "rms_norm_eps": 1e-6,
            "final_logit_softcapping": 30.0,
            "max_position_embeddings": 4096,
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "num_kv_shared_layers": 0,
            "use_bidirectional_attention": "vision",
            "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "proportional",
                    "rope_theta": 1000000.0,
                    "partial_rotary_factor": 0.25,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<eos>"],
            "pad_token_id": ids["<pad>"],
            **text,
        },
        "vision_config": {
            "model_type": "gemma4_unified_vision",
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "mm_embed_dim": 64,
            "mm_posemb_size": 40,
            "output_proj_dims": 64,
        },
        "audio_config": {"model_type": "gemma4_unified_audio", "audio_embed_dim": 640},
    }


def tiny_weights(
    config: ModelConfig, *, seed: int = 0, lattice: bool = False
) -> dict[str, npt.NDArray[np.float32]]:
    """Random values by published name; `lattice`: decoder matrices and table on a Q4_0 lattice."""
    rng = np.random.default_rng(seed)
    return {
        published_name(weight): _values(rng, weight, lattice)
        for weight in all_weights(config).values()
    }


def _values(rng: np.random.Generator, weight: Weight, lattice: bool) -> npt.NDArray[np.float32]:
    noise = rng.standard_normal(weight.shape).astype(np.float32)
    if weight.name.endswith("layer_scalar"):
        return (0.3 + 0.6 * rng.random(weight.shape)).astype(np.float32)
    if weight.name.endswith(("q_norm.weight", "k_norm.weight")):
        # Scores near 1, as in a trained model; a sharp softmax would amplify any rounding.
        return np.float32(weight.shape[0] ** -0.25) * (1 + np.float32(0.2) * noise)
    if "norm" in weight.name or "_ln" in weight.name:
        return (0.2 * noise + (weight.name.endswith("weight"))).astype(np.float32)
    if lattice and weight.use in ("linear", "table"):
        return lattice_values(rng, weight.shape)
    return (0.15 if weight.use == "linear" else 0.08) * noise


def lattice_values(
    rng: np.random.Generator, shape: tuple[int, ...], block: int = 32
) -> npt.NDArray[np.float32]:
    """code * scale: codes -8..7, float16 scales of both signs, some blocks use only few codes."""
    rows, columns = shape
    widest = rng.integers(1, 9, (rows, columns // block, 1))
    codes = np.clip(rng.integers(-8, 9, (rows, columns // block, block)), -widest, widest)
    codes = np.minimum(codes, 7)
    scales = rng.choice([-1.0, 1.0], widest.shape) * rng.uniform(0.005, 0.03, widest.shape)
    values: npt.NDArray[np.float32] = (codes * scales.astype(np.float16)).astype(np.float32)
    return values.reshape(shape)


def tiny_checkpoint(
    directory: Path, *, seed: int = 0, dtype: str = "float32", lattice: bool = False, **text: Any
) -> Path:
    """Writes a Hugging Face model directory. `text`: overrides of text_config."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = tiny_config(**text)
    raw["dtype"] = dtype
    weights = tiny_weights(ModelConfig.from_hugging_face(raw), seed=seed, lattice=lattice)
    arrays = {name: array.astype(TYPES[dtype]) for name, array in weights.items()}
    save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})
    write_json(directory / "config.json", raw)
    write(directory)
    return directory


def tiny_bundle(directory: Path, recipe: str = "fp32", *, seed: int = 0, **options: Any) -> Path:
    """Exports a tiny checkpoint to the new directory. `options`: of `export_bundle`."""
    checkpoint = directory.parent / f"{directory.name}-checkpoint-{seed}"
    if not checkpoint.exists():
        tiny_checkpoint(checkpoint, seed=seed)
    export_bundle(checkpoint, directory, recipe=recipe, **options)
    return directory


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
