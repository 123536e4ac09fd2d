"""What `clean` and `repair` did to a text, as pieces that a person can read.

    before  Tbe sum is 12.5O      after  The sum is 12.5O      refused  12.5O -> 12.60

    Piece("out", "Tbe"), Piece("in", "The"), Piece("same", "sum is"),
    Piece("kept", "12.5O", "12.60", "protected")

Knows no model. Words are compared, line breaks count as words, other white space does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from pipelines.guard import protected

Kind = Literal["same", "out", "in", "kept", "guarded"]


@dataclass(frozen=True)
class Piece:
    """guarded: a word that no edit may change; kept: words whose edit into `wanted` was refused."""

    kind: Kind
    text: str
    wanted: str = ""
    refused: str = ""


def differences(
    before: str, after: str, edits: Iterable[Mapping[str, Any]] = ()
) -> tuple[Piece, ...]:
    """edits: as in a record's output; those applied are seen in the texts."""
    old, new = _words(before), _words(after)
    refused = [edit for edit in edits if edit["refused"] and str(edit["before"]).strip()]
    pieces: list[Piece] = []
    for step in Levenshtein.opcodes(old, new):
        if step.tag == "equal":
            pieces += _equal(old[step.src_start : step.src_end], refused)
            continue
        pieces += _piece("out", old[step.src_start : step.src_end])
        pieces += _piece("in", new[step.dest_start : step.dest_end])
    return tuple(pieces)


def _words(text: str) -> list[str]:
    return [word for line in text.split("\n") for word in (*line.split(), "\n")][:-1]


def _piece(kind: Kind, words: Sequence[str]) -> list[Piece]:
    return [Piece(kind, _text(words))] if words else []


def _text(words: Sequence[str]) -> str:
    return " ".join(words).replace(" \n", "\n").replace("\n ", "\n")


def _equal(words: Sequence[str], refused: list[Mapping[str, Any]]) -> Iterator[Piece]:
    """Takes from `refused`, in order, what stands in these words."""
    start = 0
    while refused:
        edit = refused[0]
        wanted = _words(str(edit["before"]))
        at = _find(words, wanted, start)
        if at is None:
            break
        yield from _marked(words[start:at])
        yield Piece("kept", _text(wanted), str(edit["after"]), str(edit["refused"]))
        start = at + len(wanted)
        del refused[0]
    yield from _marked(words[start:])


def _find(words: Sequence[str], wanted: Sequence[str], start: int) -> int | None:
    for at in range(start, len(words) - len(wanted) + 1):
        if words[at : at + len(wanted)] == wanted:
            return at
    return None


def _marked(words: Sequence[str]) -> Iterator[Piece]:
    for guarded, run in groupby(words, protected):
        yield Piece("guarded" if guarded else "same", _text(list(run)))
