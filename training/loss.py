"""The loss of a batch: the answer's tokens, plus what the two helper heads should have seen and
heard."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from training.encoding import IGNORED, Batch
from training.generators.espeak import SOUNDS, UNLABELLED
from training.model import UnifiedModel

PATCH_WEIGHT, FRAME_WEIGHT = 2.0, 2.0


@dataclass(frozen=True)
class Losses:
    answer: Tensor  # mean over the answer's tokens
    total: Tensor
    right: Tensor  # bool [M]: the most probable token is the right one
    rows: Tensor  # int64 [M]: the batch row of each


def losses(model: UnifiedModel, batch: Batch) -> Losses:
    patches = None if batch.patches is None else batch.patches.float() / 255
    x = model.merge(batch.ids, patches, batch.positions, batch.frames)
    hidden, tap = model.language_model(model.embed(batch.shared), x, batch.block)
    rows, places = (batch.targets != IGNORED).nonzero(as_tuple=True)
    targets = batch.targets[rows, places]
    logits = model.head(hidden[rows, places])
    answer = F.cross_entropy(logits, targets)
    total = answer
    if batch.patch_ids is not None:
        total = total + PATCH_WEIGHT * patch_loss(model, tap, batch)
    if batch.frames is not None:
        total = total + FRAME_WEIGHT * frame_loss(model, tap, batch)
    return Losses(answer, total, logits.argmax(-1) == targets, rows)


def patch_loss(model: UnifiedModel, tap: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the characters inside each patch; id 0 = no further character."""
    assert batch.patch_ids is not None
    seen = model.patch_head(tap[batch.ids == model.size.image_id])
    return F.cross_entropy(
        seen.view(-1, model.size.vocabulary).float(), batch.patch_ids.reshape(-1)
    )


def frame_loss(model: UnifiedModel, tap: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the phonemes in each frame; 0 where none of them is known."""
    assert batch.sounds is not None
    heard = model.frame_head(tap[batch.ids == model.size.audio_id])
    known = batch.sounds != UNLABELLED
    if not known.any():
        return heard.sum() * 0.0
    return F.cross_entropy(heard.view(*known.shape, SOUNDS)[known].float(), batch.sounds[known])
