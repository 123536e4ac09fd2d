"""Other values for the fields of a real receipt, written the way the old ones were.

Replaced values never repeat, so that remembering a shop is of no use and only copying is.
"""

from __future__ import annotations

import re

from training.generators import lists, words
from training.generators.words import Source

Span = tuple[int, int, int]  # line, start, end
Spans = dict[str, tuple[Span, ...]]
KEPT = frozenset(lists.load("kept"))
MONTH = re.compile(
    "|".join(words.MONTHS) + "|" + "|".join(name[:3] for name in words.MONTHS), re.IGNORECASE
)


def plan(
    source: Source, lines: tuple[str, ...], spans: Spans
) -> tuple[dict[Span, str], list[tuple[re.Pattern[str], str]]]:
    """New texts for the spans of values, and values to be replaced wherever else they occur."""
    new: dict[Span, str] = {}
    everywhere: list[tuple[re.Pattern[str], str]] = []
    for name, parts in spans.items():
        old = [lines[line][start:end] for line, start, end in parts]
        if name == "date":
            texts = [other_date(source, text) for text in old]
        elif name == "total":
            texts = [other_amount(source, text) for text in old]
        else:
            texts = other_words(source, name, old)
        new |= dict(zip(parts, texts, strict=True))
        if name in ("date", "total"):
            everywhere += [
                (re.compile(rf"(?<![\d.]){re.escape(core(before))}(?![\d]|\.\d)"), core(after))
                for before, after in zip(old, texts, strict=True)
            ]
    return new, everywhere


def core(text: str) -> str:
    """A total without its currency; any other text as it is."""
    return re.sub(r"^(RM|MYR|\$)\s*", "", text)


def other_date(source: Source, text: str) -> str:
    """Another day, month and year in the same written format."""
    day, month, year = source.between(1, 28), source.between(1, 12), source.between(2000, 2031)
    if re.fullmatch(r"\d{8}", text):
        return (
            f"{year}{month:02}{day:02}" if text[:2] in ("19", "20") else f"{day:02}{month:02}{year}"
        )
    named = bool(MONTH.search(text))
    numbers = [day, year] if named else [day, month, year]
    groups = re.findall(r"\d+", text)
    if groups and len(groups[0]) == 4:
        numbers = [year, day] if named else [year, month, day]
    waiting = iter(numbers)

    def number(match: re.Match[str]) -> str:
        value = next(waiting, source.between(10, 28))
        width = len(match.group())
        return str(value % 100 if width < 4 and value > 99 else value).zfill(width)[
            -max(width, 2) :
        ]

    def name(match: re.Match[str]) -> str:
        full = words.MONTHS[month - 1]
        full = full if len(match.group()) > 3 else full[:3]
        return full.upper() if match.group().isupper() else full

    return MONTH.sub(name, re.sub(r"\d+", number, text))


def other_amount(source: Source, text: str) -> str:
    """Other digits in the same places; the first is never a zero unless it was one."""
    out = []
    for place, character in enumerate(text):
        if not character.isdigit():
            out.append(character)
            continue
        first = not any(before.isdigit() for before in text[:place])
        fixed = character == "0" and (first or source.chance(0.4))
        out.append("0" if fixed else str(source.between(1 if first else 0, 9)))
    return "".join(out)


def other_words(source: Source, name: str, old: list[str]) -> list[str]:
    """As many parts of a company or address: the old ones with other words, or new ones."""
    if source.chance(0.5):
        return [
            re.sub(r"[A-Za-z]{3,}|\d+", lambda match: other_word(source, match.group()), text)
            for text in old
        ]
    parts = [words.company(source)] if name == "company" else words.address(source)
    if "".join(old).isupper():
        parts = [part.upper() for part in parts]
    text = " ".join(parts)
    if len(parts) == len(old):
        return parts
    pieces = text.split(" ")
    if len(pieces) < len(old):
        pieces += [words.invented_word(source).upper() for _ in old]
    step = len(pieces) / len(old)
    cuts = [round(step * number) for number in range(len(old) + 1)]
    return [" ".join(pieces[cuts[number] : cuts[number + 1]]) for number in range(len(old))]


def other_word(source: Source, word: str) -> str:
    if word.isdigit():
        return words.digits(source, len(word))
    if word.upper() in KEPT and source.chance(0.85):
        return word
    other = words.invented_word(source)
    return other.upper() if word.isupper() else other
