"""flows/corrections.py: a layer beside the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from flows.corrections import Correction, Corrections, decision, read_corrections, standing, values
from flows.shared import keep_password
from flows.store import RECORDS, Store
from flows.views import write_views
from model_onnx.errors import OutputError, UsageError
from tests.postgres import server
from tests.review_run import make_run, receipt, text_document

AT = "2026-01-31T12:00:00.000Z"
ONE = "0123456789abcdef"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


def made(field: str = "total", verdict: Any = "corrected", value: Any = "1", at: str = AT) -> Any:
    return Correction(ONE, field, verdict, value, at)


def in_memory() -> Corrections:
    return Corrections(
        create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    )


@given(TEXTS.filter(bool), TEXTS | st.none() | st.booleans() | st.integers(-(2**53), 2**53))
def test_a_correction_comes_back_as_it_went(field: str, value: Any) -> None:
    layer = in_memory()
    assert layer.all() == {} == standing(layer._engine)
    correction = Correction.of(json.loads(json.dumps(vars(made(field, value=value)))))
    assert layer.save([correction]) == 1
    assert layer.all() == {ONE: [correction]}
    assert values(layer.all()[ONE]) == {field: value}
    layer.close()


def test_the_newest_decision_stands_and_one_taken_back_is_not_exported() -> None:
    layer = in_memory()
    layer.save([made(value="1"), made("", "accepted", None)])
    assert layer.save([made(value="0", at="2025-01-31T12:00:00Z")]) == 0
    assert layer.save([made(value="2", at="2027-01-31T12:00:00Z")]) == 1
    assert values(layer.all()[ONE]) == {"total": "2"}
    assert [row["field"] for row in standing(layer._engine)[ONE]] == ["", "total"]
    layer.save([made(verdict="open", value=None, at="2028-01-31T12:00:00Z")])
    assert standing(layer._engine) == {
        ONE: [{"field": "", "verdict": "accepted", "value": None, "at": AT}]
    }
    layer.close()


@pytest.mark.parametrize(
    ("corrections", "expected"),
    [
        ([], "open"),
        ([made("", "accepted")], "accepted"),
        ([made("", "rejected"), made()], "rejected"),
        ([made("", "accepted"), made()], "corrected"),
        ([made("", "open"), made()], "corrected"),
        ([made("", "rejected", at=AT), made("a", "open")], "rejected"),
        ([made("a", "open")], "open"),
        ([made("", "accepted"), made("items[1]", "rejected", None)], "corrected"),
    ],
)
def test_a_record_has_one_decision(corrections: list[Correction], expected: str) -> None:
    assert decision(corrections) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"record": "../../etc/passwd"},
        {"record": 3},
        {"field": "x" * 501},
        {"field": "a\0b"},
        {"field": "\ud800"},
        {"field": ""},  # a whole record has no value to correct
        {"verdict": "deleted"},
        {"value": ["a"]},
        {"value": float("inf")},
        {"value": float("nan")},
        {"value": "x" * (1 << 21)},
        {"value": "half \udc00"},
        {"at": "yesterday"},
        {"more": 1},
    ],
)
def test_what_is_no_correction_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"got .*, expected"):
        Correction.of({**vars(made()), **change})
    with pytest.raises(UsageError):
        Correction.of([change])


def test_a_file_is_read_line_by_line_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    lines = [json.dumps(vars(made(value="a\u2028b")), ensure_ascii=False), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [row.value for row in read_corrections(path)] == ["a\u2028b"]
    for bad in ("{}", "nonsense", "[" * 3000):
        path.write_text("\n".join([*lines, bad]), encoding="utf-8")
        with pytest.raises(UsageError, match=r"jsonl:3: "):
            read_corrections(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_corrections(tmp_path / "nothing")


def test_corrections_stand_beside_the_output_in_the_exported_records(tmp_path: Path) -> None:
    run = make_run(tmp_path, [receipt("a.png"), text_document("b.txt", "ACME")])
    before = (run.directory / RECORDS).read_text().splitlines()
    layer = Corrections.of_run(run.directory)
    layer.save([Correction(run.ids["a.png"], "total", "corrected", "99", AT)])
    layer.close()
    with Store.open(run.directory) as store:
        write_views(store, run.directory)
    after = [json.loads(line) for line in (run.directory / RECORDS).read_text().splitlines()]
    assert after[0].pop("corrections") == [
        {"field": "total", "verdict": "corrected", "value": "99", "at": AT}
    ]
    assert after == [json.loads(line) for line in before]


def test_a_database_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="permissions"):
        Corrections.of_run(tmp_path / "nowhere").save([made()])


def test_corrections_lie_where_the_run_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "")  # put back afterwards: the next line sets it
    with server() as url:
        run = make_run(tmp_path, [receipt("a.png")], store_url=keep_password(url))
        layer = Corrections.of_run(run.directory)
        assert layer.all() == {}
        correction = Correction(run.ids["a.png"], "total", "corrected", "\u00e9\u2028", AT)
        assert layer.save([correction]) == 1 and layer.save([correction]) == 1
        assert layer.all() == {correction.record: [correction]}
        layer.close()
        with Store.read(run.directory) as store:
            assert standing(store.engine)[correction.record][0]["value"] == "\u00e9\u2028"
    assert not (run.directory / "run.sqlite").exists()
