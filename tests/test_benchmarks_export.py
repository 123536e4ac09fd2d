"""The synthetic checkpoint and the arithmetic of the export benchmark, at tiny shapes."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from benchmarks import export, report, shapes
from export import export_bundle
from export.quantize import RECIPES
from model_onnx import bundle as names
from tests.tiny import tiny_config

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_arithmetic_is_what_the_weight_files_weigh(tmp_path: Path, recipe: str) -> None:
    checkpoint = shapes.write_checkpoint(tmp_path / "checkpoint", tiny_config(hidden_size=128))
    bundle = export_bundle(checkpoint, tmp_path / "bundle", recipe=recipe)
    files = (names.DECODER_WEIGHTS, names.EMBEDDING_WEIGHTS, names.PROJECTOR_WEIGHTS)
    size = sum(bundle.files[name]["bytes"] for name in files)
    padding = 4096 * 2 * len(bundle.config.layers) * 20
    assert 0 <= size - export.arithmetic_bytes(bundle, recipe) < padding
    quality = json.loads(bundle.path(names.QUANTIZATION_REPORT).read_text())
    assert quality["relative_error"] < 0.12


def test_the_synthetic_checkpoint_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (
        shapes.write_checkpoint(tmp_path / name, tiny_config()) / "model.safetensors"
        for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()


def test_a_small_disk_is_refused_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "--shape", "12b", "--directory", str(tmp_path)])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1e12, 1e12, 30e9))
    assert export.main() == 2
    assert "30.0 GB free, 33.8 GB needed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_result_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(sys, "argv", ["export.py", "--shape", "12b"])
    path = report.write_report("name", {"seconds": 1.5})
    result = json.loads(path.read_text())
    assert result["seconds"] == 1.5
    assert result["command"] == "python -m benchmarks.export --shape 12b"
    assert set(result) == {"seconds", "machine", "versions", "date", "command"}
