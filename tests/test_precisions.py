"""The environment's wishes reach the engine, and a wrong one is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import export_bundle
from flows.precisions import cache, drafts, precisions
from flows.start import open_engine
from model_onnx.engine import Engine
from model_onnx.errors import UsageError
from tests.tiny import tiny_checkpoint


def test_nothing_said_is_the_machine_s_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in ("PREFILL", "DECODE"):
        monkeypatch.delenv(f"SCANSCRIBE_{phase}", raising=False)
    assert precisions() == {"prefill": None, "decode": None}
    monkeypatch.setenv("SCANSCRIBE_PREFILL", "auto")
    assert precisions() == {"prefill": None, "decode": None}


def test_what_is_said_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    bundle = export_bundle(checkpoint, tmp_path / "bundle", int8_prefill=True)
    monkeypatch.setenv("SCANSCRIBE_MODEL_SERVER", "never")
    monkeypatch.setenv("SCANSCRIBE_PREFILL", "int8")
    monkeypatch.setenv("SCANSCRIBE_DECODE", "recipe")
    engine = open_engine(bundle)
    assert isinstance(engine, Engine) and engine.precisions == ("int8", "recipe")
    engine.close()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSCRIBE_DECODE", "int4")
    with pytest.raises(UsageError, match="SCANSCRIBE_DECODE=int4, expected auto, recipe or int8"):
        precisions()


def test_the_drafter_is_asked_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANSCRIBE_DRAFTS", raising=False)
    assert drafts() == "auto"
    monkeypatch.setenv("SCANSCRIBE_DRAFTS", "off")
    assert drafts() == "off"
    monkeypatch.setenv("SCANSCRIBE_DRAFTS", "never")
    with pytest.raises(UsageError, match="SCANSCRIBE_DRAFTS=never, expected auto, on or off"):
        drafts()


def test_the_rows_of_long_prompts_are_kept_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SCANSCRIBE_CACHE", raising=False)
    assert cache() == "auto"
    monkeypatch.setenv("SCANSCRIBE_CACHE", "float")
    assert cache() == "float"
    monkeypatch.setenv("SCANSCRIBE_CACHE", "int4")
    with pytest.raises(UsageError, match="SCANSCRIBE_CACHE=int4, expected auto, float or int8"):
        cache()
