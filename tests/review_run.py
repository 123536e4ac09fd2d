"""Runs to review, made without a model: files, and the records that a run would have kept."""

from __future__ import annotations

import hashlib
import io
import json
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from flows.discover import Entry, Version
from flows.store import Store
from flows.views import write_views

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u2028 & \"'"
MODEL = {"bundle": "b" * 64, "provider": "cpu", "prompt_version": "extract-1"}
TIMING = {
    "parse_seconds": 0.1, "prefill_seconds": 0.2, "decode_seconds": 0.3,
    "prompt_tokens": 100, "new_tokens": 20, "forced_tokens": 5,
}  # fmt: skip


@dataclass
class Document:
    """One input. record: None for one that failed with `reason`."""

    name: str
    content: bytes
    record: dict[str, Any] | None = None
    status: str = "ok"
    reason: str = ""
    message: str = ""


@dataclass
class Value:
    """One field of a record."""

    value: Any
    sure: float = 0.95
    status: str = "exact"
    box: Sequence[float] | None = None
    span: Sequence[float] | None = None
    page: int | None = 1
    parsed: str | None = None
    evidence: str | None = None


@dataclass
class Run:
    directory: Path
    inputs: Path
    ids: dict[str, str] = field(default_factory=dict)  # name -> record id


def record(
    subtask: str,
    output: Any,
    values: dict[str, Value] | None = None,
    *,
    kind: str = "document",
    checks: Sequence[dict[str, Any]] = (),
    schema: str | None = None,
    **source: Any,
) -> dict[str, Any]:
    fields = {path: _field(value) for path, value in (values or {}).items()}
    return {
        "source": {"sha256": "", "kind": kind, "pages": 1, "span": None, **source},
        "subtask": subtask,
        "schema_name": schema,
        "output": output,
        "fields": fields,
        "checks": list(checks),
        "status": "ok",
        "reason": "",
        "model": MODEL,
    }


def _field(value: Value) -> dict[str, Any]:
    none = value.status == "none"
    return {
        "value": value.value,
        "confidence": value.sure,
        "parsed": value.parsed,
        "grounding": {
            "status": value.status,
            "page": None if none else value.page,
            "box": value.box,
            "span": value.span,
            "evidence": value.evidence or (None if none else value.value),
        },
    }


def receipt(name: str, total: str = "12.50", sure: float = 0.95, company: str = "ACME") -> Document:
    """A page with one printed total and one value that stands nowhere."""
    values = {
        "company": Value(company, 0.6, "none"),
        "total": Value(total, sure, box=(0.5, 0.4, 0.9, 0.5), parsed="12.5"),
        "date": Value(None, 0.9, "none"),
    }
    check = {"name": "ungrounded", "passed": False, "reason": "not in the evidence: company"}
    made = record(
        "extract", {"company": company, "total": total, "date": None}, values,
        checks=[check], schema="Receipt",
    )  # fmt: skip
    return Document(name, page(total), made, "review", "ungrounded")


def invoice(name: str) -> Document:
    """Two lines of which the second's price stands nowhere."""
    values = {
        "items[0].name": Value("tea", 0.9),
        "items[0].price": Value("1.50", 0.8, parsed="1.5"),
        "items[1].name": Value("milk", 0.7),
        "items[1].price": Value("2.00", 0.2, "none"),
    }
    output = {"items": [{"name": "tea", "price": "1.50"}, {"name": "milk", "price": "2.00"}]}
    check = {"name": "ungrounded", "passed": False, "reason": "not in the evidence: items[1].price"}
    return Document(name, page(name), record("extract", output, values, checks=[check]), "review")


def page(text: str) -> bytes:
    image = Image.new("L", (400, 300), 255)
    ImageDraw.Draw(image).text((200, 125), text, fill=0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def text_document(
    name: str, text: str, *, value: str | None = None, thoughts: Sequence[str] = ()
) -> Document:
    """A text with one extracted value."""
    value = value if value is not None else text.split("\n")[0]
    values = {"company": Value(value, 0.8, page=None)}
    made = record("extract", {"company": value}, values, kind="text", schema="Receipt")
    made |= {"thoughts": list(thoughts)} if thoughts else {}
    return Document(name, text.encode(), made)


def calling(name: str) -> Document:
    """A call that ran, one that waits and one that failed."""
    plain: dict[str, Any] = {
        "arguments": {},
        "from_document": [],
        "from_results": [],
        "result": None,
        "error": "",
    }
    calls = [
        {**plain, "tool": "find_supplier", "state": "ran", "result": {"id": 17}},
        {**plain, "tool": "file_invoice", "state": "proposed"},
        {**plain, "tool": "notify", "state": "failed", "error": "no result within 30 s"},
    ]
    calls[0]["arguments"] = {"name": "ACME"}
    values = {"calls[0].arguments.name": Value("ACME", 0.9, page=None)}
    output = {"calls": calls, "answer": f"Filed. {HOSTILE}"}
    made = record("call", output, values, kind="text")
    return Document(name, b"ACME\nTOTAL 12.50", made, "review", "proposed")


def cleaned(name: str) -> Document:
    edits = [
        {"line": 0, "before": "Tbe", "after": "The", "refused": ""},
        {"line": 0, "before": "12.5O", "after": "12.60", "refused": "protected"},
    ]
    output = {"text": "The sum is 12.5O\nof 3 parts", "edits": edits}
    values = {"pages[0]": Value(output["text"], 0.9, "fuzzy", page=None)}
    made = record("clean", output, values, kind="text")
    return Document(name, b"Tbe sum is 12.5O\nof 3 parts", made, "review", "protected")


def recording(name: str, seconds: float = 3.0) -> Document:
    time = np.arange(int(seconds * 16_000)) / 16_000
    samples = (np.sin(time * 900) * 9000 * (np.sin(time * 6) > 0)).astype(np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    segments: list[dict[str, Any]] = [
        {"start": 0.0, "end": seconds / 2, "text": "seven three"},
        {"start": seconds / 2, "end": seconds, "text": "nine"},
    ]
    values = {
        f"lines[{at}]": Value(one["text"], 0.7 + at / 5, span=(one["start"], one["end"]), page=None)
        for at, one in enumerate(segments)
    }
    output = {"text": "seven three nine", "segments": segments}
    made = record("transcribe", output, values, kind="recording", pages=None)
    return Document(name, buffer.getvalue(), made)


def failed(name: str, reason: str = "encrypted", message: str = "got a password") -> Document:
    return Document(name, b"%PDF-1.4 nothing", None, "failed", reason, message)


def make_run(
    folder: Path, documents: Sequence[Document], *, store_url: str | None = None, **about: str
) -> Run:
    """Writes the inputs and the run's output directory."""
    run = Run(folder / "out", folder / "in")
    facts = {"subtask": "extract", "input": str(run.inputs.resolve()), "asked_schema": "receipt"}
    with Store.open(run.directory, store_url) as store:
        raws = [document.name.encode() for document in documents]
        entries = [Entry(run.inputs / d.name, raw) for d, raw in zip(documents, raws, strict=True)]
        store.begin(entries, {**facts, **about})
        for document, raw in zip(documents, raws, strict=True):
            path = run.inputs / document.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(document.content)
            _keep(store, document, raw)
        write_views(store, run.directory)
        from flows.review import entry_id

        run.ids = {row.path: entry_id(row) for row in store.rows()}
    return run


def _keep(store: Store, document: Document, raw: bytes) -> None:
    sha256 = hashlib.sha256(document.content).hexdigest()
    key = hashlib.sha256(b"key" + raw).hexdigest()
    store.identify(raw, Version(sha256, len(document.content), ()), key, unchanged=False)
    if document.record is None:
        store.fail(key, document.reason, document.message)
        return
    document.record["source"]["sha256"] = sha256
    whole = document.record | {"status": document.status, "reason": document.reason}
    store.finish(
        key,
        status=document.status,
        reason=document.reason,
        record=json.dumps(whole),
        timing=json.dumps(TIMING),
    )
