"""flows/markdown.py: what a renderer shows is what the document says, and nothing acts."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.markdown import escape, markdown

READER = MarkdownIt("commonmark").enable("table")
PLACE = {"status": "exact", "page": 2, "box": None, "span": None, "evidence": None}


def record(output: Any, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "source": {"path": 'a "b".pdf', "sha256": "5" * 64, "kind": "document"},
        "subtask": "transcribe",
        "schema_name": None,
        "output": output,
        "fields": fields or {},
        "status": "ok",
        "reason": "",
    }


def body(text: str) -> str:
    return text.split("\n---\n", 1)[1]


def shown(text: str) -> str:
    """The words of what a renderer makes of it, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", READER.render(text)))


lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)


@given(lines)
def test_a_line_shows_as_it_is_written(line: str) -> None:
    tags = set(re.findall(r"<(\w+)", READER.render(escape(line))))
    assert tags <= {"p"}
    assert shown(escape(line)).split() == line.split()


@pytest.mark.parametrize(
    "line",
    ["# head", "- item", "1. item", "+ item", "12) x", "<b>x</b>", "[a](b)", "![a](b)", "* * *",
     "---", "===", "> quote", "`code`", "a | b", "~~~", "&amp;", "&#35;", "_a_ **b**", "a\\b",
     "    code", "<script>alert(1)</script>", "http://a.b", "www.a.b", "[x]: y", "\\- x"],
)  # fmt: skip
def test_marks_of_markdown_are_words(line: str) -> None:
    assert set(re.findall(r"<(\w+)", READER.render(escape(line)))) <= {"p"}
    assert shown(escape(line)).split() == line.split()


def test_lines_stay_lines_and_pages_paragraphs() -> None:
    made = markdown(record({"text": "ACME <b>\nTOTAL 12.50\n\n2. page"}))
    assert READER.render(body(made)) == (
        "<p>ACME &lt;b&gt;<br />\nTOTAL 12.50</p>\n<p>2. page</p>\n"
    )


def test_the_head_is_yaml_of_json_strings() -> None:
    head = markdown(record({"text": "x"})).split("---\n")[1].splitlines()
    facts = {name: json.loads(value) for name, _, value in (line.partition(": ") for line in head)}
    assert facts == {
        "path": 'a "b".pdf',
        "sha256": "5" * 64,
        "id": "0123456789abcdef",
        "subtask": "transcribe",
        "status": "ok",
    }


def test_fields_are_a_table() -> None:
    field = {"value": "a | <b>", "confidence": 0.987, "parsed": None, "grounding": PLACE}
    made = READER.render(body(markdown(record({"total": "x"}, {"items[0].total": field}))))
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", made)]
    assert cells == ["items[0].total", "a | <b>", "", "0.99", "exact, page 2"]


def test_speech_is_a_list_with_times() -> None:
    segments = [{"start": 3661.5, "end": 3662.0, "text": "one *two*"}]
    made = body(markdown(record({"text": "one", "segments": segments})))
    assert made == "\n- 1:01:01 one \\*two\\*\n"


def test_other_output_is_json_that_cannot_leave_its_fence() -> None:
    made = body(markdown(record({"note": "```\n# x"})))
    assert READER.render(made).count("<h1>") == 0
    assert json.loads(shown(made)) == {"note": "```\n# x"}
