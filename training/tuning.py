"""A checkpoint in transformers and what is trained of it: adapters, or all weights.

Image blocks look both ways on local layers within their window and nowhere else; the masks are
passed in, because transformers 5.23 would open the global layers as well. The head sees only the
positions that answers are learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.parity import visible
from export.weights import all_weights, canonical_name
from model_onnx.config import ModelConfig
from training.lessons import Lesson
from training.memory import Method, is_projector
from training.merge import Change

_BYTE = np.float32(1 / 255)
_MATRICES = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"


class Tuned:
    """The model. Everything that changes is float32; the rest of a LoRA model is bfloat16."""

    def __init__(
        self,
        checkpoint: Path,
        config: ModelConfig,
        method: Method,
        device: torch.device,
        *,
        embedding_factor: float,
        media: frozenset[str] = frozenset(("image", "audio")),
    ) -> None:
        """media: whose projectors are trained; embedding_factor: of the exported bundle."""
        from transformers import Gemma4UnifiedForConditionalGeneration as Model

        self.config, self.device, self.lora = config, device, bool(method.lora)
        placed: dict[str, Any] = {"device_map": {"": device}} if device.type == "cuda" else {}
        self.net = Model.from_pretrained(
            checkpoint,
            dtype=torch.bfloat16 if self.lora else torch.float32,
            attn_implementation="sdpa",
            **placed,
        )
        self.net.get_input_embeddings().embed_scale.fill_(embedding_factor)
        if method.lora:
            self._adapt(method.lora, media)
        if method.checkpointing:
            self.net.activation_checkpointing_enable({"use_reentrant": False})
        self.net.train()

    def _adapt(self, rank: int, media: frozenset[str]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        adapters = LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", target_modules=_MATRICES
        )
        inject_adapter_in_model(adapters, self.net)
        weights = all_weights(self.config)
        for name, parameter in self.net.named_parameters():
            weight = weights.get(canonical_name(name))
            kind = "audio" if "embed_audio" in name else "image"
            trained = ".lora_" in name or (
                weight is not None and is_projector(weight) and kind in media
            )
            parameter.requires_grad_(trained)
            if trained:
                parameter.data = parameter.data.float()

    def trained(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.net.named_parameters() if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trained().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trained().items():
                parameter.copy_(state[name])

    def changes(self) -> dict[str, Change]:
        """For `merge.write_changed`."""
        from peft.tuners.lora import LoraLayer

        changes: dict[str, Change] = {}
        for name, module in self.net.named_modules():
            if isinstance(module, LoraLayer):
                changes[canonical_name(f"{name}.weight")] = _with_delta(module)
        for name, parameter in self.trained().items():
            if ".lora_" not in name:
                changes[canonical_name(name)] = _replaced_by(parameter)
        return changes

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Cross-entropy, the mean over the tokens of all answers."""
        batch = collate(lessons, self.config, self.device)
        rows, columns, targets = batch.pop("rows"), batch.pop("columns"), batch.pop("targets")
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.net.model(**batch, use_cache=False).last_hidden_state
            logits = self.net.lm_head(hidden[rows, columns])
        cap = self.config.final_logit_softcapping
        return nn.functional.cross_entropy(cap * torch.tanh(logits.float() / cap), targets)


def _with_delta(module: Any) -> Change:
    def change(stored: Tensor) -> Tensor:
        delta = module.get_delta_weight(module.active_adapters[0])
        return stored.float() + delta.detach().float().cpu()

    return change


def _replaced_by(parameter: nn.Parameter) -> Change:
    return lambda stored: parameter.detach()


def collate(lessons: Sequence[Lesson], config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Inputs of the model, padded on the right, and where which token must be predicted."""
    length = max(len(lesson.ids) for lesson in lessons)
    ids = np.zeros((len(lessons), length), np.int64)
    local = np.zeros((len(lessons), 1, length, length), np.bool_)
    full = np.zeros_like(local)
    rows, columns, targets = [], [], []
    for at, lesson in enumerate(lessons):
        ids[at, : len(lesson.ids)] = lesson.ids
        local[at, 0], full[at, 0] = visible(ids[at], config)
        answer = np.arange(lesson.answer, len(lesson.ids))
        rows.append(np.full(len(answer), at))
        columns.append(answer - 1)
        targets.append(lesson.ids[answer].astype(np.int64))
    batch = {"input_ids": ids, **_media(lessons, ids, config)}
    batch |= {
        "rows": np.concatenate(rows),
        "columns": np.concatenate(columns),
        "targets": np.concatenate(targets),
    }
    masks = {"sliding_attention": local, "full_attention": full}
    return {
        **{name: torch.from_numpy(array).to(device) for name, array in batch.items()},
        "attention_mask": {n: torch.from_numpy(mask).to(device) for n, mask in masks.items()},
    }


def _media(
    lessons: Sequence[Lesson], ids: np.ndarray, config: ModelConfig
) -> dict[str, np.ndarray]:
    """Pictures and clips in the order of their placeholders, padded as transformers takes them."""
    media: dict[str, np.ndarray] = {}
    images = [image for lesson in lessons for image in lesson.images]
    frames = [frame for lesson in lessons for frame in lesson.frames]
    for pictures, values, places in (
        (images, "pixel_values", "image_position_ids"),
        (frames, "pixel_values_videos", "video_position_ids"),
    ):
        if pictures:
            media[values] = _padded([p.astype(np.float32) * _BYTE for p, _ in pictures], 0)
            media[places] = _padded([place.astype(np.int64) for _, place in pictures], -1)
    if frames:
        media["num_frames_per_video"] = np.array([len(frames)])
    clips = [clip for lesson in lessons for clip in lesson.clips]
    if clips:
        media["input_features"] = _padded(clips, 0)
        media["input_features_mask"] = _padded([np.ones(len(c), np.bool_) for c in clips], False)
    return media


def _padded(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    longest = max(len(array) for array in arrays)
    whole = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole
