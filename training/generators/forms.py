"""Forms: values with known, rare or invented labels; what teaches schemas never seen."""

from __future__ import annotations

from collections.abc import Callable

from training.generators import lists, prose, words
from training.generators.documents import Document, Line, label
from training.generators.words import Source


def code(source: Source) -> str:
    return words.identifier(source) if source.chance(0.6) else words.random_string(source)


def plate(source: Source) -> str:
    letters = "".join(source.pick("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(source.between(2, 3)))
    return f"{letters}{source.pick((' ', '-', ''))}{words.digits(source, source.between(3, 4))}"


def measure(source: Source) -> str:
    unit = source.pick(
        ("kg", "g", "cm", "mm", "m", "km", "litres", "hours", "days", "pages", "units", "%")
    )
    return f"{source.between(1, 999)}{source.pick((' ', ''))}{unit}"


def count(source: Source) -> str:
    return str(source.between(1, 9999))


def joined_address(source: Source) -> str:
    return " ".join(words.address(source))


def money(source: Source) -> str:
    return words.priced(source, words.amount(source))


def phrase(source: Source) -> str:
    return " ".join(words.word(source) for _ in range(source.between(1, 4))).capitalize()


MAKERS: dict[str, Callable[[Source], str]] = {
    "person": words.person,
    "company": words.company,
    "date": words.date,
    "code": code,
    "plate": plate,
    "money": money,
    "joined_address": joined_address,
    "phone": words.phone,
    "email": words.email,
    "measure": measure,
    "count": count,
    "clock": words.clock,
    "phrase": phrase,
}
ENTRIES = tuple(
    (label, make) for kind, make in MAKERS.items() for label in lists.load(f"labels_{kind}")
)


COLUMNS: dict[str, Callable[[Source], str]] = {
    "Price": words.amount,
    "Total": words.amount,
    "Qty": count,
    "Stock": count,
    "Code": code,
    "Weight": measure,
    "Date": words.date,
}


def label_key(name: str) -> str:
    """The field name that asks for a label: lower case, words joined by an underscore."""
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def entry(source: Source) -> tuple[str, str]:
    """A label and a value; every fourth label is invented, so that only matching the name helps."""
    if source.chance(0.25):
        name = words.invented_word(source)
        name += source.pick(
            ("", " Code", " Number", " Name", " Date", f" {words.invented_word(source)}")
        )
        maker = source.pick((code, words.person, words.date, money, phrase, words.company, count))
        return name, maker(source)
    name, make = source.own(ENTRIES)
    return name, make(source)


def form(source: Source) -> Document:
    """Labelled values, one or two to a line, with a title and some prose around them."""
    keys: dict[str, tuple[str, str]] = {}
    for _ in range(source.between(2, source.pick((4, 7, 10)))):
        name, value = entry(source)
        keys.setdefault(label_key(name), (name, value))
    document = Document("form", tuple(keys))
    if source.chance(0.6):
        document.add(label(source, "form_title"), align="center")
    gap = source.pick((": ", ": ", " : ", "\t", " - ", ":\t", " = "))
    shout, below = source.chance(0.3), source.chance(0.12)
    waiting: Line = ()
    for key, (name, value) in keys.items():
        name = name.upper() if shout else name
        if below:
            document.add(name + source.pick(("", ":")))
            document.add((key, value))
        elif waiting:
            document.add(*waiting, "\t", name + gap, (key, value))
            waiting = ()
        elif source.chance(0.12):
            waiting = (name + gap, (key, value))
        else:
            document.add(name + gap, (key, value))
        if source.chance(0.06):
            document.add(prose.sentence(source))
    document.add(*waiting)
    return document


def table(source: Source) -> Document:
    """Rows with a name and values; asked for as items, or one cell of a named row."""
    names = source.some(tuple(COLUMNS), 1, 2)
    document = Document("table", ())
    document.add("\t".join(["Name", *names]))
    for _ in range(source.between(2, 5)):
        article = words.product(source)
        cells = {name: COLUMNS[name](source) for name in names}
        document.add("\t".join([article, *cells.values()]))
        lower = {name.lower(): cell for name, cell in cells.items()}
        document.items.append({"name": article} | lower)
    return document
