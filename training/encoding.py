"""Samples -> token ids and padded batches, laid out as the rendered chat template lays out the
same conversation.

    <bos><|turn>system
    {instruction}<turn|>
    <|turn>user
    {media}{text}<turn|>
    <|turn>model
    <|channel>thought
    <channel|>{answer}<turn|>

The loss reads only the answer and the <turn|> that ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from training.generators.espeak import UNLABELLED
from training.model import FRAME_SAMPLES, FRAME_SLOTS, PATCH_SLOTS
from training.samples import Sample
from training.tokenizer import Characters

PATCH = 48
IGNORED = -100  # target of a position without loss


@dataclass(frozen=True)
class Example:
    """One encoded sample; ids[answer:] is what the model learns to write."""

    task: str
    ids: np.ndarray  # int32 [T]
    answer: int
    common: int  # tokens at the beginning that many samples have
    patches: np.ndarray | None = None  # uint8 [N, 2304], row-major
    positions: np.ndarray | None = None  # int16 [N, 2] as (x, y)
    patch_ids: np.ndarray | None = None  # int16 [N, slots], 0 = no character
    frames: np.ndarray | None = None  # float32 [F, 640]
    sounds: np.ndarray | None = None  # int8 [F, FRAME_SLOTS], as in `espeak.Clip`


class Encoder:
    def __init__(self) -> None:
        self.characters = Characters()
        special = self.characters.special
        self.turn_end = special("<turn|>")
        self.system = [special("<bos>"), special("<|turn>"), *self.characters.encode("system\n")]
        self.user = [
            *(self.turn_end, *self.characters.encode("\n"), special("<|turn>")),
            *self.characters.encode("user\n"),
        ]
        self.model = [
            *(self.turn_end, *self.characters.encode("\n"), special("<|turn>")),
            *self.characters.encode("model\n"),
            *(special("<|channel>"), *self.characters.encode("thought\n"), special("<channel|>")),
        ]

    def encode(self, sample: Sample) -> Example:
        encode = self.characters.encode
        patches = positions = patch_ids = frames = sounds = None
        media: list[int] = []
        if sample.image is not None:
            patches, positions = cut(sample.image)
            patch_ids = self.patch_ids(sample.patch_text, len(patches))
            media += self.media("image", len(patches))
        if sample.audio is not None:
            frames = split_frames(sample.audio)
            sounds = frame_sounds(sample.sounds, len(frames))
            media += self.media("audio", len(frames))
        prompt = [*self.system, *encode(sample.instruction.strip()), *self.user]
        first, _, more = sample.instruction.strip().partition("\n")
        common = len(self.system) + len(encode(first)) + 1 if more else len(prompt)
        prompt += [*media, *encode(sample.text.strip()), *self.model]
        ids = np.array([*prompt, *encode(sample.answer), self.turn_end], np.int32)
        return Example(
            *(sample.task, ids, len(prompt), common, patches, positions, patch_ids, frames, sounds)
        )

    def media(self, kind: str, count: int) -> list[int]:
        special = self.characters.special
        return [special(f"<|{kind}>"), *[special(f"<|{kind}|>")] * count, special(f"<{kind}|>")]

    def patch_ids(self, texts: Sequence[str] | None, count: int) -> np.ndarray | None:
        if texts is None:
            return None
        out = np.zeros((count, PATCH_SLOTS), np.int16)
        for row, text in zip(out, texts, strict=True):
            ids = self.characters.encode(text)[:PATCH_SLOTS]
            row[: len(ids)] = ids
        return out


def cut(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W] -> (patches [N, 2304], positions [N, 2] as (x, y)), row-major."""
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    tiles = image.reshape(rows, PATCH, columns, PATCH).transpose(0, 2, 1, 3)
    y, x = np.divmod(np.arange(rows * columns), columns)
    return tiles.reshape(-1, PATCH * PATCH), np.stack((x, y), 1).astype(np.int16)


def split_frames(audio: np.ndarray) -> np.ndarray:
    """float32 [n] at 16 kHz -> [ceil(n / 640), 640], the tail filled with zeros."""
    padded = np.pad(audio.astype(np.float32), (0, -len(audio) % FRAME_SAMPLES))
    return padded.reshape(-1, FRAME_SAMPLES)


def frame_sounds(sounds: np.ndarray | None, frames: int) -> np.ndarray:
    """What sounds in the quarters of the 80 ms that end with each frame, int8 [frames, 4].

    The frame before, too: a frame sees nothing after it, and half a phoneme is hard to tell.
    """
    if sounds is None:
        return np.full((frames, FRAME_SLOTS), UNLABELLED, np.int8)
    step = 2 * FRAME_SAMPLES // FRAME_SLOTS
    padded = np.pad(sounds, (FRAME_SAMPLES, frames * FRAME_SAMPLES - len(sounds)))
    middles = np.arange(FRAME_SLOTS) * step + step // 2
    return np.asarray(padded[np.arange(frames)[:, None] * FRAME_SAMPLES + middles])


@dataclass(frozen=True)
class Batch:
    """Padded rows. Media follow the order of their placeholders; what is absent is None."""

    task: str  # of the first row; a batch holds one kind of media
    shared: torch.Tensor  # int64 [P]: the text that every row begins with
    ids: torch.Tensor  # int64 [B, T]: what follows it
    targets: torch.Tensor  # int64 [B, T]: the id that position t must predict, or IGNORED
    block: torch.Tensor  # int64 [B, T]: 1 at image placeholders
    patches: torch.Tensor | None = None  # uint8 [N, 2304]
    positions: torch.Tensor | None = None  # int64 [N, 2]
    patch_ids: torch.Tensor | None = None  # int64 [N, slots]
    frames: torch.Tensor | None = None  # float32 [F, 640]
    sounds: torch.Tensor | None = None  # int64 [F, FRAME_SLOTS]

    def to(self, device: torch.device) -> Batch:
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device) if isinstance(value, torch.Tensor) else value
        return Batch(**moved)


def collate(examples: Sequence[Example], image_id: int) -> Batch:
    """Pad on the right, to a multiple of 16: no real position sees what comes after it."""
    shared = shared_length(examples)
    length = -(-(max(len(e.ids) for e in examples) - shared) // 16) * 16
    ids = np.zeros((len(examples), length), np.int64)
    targets = np.full((len(examples), length), IGNORED, np.int64)
    for row, example in enumerate(examples):
        end, answer = len(example.ids) - shared, example.answer - shared
        ids[row, :end] = example.ids[shared:]
        targets[row, answer - 1 : end - 1] = example.ids[example.answer :]
    return Batch(
        task=examples[0].task,
        shared=torch.from_numpy(examples[0].ids[:shared].astype(np.int64)),
        ids=torch.from_numpy(ids),
        targets=torch.from_numpy(targets),
        block=torch.from_numpy((ids == image_id).astype(np.int64)),
        patches=joined(examples, "patches", np.uint8),
        positions=joined(examples, "positions", np.int64),
        patch_ids=joined(examples, "patch_ids", np.int64),
        frames=joined(examples, "frames", np.float32),
        sounds=joined(examples, "sounds", np.int64),
    )


def shared_length(examples: Sequence[Example]) -> int:
    """Tokens that all rows begin with, of those that `Example.common` counts."""
    shortest = min(e.common for e in examples)
    rows = np.stack([e.ids[:shortest] for e in examples])
    differs = (rows != rows[0]).any(0)
    return int(differs.argmax()) if differs.any() else shortest


def joined(examples: Sequence[Example], name: str, dtype: type) -> torch.Tensor | None:
    """One tensor of a field of all examples, or None where an example lacks it."""
    parts = [getattr(e, name) for e in examples]
    if any(part is None for part in parts):
        return None
    return torch.from_numpy(np.concatenate(parts).astype(dtype))
