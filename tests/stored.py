"""Runs made in place, for the tests of what is written from a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flows.discover import Entry, Version
from flows.store import Store

Outputs = dict[bytes, Any]


def filled(
    directory: Path,
    outputs: Outputs,
    about: dict[str, str] | None = None,
    *,
    subtask: str = "extract",
    kind: str = "document",
    sha256: dict[bytes, str] | None = None,
    fields: dict[bytes, dict[str, Any]] | None = None,
) -> Store:
    """A finished run with one record for each output, by the input's name. Open, to be closed."""
    store = Store.open(directory)
    store.begin([Entry(Path(os.fsdecode(raw)), raw) for raw in outputs], about or {})
    place = {"status": "none", "page": None, "box": None, "span": None, "evidence": None}
    for raw, output in outputs.items():
        digest = (sha256 or {}).get(raw, "5" * 64)
        store.identify(raw, Version(digest, 1, ()), raw.hex(), unchanged=False)
        given = {name: _field(value, place) for name, value in _leaves(output)}
        record = {
            "source": {"sha256": digest, "kind": kind},
            "subtask": subtask,
            "schema_name": None,
            "output": output,
            "fields": (fields or {}).get(raw, given),
            "checks": [],
            "status": "ok",
            "reason": "",
            "model": {"bundle": "b" * 64, "provider": "cpu", "prompt_version": "test-1"},
        }
        timing = {"parse_seconds": 0.5, "prefill_seconds": 1.0, "decode_seconds": 0.25,
                  "prompt_tokens": 100, "new_tokens": 10, "forced_tokens": 0}  # fmt: skip
        store.finish(
            raw.hex(), status="ok", reason="", record=json.dumps(record), timing=json.dumps(timing)
        )
    return store


def _leaves(output: Any) -> list[tuple[str, Any]]:
    return list(output.items()) if isinstance(output, dict) else []


def _field(value: Any, place: dict[str, Any]) -> dict[str, Any]:
    return {"value": value, "confidence": 0.75, "grounding": place, "parsed": None}
