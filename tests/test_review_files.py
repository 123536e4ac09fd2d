"""flows/review_files.py: the page on disk, and corrections coming home."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import review_files
from flows.cli import app
from flows.review_files import import_corrections, write_review
from flows.store import RECORDS, Store
from model_onnx.errors import UsageError
from tests.review_run import failed, make_run, receipt, recording, text_document


def block(html: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_a_small_run_is_one_file_with_all_it_needs(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png"), recording("b.wav"), failed("c.pdf")])
    written = write_review(run.directory)
    assert written == run.directory / "review.html"
    assert not (run.directory / "review-files").exists()
    html = written.read_text(encoding="utf-8")
    assert [entry["path"] for entry in block(html, "data")["entries"]] == [
        "a.png",
        "b.wav",
        "c.pdf",
    ]
    (page,) = block(html, f"media-{run.ids['a.png']}")["pages"]
    assert page["src"].startswith("data:image/webp;base64,")
    assert block(html, f"media-{run.ids['b.wav']}")["sound"]["src"].startswith("data:audio/mpeg")


def test_a_large_run_has_its_pictures_beside_it_and_its_entries_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_files, "EMBEDDED_BYTES", 10)
    monkeypatch.setattr(review_files, "PART", 2)
    run = make_run(tmp_path, [receipt(f"{at}.png", f"{at}.00") for at in range(3)])
    written = write_review(run.directory, tmp_path / "page" / "r.html")
    two = written.with_name("r-2.html").read_text(encoding="utf-8")
    assert [entry["path"] for entry in block(two, "data")["entries"]] == ["2.png"]
    (page,) = block(two, f"media-{run.ids['2.png']}")["pages"]
    assert (written.parent / page["src"]).read_bytes()[8:12] == b"WEBP"
    assert "img-src data: &#39;self&#39;" in two
    assert 'href="r.html"' in two and 'href="r-2.html"' in written.read_text(encoding="utf-8")


def test_a_moved_folder_is_said_with_input(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png")], input=str(tmp_path / "gone"))
    data = block(write_review(run.directory).read_text(), f"media-{run.ids['a.png']}")
    assert "--input" in data["problem"]
    data = block(
        write_review(run.directory, root=run.inputs).read_text(), f"media-{run.ids['a.png']}"
    )
    assert data["pages"]


def test_an_exported_file_comes_home_through_the_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, [text_document("a.txt", "ACME")])
    file = tmp_path / "corrections.jsonl"
    made = {"record": run.ids["a.txt"], "field": "company", "verdict": "corrected"}
    file.write_text(json.dumps({**made, "value": "ACME LTD", "at": "2026-01-31T12:00:00.000Z"}))
    done = CliRunner().invoke(app, ["review", str(run.directory), "--import", str(file)])
    assert done.exit_code == 0 and "1 corrections taken" in done.output
    (line,) = (run.directory / RECORDS).read_text().splitlines()
    record = json.loads(line)
    assert record["output"] == {"company": "ACME"}
    assert record["corrections"][0]["value"] == "ACME LTD"
    assert import_corrections(run.directory, file) == 1  # the same again changes nothing
    html = write_review(run.directory).read_text()
    assert block(html, "data")["entries"][0]["corrections"][0]["value"] == "ACME LTD"


def test_while_a_run_is_going_on_its_views_are_left_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, [text_document("a.txt", "ACME")])
    with Store.open(run.directory):
        review_files.refresh_views(run.directory)
    assert "not refreshed" in capsys.readouterr().err


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got"):
        write_review(tmp_path)
