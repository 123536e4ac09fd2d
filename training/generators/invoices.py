"""Invoices in several layouts."""

from __future__ import annotations

from training.generators import words
from training.generators.documents import Document, Line, columns, label, lead
from training.generators.words import Source

FIELDS = ("number", "date", "due_date", "seller", "buyer", "total", "currency")


def invoice(source: Source) -> Document:
    document = Document("invoice", FIELDS)
    title = label(source, "invoice_title")
    title_first = source.chance(0.4)
    align = source.pick(("center", "left", "right"))
    if title_first:
        document.add(title, align=align)
    if source.chance(0.95):
        document.add(lead(source, "invoice_seller"), ("seller", words.company(source)))
    if source.chance(0.7):
        document.add_all(words.address(source))
    if source.chance(0.4):
        document.add(lead(source, "invoice_registration") + words.digits(source, 9))
    if not title_first:
        document.add(title, align=align)
    for block in source.some((add_numbers, add_buyer), 2, 2):
        block(source, document)
    due = add_items(source, document)
    if source.chance(0.94):
        add_total(source, document, due)
    if source.chance(0.3):
        document.add(lead(source, "invoice_bank") + words.digits(source, source.between(8, 16)))
    if source.chance(0.3):
        document.add(label(source, "invoice_closing"))
    return document


def add_numbers(source: Source, document: Document) -> None:
    """Number, date and due date with their labels, in any order, with other numbers and dates."""
    gap = source.pick((": ", " ", "\t", " : "))
    options: tuple[tuple[float, str, str, str], ...] = (
        (0.92, "invoice_number", "number", words.identifier(source)),
        (0.90, "invoice_date", "date", words.date(source)),
        (0.70, "invoice_due", "due_date", words.date(source)),
        (0.40, "invoice_reference", "", words.identifier(source)),
        (0.20, "invoice_other_date", "", words.date(source)),
    )
    lines: list[Line] = []
    for probability, labels, name, value in options:
        if source.chance(probability):
            lines.append((label(source, labels) + gap, (name, value) if name else value))
    source.random.shuffle(lines)
    for line in lines:
        document.add(*line)


def add_buyer(source: Source, document: Document) -> None:
    if source.chance(0.08):
        return
    name = words.company(source) if source.chance(0.6) else words.person(source)
    before = label(source, "invoice_buyer")
    if source.chance(0.5):
        document.add(before + source.pick(("", ":")))
        document.add(("buyer", name))
    else:
        document.add(before + source.pick((": ", " ", " : ")), ("buyer", name))
    if source.chance(0.6):
        document.add_all(words.address(source))


def add_items(source: Source, document: Document) -> float:
    """Articles with quantities and prices; returns their sum."""
    if source.chance(0.6):
        document.add(columns(source, "invoice_columns"))
    due = 0.0
    for _ in range(source.between(1, 4)):
        quantity, price = source.between(1, 12), round(900.0 ** source.random.random() * 2, 2)
        due += quantity * price
        name, cost = words.product(source), f"{quantity * price:,.2f}"
        middle = f"\t{quantity}\t{price:,.2f}" if source.chance(0.6) else ""
        document.add(f"{name}{middle}\t{cost}")
        document.items.append({"name": name, "price": cost})
    return due


def add_total(source: Source, document: Document, due: float) -> None:
    if source.chance(0.5):
        document.add(f"{label(source, 'invoice_subtotal')}\t{due:,.2f}")
        tax = due * source.pick((0.05, 0.06, 0.07, 0.19, 0.2))
        document.add(f"{label(source, 'invoice_tax')}\t{tax:,.2f}")
        due += tax
    name = label(source, "invoice_total")
    currency = ("currency", source.pick(words.CURRENCIES))
    total = ("total", f"{due:,.2f}" if source.chance(0.7) else f"{due:.2f}")
    shape = source.between(0, 9)
    if shape < 2:
        document.add(f"{name}\t", total)
    elif shape < 6:
        document.add(f"{name} ", currency, "\t", total)
    elif shape < 8:
        document.add(f"{name}\t", total, " ", currency)
    else:
        document.add(f"{name} (", currency, ")\t", total)
