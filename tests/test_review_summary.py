"""flows/review_summary.py: the sums of a run, and how right it was where that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.corrections import Correction
from flows.review import entries
from flows.review_summary import expected_of, summary
from flows.store import Store
from tests.review_run import (
    Run,
    cleaned,
    failed,
    invoice,
    make_run,
    receipt,
    recording,
)

AT = "2026-01-31T12:00:00Z"


def summed(run: Run, made: dict[str, list[Any]] | None = None) -> dict[str, Any]:
    corrections = {
        run.ids[name]: [Correction(run.ids[name], *each, AT) for each in rows]
        for name, rows in (made or {}).items()
    }
    with Store.read(run.directory) as store:
        found = summary(list(entries(store, corrections)), expected_of(run.inputs))
    json.dumps(found, allow_nan=False)
    return found


def test_a_run_is_counted_and_its_cost_summed(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, [receipt("a.png"), recording("b.wav"), failed("c.pdf"), failed("d.pdf")]
    )
    found = summed(run)
    assert found["results"] == {"review": 1, "ok": 1, "failed": 2}
    ((status, reason, advice, count),) = found["problems"]
    assert (status, reason, count) == ("failed", "encrypted", 2) and "password" in advice
    assert found["checks"] == [("Every value stands in the source", 1)]
    assert sum(found["confidence"]) == 4 and found["confidence"][19] == 1  # 0.95; absent is none
    assert found["places"] == {"none": 1, "exact": 3}
    cost = found["cost"]
    assert cost["documents"] == 2 and cost["pages"] == 1 and cost["median"] == 0.6
    assert cost["seconds"] == pytest.approx({"parse": 0.2, "prefill": 0.4, "decode": 0.6})
    assert (cost["read"], cost["written"]) == (200, 40)
    assert cost["curve"] == [(0.6, 120), (0.6, 120)]
    assert found["truth"] is None


def test_expected_values_say_what_was_right(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png"), receipt("b.png", "9.00", sure=0.3)])
    rows: list[dict[str, Any]] = [
        {"company": "ACME", "total": "12.5", "date": "3 May"},
        {"company": None, "total": "8.00", "date": None},
    ]
    lines = [
        {"file": f"{name}.png", "subtask": "extract", "schema": "receipt", "output": row}
        for name, row in zip("ab", rows, strict=True)
    ]
    (run.inputs / "expected.jsonl").write_text("\n".join(map(json.dumps, lines)))
    truth = summed(run)["truth"]
    assert (truth["records"], truth["labelled"]) == (2, 2)
    assert (truth["values"], truth["right"]) == (4, 2)
    # b's total: another value; b's company: stands nowhere; a's date: missed
    assert dict(truth["errors"]) == {"another": 1, "invented": 1, "missed": 1}
    fields = {row[0]: row[1:] for row in truth["fields"]}
    assert fields["total"][0] == 0.5 and fields["date"][0] == 0.0
    assert fields["company"][0] == pytest.approx(2 / 3)
    low, high = fields["total"][1:3]
    assert low <= 0.5 <= high
    assert sum(row["n"] for row in truth["bins"]) == 4
    assert truth["threshold"][0][:2] == (0.95, 1.0) and truth["suggested"] is None


def test_a_set_of_another_schema_or_without_its_files_is_no_truth(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png")])
    line = {"file": "a.png", "subtask": "extract", "schema": "memo", "output": {"total": "12.5"}}
    labels = run.inputs / "expected.jsonl"
    labels.write_text(json.dumps(line))
    assert summed(run)["truth"] is None
    labels.write_text(json.dumps(line | {"schema": "receipt", "file": "gone.png"}))
    assert summed(run)["truth"] is None
    assert expected_of(None) == {} == expected_of(tmp_path)


def test_what_a_person_decided_is_the_truth_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path, [invoice("a.png"), cleaned("b.txt"), receipt("c.png")])
    made: dict[str, list[Any]] = {
        "a.png": [
            ("items[0].price", "corrected", "1.60"),
            ("items[1]", "rejected", None),
            ("items[2].name", "corrected", "bread"),
        ],
        "b.txt": [("text", "corrected", "The sum is 12.50\nof 3 parts")],
        "c.png": [("", "rejected", None)],
    }
    truth = summed(run, made)["truth"]
    assert (truth["records"], truth["labelled"], truth["values"]) == (2, 0, 4)
    # tea is right; 1.50 should be 1.60; the removed line's name takes the added one's place
    assert truth["right"] == 1
    assert dict(truth["errors"]) == {"another": 2, "invented": 1}
    assert truth["characters"]["value"] == pytest.approx(1 / 27)


def test_a_large_run_has_few_points(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png")])
    with Store.read(run.directory) as store:
        (one,) = entries(store, {})
    found = summary([one] * 1000, {})
    assert len(found["cost"]["curve"]) == 60 and len(found["cost"]["dearest"]) == 10
