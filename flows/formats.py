"""The dataset in other formats, from the store: Parquet for tables, TXT, SRT and VTT for speech.

Text formats take `output.text` and `output.segments[{start, end, text}]`; one file per record, at
the input's own relative path with the format's ending added.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.files import replacing
from flows.store import Row, Store
from flows.views import dataset, record_id
from model_onnx.errors import RuntimeUnavailableError, UsageError

_BATCH = 1000  # rows held in memory while Parquet is written


def check_format(name: str, subtask: str) -> None:
    """Raises UsageError before anything is computed."""
    if name not in ("jsonl", "parquet", *_WRITERS):
        raise UsageError(f"got --format {name}, expected jsonl, parquet, txt, srt or vtt")
    if name in _WRITERS and subtask not in ("transcribe", "repair", "clean"):
        raise UsageError(
            f"got --format {name} for {subtask}, which gives no running text; say jsonl or parquet"
        )
    if name == "parquet":
        _pyarrow()


def write_format(name: str, store: Store, directory: Path) -> int:
    """Writes one format beside the views; returns the number of records in it."""
    if name == "jsonl":  # the view itself
        return sum(1 for _ in dataset(store))
    if name == "parquet":
        return write_parquet(store, directory / "records.parquet")
    return write_texts(name, store, directory / name)


def write_texts(name: str, store: Store, directory: Path) -> int:
    """One file per record that has something to write: SRT and VTT need times."""
    count = 0
    for row, record in dataset(store):
        text = _WRITERS[name](record["output"])
        if text is not None:
            with replacing(directory / _file_name(row, name)) as file:
                file.write(text.encode("utf-8"))
            count += 1
    return count


def _file_name(row: Row, name: str) -> str:
    """The input's path and `.srt`; the record's id where that is too long for a file system."""
    path = Path(os.fsdecode(row.raw))
    if len(os.fsencode(path.name)) + len(name) > 250:
        path = path.with_name(record_id(row))
    return f"{path}.{name}"


def _txt(output: Mapping[str, Any]) -> str | None:
    text = output.get("text")
    return f"{text}\n" if isinstance(text, str) else None


def _srt(output: Mapping[str, Any]) -> str | None:
    cues = [
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_segments(output), 1)
    ]
    return "\n".join(cues) if cues else None


def _vtt(output: Mapping[str, Any]) -> str | None:
    cues = [
        f"{_time(start, '.')} --> {_time(end, '.')}\n{_escape(text)}\n"
        for start, end, text in _segments(output)
    ]
    return "\n".join(["WEBVTT\n", *cues]) if cues else None


_WRITERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
}


def _segments(output: Mapping[str, Any]) -> Iterator[tuple[float, float, str]]:
    """An empty line would end a cue, and an arrow would start one."""
    for segment in output.get("segments") or ():
        if segment.get("start") is not None and segment.get("end") is not None:
            lines = [line for line in str(segment["text"]).splitlines() if line.strip()]
            yield segment["start"], segment["end"], "\n".join(lines).replace("-->", "->")


def _time(seconds: float, mark: str) -> str:
    """`01:02:03,450`"""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_parquet(store: Store, path: Path) -> int:
    """One row per record: who and what it is, the whole output as JSON, and a column
    `output.NAME` for each top-level value that is text, a number or a yes-or-no."""
    arrow, parquet = _pyarrow()
    kinds: dict[str, str] = {}
    for _, record in dataset(store):
        _learn(kinds, record["output"])
    types = {"text": arrow.string(), "number": arrow.float64(), "truth": arrow.bool_()}
    schema = arrow.schema(
        [(name, arrow.string()) for name in _COLUMNS]
        + [(f"output.{name}", types[kind]) for name, kind in kinds.items()]
    )
    count = 0
    rows = (_flat(record, kinds) for _, record in dataset(store))
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(rows, _BATCH)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


_COLUMNS = ("id", "path", "sha256", "subtask", "schema", "status", "reason", "output")


def _flat(record: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    output = record["output"]
    values = output if isinstance(output, dict) else {}
    row = {
        **{name: record[name] for name in ("id", "subtask", "status", "reason")},
        "path": record["source"]["path"],
        "sha256": record["source"]["sha256"],
        "schema": record["schema_name"],
        "output": json.dumps(output, ensure_ascii=False),
    }
    return {**row, **{f"output.{k}": _fit(values.get(k), kind) for k, kind in kinds.items()}}


def _learn(kinds: dict[str, str], output: object) -> None:
    """Columns from the values seen; a name whose values differ in kind is text."""
    for name, value in output.items() if isinstance(output, dict) else ():
        kind = _kind(value)
        if kind:
            kinds[name] = kind if kinds.get(name, kind) == kind else "text"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else ""


def _fit(value: object, kind: str) -> object:
    if not _kind(value):
        return None
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    return float(value) if kind == "number" else value  # type: ignore[arg-type]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RuntimeUnavailableError(
            "got --format parquet without pyarrow; install it: pip install 'scanscribe[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet


def write_formats(names: Iterable[str], store: Store) -> dict[str, int]:
    """format -> records written."""
    return {name: write_format(name, store, store.directory) for name in names}
