from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from pipelines.ocr import Tesseract, find_tesseract, read_words
from tests.papers import LETTER, scan

REAL = find_tesseract()


def program(path: Path, script: str) -> Tesseract:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Tesseract(str(path), seconds=5)


TABLE = "\\n".join(
    "\\t".join(row)
    for row in (
        ["level"] * 12,
        ["1", "1", "0", "0", "0", "0", "0", "0", "100", "50", "-1", ""],
        ["5", "1", "2", "1", "3", "1", "10", "5", "20", "10", "96.5", "Total"],
        ["5", "1", "2", "1", "3", "2", "40", "5", "20", "10", "12", " "],
        ["5", "1", "2", "1", "4", "1", "40", "25", "50", "25", "50", "9.50"],
        ["broken"],
    )
)


def test_the_table_is_read(tmp_path: Path) -> None:
    words = read_words(
        np.zeros((50, 100), np.uint8), program(tmp_path / "t", f"cat >/dev/null; printf '{TABLE}'")
    )
    assert words and [(word.text, word.line, word.confidence) for word in words] == [
        ("Total", (2, 1, 3), 0.965),
        ("9.50", (2, 1, 4), 0.5),
    ]
    assert words[0].box == (0.1, 0.1, 0.3, 0.3)
    assert words[1].box == (0.4, 0.5, 0.9, 1.0)


@pytest.mark.parametrize(
    ("shape", "mode"), [((100, 50), "6"), ((100, 100), "3"), ((50, 100, 3), "3")]
)
def test_it_gets_a_plain_picture_and_a_mode(
    tmp_path: Path, shape: tuple[int, ...], mode: str
) -> None:
    note, seen = tmp_path / "note", tmp_path / "seen"
    tesseract = program(tmp_path / "t", f"echo \"$@\" > {note}; cat > {seen}; printf '{TABLE}'")
    assert read_words(np.full(shape, 65, np.uint8), tesseract)
    assert note.read_text().split() == ["-", "-", "-l", "eng", "--psm", mode, "tsv"]
    head = f"{'P5' if len(shape) == 2 else 'P6'}\n{shape[1]} {shape[0]} 255\n"
    assert seen.read_bytes().split() == [*head.encode().split(), b"A" * int(np.prod(shape))]


def test_failures_are_none(tmp_path: Path) -> None:
    page = np.zeros((50, 50), np.uint8)
    assert read_words(page, program(tmp_path / "a", "cat >/dev/null; exit 1")) is None
    assert read_words(page, Tesseract(str(tmp_path / "missing"))) is None
    slow = Tesseract(program(tmp_path / "b", "exec sleep 60").program, seconds=0.2)
    assert read_words(page, slow) is None


@pytest.mark.skipif(REAL is None, reason="tesseract is not installed")
def test_the_real_program_reads_a_scan() -> None:
    assert REAL
    words = read_words(scan(*LETTER), REAL)
    assert words and " ".join(LETTER) == " ".join(word.text for word in words)
    assert len({word.line for word in words}) == len(LETTER)
