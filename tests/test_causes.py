"""pipelines/causes.py: why a value is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.causes import causes_of
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding, ModelInfo, Record, Source

SOURCE = Source(path="a", sha256="", kind="text")


def record(values: dict[str, tuple[Any, str]]) -> Record:
    """values: path -> (value, grounding status)."""
    fields = {
        path: FieldValue(value=value, confidence=0.5, grounding=Grounding(status=status))  # type: ignore[arg-type]
        for path, (value, status) in values.items()
    }
    info = ModelInfo(bundle="b", provider="cpu", prompt_version="x")
    return Record(
        id="", source=SOURCE, subtask="extract", schema_name=None, output={}, fields=fields,
        status="ok", model=info,
    )  # fmt: skip


def item(text: str) -> Item:
    return Item(SOURCE, cues=(Cue(text),)) if text else Item(SOURCE)


@pytest.mark.parametrize(
    ("text", "given", "status", "causes"),
    [
        ("ACME 12.50", "12.50", "exact", []),
        ("ACME 12.50", "12", "exact", ["extraction"]),
        ("ACME 12.50", "99", "none", ["grounding"]),
        ("ACME 12.50", None, "none", ["extraction"]),
        ("ACME 12.S0", "12.S0", "exact", ["reading"]),
        ("", "12.58", "exact", ["reading"]),
        ("", "7", "exact", ["extraction"]),
        ("", "7", "none", ["grounding"]),
    ],
)
def test_one_value(text: str, given: Any, status: str, causes: list[str]) -> None:
    found = causes_of({"total": "12.50"}, record({"total": (given, status)}), item(text))
    assert list(found) == causes


def test_rows_in_another_order_are_right_and_one_too_many_is_wrong() -> None:
    expected = {"items": [{"n": "tea"}, {"n": "pot"}], "note": None}
    given = {
        "items[0].n": ("pot", "exact"),
        "items[1].n": ("tea", "exact"),
        "items[2].n": ("cup", "exact"),
        "note": ("bye", "none"),
    }
    found = causes_of(expected, record(given), item("tea pot cup"))
    assert list(found) == ["extraction", "grounding"]
