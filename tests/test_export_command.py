"""`flows export` as a process: what it prints, returns and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from tests.tiny import tiny_checkpoint
from tests.tiny_drafter import tiny_drafter

ROOT = Path(__file__).parents[1]
# The command with packing slowed down, so that a signal arrives in the middle of it.
SLOW = """
import time
import export.write
pack = export.write._pack_chunk
export.write._pack_chunk = lambda *given: (time.sleep(0.2), pack(*given))[1]
from flows.cli import main
main()
"""
COMMAND = ["-c", "from flows.cli import main; main()"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("command") / "checkpoint")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run(*arguments: str | Path) -> tuple[int, str, str]:
    process = start(*COMMAND, "export", *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_it_writes_a_bundle_and_says_so(checkpoint: Path, tmp_path: Path) -> None:
    code, out, err = run(checkpoint, tmp_path / "out", "--recipe", "int8")
    assert code == 0, err
    bundle = Bundle.open(tmp_path / "out", verify=True)
    assert bundle.recipe == "int8" and bundle.sha256[:12] in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("-c", SLOW, "export", checkpoint, tmp_path / "out")
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.bin")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def other_architecture(checkpoint: Path) -> None:
    raw: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    raw["model_type"] = "gemma3"
    (checkpoint / "config.json").write_text(json.dumps(raw))


def truncated(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def gguf(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "model.gguf")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_architecture, "got model_type 'gemma3', expected 'gemma4_unified'"),
        (truncated, "truncated, tensor"),
        (gguf, "got GGUF files, expected model.safetensors"),
        (lambda checkpoint: (checkpoint / names.TOKENIZER).unlink(), "has no tokenizer.json"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    own = tiny_checkpoint(tmp_path / "own")
    damage(own)
    code, out, err = run(own, tmp_path / "place" / "out")
    assert (code, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("flows: ")]
    assert message in line and "Traceback" not in err
    assert not list((tmp_path / "place").glob("*"))


def test_a_device_that_does_not_exist(checkpoint: Path, tmp_path: Path) -> None:
    code, _, err = run(checkpoint, tmp_path / "out", "--device", "tpu")
    assert code == 2 and "got --device tpu, expected cpu or cuda" in err


def test_a_drafter_goes_beside_its_target_or_into_its_bundle(
    checkpoint: Path, tmp_path: Path
) -> None:
    drafter, foreign = tiny_drafter(tmp_path / "a"), tiny_drafter(tmp_path / "b", vocab_size=640)
    code, _, err = run(checkpoint, tmp_path / "none", "--drafter", foreign)
    assert code == 2 and "made for another model: vocabulary" in err
    assert not (tmp_path / "none").exists()
    code, out, err = run(checkpoint, tmp_path / "one", "--drafter", drafter)
    assert code == 0 and "with a drafter of 3 layers" in out, err
    assert Bundle.open(tmp_path / "one", verify=True).drafter is not None
    code, out, err = run(drafter, tmp_path / "one")
    assert code == 0 and "with a drafter of 3 layers" in out, err
    code, _, err = run(drafter, tmp_path / "two")
    assert code == 5 and "expected a bundle" in err
