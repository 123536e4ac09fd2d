"""The custom subtask of the tutorial: its rules hold for any model, and for the embedded one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_onnx.constrain import JsonSchema
from model_onnx.engine import Engine
from model_onnx.prompt import Image
from pipelines.items import Item
from pipelines.modules import run_file
from pipelines.opening import Opener
from pipelines.pages import Page
from pipelines.records import Record, Source, Word
from pipelines.subtask import run
from tests.fakes import FakeEngine

PAGE = Path(__file__).parents[1] / "docs" / "tutorial" / "bug-report.md"
GOOD = {
    "title": "Export fails on a full disk",
    "error": "OSError: [Errno 28] No space left on device",
    "severity": "major",
    "suspected_cause": "The disk is full.",
    "proposed_change": "Look at the free space first.",
}


@pytest.fixture
def bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's module, in a directory with its screenshot and log."""
    monkeypatch.chdir(tmp_path)
    files, module, *_ = re.findall(
        r"^```python[^\n]*\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(files, {})
    path = tmp_path / "bug_report.py"
    path.write_text(module)
    made = run_file(path, "subtask")
    yield made
    del sys.modules[made.__name__]


def screenshot(name: str = "export.png") -> Item:
    pixels = np.full((200, 400), 255, np.uint8)
    words = (Word(text="Export", page=1), Word(text="failed", page=1))
    page = Page(1, pixels, words, "Export failed", "tesseract")
    return Item(Source(path=name, sha256="0" * 64, kind="document"), pages=(page,))


def test_a_report_from_words_and_log(bug: Any) -> None:
    engine = FakeEngine(lambda asked: json.dumps(GOOD))
    record = run(engine, bug.SUBTASK, screenshot())
    assert record.status == "ok" and record.output.model_dump() == GOOD
    assert set(record.fields) == set(GOOD)
    [asked] = engine.asked
    assert asked.text.startswith("Screenshot:\nExport failed\nLog:\n10:31:02 INFO")
    assert asked.request and isinstance(asked.request.constraint, JsonSchema)
    assert "Errno 28" in str(asked.request.constraint.evidence)
    assert "Export" not in str(asked.request.constraint.evidence)


def test_a_model_for_pages_sees_the_screenshot(bug: Any) -> None:
    engine = FakeEngine(lambda asked: json.dumps(GOOD), habits={"reading": "page"} | CONTEXT)
    run(engine, bug.SUBTASK, screenshot())
    assert [type(part) for part in engine.asked[0].media] == [Image]
    assert engine.asked[0].text.startswith("Log:")


CONTEXT = {"context_tokens": 8192}


def test_without_a_log_or_an_error(bug: Any) -> None:
    engine = FakeEngine(lambda asked: json.dumps({**GOOD, "error": None}))
    record = run(engine, bug.SUBTASK, screenshot())
    assert (record.status, record.reason) == ("review", "no_error")
    record = run(engine, bug.SUBTASK, screenshot("other.png"))
    assert (record.status, record.reason) == ("failed", "no_log")
    assert len(engine.asked) == 1


@pytest.mark.slow
def test_the_embedded_model_writes_a_valid_report(bug: Any) -> None:
    with Engine.open(slots=4, threads=1) as engine, Opener() as opener:
        record: Record = run(engine, bug.SUBTASK, opener.open(Path("bugs/export.png")))
    assert record.status in ("ok", "review", "truncated"), record.reason
    report = bug.BugReport.model_validate(record.output.model_dump())
    log = " ".join(Path("logs/export.txt").read_text().split())
    assert report.error is None or report.error in log
    assert len(report.suspected_cause) <= 200
