"""A run's records -> what the review page shows: plain data, one entry per input.

Knows no HTML. An entry is what `entry` returns; `shown` (pictures, sound, text, differences) is
made apart by flows/review_media.py, because it needs the input files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from flows.corrections import Correction
from flows.review_lists import lists_of
from flows.store import Row, Store
from flows.views import record_id

TEXTS = ("clean", "transcribe", "repair")  # subtasks whose output is running text

_LOOSE = "not in the evidence: "  # as `extract` says it

# What to do about an input that gave no record, where the message does not say it.
ADVICE = {
    "cancelled": "The run was stopped. Run again: what is finished is kept.",
    "changed": "The file changed while it was read. Run again.",
    "damaged": "Open the file in its own program and save or scan it again, then run again.",
    "empty": "The file has nothing to read: blank, silent or without a page. Scan it again.",
    "encrypted": "Save a copy without the password and put that into the folder.",
    "internal": "A fault of the program. Run again; if it stays, report it with the log.",
    "damaged_answer": "The answer was cut off. Use a larger model or split the document.",
    "interrupted": "The run was stopped before this one. Run again: what is finished is kept.",
    "labels": "This file says what is expected of the others. Leave it out.",
    "limit": "Not reached, because of --limit. Run again with a higher one.",
    "loop": "The model repeated itself. Scan at a higher resolution, or use a larger model.",
    "memory": "The file needs more memory than there is. Split it, or run on a larger machine.",
    "model_busy": "The model server had too much to do. Run again when it has less.",
    "model_crashed": "The model server failed at this file. Run again; see the server's log.",
    "parser_crashed": "The file crashed its parser, so it is likely damaged. Save it again.",
    "request": "The document does not fit the model's context. Split it.",
    "silent": "No speech was heard. Check the recording's level.",
    "symlink_outside": "Links out of the folder are not followed. Copy the file in.",
    "time_limit": "The answer took too long. Split the file, or run on a faster machine.",
    "timeout": "Reading took too long. Split the file, or run when the machine is less busy.",
    "too_large": "The file is above a limit. Split it or scale it down.",
    "unreadable": "Check the file's permissions and the disk, then run again.",
    "unsupported": "This kind of file is not read. Convert it to PDF, PNG, JPEG, WAV or MP3.",
    "validation": "The answer did not fit the schema. Loosen the schema, or use a larger model.",
    "vanished": "The file went away during the run. Put it back and run again.",
}
# Names of checks for a person, as what should hold.
CHECKS = {
    "ungrounded": "Every value stands in the source",
    "unparsed": "Dates and numbers can be parsed",
    "loop": "No repetition",
    "damaged_answer": "Every answer could be read",
    "low_confidence": "Sure enough of every value",
    "truncated": "The answer is complete",
    "unread": "Everything was read",
    "protected": "No number was changed",
    "refused": "No other edit was refused",
    "kept": "Every passage was corrected",
    "empty": "There is an answer",
    "cut": "The whole document was shown to the model",
    "proposed": "No call waits for a person",
    "tool_failed": "Every tool that ran gave a result",
    "own_arguments": "Every argument stands in the document or in a result",
    "call_limit": "The calls ended before their limit",
}


def entries(store: Store, corrections: Mapping[str, list[Correction]]) -> Iterator[dict[str, Any]]:
    """One per input of the last run, in order."""
    schema = json.loads(store.about().get("output_schema", "{}"))
    for row in store.rows():
        record, timing = store.result(row.key) if row.key else (None, {})
        yield entry(row, record, timing, corrections.get(entry_id(row), ()), schema)


def entry_id(row: Row) -> str:
    """The record's id; of an input that was never read, one made of its name."""
    return record_id(row) if row.key else hashlib.sha256(row.raw).hexdigest()[:16]


def entry(
    row: Row,
    record: Mapping[str, Any] | None,
    timing: Mapping[str, Any],
    corrections: Iterable[Correction] = (),
    schema: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything about one input as JSON; `edit` is there when there is something to review.

    schema: of the outputs, which says what an item of an empty list has.
    """
    whole: dict[str, Any] = {
        "id": entry_id(row),
        "path": row.path,
        "status": row.status,
        "reason": row.reason,
        "message": row.message,
        "advice": ADVICE.get(row.reason, "") if row.status not in ("ok", "review") else "",
        "bytes": row.bytes,
        "corrections": [asdict(made) for made in corrections],
    }
    if record is None:
        return whole
    fields = _fields(record)
    sure = [field["sure"] for field in fields]
    return whole | {
        "kind": record["source"]["kind"],
        "pages": record["source"].get("pages"),
        "subtask": record["subtask"],
        "schema": record["schema_name"],
        "fields": fields,
        "sure": min(sure) if sure else None,
        "checks": [_check(check) for check in record["checks"]],
        "model": record["model"],
        "timing": dict(timing),
        "thoughts": list(record.get("thoughts", ())),  # where they were asked for and kept
        **_output(record, schema),
    }


def _output(record: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the text views and the editor need of the output."""
    output = record["output"]
    if not isinstance(output, dict):
        return {} if output is None else {"edit": "fields"}
    if record["subtask"] in TEXTS:
        return {
            "edit": "text",
            "text": output.get("text", ""),
            "segments": output.get("segments") or [],
            "edits": output.get("edits") or [],
        }
    if record["subtask"] == "tag":
        return {"edit": "label", "probabilities": output.get("probabilities") or {}}
    called = _called(output) if record["subtask"] == "call" else {}
    return {"edit": "fields", "lists": lists_of(output, schema, record["schema_name"]), **called}


def _called(output: Mapping[str, Any]) -> dict[str, Any]:
    """What was called and what came of it; the arguments are among the fields."""
    calls = [
        {
            "tool": call["tool"],
            "state": call["state"],
            "outcome": call["error"] or _as_text(call["result"]),
        }
        for call in output["calls"]
    ]
    return {"calls": calls, "answer": output["answer"]}


def _as_text(result: Any) -> str:
    return "" if result is None else json.dumps(result, ensure_ascii=False)


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    return {**check, "title": CHECKS.get(check["name"], check["name"].replace("_", " "))}


def _fields(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    loose = _not_in_evidence(record["checks"])
    return [
        {
            "path": path,
            "value": field["value"],
            "parsed": field["parsed"],
            "sure": field["confidence"],
            "state": _state(field, path in loose),
            **{name: field["grounding"][name] for name in ("page", "box", "span", "evidence")},
        }
        for path, field in record["fields"].items()
    ]


def _state(field: Mapping[str, Any], loose: bool) -> str:
    """exact, fuzzy: stands in the source; none: does not; unguarded: there were no words to hold
    the value against; absent: the model found no value."""
    if field["value"] in (None, [], {}):
        return "absent"
    grounding = field["grounding"]
    status = str(grounding["status"])
    if status != "none":
        return status
    return "none" if loose else "unguarded"


def _not_in_evidence(checks: Iterable[Mapping[str, Any]]) -> set[str]:
    """The fields that the check `ungrounded` names."""
    reasons = [c["reason"] for c in checks if c["name"] == "ungrounded" and not c["passed"]]
    named = [part for reason in reasons for part in reason.split("; ") if part.startswith(_LOOSE)]
    return {path for part in named for path in part.removeprefix(_LOOSE).split(", ")}
