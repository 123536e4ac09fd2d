"""benchmarks/finetune.py and notes.py: the new documents, and what is reported of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import finetune as benchmark
from benchmarks import notes
from benchmarks.finetune import METRIC, OLD, result, table
from pipelines.labelled import read_set
from training.finetune import Options
from training.generators.prompts import extract


def test_notes_are_the_same_every_time_and_hold_their_values(tmp_path: Path) -> None:
    rows = read_set(notes.labelled(tmp_path / "a", 30, "train"))
    assert rows == read_set(notes.labelled(tmp_path / "b", 30, "train"))
    absent = 0
    for row in rows:
        text = (tmp_path / "a" / row.file).read_text("utf-8")
        assert text == (tmp_path / "b" / row.file).read_text("utf-8")
        assert row.output is not None and list(row.output) == list(notes.FIELDS)
        for value in row.output.values():
            absent += value is None
            assert value is None or " ".join(value.split()) in " ".join(text.split())
    assert 0 < absent < 60


def test_the_held_out_notes_are_others(tmp_path: Path) -> None:
    def senders(folder: Path) -> set[object]:
        return {row.output["consignor"] for row in read_set(folder) if row.output} - {None}

    learnt = senders(notes.labelled(tmp_path / "a", 40, "train"))
    assert not learnt & senders(notes.labelled(tmp_path / "b", 40, "heldout"))


def test_the_instruction_has_fields_that_no_generator_asks_for() -> None:
    listed = (Path(__file__).parents[1] / "training" / "generators" / "lists.txt").read_text()
    assert not [name for name in ("consignor", "consignee") if name in listed.lower()]
    assert "consignor: who sends" in extract(list(notes.FIELDS), dict(notes.FIELDS))


def test_what_is_asked_is_what_is_trained_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a training that does nothing."""
    seen: list[Options] = []

    def finetune(options: Options) -> dict[str, dict[str, float]]:
        seen.append(options)
        change = {"before": 0.5, "after": 0.75, "low": 0.2, "high": 0.3}
        tests = [(f"{at}-{path.name}", path) for at, path in enumerate(options.tests)]
        return {f"{name} {OLD.get(path.name, METRIC)}": change for name, path in tests}

    monkeypatch.setattr(benchmark, "finetune", finetune)
    words = ["--records", "3", "--kept", "4", "--tests", "2", "--old", "1"]
    monkeypatch.setattr("sys.argv", ["finetune", *words])
    measures = benchmark.measure(benchmark.parse(), tmp_path)
    [options] = seen
    assert [len(read_set(path)) for path in options.sets] == [3, *[1] * len(OLD)]
    assert [len(read_set(path)) for path in options.tests][:2] == [2, 1]
    assert [path.name for path in options.tests][: 1 + len(OLD)] == ["notes", *OLD]
    assert not {path.resolve() for path in options.sets} & {p.resolve() for p in options.tests}
    assert (options.schedule.epochs, options.schedule.tokens, options.longest) == (2, 1280, 704)
    assert options.method.lora == 16 and options.recipe == "int8"
    assert measures["f1_after"] == 0.75 and measures["n"] == 2


def test_the_result_has_every_test_with_its_intervals() -> None:
    change = {"before": 0.5, "after": 0.75, "low": 0.2, "high": 0.3, "before_low": 0.45}
    tests = ["notes", *OLD, "receipts"]
    changes = {f"{at}-{name} {OLD.get(name, METRIC)}": change for at, name in enumerate(tests)}
    options = argparse.Namespace(records=100, kept=60, tests=9, old=8, lora=16, epochs=2, rate=1e-3)
    options.tokens, options.longest = 1280, 704
    measures = result(tests, changes, options)
    assert (measures["f1_before"], measures["f1_after"]) == (0.5, 0.75)
    assert measures["f1_before_low"] == 0.45 and measures["f1_difference_low"] == 0.2
    assert measures["old_receipts_f1_normalised_after"] == 0.75
    assert measures["n"] == 9 and measures["kept_samples"] == 60
    assert measures["method"] == "LoRA r=16, 2 epochs, rate 0.001, batches of 1280 tokens"
    lines = table(measures).split("\n")
    assert len(lines) == 2 + len(tests)
    assert lines[2] == "| delivery notes, new | field F1 | 0.500 | 0.750 | +0.200 .. +0.300 | 9 |"
