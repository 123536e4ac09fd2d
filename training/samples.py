"""Training samples of every task, made from a seed.

    sample = generate("extract_text", seed=7, split="train")

The same task, seed and split give the same sample. The held-out split uses fonts, templates, words
and names that the train split never sees, and recordings and receipts kept back from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.generators import audio_tasks, espeak, image_tasks, real, real_digits, text_tasks
from training.generators.audio_tasks import AudioSample
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
    sounds: np.ndarray | None = None  # int8 [T]: the phoneme at each sample, as in `espeak.Clip`


TEXT_TASKS: dict[str, Callable[[Source], TextSample]] = {
    "copy_text": text_tasks.copy_text,
    "extract_text": text_tasks.extract_text,
    "extract_real": text_tasks.extract_real,
    "clean": text_tasks.clean,
    "repair": text_tasks.repair,
    "tag": text_tasks.tag,
}
IMAGE_TASKS: dict[str, Callable[[Source], ImageSample]] = {
    "read_line": image_tasks.read_line,
    "read_real": image_tasks.read_real,
    "read_page": image_tasks.read_page,
    "extract_page": image_tasks.extract_page,
}
AUDIO_TASKS: dict[str, Callable[[Source], AudioSample]] = {
    "speech": audio_tasks.read_out,
    "digits": audio_tasks.digits,
}
# What a task needs beside this package; without it the task is left out.
NEEDS: dict[str, Callable[[], bool]] = {
    "extract_real": real.available,
    "read_real": real.available,
    "speech": espeak.available,
    "digits": lambda: real_digits.available() or espeak.available(),
}
TASKS: tuple[str, ...] = tuple(
    task for task in (*TEXT_TASKS, *IMAGE_TASKS, *AUDIO_TASKS) if task not in NEEDS or NEEDS[task]()
)


def generate(task: str, seed: int, split: Split) -> Sample:
    """The sample of this task, seed and split; raises KeyError for an unknown task."""
    source = Source(random.Random(f"{task}:{split}:{seed}"), split)
    if task in TEXT_TASKS:
        instruction, text, answer = TEXT_TASKS[task](source)
        return Sample(task, instruction, text, answer)
    if task in IMAGE_TASKS:
        instruction, answer, picture = IMAGE_TASKS[task](source)
        return Sample(task, instruction, "", answer, picture.image, picture.patch_text)
    instruction, answer, clip = AUDIO_TASKS[task](source)
    return Sample(task, instruction, "", answer, audio=clip.samples, sounds=clip.sounds)
