from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_onnx.errors import ConfigError
from pipelines.labelled import EXPECTED, Row, read_set, write_set

SCHEMA = {"type": "object", "properties": {"total": {"type": "string"}}}
ROWS = [
    Row("a.txt", "extract", schema=SCHEMA, output={"total": None}, unseen=("total",)),
    Row("b.txt", "clean", text="as it is", unseen=("text",)),
    Row("c.txt", "tag", labels=("x", "y"), label="x"),
    Row("d.txt", "transcribe", text=""),
]


def test_a_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_set(tmp_path / "set", ROWS, lambda path, row: path.write_text(row.file))
    assert read_set(tmp_path / "set") == ROWS


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"file": "a.txt"}',
        '{"file": "a.txt", "subtask": "guess", "text": ""}',
        '{"file": "a.txt", "subtask": "clean"}',
        '{"file": "a.txt", "subtask": "extract", "output": {}}',
        '{"file": "a.txt", "subtask": "clean", "text": "", "extra": 1}',
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / EXPECTED).write_text("\n" + line)
    with pytest.raises(ConfigError, match=r"expected\.jsonl:2"):
        read_set(tmp_path)


def test_missing_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_set(tmp_path)
    (tmp_path / EXPECTED).write_text(json.dumps({"file": "no.txt", "subtask": "clean", "text": ""}))
    with pytest.raises(ConfigError, match=r"no\.txt"):
        read_set(tmp_path)
