"""One record -> one Markdown file (CommonMark with GitHub's tables).

The head is YAML between `---`; then comes the text of a page or a recording, or a table of the
fields, or JSON. Whatever comes from a document is escaped: it shows as it is written and can make
no link, no heading and no HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~#!@$])")
_BEGINS = re.compile(r"^(\s*)([-+=:]|\d+(?=[.)]))")  # a list, a rule, a definition
_LINK = re.compile(r"(:)(?=//)|(?<=www)(\.)", re.IGNORECASE)
_HEAD = ("id", "subtask", "schema_name", "status", "reason")


def markdown(record: Mapping[str, Any]) -> str:
    """record: as in records.jsonl."""
    return "\n".join([*_head(record), "", *_body(record)]) + "\n"


def escape(text: str) -> str:
    """One line of a document as Markdown that shows it."""
    line = " ".join(text.split())
    begin = _BEGINS.match(line)
    escaped = _LINK.sub(lambda found: f"\\{found[0]}", _SPECIAL.sub(r"\\\1", line))
    if not begin:
        return escaped
    mark = begin[2]  # an escaped digit would show its backslash; what follows it can be escaped
    return f"{mark}\\{escaped[len(mark) :]}" if mark[0].isdigit() else f"\\{escaped}"


def _head(record: Mapping[str, Any]) -> Iterator[str]:
    """YAML takes a string of JSON as it is."""
    source = record["source"]
    facts = {"path": source["path"], "sha256": source["sha256"]}
    facts |= {name: record[name] for name in _HEAD if record.get(name)}
    yield "---"
    for name, value in facts.items():
        yield f"{name}: {json.dumps(value)}"
    yield "---"


def _body(record: Mapping[str, Any]) -> Iterable[str]:
    output, fields = record["output"], record.get("fields") or {}
    if isinstance(output, dict) and output.get("segments"):
        return _segments(output["segments"])
    if isinstance(output, dict) and isinstance(output.get("text"), str):
        return _text(output["text"])
    if fields:
        return _table(fields)
    text = json.dumps(output, ensure_ascii=False, indent=2)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return [f"{fence}json", text, fence]


def _segments(segments: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for segment in segments:
        start = int(segment["start"])
        clock = f"{start // 3600}:{start // 60 % 60:02}:{start % 60:02}"
        yield f"- {clock} {escape(str(segment['text']))}".rstrip()


def _text(text: str) -> Iterator[str]:
    """A line of the document is a line here; an empty one begins a paragraph."""
    lines = [escape(line) for line in text.splitlines()]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        yield f"{line}\\" if line and following else line


def _table(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| field | value | parsed | confidence | stands |"
    yield "|---|---|---|---:|---|"
    for path, field in fields.items():
        shown = ["" if value is None else escape(str(value)) for value in _cells(path, field)]
        yield f"| {' | '.join(shown)} |"


def _cells(path: str, field: Mapping[str, Any]) -> tuple[object, ...]:
    parsed, place = field.get("parsed"), field["grounding"]
    where = f"{place['status']}, page {place['page']}" if place.get("page") else place["status"]
    return path, field["value"], parsed, f"{field['confidence']:.2f}", where
