"""Sentences of business letters, notes and everyday dictation, put together from templates.

Knows nothing of layout, noise or speech.
"""

from __future__ import annotations

from training.generators import words
from training.generators.words import Source

NOUNS = [
    "invoice",
    "payment",
    "order",
    "delivery",
    "contract",
    "letter",
    "report",
    "meeting",
    "account",
    "policy",
    "claim",
    "sample",
    "shipment",
    "parcel",
    "machine",
    "printer",
    "engine",
    "roof",
    "kitchen",
    "garden",
    "window",
    "door",
    "heater",
    "pump",
    "cable",
    "battery",
    "table",
    "chair",
    "lamp",
    "room",
    "office",
    "warehouse",
    "station",
    "hotel",
    "ticket",
    "booking",
    "lesson",
    "exam",
    "patient",
    "tablet",
    "bandage",
    "dose",
    "scan",
    "test",
    "result",
    "budget",
    "price",
    "discount",
    "deposit",
    "refund",
    "tax",
    "salary",
    "form",
    "copy",
    "file",
    "folder",
    "page",
    "photo",
    "map",
    "key",
    "lock",
    "bicycle",
    "car",
    "truck",
    "train",
    "bridge",
    "road",
    "house",
    "apartment",
    "tenant",
    "neighbour",
    "customer",
    "supplier",
    "manager",
    "driver",
    "teacher",
    "doctor",
    "nurse",
    "lawyer",
    "plumber",
    "painter",
    "student",
    "child",
    "dog",
    "cat",
    "horse",
    "tree",
    "river",
    "mountain",
    "field",
    "storm",
    "market",
    "shop",
]
ADJECTIVES = [
    "new",
    "old",
    "late",
    "early",
    "small",
    "large",
    "heavy",
    "light",
    "broken",
    "missing",
    "damaged",
    "final",
    "first",
    "second",
    "third",
    "open",
    "closed",
    "full",
    "empty",
    "clean",
    "dirty",
    "quiet",
    "loud",
    "warm",
    "cold",
    "dry",
    "wet",
    "red",
    "blue",
    "green",
    "white",
    "black",
    "yellow",
    "short",
    "long",
    "cheap",
    "expensive",
    "important",
    "urgent",
    "correct",
    "wrong",
    "simple",
    "difficult",
    "safe",
    "dangerous",
    "fresh",
    "sweet",
    "private",
    "public",
    "local",
    "foreign",
    "monthly",
    "annual",
    "weekly",
    "happy",
    "tired",
    "careful",
    "strong",
    "weak",
    "bright",
    "dark",
    "round",
    "flat",
    "soft",
    "hard",
    "quick",
    "slow",
]
VERBS = [
    "received",
    "checked",
    "opened",
    "closed",
    "moved",
    "sent",
    "returned",
    "repaired",
    "replaced",
    "ordered",
    "paid",
    "cancelled",
    "signed",
    "printed",
    "copied",
    "cleaned",
    "painted",
    "sold",
    "bought",
    "found",
    "lost",
    "measured",
    "tested",
    "counted",
    "collected",
    "delivered",
    "approved",
    "rejected",
    "reviewed",
    "updated",
    "changed",
    "finished",
    "started",
    "stopped",
    "described",
    "discussed",
    "mentioned",
    "requested",
    "confirmed",
    "carried",
    "lifted",
    "dropped",
    "covered",
    "removed",
    "installed",
    "ignored",
    "remembered",
    "noticed",
    "inspected",
    "weighed",
]
ADVERBS = [
    "today",
    "yesterday",
    "again",
    "already",
    "carefully",
    "quickly",
    "slowly",
    "twice",
    "once",
    "together",
    "separately",
    "later",
    "soon",
    "recently",
    "immediately",
    "finally",
    "probably",
    "usually",
    "always",
    "never",
    "often",
    "here",
    "there",
    "outside",
    "inside",
    "upstairs",
    "downstairs",
]
PLACES = [
    "the office",
    "the warehouse",
    "the station",
    "the front desk",
    "the main entrance",
    "our shop",
    "the harbour",
    "the clinic",
    "the second floor",
    "the car park",
    "the laboratory",
    "room {number}",
    "the north gate",
    "the garage",
    "the kitchen",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
TEMPLATES = [
    "The {adjective} {noun} was {verb} {adverb}.",
    "We {verb} the {noun} on {weekday}.",
    "Please send the {noun} to {place}.",
    "{person} {verb} the {adjective} {noun} in {month}.",
    "The {noun} and the {noun} were {verb} {adverb}.",
    "Thank you for your {noun} of {date}.",
    "Your {noun} has been {verb}.",
    "We have not yet {verb} your {noun}.",
    "Can you call {person} before {weekday}?",
    "The {noun} costs {amount} and the {noun} costs {amount}.",
    "There are {number} {adjective} boxes near {place}.",
    "I have {verb} the {noun}, but the {noun} is {adjective}.",
    "If the {noun} is {adjective}, please tell {person}.",
    "The meeting starts at {clock} in {place}.",
    "We look forward to your reply.",
    "Please find the {noun} enclosed.",
    "Our {noun} will be {adjective} from {date}.",
    "The total amount is {amount}.",
    "The patient {verb} the {noun} {adverb}.",
    "She said that the {noun} was {adjective}.",
    "He {verb} it {adverb}, and then he {verb} the {noun}.",
    "Did you get the {adjective} {noun}?",
    "Item {number} is {adjective}; item {number} is {adjective}.",
    "I am writing about the {noun} that I {verb} in {month}.",
    "The number of the {noun} is {number}.",
    "It was {adjective} and {adjective}.",
    "Why is the {noun} so {adjective}?",
    "{company} has {verb} our {noun}.",
    "Please reply to {person} by {date}.",
    "No {noun} was found in {place}.",
    "The {noun} arrived with {number} {adjective} parts.",
    "We will visit {place} on {weekday} at {clock}.",
    "The price of the {noun} rose by {number} percent.",
    "My {noun} is {adjective}, my {noun} is {adjective}.",
    "At {clock} the {noun} was still {adjective}.",
    "After the {noun} we {verb} the {adjective} {noun}.",
    "The doctor {verb} the {noun}, and the nurse {verb} the {noun}.",
    "Please pay {amount} within {number} days.",
    "This {noun} is more {adjective} than the last one.",
    "Let us meet at {place} next {weekday}.",
    "Do not open the {noun} until {weekday}.",
    "They {verb} {number} of the {number} samples.",
    "Unfortunately, the {noun} is {adjective}.",
    "However, the {noun} was {verb} {adverb}.",
    "The {noun} near {place} must be {verb} before {month}.",
    "{person} and {person} {verb} the {noun}.",
    "Page {number} of the {noun} is {adjective}.",
    "You can reach me at {phone}.",
    "The reference is {identifier}.",
]


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
