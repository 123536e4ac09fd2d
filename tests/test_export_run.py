"""flows/export_run.py: the command, from what is typed to the files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app, errors_as_exit_codes
from tests.stored import filled

OUTPUTS = {b"a.pdf": {"company": "ACME"}, b"b.pdf": {"company": "Best"}}


def export(*words: str) -> list[str]:
    done = CliRunner().invoke(app, ["export-run", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_a_run_is_converted_into_another_directory(tmp_path: Path) -> None:
    filled(tmp_path / "out", OUTPUTS, {"subtask": "extract"}).close()
    lines = export(
        str(tmp_path / "out"), "--format", "csv", "--format", "markdown",
        "--output", str(tmp_path / "to"),
    )  # fmt: skip
    assert lines == [f"{name}: 2 records in {tmp_path / 'to'}" for name in ("csv", "markdown")]
    with (tmp_path / "to" / "records.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["output.company"] for row in csv.DictReader(file)] == ["ACME", "Best"]
    assert (tmp_path / "to" / "markdown" / "b.pdf.md").is_file()
    assert not list((tmp_path / "out").glob("*.csv")) and not (tmp_path / "out/markdown").exists()


def test_without_another_directory_the_files_stand_in_the_run(tmp_path: Path) -> None:
    filled(tmp_path / "out", OUTPUTS, {"subtask": "extract"}).close()
    assert export(str(tmp_path), "--format", "csv") == [f"csv: 2 records in {tmp_path / 'out'}"]
    assert (tmp_path / "out" / "records.csv").is_file()


@pytest.mark.parametrize(("name", "words"), [("xml", "expected jsonl"), ("srt", "running text")])
def test_a_format_that_cannot_be_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    filled(tmp_path, OUTPUTS, {"subtask": "extract"}).close()
    arguments = ["export-run", str(tmp_path), "--format", "csv", "--format", name]
    with pytest.raises(SystemExit) as stopped, errors_as_exit_codes():
        app(arguments, standalone_mode=False)
    assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "records.csv").exists()
