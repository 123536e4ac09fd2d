"""Fine-tune a checkpoint on a labelled set, measure before and after, export a bundle.

    python -m training.finetune --checkpoint DIR --set LABELLED --out OUT

Text, images and sound together, in one pass: the projectors are trained along. What is learnt is
what `flows run` asks, see `lessons.py`. A killed run goes on with the same command: the state is
saved by rename, and each step (bundle, reports, lessons, checkpoint) is done once. OUT/model is the
checkpoint, OUT/bundle its export, OUT/report.json the measures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from export import export_bundle
from export.checkpoint import Checkpoint
from export.weights import all_weights, assign
from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError, ScanscribeError
from pipelines.comparison import compare
from pipelines.evaluate import Report, report, score_rows, subtask_for
from pipelines.labelled import EXPECTED, Row, read_set
from pipelines.opening import Opener
from pipelines.options import Options as PipelineOptions
from training.lessons import Lesson, Lessons, lessons_of
from training.memory import LORA, Method, available, check_fits
from training.merge import write_changed
from training.steps import Schedule, Training, save
from training.tuning import Tuned

_SLOTS = 8


@dataclass(frozen=True)
class Options:
    """sets: folders to learn from; tests: folders to measure on (none: every fifth file of the
    sets is kept back for it); longest: tokens of a lesson."""

    checkpoint: Path
    sets: tuple[Path, ...]
    out: Path
    tests: tuple[Path, ...] = ()
    method: Method = LORA
    schedule: Schedule = field(default_factory=Schedule)
    longest: int = 2048
    recipe: str = "int4"


Rows = list[tuple[Path, Row]]


def finetune(options: Options) -> dict[str, dict[str, float]]:
    """Test and metric -> before and after, each with its interval's `_low` and `_high`, and low and
    high of the difference.

    Raises ConfigError, CheckpointError, RuntimeUnavailableError; nothing half-written is left.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = ModelConfig.from_checkpoint(options.checkpoint)
    tensors = Checkpoint(options.checkpoint).tensors.values()
    assign({tensor.name: tensor.shape for tensor in tensors}, all_weights(config).values())
    tokens = max(options.schedule.tokens, options.longest)
    check_fits(config, options.method, tokens, available(device))
    learnt, tests = _rows(options)
    options.out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    before = _bundle(options.checkpoint, options.out / "before", options.recipe)
    lessons = _prepare(options, before, learnt, tests)
    if not (options.out / "model").exists():
        _train(options, config, device, before.embedding_factor, lessons)
    after = _bundle(options.out / "model", options.out / "bundle", options.recipe)
    with Engine.open(after.directory, slots=_SLOTS) as engine, Opener() as opener:
        _measure(options, "after", engine, opener, tests)
    measures = _compare(options, tests)
    _write_json(options.out / "report.json", measures)
    for name in ("state.pt", "lessons.pt"):
        (options.out / name).unlink(missing_ok=True)
    shutil.rmtree(options.out / "before")
    return measures


def _rows(options: Options) -> tuple[Rows, dict[str, Rows]]:
    """What is learnt from, and what is measured on by name. Raises ConfigError."""
    rows = [(folder, row) for folder in options.sets for row in read_set(folder)]
    if options.tests:
        named = {f"{at}-{path.name}": path for at, path in enumerate(options.tests)}
        return rows, {n: [(path, row) for row in read_set(path)] for n, path in named.items()}
    if len(rows) < 10:
        raise ConfigError(
            f"got {len(rows)} labelled files and no --test, expected 10 or more, of which every "
            "fifth is kept for measuring; label more, or give a --test folder"
        )
    ordered = sorted(rows, key=lambda pair: hashlib.sha256(pair[1].file.encode()).digest())
    return [p for at, p in enumerate(ordered) if at % 5], {"held-out": ordered[::5]}


def _claim(options: Options) -> None:
    """OUT belongs to one choice of options. Raises ConfigError."""
    same = replace(options, schedule=replace(options.schedule, save_minutes=0.0))
    plain = {name: str(value) for name, value in vars(same).items()}
    for folder in (*options.sets, *options.tests):
        plain[f"labels of {folder}"] = hashlib.sha256((folder / EXPECTED).read_bytes()).hexdigest()
    path = options.out / "options.json"
    if path.exists():
        known = json.loads(path.read_text("utf-8"))
        differs = sorted(k for k in known.keys() | plain.keys() if known.get(k) != plain.get(k))
        if differs:
            raise ConfigError(
                f"got {options.out} of another run (other {', '.join(differs)}), expected the "
                "same options or a new --out"
            )
    _write_json(path, plain)


def _bundle(checkpoint: Path, directory: Path, recipe: str) -> Bundle:
    if directory.exists():
        return Bundle.open(directory)
    return export_bundle(checkpoint, directory, recipe=recipe)


def _prepare(
    options: Options, before: Bundle, learnt: Rows, tests: dict[str, Rows]
) -> list[Lesson]:
    """The measures of before, and the lessons: what takes the bundle's engine."""
    path = options.out / "lessons.pt"
    with Engine.open(before.directory, slots=_SLOTS) as engine, Opener() as opener:
        if not path.exists():
            made = lessons_of(engine, learnt, opener.open, longest=options.longest)
            print(made.summary(), flush=True)
            save(path, vars(made))
        _measure(options, "before", engine, opener, tests)
    return Lessons(**torch.load(path, weights_only=False)).taught  # our own file


def _measure(
    options: Options, when: str, engine: Engine, opener: Opener, tests: dict[str, Rows]
) -> None:
    for name, rows in tests.items():
        path = options.out / f"{when}-{name}.json"
        if path.exists():
            continue
        scores = []
        for folder in dict.fromkeys(folder for folder, _ in rows):
            own = [row for at, row in rows if at == folder]
            made = score_rows(
                engine, folder, own, opener.open, subtask_for, PipelineOptions(), _SLOTS
            )
            scores += [replace(score, file=f"{folder.name}/{score.file}") for score in made]
        _write_json(path, report(scores, name, engine).to_json())


def _compare(options: Options, tests: dict[str, Rows]) -> dict[str, dict[str, float]]:
    measures = {}
    for name in tests:
        before, after = (
            Report.from_json(json.loads((options.out / f"{when}-{name}.json").read_text("utf-8")))
            for when in ("before", "after")
        )
        comparison = compare(before, after)
        print(f"{name}, before -> after\n{comparison.table()}", flush=True)
        for change in comparison.changes:
            measures[f"{name} {change.metric}"] = {
                "before": change.before,
                "after": change.after,
                "low": change.low,
                "high": change.high,
                **_bounds("before", before, change.metric),
                **_bounds("after", after, change.metric),
            }
    return measures


def _bounds(when: str, made: Report, metric: str) -> dict[str, float]:
    interval = made.metrics[metric]
    ends = (("low", interval.low), ("high", interval.high))
    return {f"{when}_{end}": value for end, value in ends if value is not None}


def _train(
    options: Options,
    config: ModelConfig,
    device: torch.device,
    embedding_factor: float,
    lessons: Sequence[Lesson],
) -> None:
    torch.manual_seed(options.schedule.seed)
    seen = any(lesson.images or lesson.frames for lesson in lessons)
    heard = any(lesson.clips for lesson in lessons)
    media = frozenset(n for n, is_there in (("image", seen), ("audio", heard)) if is_there)
    tuned = Tuned(
        options.checkpoint,
        config,
        options.method,
        device,
        embedding_factor=embedding_factor,
        media=media,
    )
    Training(options.schedule, tuned, lessons, options.out).run()
    write_changed(options.checkpoint, options.out / "model", tuned.changes())


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def main(arguments: list[str] | None = None) -> int:
    """The exit code; an error that was meant is one line."""
    try:
        finetune(parse(arguments))
    except ScanscribeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def parse(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a Hugging Face directory")
    add("--set", type=Path, action="append", required=True, help="labelled folder; may be repeated")
    add("--test", type=Path, action="append", default=[], help="folder to measure; repeatable")
    add("--out", type=Path, required=True, help="checkpoint, bundle and reports")
    method = parser.add_mutually_exclusive_group()
    method.add_argument("--lora", type=int, default=16, help="rank of the adapters (default 16)")
    method.add_argument("--full", action="store_true", help="train all weights instead")
    add("--no-checkpointing", action="store_true", help="faster, more memory")
    add("--epochs", type=int, default=3)
    add("--rate", type=float, help="default: 2e-4, with --full 2e-5")
    add("--tokens", type=int, default=2048, help="of a batch")
    add("--longest", type=int, default=2048, help="tokens; longer lessons are left out")
    add("--recipe", default="int4", help="of the bundles: int4, int8, fp32 ...")
    add("--save-minutes", type=float, default=5.0)
    add("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    lora = 0 if given.full else given.lora
    if lora < 1 and not given.full:
        parser.error(f"got --lora {lora}, expected a rank of 1 or more")
    return Options(
        checkpoint=given.checkpoint,
        sets=tuple(given.set),
        out=given.out,
        tests=tuple(given.test),
        method=Method(lora, not given.no_checkpointing),
        schedule=Schedule(
            epochs=given.epochs,
            rate=given.rate or (2e-5 if given.full else 2e-4),
            tokens=given.tokens,
            save_minutes=given.save_minutes,
            seed=given.seed,
        ),
        longest=given.longest,
        recipe=given.recipe,
    )


if __name__ == "__main__":
    sys.exit(main())
