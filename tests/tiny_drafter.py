"""A tiny random drafter for the tiny checkpoint: three layers, local, local, global."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from export.drafter import drafter_weights
from export.weights import Weight
from model_onnx.drafter_config import DrafterConfig
from tests.tiny import tiny_config, write_json

LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]


def drafter_config(**text: Any) -> dict[str, Any]:
    """config.json as published; `text`: overrides of text_config."""
    target = tiny_config()["text_config"]
    own = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": len(LAYERS),
        "layer_types": LAYERS,
        "num_kv_shared_layers": len(LAYERS),
        "final_logit_softcapping": None,
    }
    return {
        "architectures": ["Gemma4UnifiedAssistantForCausalLM"],
        "model_type": "gemma4_unified_assistant",
        "dtype": "float32",
        "backbone_hidden_size": target["hidden_size"],
        "use_ordered_embeddings": False,
        "num_centroids": 2048,
        "centroid_intermediate_top_k": 32,
        "tie_word_embeddings": True,
        "text_config": {**target, **own, **text},
    }


def drafter_arrays(config: DrafterConfig, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Random values by the published names; norms and scalars far from 1."""
    rng = np.random.default_rng(seed)
    return {
        name if "projection" in name else f"model.{name}": _values(rng, weight)
        for name, weight in drafter_weights(config).items()
    }


def _values(rng: np.random.Generator, weight: Weight) -> npt.NDArray[np.float32]:
    noise = rng.standard_normal(weight.shape).astype(np.float32)
    if weight.name.endswith("layer_scalar"):
        return (0.3 + 0.6 * rng.random(weight.shape)).astype(np.float32)
    if weight.name.endswith("q_norm.weight"):
        return np.float32(weight.shape[0] ** -0.25) * (1 + np.float32(0.2) * noise)
    if weight.use == "vector":
        return (1 + 0.2 * noise).astype(np.float32)
    if "projection" in weight.name:  # so large that each guess moves the next one
        return noise
    return np.float32(0.15 if weight.use == "linear" else 0.3) * noise


def tiny_drafter(directory: Path, *, seed: int = 0, **text: Any) -> Path:
    """Writes a Hugging Face model directory."""
    directory.mkdir(parents=True)
    raw = drafter_config(**text)
    arrays = drafter_arrays(DrafterConfig.from_hugging_face(raw), seed)
    save_file(arrays, directory / "model.safetensors", metadata={"format": "pt"})
    write_json(directory / "config.json", raw)
    return directory
