"""The loss of a batch: the answer's tokens, plus what the two helper heads should have seen and
heard."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.encoding import IGNORED, Batch
from training.model import FRAME_SLOTS, UnifiedModel

PATCH_WEIGHT, FRAME_WEIGHT = 2.0, 1.0


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
    """CTC over FRAME_SLOTS outputs a frame; blank = id 0, target = the answer's characters."""
    assert batch.frame_counts is not None
    counts = batch.frame_counts
    heard = model.frame_head(tap[batch.ids == model.size.audio_id])
    clips = heard.view(-1, FRAME_SLOTS * model.size.vocabulary).split(counts.tolist())
    padded = torch.nn.utils.rnn.pad_sequence(list(clips))  # [F, B, slots * V]
    steps = padded.view(len(padded), len(clips), FRAME_SLOTS, model.size.vocabulary)
    steps = steps.transpose(1, 2).flatten(0, 1).float().log_softmax(-1)
    answers = [row[row != IGNORED][:-1] for row in batch.targets]
    lengths = torch.tensor([len(a) for a in answers])
    return F.ctc_loss(
        steps, torch.cat(answers), counts.cpu() * FRAME_SLOTS, lengths, zero_infinity=True
    )
