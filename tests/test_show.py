"""flows/show.py: one record for a person."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.discover import Entry, Version
from flows.show import find_run, place, print_record, print_records
from flows.store import Store
from model_onnx.errors import UsageError
from tests.review_run import calling, make_run

FIELD = {
    "value": "ACME [bold]\x1b[31m",
    "confidence": 0.987,
    "parsed": None,
    "grounding": {
        "status": "exact",
        "page": 2,
        "box": [0.1, 0.31, 0.4, 0.35],
        "span": None,
        "evidence": "ACME",
    },
}
RECORD = {
    "source": {"sha256": "5" * 64, "kind": "document"},
    "subtask": "extract",
    "output": {"company": FIELD["value"]},
    "fields": {"company": FIELD},
    "checks": [{"name": "sum", "passed": False, "reason": "lines give 3, total says 4"}],
    "model": {"bundle": "b" * 64, "provider": "cpu", "prompt_version": "extract-1"},
    "status": "review",
    "reason": "sum",
}
TIMING = {
    "parse_seconds": 0.5,
    "prefill_seconds": 1.0,
    "decode_seconds": 2.0,
    "prompt_tokens": 700,
    "new_tokens": 20,
}


def test_without_a_name_all_are_printed(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_records(output)
    said = capsys.readouterr().out
    assert [word for word in ("a.pdf", "b.pdf", "c.zip") if word in said] == [
        *("a.pdf", "b.pdf", "c.zip"),
    ]
    assert "page 2, 10% from the left" in said and "needs a password" in said
    assert "not read" in said and "tokens" not in said and "\x1b" not in said


@pytest.fixture
def output(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "out") as store:
        names = ("a.pdf", "b.pdf", "c.zip")
        store.begin([Entry(Path(name), name.encode()) for name in names], {})
        version = Version("5" * 64, 7, ())
        store.identify(b"a.pdf", version, "key", unchanged=False)
        store.identify(b"b.pdf", version, "bad", unchanged=False)
        record, timing = json.dumps(RECORD), json.dumps(TIMING)
        store.finish("key", status="review", reason="sum", record=record, timing=timing)
        store.fail("bad", "encrypted", "needs a password")
        store.settle(b"c.zip", state="unsupported", reason="unsupported", message="not read")
    return tmp_path / "out"


def test_a_record_shows_values_places_and_checks(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_record("a.pdf", output)
    text = capsys.readouterr().out
    assert "ACME [bold]\\x1b[31m" in text and "\x1b[31m" not in text
    assert "0.99" in text and "page 2, 10% from the left, 31% from the top" in text
    assert "FAILED  sum  lines give 3, total says 4" in text
    assert "read 700 tokens in 1.00 s" in text


def test_ids_and_their_beginnings_find_it(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_record("a.pdf", output, as_json=True)
    whole = json.loads(capsys.readouterr().out)
    assert whole["output"] == RECORD["output"] and whole["timing"] == TIMING
    print_record(whole["id"][:6], output.parent, as_json=True)
    assert json.loads(capsys.readouterr().out) == whole


@pytest.mark.parametrize(("name", "words"), [("b.pdf", "needs a password"), ("c.zip", "not read")])
def test_a_failure_shows_its_reason(
    output: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    print_record(name, output)
    assert words in capsys.readouterr().out


def test_what_is_not_there_is_a_usage_error(output: Path, tmp_path: Path) -> None:
    for wanted in ("nothing", ""):
        with pytest.raises(UsageError, match="fits 0"):
            print_record(wanted, output)
    with pytest.raises(UsageError, match="none; say --output"):
        find_run(tmp_path / "elsewhere")


def test_places() -> None:
    nothing = {"page": None, "box": None, "span": None}
    assert place(nothing) == ""
    assert place({**nothing, "span": [1.25, 3]}) == "1.2 s to 3.0 s"
    assert place({**nothing, "page": 3}) == "page 3"


def test_calls_are_printed_with_what_came_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, [calling("a.txt")])
    print_record("a.txt", run.directory)
    said = capsys.readouterr().out
    assert 'calls[0]  find_supplier  ran  {"id": 17}\n' in said
    assert "calls[1]  file_invoice  proposed\n" in said
    assert "calls[2]  notify  failed  no result within 30 s\n" in said
    assert "answer: Filed." in said and "calls[0].arguments.name" in said
