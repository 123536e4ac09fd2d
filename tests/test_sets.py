from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import baseline, sets
from pipelines.extract import describe, instruction, subtask
from pipelines.labelled import read_set

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def a_copy(tmp_path: Path) -> Path:
    """Eight small receipts and some recordings laid out as the shared data."""
    data = tmp_path / "data"
    for folder in ("lines", "fields", "images"):
        (data / "receipts" / folder).mkdir(parents=True)
    for number in range(8):
        name = f"{number:03}"
        fields = {
            "company": "SAME" if number < 6 else "OTHER",
            "date": None,
            "total": f"{number}.00",
        }
        lines = [
            {"bbox": [10, 10, 60, 30], "text": fields["company"]},
            {"bbox": [10, 40, 60, 60], "text": f"TOTAL {number}.00"},
        ]
        (data / "receipts" / "fields" / f"{name}.json").write_text(json.dumps(fields))
        (data / "receipts" / "lines" / f"{name}.json").write_text(json.dumps(lines))
        sheet = Image.fromarray(np.full((80, 100), 255, np.uint8))
        sheet.save(data / "receipts" / "images" / f"{name}.jpg")
    (data / "digits").mkdir()
    for name in ("7_theo_0", "7_theo_1", "3_theo_5", "9_yweweler_1"):
        (data / "digits" / f"{name}.wav").write_bytes(b"RIFF")
    return data


def test_every_fourth_receipt_is_held_out(tmp_path: Path) -> None:
    data = a_copy(tmp_path)
    rows = read_set(sets.transcript_receipts(data, tmp_path / "set"))
    assert [row.file for row in rows] == ["000.txt", "004.txt"]
    assert (tmp_path / "set" / "004.txt").read_text() == "SAME\nTOTAL 4.00"
    assert rows[1].output == {"company": "SAME", "date": None, "address": None, "total": "4.00"}
    assert rows[1].unseen == ("total",)


def test_line_images_are_cut_out_and_marked(tmp_path: Path) -> None:
    out = sets.receipt_line_images(a_copy(tmp_path), tmp_path / "set")
    rows = read_set(out)
    assert [(row.text, row.unseen) for row in rows[:2]] == [("SAME", ()), ("TOTAL 0.00", ("text",))]
    with Image.open(out / rows[0].file) as image:
        assert image.size == (58, 24)


def test_digits_by_speaker(tmp_path: Path) -> None:
    data = a_copy(tmp_path)
    known = read_set(sets.spoken_digits(data, tmp_path / "a", known=True))
    unseen = read_set(sets.spoken_digits(data, tmp_path / "b", known=False))
    assert [(row.file, row.text) for row in known] == [("3_theo_5.wav", "3"), ("7_theo_0.wav", "7")]
    assert [(row.file, row.text) for row in unseen] == [("9_yweweler_1.wav", "9")]


def test_a_generated_schema_asks_the_same_question() -> None:
    lines = ["company: the shop", "total", "items[]: rows", "items[].name"]
    schema = sets.schema_of(lines)
    assert instruction(describe(schema)).split("\n")[1:] == lines
    subtask(schema)


def test_rules_on_a_receipt() -> None:
    lines = ["ACME SDN BHD", "LOT 1, JALAN 2", "43300 SELANGOR", "TEL 03-123", "DATE 19/10/2018",
             "SUB TOTAL 50.00", "TOTAL RM", "1,060.30", "CASH 2,000.00"]  # fmt: skip
    assert baseline.receipt(lines) == {
        "company": "ACME SDN BHD",
        "date": "19/10/2018",
        "address": "LOT 1, JALAN 2 43300 SELANGOR",
        "total": "1,060.30",
    }
    assert baseline.receipt([]) == dict.fromkeys(sets.FIELDS)
    assert baseline.date(["PRINTED 15 JUN 2018"]) == "15 JUN 2018"
    assert baseline.date(["JUNE 5, 2018"]) == "JUNE 5, 2018"
    assert baseline.total(["1.00", "3.50"]) == "3.50"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_the_split_is_the_one_of_training(tmp_path: Path) -> None:
    from training.generators import real, real_digits

    names = [receipt.name for receipt in real.receipts("heldout")]
    assert names == sets.receipt_names(SHARED, held_out=True)
    known = sorted((SHARED / "digits").glob("*.wav"))
    held = {path.name for path in known if real_digits.digit_held_out(path)}
    made = sets.spoken_digits(SHARED, tmp_path / "a", known=True)
    other = sets.spoken_digits(SHARED, tmp_path / "b", known=False)
    assert held == {row.file for row in (*read_set(made), *read_set(other))}
