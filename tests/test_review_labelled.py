"""flows/review_labelled.py: decisions become a set for `flows eval`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.corrections import Correction, Corrections
from flows.review_labelled import label, words_of, write_labelled
from model_onnx.errors import UsageError
from pipelines.labelled import read_set
from tests.review_run import Run, Value, cleaned, make_run, receipt, record, recording

AT = "2026-01-31T12:00:00Z"


def decide(run: Run, *made: tuple[str, str, str, str | None]) -> None:
    layer = Corrections.of_run(run.directory)
    layer.save(Correction(run.ids[name], field, verdict, value, AT)  # type: ignore[arg-type]
               for name, field, verdict, value in made)  # fmt: skip
    layer.close()


def test_what_was_accepted_or_corrected_becomes_a_labelled_set(tmp_path: Path) -> None:
    documents = [
        receipt("a.png"),
        receipt("deep/b.png"),
        cleaned("c.txt"),
        recording("d.wav"),
        receipt("e.png"),
    ]
    run = make_run(tmp_path, documents)
    decide(
        run,
        ("a.png", "", "accepted", None),
        ("deep/b.png", "total", "corrected", "99"),
        ("deep/b.png", "company", "corrected", None),
        ("c.txt", "text", "corrected", "The sum is 12.50\u2028"),
        ("d.wav", "", "rejected", None),
    )
    assert write_labelled(run.directory, tmp_path / "set") == 3
    rows = {row.file: row for row in read_set(tmp_path / "set")}
    assert set(rows) == {"a.png", "deep/b.png", "c.txt"}
    assert rows["a.png"].output == {"company": "ACME", "total": "12.50", "date": None}
    assert rows["a.png"].schema == "receipt"
    assert rows["deep/b.png"].output == {"company": None, "total": "99", "date": None}
    assert rows["c.txt"].text == "The sum is 12.50\u2028"
    assert (tmp_path / "set/a.png").read_bytes() == documents[0].content


def test_nothing_decided_or_a_missing_file_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png")])
    with pytest.raises(UsageError, match="--serve"):
        write_labelled(run.directory, tmp_path / "set")
    decide(run, ("a.png", "", "accepted", None))
    (run.inputs / "a.png").unlink()
    with pytest.raises(UsageError, match=r"a.png: .*--input"):
        write_labelled(run.directory, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_values_are_the_words_of_the_document_wherever_they_stand() -> None:
    output = {"total": "12.5", "items": [{"name": "tea"}, {"name": "milk"}], "seller": {"city": 1}}
    values = {
        "total": Value("RM12.50"),
        "items[0].name": Value("TEA"),
        "items[1].name": Value("MILK"),
        "seller.city": Value("York"),
    }
    made = words_of(record("extract", output, values), {"items[1].name": "OAT", "gone[3].x": "y"})
    assert made == {
        "total": "RM12.50",
        "items": [{"name": "TEA"}, {"name": "OAT"}],
        "seller": {"city": "York"},
    }
    assert output["total"] == "12.5"


def test_items_of_lists_are_added_and_removed() -> None:
    output = {"items": [{"name": "tea"}, {"name": "milk"}], "phones": None, "none": []}
    added = {
        "items[3].name": "bread",
        "items[3].price.amount": "3",
        "phones[0]": "123",
        "none[1].x[0]": "y",
        "items[99999].name": "too far",
    }
    made = words_of(record("extract", output), added, ["items[0]", "items[2]", "phones[7]"])
    assert made == {
        "items": [{"name": "milk"}, {"name": "bread", "price": {"amount": "3"}}],
        "phones": ["123"],
        "none": [{"x": ["y"]}],
    }


@given(st.text(max_size=20) | st.from_regex(r"(a|b)(\[\d{1,9}\]|\.[a-c]){0,4}", fullmatch=True))
def test_no_path_raises(path: str) -> None:
    made = record("extract", {"a": [1, {"b": []}], "b": {"a": None}}, {})
    json.dumps(words_of(made, {path: "x", f"{path}.c": "y"}, [path]))


def test_a_tag_keeps_its_labels_and_other_subtasks_are_refused() -> None:
    output = {"label": "memo", "labels": ["memo"], "probabilities": {"memo": 0.9, "letter": 0.1}}
    made = [Correction("0" * 16, "label", "corrected", "letter", AT)]
    assert label(record("tag", output), made, {}, "a.txt") == {
        "file": "a.txt",
        "subtask": "tag",
        "labels": ["memo", "letter"],
        "label": "letter",
    }
    with pytest.raises(UsageError, match="upper"):
        label(record("upper", {}), [], {}, "a.txt")


def test_the_schema_is_the_one_that_was_used() -> None:
    made = record("extract", {}, schema="Invoice")
    assert label(made, [], {"asked_schema": "auto"}, "a")["schema"] == "invoice"
    assert label(made, [], {"asked_schema": "memo"}, "a")["schema"] == "memo"
    own = label(made, [], {"asked_schema": "pipelines.schemas:Receipt"}, "a")["schema"]
    assert own["properties"]["total"]
