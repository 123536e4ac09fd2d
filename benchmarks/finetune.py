"""What fine-tuning brings: 100 corrected records of a new schema in a new layout.

    python -m benchmarks.finetune

The embedded checkpoint learns from 100 delivery notes (`notes.py`), beside some generated samples
of its old skills, and is measured before and after on notes that it has not seen and on its
old tests. Writes benchmarks/results/finetune.json and the table of README.md.

A note is about 540 tokens with its answer. Batches hold two of them: a step costs what its tokens
cost, so small ones bring more updates for the same time. Old samples longer than any note are left
out of the lessons (never of the tests).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import notes, sets
from benchmarks.report import README, Value, write_report, write_table
from training.finetune import Options, finetune
from training.memory import Method
from training.steps import Schedule

CHECKPOINT = Path(__file__).parents[1] / "training" / "pocket"
OLD = {
    "extract_text": "extract.f1.normalised",
    "clean": "clean.cut",
    "repair": "repair.cer",
    "tag": "tag.accuracy",
}
RECEIPTS = "receipts"
NEW = "notes"
METRIC = "extract.f1.normalised"
ENDS = ("low", "high")
Change = Mapping[str, float]


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Value]:
    learnt = [notes.labelled(scratch / "learnt", options.records, "train")]
    if kept := options.kept // len(OLD):
        learnt += [sets.generated(t, scratch / f"kept-{t}", kept, split="train") for t in OLD]
    tests = {NEW: notes.labelled(scratch / NEW, options.tests, "heldout")}
    tests |= {task: sets.generated(task, scratch / task, options.old) for task in OLD}
    if sets.DATA.is_dir():
        tests[RECEIPTS] = sets.transcript_receipts(sets.DATA, scratch / RECEIPTS, options.old)
    started = time.monotonic()
    changes = finetune(
        Options(
            checkpoint=options.checkpoint,
            sets=tuple(learnt),
            out=scratch / "out",
            tests=tuple(tests.values()),
            method=Method(options.lora, False),
            schedule=Schedule(
                epochs=options.epochs, rate=options.rate, tokens=options.tokens, save_minutes=60
            ),
            longest=options.longest,
            recipe="int8",
        )
    )
    return result(list(tests), changes, options) | {"seconds": time.monotonic() - started}


def result(
    tests: list[str], changes: Mapping[str, Change], options: argparse.Namespace
) -> dict[str, Value]:
    """Flat keys; those of the new documents have no prefix."""
    measures: dict[str, Value] = {}
    for at, name in enumerate(tests):
        metric = OLD.get(name, METRIC)
        change = changes[f"{at}-{name} {metric}"]
        what = metric.split(".", 1)[1].replace(".", "_")
        prefix = "f1" if name == NEW else f"old_{name}_{what}"
        for key in ("before", "after", *(f"{w}_{e}" for w in ("before", "after") for e in ENDS)):
            measures[f"{prefix}_{key}"] = change.get(key)
        measures[f"{prefix}_difference_low"] = change["low"]
        measures[f"{prefix}_difference_high"] = change["high"]
    method = f"LoRA r={options.lora}" if options.lora else "all weights"
    return {
        **measures,
        "n": options.tests,
        "n_old": options.old,
        "records": options.records,
        "kept_samples": options.kept // len(OLD) * len(OLD),
        "longest_lesson_tokens": options.longest,
        "method": f"{method}, {options.epochs} epochs, rate {options.rate:g}, batches of "
        f"{options.tokens} tokens",
    }


def table(measures: Mapping[str, Value]) -> str:
    """Markdown."""
    lines = [
        "| test | metric | before | after | difference, 95 % interval | n |",
        "|---|---|---|---|---|---|",
    ]
    for key in measures:
        if not key.endswith("_before"):
            continue
        stem = key.removesuffix("_before")
        new = stem == "f1"
        name = "delivery notes, new" if new else stem.removeprefix("old_").replace("_", " ")
        metric = "field F1" if new else "as the name says"
        numbers = [measures[f"{stem}_{end}"] for end in ("before", "after")]
        bounds = [measures[f"{stem}_difference_{end}"] for end in ("low", "high")]
        cells = [name, metric, *(f"{n:.3f}" for n in numbers)]
        cells += [" .. ".join(f"{b:+.3f}" for b in bounds), str(measures["n" if new else "n_old"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--kept", type=int, default=60, help="samples of its old skills")
    parser.add_argument("--tests", type=int, default=100, help="new documents to measure on")
    parser.add_argument("--old", type=int, default=30, help="documents of each old test")
    parser.add_argument("--lora", type=int, default=16, help="rank; 0: all weights")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=1280, help="of a batch")
    parser.add_argument("--longest", type=int, default=704, help="tokens of a lesson")
    return parser.parse_args()


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        measures = measure(options, Path(scratch))
    write_report("finetune", measures)
    print(table(measures))
    if "<!-- table:finetune -->" in README.read_text("utf-8"):
        write_table("finetune", table(measures))


if __name__ == "__main__":
    main()
