"""Records for a person: what they say, how sure they are, and where each value stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.discover import holds_run, printable
from flows.store import Row, Store
from flows.views import as_record_of, manifest_row, record_id
from model_onnx.errors import UsageError


def find_run(directory: Path) -> Path:
    """The directory itself, or the only run right below it. Raises UsageError."""
    if holds_run(directory):
        return directory
    found = sorted(path for path in directory.glob("*") if holds_run(path))
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise UsageError(
            f"got {directory}, expected the output of `flows run` or one such directory in it; "
            f"there: {names}; say --output DIRECTORY"
        )
    return found[0]


def find_row(store: Store, wanted: str) -> Row:
    """By id, by its first digits, or by path. Raises UsageError."""
    rows = list(_matching(store, wanted))
    if len(rows) != 1:
        names = ", ".join(printable(row.path) for row in rows[:5])
        raise UsageError(
            f"got {printable(wanted)}, expected an id or path of one record; it fits {len(rows)}"
            f"{f' ({names})' if names else ''}; take one from manifest.jsonl"
        )
    return rows[0]


def _matching(store: Store, wanted: str) -> Iterator[Row]:
    for row in store.rows():
        if row.path == wanted or (row.key and wanted and record_id(row).startswith(wanted)):
            yield row


def print_record(wanted: str, directory: Path, *, as_json: bool = False) -> None:
    """Raises UsageError when there is no such run or record."""
    with Store.read(find_run(directory)) as store:
        row = find_row(store, wanted)
        record, timing = store.result(row.key) if row.key else (None, {})
    whole = {**manifest_row(row), **(as_record_of(row, record) if record else {})}
    if as_json:
        print(json.dumps({**whole, "timing": timing}, ensure_ascii=False, indent=2))
        return
    console = _console()
    _print_head(console, row, record)
    if record:
        _print_values(console, record)
        _print_rest(console, record, timing)


def print_records(directory: Path) -> None:
    """Every input of a run with its values, without checks and timing. Raises UsageError."""
    console = _console()
    with Store.read(find_run(directory)) as store:
        for row in store.rows():
            record = store.result(row.key)[0] if row.key else None
            _print_head(console, row, record)
            for line in _lines(record) if record else ():
                _say(console, f"    {line}")


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    """`total  12.50  0.97  page 1, 62% from the left, 80% from the top`"""
    for path, field in record["fields"].items():
        parts = (
            f"{path:12}",
            "-" if field["value"] is None else _short(field["value"]),
            f"{field['confidence']:.2f}",
            place(field["grounding"]),
        )
        yield "  ".join(part for part in parts if part)
    if not record["fields"] and record["output"] is not None:
        yield from json.dumps(record["output"], ensure_ascii=False, indent=2).split("\n")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _print_head(console: Console, row: Row, record: Mapping[str, Any] | None) -> None:
    name = (record or {}).get("schema_name") or ""
    title = f"{record_id(row) if row.key else ''}  {row.path}  {name}  {row.status}"
    _say(console, re.sub(r" {3,}", "  ", title).strip())
    for reason in filter(None, (row.reason, row.message)):
        _say(console, reason)


def _print_values(console: Console, record: Mapping[str, Any]) -> None:
    if not record["fields"]:
        _say(console, json.dumps(record["output"], ensure_ascii=False, indent=2))
        return
    table = Table("field", "value", "parsed", "sure", "stands", "where", "evidence")
    for path, field in record["fields"].items():
        grounding = field["grounding"]
        cells = (
            path,
            _short(field["value"]),
            field["parsed"] or "",
            f"{field['confidence']:.2f}",
            grounding["status"],
            place(grounding),
            _short(grounding["evidence"]),
        )
        table.add_row(*(printable(cell).replace("[", "\\[") for cell in cells))
    console.print(table)
    for line in _calls(record):
        _say(console, line)


def _calls(record: Mapping[str, Any]) -> Iterator[str]:
    """`calls[1]  file_invoice  proposed`, with what came of it; then what the model said last."""
    output = record["output"] if record["subtask"] == "call" else None
    if not isinstance(output, Mapping):
        return
    for at, call in enumerate(output["calls"]):
        came = "" if call["result"] is None else json.dumps(call["result"], ensure_ascii=False)
        line = f"calls[{at}]  {call['tool']}  {call['state']}  {call['error'] or _short(came)}"
        yield line.rstrip()
    if output["answer"]:
        yield f"answer: {output['answer']}"


def _print_rest(console: Console, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
    for check in record["checks"]:
        mark = "passed" if check["passed"] else "FAILED"
        _say(console, f"{mark}  {check['name']}  {check['reason']}".rstrip())
    for thought in record.get("thoughts", ()):
        _say(console, f"thought: {thought}")
    model = record["model"]
    _say(console, f"model {model['bundle'][:12]}, {model['provider']}, {model['prompt_version']}")
    if timing:
        _say(
            console,
            f"parsed in {timing['parse_seconds']:.2f} s, read {timing['prompt_tokens']} tokens in "
            f"{timing['prefill_seconds']:.2f} s, wrote {timing['new_tokens']} in "
            f"{timing['decode_seconds']:.2f} s",
        )


def place(grounding: Mapping[str, Any]) -> str:
    """`page 2, 10 % from the left, 31 % from the top`, or `1.2 s to 3.4 s`."""
    if span := grounding["span"]:
        return f"{span[0]:.1f} s to {span[1]:.1f} s"
    page = f"page {grounding['page']}" if grounding["page"] else ""
    if box := grounding["box"]:
        return f"{page}, {box[0]:.0%} from the left, {box[1]:.0%} from the top".lstrip(", ")
    return page


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _say(console: Console, line: str) -> None:
    """A document's words must not be taken for markup or terminal commands."""
    for part in line.split("\n"):
        console.print(printable(part), markup=False)
