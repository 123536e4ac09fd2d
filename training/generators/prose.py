"""Sentences of business letters, notes and everyday dictation, put together from templates.

Knows nothing of layout, noise or speech.
"""

from __future__ import annotations

from training.generators import lists, words
from training.generators.words import Source

NOUNS = lists.load("nouns")
ADJECTIVES = lists.load("adjectives")
VERBS = lists.load("verbs")
ADVERBS = lists.load("adverbs")
PLACES = lists.load("places")
WEEKDAYS = lists.load("weekdays")
TEMPLATES = lists.load("templates")


def slot(source: Source, name: str) -> str:
    """A word or value for one slot of a template."""
    lists = {
        "noun": NOUNS, "adjective": ADJECTIVES, "verb": VERBS, "adverb": ADVERBS,
        "weekday": WEEKDAYS, "month": words.MONTHS,
    }  # fmt: skip
    if name in lists:
        return (
            words.word(source)
            if name != "month" and source.chance(0.12)
            else source.pick(lists[name])
        )
    if name == "number":
        return str(source.between(2, source.pick((9, 30, 100, 2000))))
    if name == "place":
        return fill(source, source.pick(PLACES))
    if name == "amount":
        return words.amount(source) + source.pick(("", " EUR", " dollars", " pounds"))
    if name == "company":
        return f"{words.invented_word(source)} {source.own(words.TRADES)}"
    if name == "date":
        return written_date(source)
    if name == "person":
        return words.person(source)
    return {"clock": short_clock, "phone": words.phone, "identifier": words.identifier}[name](
        source
    )


def short_clock(source: Source) -> str:
    return f"{source.between(0, 23)}:{source.between(0, 59):02}"


def written_date(source: Source) -> str:
    """A date as a sentence has it: 3 March 2024, March 3."""
    day, month = source.between(1, 28), source.pick(words.MONTHS)
    return source.pick(
        (f"{day} {month}", f"{day} {month} {source.between(2015, 2030)}", f"{month} {day}")
    )


def fill(source: Source, template: str) -> str:
    """The template with every {slot} filled."""
    parts = template.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        out.append(slot(source, name) + rest)
    return "".join(out)


def sentence(source: Source) -> str:
    """One sentence with its final mark; every seventh is a chain of common words without sense."""
    if source.chance(0.15):
        chain = " ".join(words.word(source) for _ in range(source.between(4, 12)))
        return chain.capitalize() + source.pick((".", ".", ".", "?", "!"))
    text = fill(source, source.own(TEMPLATES))
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
