"""training/finetune.py: from a checkpoint and labels to a measured bundle, killed or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from export.checkpoint import Checkpoint
from model_onnx.bundle import Bundle
from tests import lessons as made
from training import finetune, steps
from training.finetune import main
from training.lessons import Lesson

torch.set_num_threads(1)
TEXTS = made.rows()[:1] + made.rows()[8:]


def lesson(length: int) -> Lesson:
    return Lesson("a", np.zeros(length, np.int32), length - 1)


def test_an_epoch_has_every_lesson_once_in_batches_that_fit() -> None:
    lessons = [lesson(20 + 37 * at % 400) for at in range(50)] + [lesson(3000)]
    for epoch in range(2):
        made_batches = list(steps.batches(lessons, 1000, epoch, seed=0))
        assert sorted(id(one) for batch in made_batches for one in batch) == sorted(
            map(id, lessons)
        )
        for batch in made_batches:
            padded = len(batch) * max(len(one.ids) for one in batch)
            assert padded <= 1000 or len(batch) == 1
    orders = [[len(batch) for batch in steps.batches(lessons, 1000, at, 0)] for at in range(2)]
    assert orders[0] != orders[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.checkpoint(tmp_path_factory.mktemp("finetune") / "checkpoint", dtype="bfloat16")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("finetune") / "set", TEXTS)


def command(checkpoint: Path, labelled: Path, out: Path, *more: str) -> list[str]:
    test = made.write(out.parent / "test", made.rows()[1:2])
    words = {"--checkpoint": checkpoint, "--set": labelled, "--test": test, "--out": out}
    flat = [str(word) for pair in words.items() for word in pair]
    return [*flat, "--recipe", "fp32", "--tokens", "600", "--rate", "3e-3", *more]


def weights(out: Path) -> dict[str, np.ndarray]:
    chunks = Checkpoint(out / "model").chunks(lambda tensor: tensor.rows)
    return {chunk.tensor.name: chunk.values.astype(np.float32) for chunk in chunks}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method", [("--lora", "4"), ("--full", "--no-checkpointing")])
def test_a_killed_run_goes_on_to_the_same_weights(
    checkpoint: Path,
    labelled: Path,
    tmp_path: Path,
    method: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, killed = tmp_path / "a" / "out", tmp_path / "b" / "out"
    assert main(command(checkpoint, labelled, whole, *method)) == 0
    curve = [json.loads(line) for line in (whole / "curves.jsonl").read_text().splitlines()]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert Bundle.open(whole / "bundle").source_sha256
    report = json.loads((whole / "report.json").read_text())
    change = report["0-test extract.f1.normalised"]
    assert change["before_low"] <= change["before"] <= change["before_high"]
    assert change["low"] <= change["after"] - change["before"] <= change["high"]
    left = {path.name for path in whole.iterdir()}
    assert not left & {"before", "state.pt", "lessons.pt"}

    step = steps.Training._step

    def die(self: steps.Training, *of: object) -> float:
        if self.done == 2:
            raise Killed
        loss = step(self, *of)  # type: ignore[arg-type]
        self.done += 1
        self.save()
        self.done -= 1
        return loss

    monkeypatch.setattr(steps.Training, "_step", die)
    arguments = command(checkpoint, labelled, killed, *method)
    with pytest.raises(Killed):
        main(arguments)
    assert not (killed / "model").exists() and not (killed / "bundle").exists()
    monkeypatch.setattr(steps.Training, "_step", step)
    assert main(arguments) == 0
    one, two = weights(whole), weights(killed)
    for name in one:
        assert np.array_equal(one[name], two[name]), name


def test_wrong_input_is_one_line_and_leaves_nothing(
    checkpoint: Path,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "expected.jsonl").touch()
    assert main(command(checkpoint, empty, out)) == 2
    assert "0 rows" in capsys.readouterr().err
    few = ["--checkpoint", str(checkpoint), "--set", str(labelled), "--out", str(out)]
    assert main(few) == 2
    assert "--test" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    assert main(command(other, labelled, out)) == 2
    assert "gemma4_unified" in capsys.readouterr().err
    (other / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    save_file({"model.layers.0.layer_scalar": np.ones(1, np.float32)}, other / "model.safetensors")
    assert main(command(other, labelled, out)) == 2
    assert "tensor" in capsys.readouterr().err
    monkeypatch.setattr(finetune, "available", lambda device: 1 << 20)
    assert main(command(checkpoint, labelled, out)) == 5
    assert "GiB of memory" in capsys.readouterr().err
    assert not out.exists()


def test_an_output_belongs_to_one_choice_of_options(
    checkpoint: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    options = finetune.parse(command(checkpoint, labelled, out))
    finetune._claim(options)
    finetune._claim(finetune.parse(command(checkpoint, labelled, out, "--save-minutes", "9")))
    assert main(command(checkpoint, labelled, out, "--lora", "3")) == 2
    assert "of another run (other method)" in capsys.readouterr().err
