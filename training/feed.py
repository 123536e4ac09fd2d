"""Batches for the training loop, made by a background process from seeds.

The feeder picks the task that is furthest behind its share of the tokens, generates and encodes a
sample, and drops it into the bucket of its media, instruction and length; a full bucket becomes a
batch, which computes the instruction once.
Samples with media cost the most to make, so each is used twice. Not more often: strips that came
back four to five times were learnt by heart (loss 0.4 on them, 1.4 on new ones of the same kind).
"""

from __future__ import annotations

import os
import queue
import random
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import torch

from training.encoding import Batch, Encoder, Example, collate
from training.samples import TASKS, generate
from training.schedule import longest, shares

EDGES = (32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536)
KEPT = {"read_page": 100, "extract_page": 100}  # pages are about 1 MB each
KEPT_OTHERWISE = 400
REPLAY = 0.5
QUEUE = 6


def edge(length: int) -> int | None:
    return next((e for e in EDGES if length <= e), None)


class Feeder:
    """Endless batches of about `budget` tokens.

    `stream` separates the seeds of processes and of resumed runs.
    """

    def __init__(self, stream: int, budget: int, tasks: tuple[str, ...] = TASKS) -> None:
        self.encoder = Encoder()
        self.image_id = self.encoder.characters.special("<|image|>")
        self.tasks, self.budget = tasks, budget
        self.random = random.Random(f"feed:{stream}")
        self.next_seed = stream * 10_000_000
        self.tokens: dict[str, float] = defaultdict(float)
        self.buckets: dict[tuple[str, bytes, int], list[Example]] = defaultdict(list)
        self.kept: dict[str, list[Example]] = defaultdict(list)

    def batch(self, progress: float) -> Batch:
        while True:
            example = self.example(self.task_behind(progress), longest(progress))
            own = len(example.ids) - example.common
            length = edge(own)
            if length is None:
                continue
            self.tokens[example.task] += own
            key = media(example), example.ids[: example.common].tobytes(), length
            bucket = self.buckets[key]
            bucket.append(example)
            # Two rows at least: a compiled graph would be specialised to a batch of one.
            if len(bucket) >= max(2, self.budget // length):
                self.buckets[key] = []
                return collate(bucket, self.image_id)

    def task_behind(self, progress: float) -> str:
        """The task furthest behind its share; old counts fade, so that the mix can change."""
        wanted = shares(self.tasks, progress)
        total = sum(self.tokens.values())
        if total > 50 * self.budget:
            self.tokens = defaultdict(float, {t: n / 2 for t, n in self.tokens.items()})
            total /= 2
        return max(
            self.tasks, key=lambda task: wanted[task] * (total + self.budget) - self.tokens[task]
        )

    def example(self, task: str, limit: int) -> Example:
        """A sample of the task, new or for the second time; a new one longer than `limit` is
        tried again."""
        kept = self.kept[task]
        if len(kept) > KEPT.get(task, KEPT_OTHERWISE) and self.random.random() < REPLAY:
            place = self.random.randrange(len(kept))
            kept[place], kept[-1] = kept[-1], kept[place]
            return kept.pop()
        for _ in range(8):
            example = self.encoder.encode(generate(task, self.next_seed, "train"))
            self.next_seed += 1
            if len(example.ids) <= limit or task in KEPT:
                break
        if media(example) != "text":
            kept.append(example)
        return example


def media(example: Example) -> str:
    if example.patches is not None:
        return "image"
    return "text" if example.frames is None else "audio"


def feed(
    stream: int,
    budget: int,
    tasks: tuple[str, ...],
    progress: Synchronized[float],
    out: Any,
    parent: int,
) -> None:
    """Body of the feeder process; it ends when its parent does, however that ended."""
    torch.set_num_threads(1)
    feeder = Feeder(stream, budget, tasks)
    while os.getppid() == parent:
        batch = feeder.batch(progress.value)
        while os.getppid() == parent:
            try:
                out.put(batch, timeout=5)
                break
            except queue.Full:
                continue


class Feed:
    """A feeder in a process of its own; `progress` tells it which mix to make."""

    def __init__(self, stream: int, budget: int, tasks: tuple[str, ...] = TASKS) -> None:
        context = get_context("spawn")
        self.progress = context.Value("d", 0.0)
        self.queue = context.Queue(QUEUE)
        arguments = (stream, budget, tasks, self.progress, self.queue, os.getpid())
        self.process = context.Process(target=feed, args=arguments, daemon=True)
        self.process.start()

    def batches(self) -> Iterator[Batch]:
        while True:
            try:
                yield self.queue.get(timeout=60)
            except queue.Empty:
                if not self.process.is_alive():
                    raise RuntimeError("the feeder process ended; its traceback is above") from None

    def close(self) -> None:
        self.process.terminate()
        self.process.join()
