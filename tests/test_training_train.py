"""The training loop: it learns, survives a kill, and ends in a directory."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma4UnifiedForConditionalGeneration

from training.train import Clock, parse

ROOT = Path(__file__).parents[1]


def start(out: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "training.train", "--out", str(out), "--no-compile", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def curves(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]


def wait_for(path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written in {seconds} s"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_minutes_lower_the_held_out_loss_and_survive_a_kill(tmp_path: Path) -> None:
    options = ["--minutes", "2", "--processes", "2", "--budget", "1024", "--save-minutes", "0.1"]
    options += ["--evaluate-minutes", "0.4", "--evaluate-samples", "2"]
    options += ["--tasks", "copy_text,extract_text,repair,read_line"]  # no program, no data needed
    killed = start(tmp_path, *options)
    wait_for(tmp_path / "state.pt", 300)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert start(tmp_path, *options).wait(600) == 0
    lines = curves(tmp_path)
    assert lines[-1]["finished"] and lines[-1]["step"] > saved["step"] > 0
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    losses = [sum(task["loss"] for task in table.values()) for table in held_out]
    assert losses[-1] < losses[0]
    _, report = Gemma4UnifiedForConditionalGeneration.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(report.values())


def test_the_clock_counts_only_time_that_ran() -> None:
    clock = Clock(seconds=90.0, minutes=3.0, step=7)
    assert clock.progress == pytest.approx(0.5)
    clock.last -= 45.0
    clock.tick()
    assert clock.progress == pytest.approx(0.75, abs=0.01)
    clock.last -= 1000.0
    clock.tick()
    assert clock.progress == 1.0


def test_options_are_parsed(tmp_path: Path) -> None:
    options = parse(["--minutes", "5", "--out", str(tmp_path), "--from", "old"])
    assert (options.minutes, options.out, options.weights) == (5.0, tmp_path, Path("old"))
    assert options.compile and options.processes == 0
