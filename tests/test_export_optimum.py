"""The subcommand of optimum-cli, found and run the way optimum does it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from model_onnx.bundle import Bundle
from tests.tiny import tiny_checkpoint

cli = pytest.importorskip("optimum.commands.optimum_cli")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "scanscribe", *map(str, arguments)])
    cli.main()


def test_it_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    run(monkeypatch, checkpoint, tmp_path / "out", "--recipe", "int8", "--device", "cuda",
        "--activation-type", "bfloat16")  # fmt: skip
    bundle = Bundle.open(tmp_path / "out", verify=True)
    assert (bundle.recipe, bundle.device, bundle.activation_type) == ("int8", "cuda", "bfloat16")
    assert f"wrote {tmp_path / 'out'}" in capsys.readouterr().out


def test_errors_are_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, tmp_path / "nowhere", tmp_path / "out")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nowhere'} does not exist")


def test_it_adds_the_decoder_for_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    run(monkeypatch, checkpoint, tmp_path / "out", "--int8-prefill")
    assert Bundle.open(tmp_path / "out").has_int8
