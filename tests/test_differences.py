"""pipelines/differences.py: both texts can be read off the pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.differences import Piece, differences

WORDS = st.lists(st.sampled_from(["the", "sum", "12.50", "is", "\n", "AB12", "x"]), max_size=12)


@given(WORDS, WORDS)
def test_the_pieces_hold_both_texts(old: list[str], new: list[str]) -> None:
    before, after = " ".join(old), " ".join(new)
    pieces = differences(before, after)
    assert words(pieces, "out") == split(before)
    assert words(pieces, "in") == split(after)


def words(pieces: tuple[Piece, ...], kind: str) -> list[str]:
    other = {"out": "in", "in": "out"}[kind]
    return split("\0".join(piece.text for piece in pieces if piece.kind != other))


def split(text: str) -> list[str]:
    apart = text.replace("\0", " ").replace("\n", " \n ")
    return [word for word in apart.split(" ") if word]


def test_refused_edits_are_marked_where_they_would_have_been() -> None:
    edits = [
        {"before": "Tbe", "after": "The", "refused": ""},
        {"before": "12.5O", "after": "12.60", "refused": "protected"},
        {"before": "elsewhere", "after": "x", "refused": "unsure"},
        {"before": "", "after": "new", "refused": "added"},
    ]
    pieces = differences("Tbe sum is 12.5O\nof 3 parts", "The sum is 12.5O\nof 3 parts", edits)
    assert pieces == (
        Piece("out", "Tbe"),
        Piece("in", "The"),
        Piece("same", "sum is"),
        Piece("kept", "12.5O", "12.60", "protected"),
        Piece("same", "\nof"),
        Piece("guarded", "3"),
        Piece("same", "parts"),
    )
