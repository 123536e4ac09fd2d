"""The loop of fine-tuning: batches in a fixed order, a state that is saved by rename."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.lessons import Lesson
from training.tuning import Tuned

_WARM_STEPS = 10
_CLIP = 1.0  # longest gradient


@dataclass(frozen=True)
class Schedule:
    """tokens: of a batch; rate: the highest learning rate."""

    epochs: int = 3
    rate: float = 2e-4
    tokens: int = 2048
    save_minutes: float = 5.0
    seed: int = 0


class Training:
    """Steps over all lessons, `epochs` times; goes on where the saved state ends."""

    def __init__(
        self, schedule: Schedule, tuned: Tuned, lessons: Sequence[Lesson], out: Path
    ) -> None:
        self.schedule, self.tuned, self.out = schedule, tuned, out
        self.steps = [
            batch
            for epoch in range(schedule.epochs)
            for batch in batches(lessons, schedule.tokens, epoch, schedule.seed)
        ]
        self.parameters = list(tuned.trained().values())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=schedule.rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.done = 0
        self.path = out / "state.pt"
        if self.path.exists():
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            tuned.load(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.done = state["done"]

    def run(self) -> None:
        saved = time.monotonic()
        for at in range(self.done, len(self.steps)):
            loss = self._step(self.steps[at], self._rate(at))
            self.done = at + 1
            entry = {"step": self.done, "of": len(self.steps), "loss": round(loss, 4)}
            with (self.out / "curves.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            if self.done % 20 == 0 or self.done == len(self.steps):
                print(entry, flush=True)
            if time.monotonic() - saved > 60 * self.schedule.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()

    def _rate(self, step: int) -> float:
        """Up over a few steps, then down in a line to nothing."""
        warm = min(1.0, (step + 1) / min(_WARM_STEPS, len(self.steps)))
        return self.schedule.rate * warm * (1 - step / len(self.steps))

    def _step(self, lessons: Sequence[Lesson], rate: float) -> float:
        """A batch whose loss or gradient is not finite changes nothing."""
        loss = self.tuned.loss(lessons)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if torch.nn.utils.clip_grad_norm_(self.parameters, _CLIP).isfinite():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def save(self) -> None:
        state = {
            "weights": self.tuned.state(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
        }
        save(self.path, state)


def save(path: Path, content: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def batches(
    lessons: Sequence[Lesson], tokens: int, epoch: int, seed: int
) -> Iterator[list[Lesson]]:
    """Every lesson once, neighbours in length together, batches in random order.

    tokens: of a padded batch; a lesson that is longer is a batch by itself.
    """
    draw = random.Random(f"{seed}:{epoch}")
    shuffled = list(lessons)
    draw.shuffle(shuffled)
    shuffled.sort(key=lambda lesson: len(lesson.ids) // 64)
    groups: list[list[Lesson]] = [[]]
    for lesson in shuffled:
        widest = max([len(lesson.ids), *(len(other.ids) for other in groups[-1])])
        if groups[-1] and widest * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(lesson)
    draw.shuffle(groups)
    yield from groups
