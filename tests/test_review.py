"""flows/review.py: what the page says of each input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.corrections import Correction
from flows.review import ADVICE, CHECKS, entries
from flows.store import Store
from tests.review_run import (
    Value,
    calling,
    cleaned,
    failed,
    make_run,
    receipt,
    record,
    recording,
    text_document,
)

ROOT = Path(__file__).parents[1]


def test_each_input_is_an_entry_with_its_values_and_what_to_do(tmp_path: Path) -> None:
    documents = [receipt("a.png", sure=0.4), cleaned("b.txt"), recording("c.wav"), failed("d.pdf")]
    run = make_run(tmp_path, documents)
    made = Correction(run.ids["a.png"], "total", "corrected", "9", "2026-01-31T12:00:00Z")
    with Store.read(run.directory) as store:
        one, two, three, four = entries(store, {made.record: [made]})
    assert one["corrections"] == [vars(made)] and one["edit"] == "fields"
    assert one["sure"] == 0.4
    assert {field["path"]: field["state"] for field in one["fields"]} == {
        "company": "none",
        "total": "exact",
        "date": "absent",
    }
    assert one["fields"][1]["box"] == [0.5, 0.4, 0.9, 0.5]
    assert two["edit"] == "text" and two["edits"][1]["refused"] == "protected"
    assert three["segments"][1]["text"] == "nine" and three["kind"] == "recording"
    assert four["status"] == "failed" and "password" in four["advice"] and "fields" not in four


def test_thoughts_stand_beside_the_values_where_they_were_kept(tmp_path: Path) -> None:
    documents = [text_document("a.txt", "12.50", thoughts=["one", "two"]), cleaned("b.txt")]
    with Store.read(make_run(tmp_path, documents).directory) as store:
        thinking, plain = entries(store, {})
    assert thinking["thoughts"] == ["one", "two"] and plain["thoughts"] == []
    assert [field["value"] for field in thinking["fields"]] == ["12.50"]


def test_calls_say_what_was_done_and_what_waits(tmp_path: Path) -> None:
    with Store.read(make_run(tmp_path, [calling("a.txt")]).directory) as store:
        (entry,) = entries(store, {})
    assert entry["calls"] == [
        {"tool": "find_supplier", "state": "ran", "outcome": '{"id": 17}'},
        {"tool": "file_invoice", "state": "proposed", "outcome": ""},
        {"tool": "notify", "state": "failed", "outcome": "no result within 30 s"},
    ]
    assert entry["answer"].startswith("Filed.") and entry["edit"] == "fields"
    assert [field["path"] for field in entry["fields"]] == ["calls[0].arguments.name"]


def test_an_input_without_a_key_has_an_entry_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png")])
    with Store.open(run.directory) as store:
        store.settle(b"a.png", state="unsupported", reason="unsupported", message="no kind")
        (entry,) = entries(store, {})
    assert re.fullmatch("[0-9a-f]{16}", entry["id"]) and entry["advice"].startswith("This kind")


@pytest.mark.parametrize(
    ("value", "reason", "state"),
    [
        ("words", "not in the evidence: a, b", "none"),
        ("words", "not in the evidence: b; no words to compare with: a", "unguarded"),
        (True, "", "unguarded"),
        ([], "", "absent"),
        (None, "", "absent"),
    ],
)
def test_a_value_that_stands_nowhere_says_which_way(
    tmp_path: Path, value: object, reason: str, state: str
) -> None:
    check = {"name": "ungrounded", "passed": not reason, "reason": reason}
    document = receipt("a.png")
    document.record = record("extract", {"a": value}, {"a": Value(value, 0.9, "none")},
                             checks=[check])  # fmt: skip
    with Store.read(make_run(tmp_path, [document]).directory) as store:
        (entry,) = entries(store, {})
    assert entry["fields"][0]["state"] == state


def sources() -> str:
    folders = (ROOT / "flows", ROOT / "pipelines")
    return "\n".join(path.read_text() for folder in folders for path in folder.glob("*.py"))


def test_every_reason_of_a_failure_has_its_advice() -> None:
    reasons = set(re.findall(r'reason="([a-z_]+)"', sources()))
    assert {"encrypted", "timeout"} < reasons and reasons <= set(ADVICE)


def test_every_check_has_a_title() -> None:
    checks = set(re.findall(r'Check\(\s*name="([a-z_]+)"', sources()))
    assert {"ungrounded", "low_confidence"} < checks and checks <= set(CHECKS)
