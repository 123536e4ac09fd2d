"""Dictation as it is spoken, and the text it stands for.

Knows nothing of sound: `spoken` turns punctuated text into what a recogniser would write down, with
fillers, stutters, self-corrections and spoken punctuation.
"""

from __future__ import annotations

import re
from functools import cache

from training.generators import lists, prose, words
from training.generators.words import Source

FILLERS = lists.load("fillers")
CORRECTIONS = lists.load("corrections")
MARKS = {
    ".": ("full stop", "period"),
    ",": ("comma",),
    "?": ("question mark",),
    "!": ("exclamation mark", "exclamation point"),
    ":": ("colon",),
    ";": ("semicolon",),
    "(": ("open bracket", "open parenthesis"),
    ")": ("close bracket", "close parenthesis"),
    "\n": ("new line", "newline", "next line"),
    "\n\n": ("new paragraph",),
}  # fmt: skip
QUOTES = (("open quote", "quote"), ("close quote", "unquote"))
BREAKS = ("\n", "\n", "\n\n")
GREETINGS = lists.load("greetings")
CLOSINGS = lists.load("closings")
TOKEN = re.compile(r"\n\n|\n|[A-Za-z0-9]\S*[A-Za-z0-9%]|[A-Za-z0-9]|[.,?!:;]|\S")


def dictated_text(source: Source) -> str:
    """Some sentences, now and then a list, a note with new lines, or a short letter."""
    shape = source.random.random()
    body = [prose.sentence(source, plain=True) for _ in range(source.pick((1, 1, 2, 2, 3)))]
    if source.chance(0.06):
        place = source.between(0, len(body) - 1)
        body[place] = marked(source, body[place])
    if shape < 0.55:
        return " ".join(body)
    if shape < 0.7:
        return source.pick(("\n", "\n", "\n\n")).join(body)
    if shape < 0.83:
        items = [source.pick(prose.NOUNS) for _ in range(source.between(2, 4))]
        lead = source.pick(lists.load("list_leads"))
        return f"{lead} {', '.join(items)} and {source.pick(prose.NOUNS)}. {body[0]}"
    first = source.pick(words.FIRST_NAMES)
    greeting = source.pick(GREETINGS).replace("{first}", first)
    greeting = greeting.replace("{last}", source.pick(words.LAST_NAMES))
    greeting = greeting.replace("{person}", prose.known_person(source))
    closing = f"\n\n{source.pick(CLOSINGS)}\n{first}" if source.chance(0.5) else ""
    return f"{greeting}{source.pick(BREAKS)}{' '.join(body)}{closing}"


def marked(source: Source, text: str) -> str:
    """A sentence with some of its words in brackets or quotation marks."""
    parts = text.split(" ")
    start = source.between(0, len(parts) - 1)
    end = min(len(parts) - 1, start + source.between(0, 2))
    if not all(part.isalnum() for part in parts[start : end + 1]):
        return text
    before, after = source.pick((("(", ")"), ('"', '"')))
    parts[start] = before + parts[start]
    parts[end] += after
    return " ".join(parts)


def spoken(source: Source, text: str) -> str:
    """What is said for `text`: final marks are often left out, other marks and breaks never."""
    said: list[str] = []
    say_stops = source.chance(0.6)
    disturbance = source.pick((0.0, 0.03, 0.06, 0.1, 0.15))
    quoted, starts = False, True
    for token in TOKEN.findall(text):
        if token == '"':
            said.append(source.pick(QUOTES[quoted]))
            quoted = not quoted
        elif token in MARKS:
            if say_stops or token not in ".?":
                said.append(source.pick(MARKS[token]))
            starts = token in (".", "?", "!", "\n", "\n\n")
        else:
            said += disturbed_word(source, token, disturbance, starts=starts)
            starts = False
    line = " ".join(said)
    return line.lower() if source.chance(0.5) else line


def disturbed_word(source: Source, token: str, rate: float, *, starts: bool) -> list[str]:
    """The word as said: a sentence's first word loses its capital unless it is a name."""
    word = token.lower() if starts and token.lower() in known_words() else token
    out: list[str] = []
    if source.random.random() < rate:
        out.append(source.pick(FILLERS))
    if source.random.random() < rate * 0.6:
        out += stutter(source, word)
    if source.random.random() < rate * 0.5 and word.isalnum():
        out += [similar(source, word), source.pick(CORRECTIONS)]
    return [*out, word]


def stutter(source: Source, word: str) -> list[str]:
    shape = source.between(0, 3)
    if shape == 0 and len(word) > 3 and word.isalpha():
        return [word[: source.between(1, 2)] + "-"]
    if shape == 1 and len(word) > 4 and word.isalpha():
        return [word[:2] + "-", word[:3] + "-"]
    return [word] * (2 if shape == 2 and source.chance(0.3) else 1)


def similar(source: Source, word: str) -> str:
    """A word of the same kind, which the speaker then takes back."""
    if word.isdigit():
        return str(int(word) + source.between(1, 9))
    for group in (prose.WEEKDAYS, words.MONTHS, words.FIRST_NAMES, prose.ADJECTIVES, prose.VERBS):
        if word in group:
            return source.pick([other for other in group if other != word])
    return source.pick([other for other in prose.NOUNS if other != word])


@cache
def known_words() -> frozenset[str]:
    """Words that lose their capital where a sentence does not start with them."""
    return frozenset(words.vocabulary()) | frozenset(lists.load("sentence_starts"))


def dictation(source: Source) -> tuple[str, str]:
    """A dictation and the text it stands for."""
    text = dictated_text(source)
    said = spoken(source, text)
    if source.chance(0.08):
        dropped = re.sub(r"[.,?!:;]", "", prose.sentence(source, plain=True)).lower()
        command = source.pick(("scratch that", "delete that", "strike that"))
        said = f"{dropped} {command} {said}"
    return said, text
