"""The dataset in other formats, from the store alone, but for searchable PDF, which needs the
inputs: `columns.py` (CSV, Parquet), `subtitles.py`, `markdown.py` and `searchable.py` write them.

A table is one file, `records.csv`. The others are one file per record, at the input's own relative
path with the format's ending added, in a directory of the format's name: `srt/sub/a.wav.srt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flows.columns import load_pyarrow, write_csv, write_parquet
from flows.files import replacing, write_lines
from flows.markdown import markdown
from flows.naming import file_name
from flows.searchable import write_searchable
from flows.store import RECORDS, Store
from flows.subtitles import srt, vtt
from flows.views import dataset, to_line
from model_onnx.errors import UsageError

FORMATS = ("jsonl", "csv", "parquet", "markdown", "pdf", "txt", "srt", "vtt")


def check_format(name: str, subtask: str) -> None:
    """Raises UsageError before anything is computed."""
    if name not in FORMATS:
        raise UsageError(f"got --format {name}, expected {', '.join(FORMATS)}")
    if name in ("txt", "srt", "vtt") and subtask not in ("transcribe", "repair", "clean"):
        raise UsageError(
            f"got --format {name} for {subtask}, which gives no running text; say jsonl, csv, "
            "parquet or markdown"
        )
    if name == "parquet":
        load_pyarrow()


def write_format(name: str, store: Store, directory: Path, source: Path | None = None) -> int:
    """Writes one format into a directory; returns the number of records in it.

    source: the input of the run, for `pdf` (None: where it was). Raises OutputError, UsageError.
    """
    match name:
        case "jsonl":  # in a run's own directory it is the view itself
            return write_lines(
                directory / RECORDS, (to_line(record) for _, record in dataset(store))
            )
        case "csv":
            return write_csv(store, directory / "records.csv")
        case "parquet":
            return write_parquet(store, directory / "records.parquet")
        case "pdf":
            return write_searchable(store, directory / name, source)
    return write_texts(name, store, directory / name)


def write_texts(name: str, store: Store, directory: Path) -> int:
    """One file per record that has something to write: SRT and VTT need times."""
    count = 0
    for row, record in dataset(store):
        text = _WRITERS[name](record)
        if text is not None:
            with replacing(directory / file_name(row, _ENDINGS.get(name, name))) as file:
                file.write(text.encode("utf-8"))
            count += 1
    return count


def _txt(output: Mapping[str, Any]) -> str | None:
    text = output.get("text")
    return f"{text}\n" if isinstance(text, str) else None


_ENDINGS = {"markdown": "md"}
_WRITERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "txt": lambda record: _txt(record["output"]),
    "srt": lambda record: srt(record["output"]),
    "vtt": lambda record: vtt(record["output"]),
    "markdown": markdown,
}


def write_formats(names: Iterable[str], store: Store) -> dict[str, int]:
    """format -> records written, into the run's own directory."""
    return {name: write_format(name, store, store.directory) for name in names}
