"""Train a drafter for the embedded model, and write it in the layout of the published ones.

    python -m training.drafter --checkpoint training/pocket --minutes 6 --out DIR

The target reads samples with their right answers. From places in the answers the drafter guesses
the next STEPS tokens, each time from the right tokens before, and learns the distribution that the
target has there. The state is saved every --save-minutes by rename, so a killed run started again
with the same --out continues; DIR/curves.jsonl has how often guesses are right, DIR/model the
result, for `flows export DIR/model BUNDLE`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import kl_div

from model_onnx.config import ModelConfig
from model_onnx.errors import ConfigError
from training import checkpoint, drafter_model
from training.drafter_model import DrafterModel, Read, read
from training.encoding import IGNORED, Batch
from training.feed import Feed
from training.model import UnifiedModel
from training.optimizer import Optimizer
from training.samples import TASKS
from training.schedule import rate_factor
from training.train import Clock, held_out

STEPS = 4  # guesses a round
FADE = 0.8  # weight of a guess against the one before it, which must be right for it to count
ROUNDS = 48  # places a row and batch
LOG_STEPS = 20
TRAINED_ON = ("extract_text", "extract_real", "clean", "repair", "copy_text", "read_line")


@dataclass(frozen=True)
class Options:
    checkpoint: Path
    minutes: float
    out: Path
    tasks: tuple[str, ...] = tuple(task for task in TRAINED_ON if task in TASKS)
    hidden: int = drafter_model.HIDDEN
    layers: int = drafter_model.LAYERS
    budget: int = 2048  # tokens a batch
    save_minutes: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Guesses:
    """right bool, counts bool [STEPS, B, R]: guess i of a round is the target's choice; there is a
    token to guess."""

    loss: Tensor
    right: Tensor
    counts: Tensor

    def rates(self) -> dict[str, float]:
        """Of the guesses whose predecessors in the round were right, the share that is right too:
        the acceptance of one id, in all and by its number in the round."""
        reached = self.counts.clone()
        for step in range(1, STEPS):
            reached[step] &= reached[step - 1] & self.right[step - 1]
        hits, tries = ((x & reached).sum((1, 2)).tolist() for x in (self.right, reached))
        rates = {f"guess_{i + 1}": hits[i] / max(1, tries[i]) for i in range(STEPS)}
        return {"acceptance": sum(hits) / max(1, sum(tries)), **rates}


def guess(
    target: UnifiedModel, drafter: DrafterModel, batch: Batch, seen: Read, places: Tensor
) -> Guesses:
    """places [B, R]: of the last known token of each round, in the rows' own tokens."""
    row = torch.arange(len(places), device=places.device)[:, None]
    decoder = target.language_model
    ropes = {False: decoder.local_rope, True: decoder.global_rope}
    state = seen.hidden[row, places - 1]
    losses, right, counts = [], [], []
    for step in range(STEPS):
        at = (places + step).clamp(max=batch.ids.shape[1] - 1)
        embeds = target.embed(batch.ids[row, at])
        logits, state = drafter(embeds, state, seen, places + seen.shared, ropes)
        wanted = seen.logits[row, at]
        there = (batch.targets[row, at] != IGNORED) & (places + step == at)
        distance = kl_div(
            logits.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)
        losses.append(FADE**step * (distance * there).sum() / there.sum().clamp(min=1))
        right.append(logits.argmax(-1) == wanted.argmax(-1))
        counts.append(there)
    return Guesses(torch.stack(losses).sum(), torch.stack(right), torch.stack(counts))


def places_in(batch: Batch, rounds: int) -> Tensor:
    """[B, rounds]: random places at which the answer's next token is to be guessed and the one
    before has been, so that the target's state there is known."""
    open_ones = batch.targets != IGNORED
    inside = open_ones[:, 1:] & open_ones[:, :-1]
    weights = inside.float() + 1e-9  # a row with an answer of one token has no such place
    return torch.multinomial(weights, rounds, replacement=True) + 1


class Run:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(options.seed)
        self.target = UnifiedModel(_shape(options.checkpoint)).to(self.device).requires_grad_(False)
        checkpoint.load_weights(self.target, options.checkpoint)
        self.drafter = DrafterModel(
            self.target.size, hidden=options.hidden, layers=options.layers
        ).to(self.device)
        self.optimizer = Optimizer(self.drafter)
        self.clock = Clock(0.0, options.minutes)
        self.state_path = options.out / "state.pt"
        if self.state_path.exists():
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
            self.drafter.load_state_dict(state["drafter"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.clock = Clock(state["seconds"], options.minutes, state["step"])

    def save(self) -> None:
        state = {
            "drafter": self.drafter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.clock.seconds,
            "step": self.clock.step,
        }
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.state_path)

    def guesses(self, batch: Batch) -> Guesses:
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            with torch.no_grad():
                seen = read(self.target, batch)
            return guess(self.target, self.drafter, batch, seen, places_in(batch, ROUNDS))

    def step(self, batch: Batch) -> Guesses:
        guesses = self.guesses(batch)
        guesses.loss.backward()
        self.optimizer.step(rate_factor(self.clock.progress, self.clock.step))
        self.clock.step += 1
        return guesses

    def evaluate(self) -> dict[str, float]:
        """Acceptance on held-out samples of each task."""
        rates = {}
        with torch.no_grad():
            for task, batches in held_out(16, self.options.tasks).items():
                mean = _mean([self.guesses(batch).rates() for batch in batches])
                rates[task] = round(mean["acceptance"], 4)
        return rates

    def log(self, entry: dict[str, Any]) -> None:
        clock = {"step": self.clock.step, "minutes": round(self.clock.seconds / 60, 2)}
        with (self.options.out / "curves.jsonl").open("a") as file:
            file.write(json.dumps(clock | entry) + "\n")
        print(clock | entry, flush=True)

    def train(self) -> None:
        feed = Feed(self.clock.step + 1, self.options.budget, self.options.tasks)
        feed.progress.value = 1.0  # the mix and the lengths that the target has learnt last
        try:
            self._train(feed)
        finally:
            feed.close()
        self.save()
        self.log({"held_out": self.evaluate(), "finished": True})
        write(self.drafter, self.options.out / "model")

    def _train(self, feed: Feed) -> None:
        saved, rates, losses = self.clock.seconds, [], []
        batches = feed.batches()
        while self.clock.progress < 1.0:
            guesses = self.step(next(batches))
            rates.append(guesses.rates())
            losses.append(float(guesses.loss.detach()))
            self.clock.tick()
            if self.clock.step % LOG_STEPS == 0:
                mean = {name: round(rate, 3) for name, rate in _mean(rates).items()}
                self.log({"loss": round(sum(losses) / len(losses), 4), **mean})
                rates, losses = [], []
            if self.clock.seconds - saved > 60 * self.options.save_minutes:
                saved = self.clock.seconds
                self.save()


def _shape(directory: Path) -> Any:
    """The embedded model's, if the checkpoint has it: `training` knows no other."""
    config, shape = ModelConfig.from_checkpoint(directory), checkpoint.shape()
    got = (config.vocab_size, config.hidden_size, len(config.layers))
    expected = (shape.vocabulary, shape.hidden, shape.layers)
    if got != expected:
        raise ConfigError(
            f"{directory}: got a vocabulary of {got[0]}, {got[1]} wide, {got[2]} layers, expected "
            f"{expected}, the embedded model; the 12B has a published drafter"
        )
    return shape


def _mean(rates: list[dict[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for entry in rates:
        for name, value in entry.items():
            sums[name] += value / len(rates)
    return dict(sums)


def write(model: DrafterModel, directory: Path) -> None:
    """The whole directory, complete or not at all."""
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    generation = {"num_assistant_tokens": STEPS, "do_sample": False}
    for name, content in (
        ("config.json", drafter_model.config(model)),
        ("generation_config.json", generation),
    ):
        (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    tensors = drafter_model.exported(model)
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(partial, directory)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    Run(options).train()
    print(f"{options.out / 'model'}, {time.monotonic() - started:.0f} s")


def parse(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="the target's directory")
    parser.add_argument("--minutes", type=float, required=True, help="training time")
    parser.add_argument("--out", type=Path, required=True, help="state, curves and result")
    parser.add_argument(
        "--tasks", type=lambda names: tuple(names.split(",")), default=Options.tasks
    )
    parser.add_argument("--hidden", type=int, default=drafter_model.HIDDEN)
    parser.add_argument("--layers", type=int, default=drafter_model.LAYERS)
    parser.add_argument("--budget", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--save-minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
