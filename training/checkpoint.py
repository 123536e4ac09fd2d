"""The training module <-> a Hugging Face directory that `Gemma4UnifiedForConditionalGeneration`
loads with nothing left over.

Grey to RGB: every pixel value becomes three equal ones. The mean and variance of a LayerNorm do
not change by that, so its weights are repeated, and the dense weights are repeated and divided by
3.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training import tokenizer
from training.generators import espeak
from training.model import FRAME_SAMPLES, Shape, UnifiedModel

HELPERS = ("patch_head.", "frame_head.")
RENAMED = (
    ("embed_tokens.", "language_model.embed_tokens."),
    ("vision_embedder.multimodal_embedder.", "embed_vision."),
)


def shape() -> Shape:
    """The embedded model's shape with the ids of this project's tokenizer."""
    ids = tokenizer.vocabulary()
    return Shape(
        len(ids), image_id=ids["<|image|>"], audio_id=ids["<|audio|>"], sounds=espeak.SOUNDS
    )


def exported_name(name: str) -> str:
    for own, theirs in RENAMED:
        if name.startswith(own):
            return "model." + theirs + name.removeprefix(own)
    return "model." + name


def exported(model: UnifiedModel) -> dict[str, Tensor]:
    """Checkpoint tensors in Google's names, bfloat16, without the helper heads."""
    tensors = {}
    for name, value in model.state_dict().items():
        if name.startswith(HELPERS):
            continue
        if "patch_ln1" in name:
            value = value.repeat_interleave(3)
        if name.endswith("patch_dense.weight"):
            value = value.repeat_interleave(3, dim=1) / 3
        tensors[exported_name(name)] = value.detach().to(torch.bfloat16).contiguous().clone()
    return tensors


def load_weights(model: UnifiedModel, source: Path) -> None:
    """Weights only, from a Hugging Face directory or a training state.

    A directory has no helper heads: those stay as they are.
    """
    if source.is_file():
        model.load_state_dict(torch.load(source, weights_only=True)["model"])
        return
    tensors = load_file(source / "model.safetensors")
    state = model.state_dict()
    for name in state:
        if name.startswith(HELPERS):
            continue
        value = tensors[exported_name(name)].float()
        if "patch_ln1" in name:
            value = value[::3]
        if name.endswith("patch_dense.weight"):
            value = value.unflatten(1, (-1, 3)).sum(-1)
        state[name] = value
    model.load_state_dict(state)


def config(size: Shape) -> dict[str, Any]:
    ids = tokenizer.vocabulary()
    kinds = [
        "full_attention" if size.layer(i).is_global else "sliding_attention"
        for i in range(size.layers)
    ]
    text = {
        "model_type": "gemma4_unified_text",
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.local_kv_heads,
        "head_dim": size.local_head_dim,
        "global_head_dim": size.global_head_dim,
        "num_global_key_value_heads": size.global_kv_heads,
        "attention_k_eq_v": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": kinds,
        "sliding_window": size.window,
        "max_position_embeddings": size.max_length,
        "hidden_activation": "gelu_pytorch_tanh",
        "final_logit_softcapping": size.softcap,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1000000.0,
            },
        },
        "use_bidirectional_attention": "vision",
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "tie_word_embeddings": True,
        "pad_token_id": ids["<pad>"],
        "eos_token_id": ids["<eos>"],
        "bos_token_id": ids["<bos>"],
        "dtype": "bfloat16",
    }
    vision = {
        "model_type": "gemma4_unified_vision",
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "mm_embed_dim": size.hidden,
        "mm_posemb_size": size.positions,
        "output_proj_dims": size.hidden,
        "rms_norm_eps": 1e-6,
    }
    audio = {
        "model_type": "gemma4_unified_audio",
        "audio_embed_dim": FRAME_SAMPLES,
        "rms_norm_eps": 1e-6,
    }
    return {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "dtype": "bfloat16",
        "tie_word_embeddings": True,
        "eos_token_id": [ids["<eos>"], ids["<turn|>"]],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "boa_token_id": ids["<|audio>"],
        "eoa_token_index": ids["<audio|>"],
        "audio_token_id": ids["<|audio|>"],
        "text_config": text,
        "vision_config": vision,
        "audio_config": audio,
    }


def processor_config() -> dict[str, Any]:
    """As Gemma's file: no mean or deviation, 48-pixel patches, 40 ms frames."""
    pictures = {
        "do_convert_rgb": True,
        "do_normalize": False,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "model_patch_size": 48,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    return {
        "processor_class": "Gemma4UnifiedProcessor",
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "image_seq_length": 280,
        "feature_extractor": {
            "feature_extractor_type": "Gemma4UnifiedAudioFeatureExtractor",
            "audio_samples_per_token": FRAME_SAMPLES,
            "feature_size": FRAME_SAMPLES,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": 16000,
        },
        "image_processor": {
            "image_processor_type": "Gemma4UnifiedImageProcessor",
            "image_seq_length": 280,
            "max_soft_tokens": 280,
            **pictures,
        },
        "video_processor": {
            "video_processor_type": "Gemma4UnifiedVideoProcessor",
            "do_sample_frames": True,
            "max_soft_tokens": 70,
            "num_frames": 32,
            **pictures,
        },
    }


def pipeline_habits() -> dict[str, Any]:
    """How the pipelines should use this model (`pipelines.options.Habits`): as it was trained."""
    return {
        "reading": "strips",
        "context_tokens": 2048,
        "evidence_characters": 900,
        "block_lines": 6,
        "tag_characters": 700,
        "images_with_text": False,
    }


def write(model: UnifiedModel, directory: Path) -> None:
    """The whole directory, complete or not at all."""
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer.write(partial)
    generation = tokenizer.generation_config() | {"pipeline": pipeline_habits()}
    for name, content in (
        ("generation_config.json", generation),
        ("config.json", config(model.size)),
        ("processor_config.json", processor_config()),
    ):
        (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    save_file(exported(model), partial / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(partial, directory)
