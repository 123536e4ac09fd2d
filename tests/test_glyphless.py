"""pipelines/glyphless.py: codes, their meaning, and the order in which letters are seen."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_onnx.errors import InputError
from pipelines.glyphless import Codes, Piece, clusters_of, content, font_file, in_sight


def meanings(codes: Codes) -> dict[str, str]:
    blocks = re.findall(r"beginbfchar\n(.*?)endbfchar", codes.to_unicode().decode(), re.DOTALL)
    pairs = re.findall(r"<(\w{4})> <(\w+)>", "".join(blocks))
    return {code: bytes.fromhex(text).decode("utf-16-be") for code, text in pairs}


@given(st.text(max_size=40))
def test_what_is_written_means_the_text(text: str) -> None:
    codes = Codes()
    written = codes.encode(clusters_of(text))
    read = meanings(codes)
    said = "".join(read[written[at : at + 4]] for at in range(0, len(written), 4))
    assert said == "".join(clusters_of(text))
    assert not text.isprintable() or said.split() == text.split()
    assert "0000" not in read and len(codes.to_glyphs()) == 2 * len(read) + 2


@given(st.text(max_size=30))
def test_the_order_in_sight_loses_nothing(text: str) -> None:
    assert sorted(in_sight(text)) == sorted(clusters_of(text))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("abc 12", "abc 12"),
        ("שלום", "םולש"),
        ("שלום עולם", "םלוע םולש"),
        ("שלום 12.50 ab", "ab 12.50 םולש"),
        ("שלום ab 12", "ab 12 םולש"),
        ("see שלום now", "see םולש now"),
        ("e\u0301a", "e\u0301a"),
        ("בְּ", "בְּ"),
        ("", ""),
    ],
)
def test_right_to_left_is_written_as_it_is_seen(text: str, seen: str) -> None:
    assert "".join(in_sight(text)) == seen


def test_a_piece_spans_its_box() -> None:
    piece = Piece("ab", (10.0, 20.0), (30.0, 0.0), (0.0, 5.0))
    made = content([piece, Piece(" ", (0, 0), (1, 0), (0, 1))], "F", Codes()).decode().split("\n")
    assert made[:4] == ["q", "BT", "/F 1 Tf", "3 Tr"]
    assert made[4:6] == ["30.0000 0.0000 0.0000 5.0000 10.0000 21.0000 Tm", "<000100020003> Tj"]
    assert made[6:] == ["ET", "Q", ""]


def test_a_document_of_too_many_letters_ends() -> None:
    with pytest.raises(InputError, match="60,000"):
        Codes().encode(f"{at:x}" for at in range(60_001))


def test_the_font_is_one() -> None:
    tables = pytest.importorskip("fontTools.ttLib").TTFont(
        io.BytesIO(font_file()), checkChecksums=2
    )
    assert tables["maxp"].numGlyphs == 2 and tables["head"].unitsPerEm == 1000
    assert [tables["hmtx"].metrics[name][0] for name in tables.getGlyphOrder()] == [500, 500]
