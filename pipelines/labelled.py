"""A labelled folder: files, and `expected.jsonl` with one object per line.

    {"file": "a.jpg", "subtask": "extract", "schema": "receipt", "output": {"total": "12.50"}}
    {"file": "b.txt", "subtask": "clean", "text": "as it should be"}
    {"file": "c.wav", "subtask": "transcribe", "text": "seven three"}
    {"file": "d.txt", "subtask": "tag", "labels": ["letter", "memo"], "label": "memo"}

schema: a JSON Schema, or anything that `--schema` takes. An optional `"unseen"` marks what never
occurs in training: field names for extract, true for a text; it is scored once more by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_onnx.errors import ConfigError

EXPECTED = "expected.jsonl"
Name = Literal["extract", "clean", "transcribe", "repair", "tag"]
_KEYS = {"file", "subtask", "schema", "output", "text", "labels", "label", "unseen"}
_ANSWER = {"extract": "output", "tag": "label"}


@dataclass(frozen=True)
class Row:
    """One file and what is expected of it. unseen: fields, or ("text",)."""

    file: str
    subtask: Name
    schema: str | Mapping[str, Any] | None = None
    output: Mapping[str, Any] | None = None
    text: str = ""
    labels: tuple[str, ...] = ()
    label: str = ""
    unseen: tuple[str, ...] = ()


def read_set(directory: Path) -> list[Row]:
    """The rows of `expected.jsonl`; every file must be there. Raises ConfigError."""
    path = directory / EXPECTED
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}); expected a folder with files and {EXPECTED}"
        ) from None
    rows = [_row(line, f"{path}:{at}") for at, line in enumerate(lines, 1) if line.strip()]
    missing = [row.file for row in rows if not (directory / row.file).is_file()]
    if missing or not rows:
        raise ConfigError(
            f"{path}: {len(rows)} rows, {len(missing)} of their files are missing (first: "
            f"{missing[:1]}); expected files beside it"
        )
    return rows


def _row(line: str, where: str) -> Row:
    try:
        raw = json.loads(line)
        name = raw["subtask"]
        answer = _ANSWER.get(name, "text")
        unseen = raw.get("unseen", [])
        unknown = sorted(set(raw) - _KEYS)
        if unknown or name not in ("extract", "clean", "transcribe", "repair", "tag"):
            raise ValueError(f"unknown keys {unknown} or subtask {name!r}")
        row = Row(
            file=raw["file"],
            subtask=name,
            schema=raw["schema"] if name == "extract" else None,
            labels=tuple(raw["labels"]) if name == "tag" else (),
            unseen=("text",) if unseen is True else tuple(unseen or ()),
            **{answer: raw[answer]},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else f"got {error}"
        raise ConfigError(
            f"{where}: {problem}; expected an object such as "
            '{"file": "a.txt", "subtask": "clean", "text": "..."}'
        ) from None
    return row


def write_set(directory: Path, rows: list[Row], write: Callable[[Path, Row], object]) -> Path:
    """Makes a labelled folder; `write` makes one file."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / EXPECTED).open("w", encoding="utf-8") as lines:
        for row in rows:
            write(directory / row.file, row)
            plain = {key: value for key, value in vars(row).items() if value not in (None, "", ())}
            if row.subtask not in _ANSWER:
                plain["text"] = row.text
            lines.write(json.dumps(plain, ensure_ascii=False) + "\n")
    return directory
