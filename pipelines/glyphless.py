"""Text that can be searched and copied but not seen: a font without ink, and what it is told.

Knows no PDF library: bytes and PDF syntax only. Each cluster of characters (a letter with its
marks) gets a code of its own, all codes show the one empty glyph of the embedded font, and the map
to Unicode says what they mean; so every script is written alike. The codes of a right-to-left text
stand in the order in which its letters are seen, which readers of PDF expect and turn back.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from model_onnx.errors import InputError

FONT_NAME = "ScanscribeGlyphless"
ADVANCE = 0.5  # of the letters' height: the width of every glyph
DESCENT = 0.2  # of the height, below the line
_MOST_CODES = 60_000
_LONGEST = 4  # characters of a cluster
_NO_CHARACTERS = {"\0", "\ufeff", "\ufffe", "\uffff"}  # PDF/A allows them nowhere


@dataclass(frozen=True)
class Piece:
    """A word or a line, and where it stands in the space of a PDF page: the left end of its line,
    the way along it to its right end, the way from its foot to its head."""

    text: str
    origin: tuple[float, float]
    along: tuple[float, float]
    up: tuple[float, float]


class Codes:
    """Cluster -> code, from 1, in the order of their first use in a document."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, clusters: Iterable[str]) -> str:
        """Hexadecimal, two bytes a cluster. Raises InputError."""
        found = []
        for cluster in clusters:
            code = self._codes.setdefault(cluster, len(self._codes) + 1)
            if code > _MOST_CODES:
                raise InputError(
                    "got more than 60,000 different letters, expected fewer; split the document",
                    reason="too_large",
                )
            found.append(f"{code:04X}")
        return "".join(found)

    def to_unicode(self) -> bytes:
        """The CMap that says what the codes mean."""
        lines = [f"<{code:04X}> <{_utf16(text)}>" for text, code in self._codes.items()]
        blocks = [lines[at : at + 100] for at in range(0, len(lines), 100)]
        body = "".join(
            f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar\n" for block in blocks
        )
        return (_CMAP_HEAD + body + _CMAP_END).encode("ascii")

    def to_glyphs(self) -> bytes:
        """CIDToGIDMap: glyph 1 for all, never glyph 0, which stands for a missing one."""
        return b"\0\1" * (len(self) + 1)


def content(pieces: Iterable[Piece], font: str, codes: Codes) -> bytes:
    """What is appended to a page. A space behind each piece keeps readers from joining two."""
    lines = ["q", "BT", f"/{font} 1 Tf", "3 Tr"]
    for piece in pieces:
        clusters = list(in_sight(piece.text))
        if not clusters:
            continue
        width = ADVANCE * len(clusters)
        x, y = (o + DESCENT * u for o, u in zip(piece.origin, piece.up, strict=True))
        matrix = (*(a / width for a in piece.along), *piece.up, x, y)
        numbers = " ".join(f"{number:.4f}" for number in matrix)
        lines += [f"{numbers} Tm", f"<{codes.encode([*clusters, ' '])}> Tj"]
    return "\n".join([*lines, "ET", "Q\n"]).encode("ascii")


def clusters_of(text: str) -> Iterator[str]:
    """Letters with their marks; white space folded, what PDF/A forbids left out."""
    cluster = ""
    for character in " ".join(text.split()):
        if character in _NO_CHARACTERS or unicodedata.category(character) in ("Cs", "Cc"):
            continue
        mark = unicodedata.category(character) in ("Mn", "Me")
        if cluster and not (mark and len(cluster) < _LONGEST):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def in_sight(text: str) -> Iterator[str]:
    """The clusters from left to right as they are seen: Unicode's rules with two levels."""
    clusters = list(clusters_of(text))
    sides = list(_sides(clusters))
    if "R" not in sides:
        return iter(clusters)
    base = next(side for side in sides if side in ("L", "R"))
    runs = list(_runs(sides, base))
    if base == "R":
        runs.reverse()
    ordered = (
        clusters[start:end][::-1] if side == "R" else clusters[start:end]
        for side, start, end in runs
    )
    return (cluster for run in ordered for cluster in run)


def _sides(clusters: Iterable[str]) -> Iterator[str]:
    """L, R, N for numbers (L behind L), or "" for what goes with its neighbours."""
    strong = ""
    for cluster in clusters:
        kind = unicodedata.bidirectional(cluster[0])
        if kind in ("L", "R", "AL"):
            strong = "L" if kind == "L" else "R"
            yield strong
        else:
            number = "L" if strong == "L" else "N"
            yield number if kind in ("EN", "AN") else ""


def _runs(sides: list[str], base: str) -> Iterator[tuple[str, int, int]]:
    """(side, start, end). What has no side is in a run when both its ends are, else in the base."""
    known = list(sides)
    at = 0
    while at < len(known):
        end = at
        while end < len(known) and not sides[end]:
            end += 1
        before, after = known[at - 1] if at else base, sides[end] if end < len(sides) else base
        known[at:end] = [before if before == after else base] * (end - at)
        at = end + 1
    start = 0
    for at in range(1, len(known) + 1):
        if at == len(known) or known[at] != known[start]:
            yield known[start], start, at
            start = at


def _utf16(text: str) -> str:
    return text.encode("utf-16-be").hex().upper()


def font_file() -> bytes:
    """A TrueType font of two glyphs without outlines, half as wide as high."""
    units, wide, ascent, descent = 1000, int(1000 * ADVANCE), int(1000 * (1 - DESCENT)), -200
    tables = {
        "glyf": bytes(4),
        "head": struct.pack(
            ">IIIIHHQQhhhhHHhhh",
            *(0x10000, 0x10000, 0, 0x5F0F3CF5, 0, units, 0, 0, 0, descent, wide, ascent),
            *(0, 8, 2, 0, 0),
        ),
        "hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x10000, ascent, descent, 0, wide, *[0] * 11, 1),
        "hmtx": struct.pack(">Hhh", wide, 0, 0),
        "loca": bytes(6),
        "maxp": struct.pack(">I14H", 0x10000, 2, *[0] * 4, 1, *[0] * 8),
        "post": struct.pack(">IIhhIIIII", 0x30000, 0, 0, 0, 1, 0, 0, 0, 0),
    }
    return _with_checksum(tables)


def _with_checksum(tables: Mapping[str, bytes]) -> bytes:
    count = len(tables)
    power = 1 << (count.bit_length() - 1)
    font = struct.pack(
        ">IHHHH", 0x10000, count, 16 * power, power.bit_length() - 1, 16 * (count - power)
    )
    start, body = 12 + 16 * count, b""
    for name, data in tables.items():
        padded = data + bytes(-len(data) % 4)
        font += name.encode("ascii") + struct.pack(
            ">III", _sum(padded), start + len(body), len(data)
        )
        body += padded
    whole = bytearray(font + body)
    place = whole.index(tables["head"]) + 8
    whole[place : place + 4] = struct.pack(">I", (0xB1B0AFBA - _sum(bytes(whole))) % (1 << 32))
    return bytes(whole)


def _sum(data: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f">{len(data) // 4}I", data)
    return sum(words) % (1 << 32)


_CMAP_HEAD = f"""/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /{FONT_NAME}-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
"""
_CMAP_END = "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
