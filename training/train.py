"""Train the embedded model.

    python -m training.train --minutes 95 --out DIR

One schedule of N minutes of training time, on every core (a process a core, gradients averaged)
or on one GPU. The state is saved every --save-minutes by rename, so a killed run started again with
the same --out continues where it was; a longer --minutes stretches the schedule. DIR/curves.jsonl
has the losses and the held-out measures, DIR/model the result.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from training import checkpoint
from training.encoding import Batch, Encoder, collate
from training.feed import Feed
from training.loss import losses
from training.model import ELEMENTWISE, UnifiedModel
from training.optimizer import Optimizer, rank, share_gradients, world
from training.samples import TASKS, generate
from training.schedule import rate_factor

LOG_STEPS = 20


@dataclass(frozen=True)
class Options:
    minutes: float
    out: Path
    tasks: tuple[str, ...] = TASKS
    weights: Path | None = None  # start from these weights when --out has no state of its own
    processes: int = 0  # 0 = one per core, or one on a GPU
    budget: int = 3072  # tokens a batch and process
    compile: bool = True
    save_minutes: float = 2.0
    evaluate_minutes: float = 5.0
    evaluate_samples: int = 16
    seed: int = 0


@dataclass
class Clock:
    """Training time over all runs of this schedule; time spent stopped does not count."""

    seconds: float
    minutes: float
    step: int = 0

    def __post_init__(self) -> None:
        self.last = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self.last
        self.last = now

    @property
    def progress(self) -> float:
        return min(1.0, self.seconds / (60 * self.minutes))


class Run:
    """One process of a run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(options.seed)
        self.model = UnifiedModel(checkpoint.shape()).to(self.device)
        self.optimizer = Optimizer(self.model)
        self.clock = Clock(0.0, options.minutes)
        self.state_path = options.out / "state.pt"
        self.restore()
        if options.compile:
            ELEMENTWISE.compile()
        self.held_out: dict[str, list[Batch]] = {}
        self.seen: dict[str, float] = defaultdict(float)

    def restore(self) -> None:
        if self.state_path.exists():
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.clock = Clock(state["seconds"], self.options.minutes, state["step"])
        elif self.options.weights is not None:
            checkpoint.load_weights(self.model, self.options.weights)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.clock.seconds,
            "step": self.clock.step,
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.state_path)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, batch: Batch) -> tuple[float, bool]:
        """One update; a batch whose loss is not finite is left out by every process."""
        with self.autocast():
            loss = losses(self.model, batch.to(self.device))
        loss.total.backward()
        share_gradients(self.optimizer.parameters)
        finite = all(
            bool(p.grad.isfinite().all()) for p in self.optimizer.parameters if p.grad is not None
        )
        if finite:
            self.optimizer.step(rate_factor(self.clock.progress, self.clock.step))
        for parameter in self.optimizer.parameters:
            parameter.grad = None
        self.clock.step += 1
        return float(loss.answer.detach()), finite

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Held-out loss, accuracy of tokens and of whole answers (as greedy decoding gets them).

        Not under no_grad: the compiled layers would be compiled once more for that.
        """
        if not self.held_out:
            self.held_out = held_out(self.options.evaluate_samples, self.options.tasks)
        tasks = self.options.tasks
        table = torch.zeros(len(tasks), 5)
        for row, task in zip(table, tasks, strict=True):
            for batch in self.held_out[task]:
                with self.autocast():
                    loss = losses(self.model, batch.to(self.device))
                rows = loss.rows.cpu()
                wrong = torch.zeros(len(batch.ids)).index_add_(0, rows, (~loss.right).float().cpu())
                row += torch.tensor(
                    [
                        float(loss.answer.detach()) * len(rows),
                        float(loss.right.sum()),
                        len(rows),
                        float((wrong == 0).sum()),
                        len(batch.ids),
                    ]
                )
        if world() > 1:
            dist.all_reduce(table)
        return {
            task: {
                "loss": round(float(loss / tokens), 4),
                "token_accuracy": round(float(right / tokens), 4),
                "exact": round(float(exact / samples), 4),
            }
            for task, (loss, right, tokens, exact, samples) in zip(tasks, table, strict=True)
            if tokens
        }

    def log(self, entry: dict[str, Any]) -> None:
        if rank() == 0:
            clock = {"step": self.clock.step, "minutes": round(self.clock.seconds / 60, 2)}
            with (self.options.out / "curves.jsonl").open("a") as file:
                file.write(json.dumps(clock | entry) + "\n")
            print(clock | entry, flush=True)

    def agree(self) -> None:
        """All processes follow the clock of the first."""
        self.clock.tick()
        if world() > 1:
            shared = torch.tensor([self.clock.seconds], dtype=torch.float64)
            dist.broadcast(shared, 0)
            self.clock.seconds = float(shared)

    def train(self) -> None:
        stream = self.clock.step * 64 + rank() + 1
        feed = Feed(stream, self.options.budget, self.options.tasks)
        if self.clock.step == 0:  # where the curves start; not training time
            self.log({"held_out": self.evaluate()})
            self.clock.last = time.monotonic()
        meter = Meter()
        saved = evaluated = self.clock.seconds
        batches = feed.batches()
        while self.clock.progress < 1.0:
            feed.progress.value = self.clock.progress
            waiting = time.monotonic()
            batch = next(batches)
            meter.waited += time.monotonic() - waiting
            loss, finite = self.step(batch)
            meter.add(batch, loss, finite)
            self.agree()
            if self.clock.step % LOG_STEPS == 0:
                self.log(meter.summary())
                meter = Meter()
            if self.clock.seconds - saved > 60 * self.options.save_minutes:
                saved = self.clock.seconds
                if rank() == 0:
                    self.save()
            if self.clock.seconds - evaluated > 60 * self.options.evaluate_minutes:
                evaluated = self.clock.seconds
                self.log({"held_out": self.evaluate()})
                self.agree()
        feed.close()
        self.log({"held_out": self.evaluate(), "finished": True})
        if rank() == 0:
            self.save()
            checkpoint.write(self.model, self.options.out / "model")


class Meter:
    """What happened since the last line of the log, in this process."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.waited = 0.0
        self.tokens = 0
        self.skipped = 0
        self.losses: dict[str, list[float]] = defaultdict(list)

    def add(self, batch: Batch, loss: float, finite: bool) -> None:
        self.tokens += batch.ids.numel()
        self.skipped += not finite
        kind = "image" if batch.patches is not None else "text" if batch.frames is None else "audio"
        self.losses[kind].append(loss)

    def summary(self) -> dict[str, Any]:
        seconds = time.monotonic() - self.started
        return {
            "loss": {kind: round(sum(v) / len(v), 4) for kind, v in self.losses.items()},
            "tokens_per_second": round(world() * self.tokens / seconds),
            "waiting": round(self.waited / seconds, 3),
            "skipped": self.skipped,
        }


def held_out(samples: int, tasks: tuple[str, ...] = TASKS) -> dict[str, list[Batch]]:
    """Fixed held-out batches of every task; each process has its share."""
    encoder = Encoder()
    image_id = encoder.characters.special("<|image|>")
    out = {}
    for task in tasks:
        seeds = range(rank(), samples, world())
        examples = [encoder.encode(generate(task, seed, "heldout")) for seed in seeds]
        examples.sort(key=lambda e: len(e.ids))
        out[task] = [collate(examples[i : i + 4], image_id) for i in range(0, len(examples), 4)]
    return out


def run(process: int, processes: int, options: Options) -> None:
    """Body of each process; one that loses its peer raises in the next exchange."""
    if processes > 1:
        torch.set_num_threads(1)
        meeting = (options.out / "meeting").resolve()
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=process, world_size=processes
        )
    Run(options).train()
    if processes > 1:
        dist.destroy_process_group()


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(options.out / "compiled"))
    (options.out / "meeting").unlink(missing_ok=True)
    processes = options.processes
    if processes == 0:
        processes = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    if processes > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    context = get_context("spawn")
    others = [
        context.Process(target=run, args=(i, processes, options)) for i in range(1, processes)
    ]
    for other in others:
        other.start()
    run(0, processes, options)
    for other in others:
        other.join()


def parse(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, required=True, help="training time of the schedule"
    )
    parser.add_argument("--out", type=Path, required=True, help="state, curves and result")
    parser.add_argument(
        "--from", dest="weights", type=Path, help="start from a model directory or a state.pt"
    )
    parser.add_argument(
        "--tasks",
        type=lambda names: tuple(names.split(",")),
        default=TASKS,
        help="train only these skills, for instance the text ones first: copy_text,extract_text",
    )
    parser.add_argument("--processes", type=int, default=0, help="default: one per core")
    parser.add_argument("--budget", type=int, default=3072, help="tokens a batch and process")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    parser.add_argument("--evaluate-minutes", type=float, default=5.0)
    parser.add_argument("--evaluate-samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
