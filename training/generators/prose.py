"""Sentences of business letters, notes and everyday dictation, put together from templates.

Knows nothing of layout, noise or speech. Plain sentences are those that can be dictated: their
names are common ones, and there are no codes in them.
"""

from __future__ import annotations

from collections.abc import Callable

from training.generators import lists, words
from training.generators.words import Source

TEMPLATES = lists.load("templates")
CODES = ("{company}", "{phone}", "{identifier}")
PLAIN_TEMPLATES = tuple(line for line in TEMPLATES if not any(code in line for code in CODES))
NOUNS = lists.load("nouns")
ADJECTIVES = lists.load("adjectives")
VERBS = lists.load("verbs")
WEEKDAYS = lists.load("weekdays")
OPEN_CLASSES = {
    "noun": NOUNS,
    "adjective": ADJECTIVES,
    "verb": VERBS,
    "adverb": lists.load("adverbs"),
}


def short_clock(source: Source) -> str:
    return f"{source.between(0, 23)}:{source.between(0, 59):02}"


def written_date(source: Source) -> str:
    """A date as a sentence has it: 3 March 2024, March 3."""
    day, month = source.between(1, 28), source.pick(words.MONTHS)
    year = source.between(2015, 2030)
    return source.pick((f"{day} {month}", f"{day} {month} {year}", f"{month} {day}"))


def number(source: Source) -> str:
    return str(source.between(2, source.pick((9, 30, 100, 2000))))


def amount(source: Source) -> str:
    return words.amount(source) + source.pick(("", " EUR", " dollars", " pounds"))


def known_person(source: Source) -> str:
    """A person by common names."""
    first, last = source.pick(words.FIRST_NAMES), source.pick(words.LAST_NAMES)
    title = source.pick(("Mr", "Mrs", "Ms", "Dr"))
    return source.pick((first, first, f"{first} {last}", f"{first} {last}", f"{title} {last}"))


SLOTS: dict[str, Callable[[Source], str]] = {
    "number": number,
    "amount": amount,
    "date": written_date,
    "clock": short_clock,
    "phone": words.phone,
    "identifier": words.identifier,
    "company": lambda source: f"{words.invented_word(source)} {source.own(words.TRADES)}",
    "weekday": lambda source: source.pick(WEEKDAYS),
    "month": lambda source: source.pick(words.MONTHS),
    "year": lambda source: str(source.between(1950, 2030)),
    "city": lambda source: source.pick(words.CITIES),
    "first": lambda source: source.pick(words.FIRST_NAMES),
    "place": lambda source: fill(source, source.pick(lists.load("places"))),
}


def slot(source: Source, name: str, *, plain: bool = False) -> str:
    """A word or value for one slot of a template."""
    if name == "person":
        return known_person(source) if plain else words.person(source)
    if name in OPEN_CLASSES:
        return words.word(source) if source.chance(0.12) else source.pick(OPEN_CLASSES[name])
    return SLOTS[name](source)


def fill(source: Source, template: str, *, plain: bool = False) -> str:
    """The template with every {slot} filled."""
    parts = template.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append(slot(source, name, plain=plain) + rest)
    return "".join(out)


def sentence(source: Source, *, plain: bool = False) -> str:
    """One sentence with its final mark; some are chains of common words without sense."""
    if source.chance(0.05 if plain else 0.15):
        chain = " ".join(words.word(source) for _ in range(source.between(4, 12)))
        return chain.capitalize() + source.pick((".", ".", ".", "?", "!"))
    template = source.own(PLAIN_TEMPLATES if plain else TEMPLATES)
    text = fill(source, template, plain=plain)
    return text[0].upper() + text[1:]


def paragraph(source: Source, sentences: int) -> str:
    return " ".join(sentence(source) for _ in range(sentences))


def wrap(text: str, width: int) -> list[str]:
    """The text as lines of at most `width` characters, broken at spaces."""
    lines = [""]
    for part in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(part) > width:
            lines.append(part)
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return lines
