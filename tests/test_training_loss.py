"""The loss reads the answer, the patches and the frames, and nothing else."""

# mypy: allow-untyped-decorators

import dataclasses
from typing import Any

import numpy as np
import torch

from tests.test_training_checkpoint import small_model
from training.encoding import Encoder, Example, collate
from training.generators.espeak import UNLABELLED
from training.loss import losses
from training.samples import Sample

ENCODER = Encoder()
IMAGE = ENCODER.characters.special("<|image|>")
PICTURE = np.random.default_rng(0).integers(0, 255, (48, 96), dtype=np.uint8)
SOUND = np.random.default_rng(0).standard_normal(640 * 12).astype(np.float32)
SOUNDS = (np.arange(640 * 12) // 320 % 7).astype(np.int8)


def encoded(text: str, answer: str, **media: Any) -> Example:
    return ENCODER.encode(Sample("copy_text", "Copy.", text, answer, **media))


@torch.no_grad()
def test_padding_does_not_change_the_loss() -> None:
    model = small_model()
    short, long = encoded("abc", "abc"), encoded("abc" * 9, "abc" * 9)
    alone = [losses(model, collate([e], IMAGE)) for e in (short, long)]
    together = losses(model, collate([short, long], IMAGE))
    tokens = torch.tensor([4.0, 28.0])
    expected = (torch.stack([a.answer for a in alone]) * tokens).sum() / tokens.sum()
    torch.testing.assert_close(together.answer, expected)


@torch.no_grad()
def test_helper_heads_add_their_loss() -> None:
    model = small_model()
    seen = collate([encoded("", "ab", image=PICTURE, patch_text=("a", "b"))], IMAGE)
    heard = collate([encoded("", "ab", audio=SOUND, sounds=SOUNDS)], IMAGE)
    for batch in (seen, heard):
        loss = losses(model, batch)
        assert loss.total > loss.answer
    unlabelled = losses(model, dataclasses.replace(seen, patch_ids=None))
    torch.testing.assert_close(unlabelled.total, unlabelled.answer)
    assert heard.sounds is not None
    unknown = dataclasses.replace(heard, sounds=torch.full_like(heard.sounds, UNLABELLED))
    loss = losses(model, unknown)
    torch.testing.assert_close(loss.total, loss.answer)


def test_every_part_learns_from_its_own_media() -> None:
    model = small_model().train()
    losses(model, collate([encoded("", "ab", audio=SOUND, sounds=SOUNDS)], IMAGE)).total.backward()
    assert model.embed_audio.embedding_projection.weight.grad.abs().sum() > 0
    assert model.frame_head.weight.grad.abs().sum() > 0
    assert model.vision_embedder.patch_dense.weight.grad is None
