"""Forms: labels with values, the labels known, rare or invented; what teaches schemas never seen."""

from __future__ import annotations

from collections.abc import Callable

from training.generators import lists, prose, words
from training.generators.documents import Document, choose
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


def label_key(label: str) -> str:
    """The field name that asks for a label: lower case, words joined by an underscore."""
    return "_".join("".join(c if c.isalnum() else " " for c in label.lower()).split())


def entry(source: Source) -> tuple[str, str]:
    """A label and a value; every fourth label is invented, so that only matching the name helps."""
    if source.chance(0.25):
        label = words.invented_word(source)
        label += source.pick(
            ("", " Code", " Number", " Name", " Date", f" {words.invented_word(source)}")
        )
        maker = source.pick((code, words.person, words.date, money, phrase, words.company, count))
        return label, maker(source)
    label, make = source.own(ENTRIES)
    return label, make(source)


def form(source: Source) -> Document:
    """Labelled values, one or two to a line, with a title and some prose around them."""
    entries = dict(entry(source) for _ in range(source.between(2, source.pick((4, 7, 10)))))
    keys: dict[str, tuple[str, str]] = {}
    for label, value in entries.items():
        keys.setdefault(label_key(label), (label, value))
    document = Document("form", tuple(keys))
    if source.chance(0.6):
        title = choose(
            source,
            "APPLICATION FORM|Registration|RECORD|Delivery Note|Claim Form|Certificate|Data Sheet|Report|Work Order",
        )
        document.add(title, align="center")
    gap = source.pick((": ", ": ", " : ", "\t", " - ", ":\t", " = "))
    shout, below = source.chance(0.3), source.chance(0.12)
    waiting: tuple[str | tuple[str, str], ...] = ()
    for key, (label, value) in keys.items():
        label = label.upper() if shout else label
        if below:
            document.add(label + source.pick(("", ":")))
            document.add((key, value))
            continue
        pieces = (label + gap, (key, value))
        if waiting:
            document.add(*waiting, "\t", *pieces)
            waiting = ()
        elif source.chance(0.12):
            waiting = pieces
        else:
            document.add(*pieces)
        if source.chance(0.06):
            document.add(prose.sentence(source))
    if waiting:
        document.add(*waiting)
    return document


def table(source: Source) -> Document:
    """Rows with a name and values; asked for as items, or one cell of a named row."""
    columns = source.some(("Price", "Qty", "Code", "Weight", "Total", "Date", "Stock"), 1, 2)
    makers = {
        "Price": words.amount,
        "Total": words.amount,
        "Qty": count,
        "Stock": count,
        "Code": code,
        "Weight": measure,
        "Date": words.date,
    }
    document = Document("table", ())
    document.add("\t".join(["Name", *columns]))
    for _ in range(source.between(2, 5)):
        name = words.product(source)
        cells = [makers[column](source) for column in columns]
        document.add("\t".join([name, *cells]))
        document.items.append(
            {"name": name}
            | {column.lower(): cell for column, cell in zip(columns, cells, strict=True)}
        )
    return document
