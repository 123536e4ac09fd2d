"""What of a dictation may vanish when it is written down, and the pattern of all its repairs.

Knows no model. A dictation is content, fillers, spoken commands and slips that are taken back. A
repair keeps the content in its order, may change first letters to capitals, writes marks, and drops
the rest:

    um the 12 no sorry 14 parts arrived period

may become `The 14 parts arrived.` or stay as it is, but no word can be skipped, repeated or made
up. A small model that copies loses its place: it went on at another place with the same word, in a
third of the dictations it was measured on, until it had to follow this pattern.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["content", "filler", "slip", "mark", "opening", "break"]

_MARKS = {
    "full stop": ".", "period": ".", "comma": ",", "question mark": "?", "exclamation mark": "!",
    "exclamation point": "!", "colon": ":", "semicolon": ";", "close bracket": ")",
    "close parenthesis": ")", "close quote": '"', "unquote": '"', "dash": "-", "hyphen": "-",
}  # fmt: skip
_OPENINGS = ("open bracket", "open parenthesis", "open quote", "quote")
_BREAKS = ("new line", "newline", "next line", "new paragraph")
_FILLERS = (
    "um", "uh", "er", "erm", "ah", "hmm", "uhm", "eh", "mm", "well", "like", "so", "you know",
)  # fmt: skip
_SLIPS = (
    "no", "sorry", "no sorry", "wait", "no wait", "wait no", "i mean", "no i mean", "correction",
    "make that", "rather", "or rather", "actually", "no actually",
)  # fmt: skip
_ERASERS = ("scratch that", "delete that", "strike that")  # take back all that was said before
_TAKEN_BACK = 4  # words before any other slip that may go with it

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_FILLERS, "filler"),
    **dict.fromkeys((*_SLIPS, *_ERASERS), "slip"),
    **dict.fromkeys(_MARKS, "mark"),
    **dict.fromkeys(_OPENINGS, "opening"),
    **dict.fromkeys(_BREAKS, "break"),
}
_MOST_WORDS = max(len(phrase.split()) for phrase in _KINDS)

_EDGE = ".,?!;:"
_OPEN = '["“(]?'
_CLOSE = '[.,?!;:]?["”)]?'


@dataclass(frozen=True)
class Unit:
    """A word of content, or the words of one filler, slip or command. new_line: it starts one."""

    kind: Kind
    words: tuple[str, ...]
    new_line: bool = False
    may_vanish: bool = False

    @property
    def phrase(self) -> str:
        return " ".join(map(key, self.words))


def key(word: str) -> str:
    """What words are compared by: letters and digits without case."""
    return "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum())


def units(text: str) -> list[Unit]:
    """The dictation's words in order, each with whether it may vanish."""
    found: list[Unit] = []
    for line in text.split("\n"):
        words, at = line.split(), 0
        while at < len(words):
            unit = replace(_unit(words[at : at + _MOST_WORDS]), new_line=at == 0)
            found.append(unit)
            at += len(unit.words)
    return _taken_back(found)


def _unit(words: list[str]) -> Unit:
    """The longest known phrase at the beginning, or one word; half a word breaks off in `-`."""
    for count in range(len(words), 0, -1):
        kind = _KINDS.get(" ".join(map(key, words[:count])))
        if kind is not None:
            return Unit(kind, tuple(words[:count]), may_vanish=True)
    return Unit("content", (words[0],), may_vanish=words[0].endswith("-") or not key(words[0]))


def _taken_back(found: list[Unit]) -> list[Unit]:
    """Marks what a slip takes back, and all but one of a word's copies in a row."""
    gone = [unit.may_vanish for unit in found]
    for at, unit in enumerate(found):
        if unit.kind == "slip":
            start = 0 if unit.phrase in _ERASERS else max(0, at - _TAKEN_BACK)
            gone[start:at] = [True] * (at - start)
        elif at and unit.phrase == found[at - 1].phrase:
            gone[at - 1] = True
    return [replace(unit, may_vanish=may) for unit, may in zip(found, gone, strict=True)]


def pattern(text: str) -> str | None:
    """A regular expression that all repairs of the text match, or None where all of it may vanish.

    Of two commands and fillers in a row each may go or stay. A mark is written where it is spoken,
    and may be written behind and before any word; lines break where that is spoken or was so.
    """
    found = units(text)
    kept = [at for at, unit in enumerate(found) if not unit.may_vanish]
    if not kept:
        return None
    first = kept[0]
    before = "".join(f"(?:{_written(unit, '')}{_gap(True)})?" for unit in found[:first])
    after, breaks = "", False
    for at, unit in enumerate(found[first:], first):
        breaks |= unit.new_line
        marked = at + 1 < len(found) and found[at + 1].kind == "mark"
        written = _written(unit, "" if marked else _CLOSE)
        if at > first:
            written = _gap(breaks) + written
            if unit.kind == "mark":
                written = f"(?:{re.escape(_MARKS[unit.phrase])}|{written})"
            elif unit.may_vanish:
                written = f"(?:{written})?"
        breaks = unit.kind == "break" or (breaks and unit.may_vanish)
        after += written
    return before + after


def _gap(breaks: bool) -> str:
    return r"(?: |\n\n?)" if breaks else " "


def _written(unit: Unit, close: str) -> str:
    return _OPEN + " ".join(map(_word, unit.words)) + close


def _word(word: str) -> str:
    """The word with a small or a capital first letter, a short one also in capitals."""
    bare = word.rstrip(_EDGE) or word
    first, rest = bare[0], bare[1:]
    cases = "".join(dict.fromkeys(c for c in (first, first.lower(), first.upper()) if len(c) == 1))
    written = "[" + "".join(map(re.escape, cases)) + "]" + re.escape(rest)
    if bare.isalpha() and 1 < len(bare) <= 4 and not bare.isupper():
        written = f"(?:{written}|{re.escape(bare.upper())})"
    return written + (f"[{re.escape(_EDGE)}]?" if bare != word else "")
