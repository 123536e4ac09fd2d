"""benchmarks/operate.py: what its figures are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import operate
from benchmarks.report import README
from flows.deploy import PREFETCH_SECONDS


@contextmanager
def nothing(*_: object, **__: object) -> Iterator[None]:
    yield


def server(home: Path, requests: dict[str, int]) -> Any:
    """That runs nothing; its model server has answered so many requests."""
    (home / "model.log").write_text("ready")
    said = SimpleNamespace(stdout=json.dumps({"requests": requests}))
    return SimpleNamespace(
        home=home, flows=lambda *words: list(words), process=nothing, run=lambda command: said
    )


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """First records come after these, in turn."""
    took = iter([9.0, 3.0, 1.0, 2.0, 8.0, 0.5, 0.7, 0.1])
    monkeypatch.setattr(operate, "workers", nothing)
    monkeypatch.setattr(operate, "first_record", lambda *_: next(took))


def test_first_records_are_medians_without_the_first(tmp_path: Path) -> None:
    assert operate.first_records(server(tmp_path, {"stop": 3}), tmp_path, None) == {
        "cold_first_record_seconds": 2.0,
        "cold_first_record_seconds_most": 3.0,
        "warm_first_record_seconds": 0.5,
        "warm_first_record_seconds_most": 0.7,
    }


def test_a_warm_model_that_nobody_used_is_no_warm_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no run used"):
        operate.first_records(server(tmp_path, {"stop": 0}), tmp_path, None)


def test_what_is_measured_is_set_as_the_readme_says() -> None:
    text = README.read_text("utf-8")
    assert all(f"{name}={value}" in text for name, value in operate.TUNED.items())
    assert f"--prefetch-seconds {operate.PREFETCH_SECONDS}" in text
    assert operate.PREFETCH_SECONDS == PREFETCH_SECONDS


def test_documents_differ_and_records_are_counted(tmp_path: Path) -> None:
    made = operate.write_documents(tmp_path / "in", 3)
    assert len({path.read_text() for path in made.iterdir()}) == 3
    assert operate.records(tmp_path) == 0
