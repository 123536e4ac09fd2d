"""Documents as lines and the field values that stand in them; knows nothing of pixels or prompts.

A line is a tuple of pieces. A piece is plain text or a pair (field name, text); the pieces of one
field, joined by a space, are its value. A tab inside plain text parts the columns of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from training.generators import lists
from training.generators.words import Source

Piece = str | tuple[str, str]
Line = tuple[Piece, ...]


@dataclass
class Document:
    """`fields` are the names its schema asks for; one that no line holds is absent."""

    kind: str
    fields: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    alignments: list[str] = field(default_factory=list)  # left, center or right, one per line
    items: list[dict[str, str]] = field(default_factory=list)

    def add(self, *pieces: Piece, align: str = "left") -> None:
        if any(piece if isinstance(piece, str) else piece[1] for piece in pieces):
            self.lines.append(pieces)
            self.alignments.append(align)

    def add_all(self, lines: Iterable[str], align: str = "left") -> None:
        for line in lines:
            self.add(line, align=align)

    def values(self) -> dict[str, str | None]:
        """The value of every field of the schema and of every other field that a line holds."""
        found: dict[str, list[str]] = {}
        for line in self.lines:
            for piece in line:
                if not isinstance(piece, str):
                    found.setdefault(piece[0], []).append(piece[1])
        joined = {name: " ".join(" ".join(parts).split()) for name, parts in found.items()}
        present = {name: value or None for name, value in joined.items()}
        return {name: None for name in self.fields if name not in present} | present

    def map_text(self, change: Callable[[str], str]) -> None:
        """Change every piece of text in place, values together with their surroundings."""
        self.lines = [
            tuple(
                change(piece) if isinstance(piece, str) else (piece[0], change(piece[1]))
                for piece in line
            )
            for line in self.lines
        ]

    def keep(self, wanted: list[bool]) -> None:
        """Drop the lines that are not wanted."""
        self.lines = [line for line, keep in zip(self.lines, wanted, strict=True) if keep]
        self.alignments = [name for name, keep in zip(self.alignments, wanted, strict=True) if keep]


def line_text(line: Line) -> str:
    return "".join(piece if isinstance(piece, str) else piece[1] for piece in line)


def text(document: Document, *, cells: bool = False) -> str:
    """The document's lines; with `cells` every column of a line stands on a line of its own."""
    lines = (line_text(line) for line in document.lines)
    return "\n".join(line.replace("\t", "\n" if cells else " ") for line in lines)


def label(source: Source, name: str) -> str:
    """One of the labels of a list."""
    return source.pick(lists.load(name))


def lead(source: Source, name: str) -> str:
    """A label and the space after it; nothing for the empty label."""
    chosen = label(source, name)
    return f"{chosen} " if chosen else ""


def columns(source: Source, name: str) -> str:
    """A table's head from a list whose entries part their columns by a colon."""
    return label(source, name).replace(":", "\t")
