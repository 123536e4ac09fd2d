"""Training samples of every task, made from a seed.

    sample = generate("extract_text", seed=7, split="train")

The same task, seed and split give the same sample. The held-out split uses fonts, layouts, words and
names that the train split never sees, and recordings and receipts kept back from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.generators import image_tasks, text_tasks
from training.generators.image_tasks import ImageSample
from training.generators.text_tasks import TextSample
from training.generators.words import Source, Split


@dataclass(frozen=True)
class Sample:
    """One question and its answer; media the model sees come before the text."""

    task: str
    instruction: str
    text: str
    answer: str
    image: np.ndarray | None = None  # uint8 [H, W] grey, H and W multiples of 48
    patch_text: tuple[str, ...] | None = None  # characters inside each 48x48 patch, row-major
    audio: np.ndarray | None = None  # float32 [T] mono, 16 kHz


TEXT_TASKS: dict[str, Callable[[Source], TextSample]] = {
    "copy_text": text_tasks.copy_text,
    "extract_text": text_tasks.extract_text,
    "clean": text_tasks.clean,
    "repair": text_tasks.repair,
    "tag": text_tasks.tag,
}
IMAGE_TASKS: dict[str, Callable[[Source], ImageSample]] = {
    "read_line": image_tasks.read_line,
    "read_page": image_tasks.read_page,
    "extract_page": image_tasks.extract_page,
}
TASKS: tuple[str, ...] = (*TEXT_TASKS, *IMAGE_TASKS)


def generate(task: str, seed: int, split: Split) -> Sample:
    """The sample of this task, seed and split."""
    source = Source(random.Random(f"{task}:{split}:{seed}"), split)
    if task in IMAGE_TASKS:
        instruction, answer, picture = IMAGE_TASKS[task](source)
        return Sample(task, instruction, "", answer, picture.image, picture.patch_text)
    instruction, text, answer = TEXT_TASKS[task](source)
    return Sample(task, instruction, text, answer)
