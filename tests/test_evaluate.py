from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_onnx.errors import InputError
from pipelines.comparison import compare
from pipelines.cues import read_cues
from pipelines.evaluate import Report, evaluate, report, score
from pipelines.extract import subtask as extract_subtask
from pipelines.items import Item
from pipelines.labelled import Row, write_set
from pipelines.options import Options
from pipelines.records import Source
from pipelines.subtask import run
from tests.fakes import Answered, Asked, FakeEngine, Respond

SCHEMA: dict[str, Any] = {
    "title": "Bill",
    "type": "object",
    "properties": {
        "company": {"type": ["string", "null"]},
        "total": {"type": ["number", "null"]},
        "note": {"type": ["string", "null"]},
    },
}


def read(path: Path) -> Item:
    source = Source(path=path.name, sha256="0" * 64, kind="text")
    return Item(source, cues=read_cues(path))


def scores(tmp_path: Path, row: Row, text: str, said: Respond) -> dict[str, Any]:
    (tmp_path / row.file).write_text(text)
    item = read(tmp_path / row.file)
    from pipelines.evaluate import subtask_for

    return score(row, run(FakeEngine(said), subtask_for(row), item), item).ratios


def bill(**output: Any) -> Row:
    return Row("a.txt", "extract", schema=SCHEMA, output=output, unseen=("company",))


def test_fields_by_hand(tmp_path: Path) -> None:
    row = bill(company="Acme Trading.", total="12.5", note=None)
    said = '{"company":"ACME TRADING","total":"RM12.50","note":"BYE"}'
    got = scores(tmp_path, row, "ACME TRADING RM12.50 GOODBYE", lambda asked: said)
    assert got["extract.f1.exact"] == (0, 5)
    assert got["extract.f1.normalised"] == (0, 5)
    assert got["extract.f1.tight"] == (2, 5)
    assert got["extract.precision.tight"] == (1, 3)
    assert got["extract.recall.tight"] == (1, 2)
    assert {got["extract.tight.company"], got["extract.tight.unseen"]} == {(1, 1)}
    assert {got["extract.tight.total"], got["extract.tight.note"]} == {(0, 1)}
    assert got["extract.abstained"] == (0, 1)
    assert got["extract.hallucinated"] == (0, 3)
    assert got["extract.failed"] == (0, 1)


def test_the_parsed_form_counts_too(tmp_path: Path) -> None:
    row = bill(company=None, total="12.50", note=None)
    said = '{"company":null,"total":"RM12.50","note":null}'
    got = scores(tmp_path, row, "RM12.50", lambda asked: said)
    assert got["extract.f1.exact"] == (2, 2)
    assert {got["extract.exact.total"], got["extract.exact.note"]} == {(1, 1)}
    assert got["extract.abstained"] == (2, 2)


def test_a_failed_record_has_found_nothing(tmp_path: Path) -> None:
    row = bill(company="A", total=None, note=None)
    got = scores(tmp_path, row, "A", lambda asked: Answered("A " * 30, finish="loop"))
    assert got["extract.f1.exact"] == (0, 1)
    assert {got["extract.looped"], got["extract.failed"]} == {(1, 1)}


def test_texts_by_hand(tmp_path: Path) -> None:
    row = Row("a.txt", "clean", text="the cat\nsat down", unseen=("text",))
    got = scores(tmp_path, row, "tbe cat\nsat dovvn", lambda asked: "the cat\nsat dovvn")
    assert got["clean.cer_before"] == (3, 16)
    assert {got["clean.cer"], got["clean.cer.unseen"]} == {(2, 16)}
    assert got["clean.cut"] == (1, 3)
    assert got["clean.wer"] == (1, 4)
    assert (got["clean.worse"], got["clean.improved"]) == ((0, 2), (1, 2))
    assert got["clean.exact"] == (0, 1)


def test_labels_by_hand(tmp_path: Path) -> None:
    row = Row("a.txt", "tag", labels=("x", "y"), label="y")
    assert scores(tmp_path, row, "t", lambda asked: "y")["tag.accuracy"] == (1, 1)
    assert scores(tmp_path, row, "t", lambda asked: "x")["tag.accuracy"] == (0, 1)


def a_set(tmp_path: Path) -> Path:
    rows = [Row(f"{n}.txt", "clean", text=f"word {n}") for n in range(6)]
    texts = {row.file: row.text.replace("word", "vvord") for row in rows}
    return write_set(tmp_path / "set", rows, lambda path, row: path.write_text(texts[row.file]))


def fix(asked: Asked) -> str:
    return asked.text.replace("vv", "w") if "3" not in asked.text else asked.text


def test_a_set_becomes_a_report(tmp_path: Path) -> None:
    made = evaluate(FakeEngine(fix), a_set(tmp_path), read=read, threads=2)
    assert made.metrics["clean.cer"].value == pytest.approx(2 / 36)
    assert made.metrics["clean.cut"].value == pytest.approx(10 / 12)
    assert made.metrics["clean.cer"].n == 6
    assert sorted(made.items) == [f"{n}.txt" for n in range(6)]
    assert Report.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert "clean.cer" in made.table() and "clean.worse" in made.table()
    assert (
        evaluate(FakeEngine(fix), a_set(tmp_path), read=read, limit=2).metrics["clean.cer"].n == 2
    )


def test_thinking_is_asked_for_and_its_tokens_are_counted(tmp_path: Path) -> None:
    engine = FakeEngine(fix)
    folder = a_set(tmp_path)
    plain = evaluate(FakeEngine(fix), folder, read=read)
    made = evaluate(engine, folder, read=read, options=Options(thinking=50))
    assert {asked.request and asked.request.thinking for asked in engine.asked} == {50}
    assert (plain.thinking, made.thinking) == (0, 50)
    tokens = [r.metrics["clean.tokens"].value or 0.0 for r in (plain, made)]
    assert tokens[1] == tokens[0] + len("hm") + 2
    assert Report.from_json(json.loads(json.dumps(made.to_json()))) == made
    changes = {change.metric: change.verdict for change in compare(plain, made).changes}
    assert changes["clean.cer"] == "same" and changes["clean.tokens"] == "worse"


def test_an_unreadable_file_is_a_failure_of_its_row(tmp_path: Path) -> None:
    def broken(path: Path) -> Item:
        if path.name == "2.txt":
            raise InputError("damaged", reason="damaged")
        return read(path)

    made = evaluate(FakeEngine(fix), a_set(tmp_path), read=broken)
    assert made.metrics["clean.failed"].value == pytest.approx(1 / 6)


def test_calibration_pools_the_values_of_all_items(tmp_path: Path) -> None:
    said = iter([Answered('{"company":"A","total":null,"note":null}', -0.1)] * 9)
    subtask = extract_subtask(SCHEMA)
    rows = [bill(company=text, total=None, note=None) for text in ("A", "A", "A", "B")]
    made = []
    for row in rows:
        (tmp_path / row.file).write_text("A")
        item = read(tmp_path / row.file)
        made.append(score(row, run(FakeEngine(lambda asked: next(said)), subtask, item), item))
    confidence = 2.718281828**-0.3  # three tokens: quote, A, quote
    found = report(made, "set", FakeEngine(fix)).metrics["extract.ece"].value
    assert found == pytest.approx(abs(confidence - 0.75))
