"""flows/procedure.py: subtasks by name, what decides a record, what a document costs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.discover import read_version, walk
from flows.procedure import bind, make_subtask, measure
from flows.run import Size
from model_onnx.errors import ConfigError
from pipelines.clips import Clip
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.pages import Page
from pipelines.records import Source

BUNDLE: Any = SimpleNamespace(sha256="b" * 64)
SOURCE = Source(path="a", sha256="0" * 64, kind="document")
OURS = """
from pydantic import BaseModel
from pipelines.subtask import Answer, Subtask

class Note(BaseModel):
    text: str

NOTE = Subtask("note", "note-1", Note, lambda work, item: Answer({"text": "x"}))
OTHER = 3
"""


@pytest.mark.parametrize("name", ["extract", "clean", "transcribe", "repair"])
def test_the_subtasks_by_name(name: str) -> None:
    made, decides = make_subtask(name)
    assert made.name == name and json.loads(decides)


def test_a_subtask_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_notes.py").write_text(OURS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["somewhere"])
    made, _ = make_subtask("our_notes:NOTE")
    assert made.name == "note"
    with pytest.raises(ConfigError, match="got int"):
        make_subtask("our_notes:OTHER")


def test_without_a_schema_it_is_chosen_for_each_document() -> None:
    made, decides = make_subtask("extract")
    assert made.schema_name == "auto"
    assert {"Receipt", "Letter"} < json.loads(decides)["schemas"].keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "summarise"}, "MODULE:NAME"),
        ({"name": "no_such_module:NOTE"}, "cannot import"),
        ({"name": "clean", "schema": "receipt"}, "for extract only"),
        ({"name": "extract", "labels": ("a", "b")}, "for tag only"),
        ({"name": "extract", "schema": "nothing"}, "expected receipt"),
        ({"name": "tag"}, "two or more"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_subtask(**arguments)


def test_every_choice_is_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = tmp_path / "order.json"
    schema.write_text('{"type": "object", "properties": {"a": {"type": "string"}}}')
    other: Any = SimpleNamespace(sha256="c" * 64)
    procedures = [
        bind("extract", BUNDLE),
        bind("extract", other),
        bind("extract", BUNDLE, schema="receipt"),
        bind("extract", BUNDLE, schema="invoice"),
        bind("extract", BUNDLE, schema=str(schema)),
        bind("extract", BUNDLE, soft_tokens=280),
        bind("extract", BUNDLE, video="rate=2"),
        bind("extract", BUNDLE, video="rate=2,sound=no"),
        bind("extract", BUNDLE, thinking=100),
        bind("extract", BUNDLE, thinking=200),
        bind("extract", BUNDLE, thinking=200, keep_thoughts=True),
        bind("clean", BUNDLE),
        bind("tag", BUNDLE, labels=("a", "b")),
        bind("tag", BUNDLE, labels=("b", "a")),
        bind("tag", BUNDLE, labels=("a", "b"), several=True),
    ]
    assert procedures[0].key("5") == bind("extract", BUNDLE, schema="auto").key("5")
    assert procedures[0].key("5") == bind("extract", BUNDLE, video="rate=1").key("5")
    schema.write_text('{"type": "object", "properties": {"a": {"type": "number"}}}')
    procedures.append(bind("extract", BUNDLE, schema=str(schema)))
    monkeypatch.setattr("flows.procedure.find_tesseract", lambda: "another answer")
    once = bind("clean", BUNDLE).key("5")
    monkeypatch.setattr("flows.procedure.find_tesseract", lambda: None)
    assert once != bind("clean", BUNDLE).key("5")
    keys = {procedure.key("5") for procedure in procedures}
    assert len(keys) == len(procedures)
    assert procedures[0].key("6") not in keys


def test_the_budget_of_an_image_is_one_of_a_few() -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        bind("clean", BUNDLE, soft_tokens=100)


def test_the_least_budget_of_an_image_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = bind("clean", BUNDLE).key("5")
    monkeypatch.setenv("SCANSCRIBE_LEAST_SOFT_TOKENS", "140")
    assert bind("clean", BUNDLE).key("5") != plain
    with pytest.raises(ConfigError, match="got SCANSCRIBE_LEAST_SOFT_TOKENS=140, expected"):
        bind("clean", BUNDLE, soft_tokens=140)
    monkeypatch.setenv("SCANSCRIBE_LEAST_SOFT_TOKENS", "")
    assert bind("clean", BUNDLE).key("5") == plain


def test_documents_are_read_under_their_shown_names(tmp_path: Path) -> None:
    (tmp_path / "a\nb.txt").write_text("some words")
    (entry,) = walk(tmp_path)
    procedure = bind("clean", BUNDLE)
    try:
        version = read_version(entry.path)
        item = procedure.parse(entry, version)
    finally:
        procedure.abandon()
    assert item.source == Source(path="a\nb.txt", sha256=version.sha256, kind="text")
    assert item.cues == (Cue("some words"),)


def test_what_a_document_costs() -> None:
    scan = Page(1, np.zeros((9, 9), np.uint8), (), "", "none")
    page = Page(2, np.zeros((9, 9), np.uint8), (), "x" * 300, "layer")
    clip = Clip(np.zeros(32_000, np.float32), (5.0, 7.0))
    assert measure(Item(SOURCE, pages=(scan, page)), 560) == Size(pages=2, prompt_tokens=660)
    assert measure(Item(SOURCE, clips=(clip,)), 560) == Size(audio_seconds=2.0, prompt_tokens=50)
    assert measure(Item(SOURCE, cues=(Cue("x" * 30),)), 560) == Size(prompt_tokens=10)
