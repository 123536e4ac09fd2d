"""Till receipts: company, date, address and total among the decoys that real ones print."""

from __future__ import annotations

from training.generators import lists, words
from training.generators.documents import Document, columns, label, lead
from training.generators.words import Source

FIELDS = ("company", "date", "address", "total")
SLOGANS = lists.load("slogans")
TOTAL_LABELS = lists.load("total_labels")
ROUNDED_LABELS = lists.load("rounded_labels")
FOOTERS = lists.load("footers")


def receipt(source: Source) -> Document:
    document = Document("receipt", FIELDS)
    footer_first = source.chance(0.06)
    if footer_first:
        add_footer(source, document)
    date_on_top = source.chance(0.6)
    with_date, with_total = source.chance(0.93), source.chance(0.93)
    add_header(source, document)
    if with_date and date_on_top:
        add_date(source, document)
    add_particulars(source, document)
    due = add_items(source, document)
    if with_total:
        add_totals(source, document, due)
    if with_date and not date_on_top:
        add_date(source, document)
    if not footer_first:
        add_footer(source, document)
    return document


def add_header(source: Source, document: Document) -> None:
    align = source.pick(("center", "center", "left"))
    if source.chance(0.3):
        document.add(slogan(source), align=align)
    if source.chance(0.95):
        add_company(source, document, align)
    if source.chance(0.4):
        document.add(lead(source, "receipt_registration") + registration(source), align=align)
    if source.chance(0.12):
        document.add(slogan(source), align=align)
    if source.chance(0.92):
        before = source.pick(("ADDRESS : ", "ADDR: ")) if source.chance(0.1) else ""
        for line in words.address(source):
            document.add(before, ("address", line), align=align)
            before = ""
    add_contacts(source, document, align)


def add_company(source: Source, document: Document, align: str) -> None:
    """The name in one line, in two, or followed by a registration number."""
    name = words.company(source)
    parts = name.split(" ")
    if len(parts) > 2 and source.chance(0.2):
        cut = source.between(1, len(parts) - 1)
        document.add(("company", " ".join(parts[:cut])), align=align)
        document.add(("company", " ".join(parts[cut:])), align=align)
    elif source.chance(0.15):
        document.add(("company", name), f" {registration(source)}", align=align)
    else:
        document.add(("company", name), align=align)


def add_contacts(source: Source, document: Document, align: str) -> None:
    if source.chance(0.7):
        extra = source.pick(("", "", " FAX : ", "  FAX: ", " / "))
        second = extra + words.phone(source) if extra else ""
        document.add(lead(source, "receipt_phone") + words.phone(source) + second, align=align)
    if source.chance(0.35):
        document.add(lead(source, "receipt_tax_number") + words.digits(source, 12), align=align)
    if source.chance(0.2):
        document.add(source.pick(("EMAIL: ", "E-MAIL ", "")) + words.email(source), align=align)


def slogan(source: Source) -> str:
    line = source.own(SLOGANS)
    while "{name}" in line:
        line = line.replace("{name}", words.invented_word(source).upper(), 1)
    return line


def registration(source: Source) -> str:
    return f"({words.digits(source, source.between(6, 7))}-{source.pick('ABCDHKMTUVWX')})"


def add_date(source: Source, document: Document) -> None:
    before = lead(source, "receipt_date")
    after = f" {words.clock(source)}" if source.chance(0.6) else ""
    if after and source.chance(0.15):
        after = source.pick((" TIME:", " TIME :", "  ")) + after
    if source.chance(0.1):
        after += f"\tCASHIER: {words.invented_word(source).upper()}"
    elif source.chance(0.1):
        after += f" #{words.digits(source, 2)}"
    if source.chance(0.1):
        before = f"{lead(source, 'receipt_number')}{words.identifier(source)}\t{before}"
    document.add(before, ("date", words.date(source)), after)


def add_particulars(source: Source, document: Document) -> None:
    for _ in range(source.between(0, 3)):
        kind = source.between(0, 5)
        if kind == 0:
            document.add(lead(source, "receipt_cashier") + words.person(source).upper())
        elif kind == 1:
            document.add(lead(source, "receipt_number") + words.identifier(source))
        elif kind == 2:
            document.add(lead(source, "receipt_counter") + words.digits(source, 2))
        elif kind == 3:
            document.add(lead(source, "receipt_customer") + words.company(source))
        elif kind == 4:
            document.add(label(source, "receipt_title"), align="center")
        else:
            document.add(lead(source, "receipt_member") + words.digits(source, 9))


def add_items(source: Source, document: Document) -> float:
    """Items with prices; returns their sum."""
    if source.chance(0.5):
        document.add(columns(source, "receipt_columns"))
    due = 0.0
    for _ in range(source.between(1, source.pick((2, 4, 7)))):
        quantity = source.between(1, 4)
        price = round(400.0 ** source.random.random() * 1.5, 2)
        cost = round(quantity * price, 2)
        due += cost
        name = words.product(source)
        written = f"{cost:.2f}{source.pick(('', '', '', ' SR', ' Z', ' *'))}"
        shape = source.between(0, 3)
        if shape == 0:
            document.add(f"{name}\t{quantity}\t{written}")
        elif shape == 1:
            document.add(f"{quantity} {name}\t{written}")
        elif shape == 2:
            document.add(name)
            document.add(f"{words.digits(source, 13)}\t{quantity} X {price:.2f}\t{written}")
        else:
            document.add(f"{name}\t{written}")
        document.items.append({"name": name, "price": written.split(" ")[0]})
    return due


def add_totals(source: Source, document: Document, due: float) -> None:
    """Sub-total, tax and rounding before the total; cash and change after it."""
    currency = source.pick(("", "", "", "RM", "RM ", "$"))
    name = source.own(TOTAL_LABELS)
    if source.chance(0.4):
        document.add(f"{label(source, 'receipt_subtotal')}\t{due:.2f}")
    if source.chance(0.3):
        tax = round(due * 0.06, 2)
        due += tax
        document.add(f"{label(source, 'receipt_tax')}\t{tax:.2f}")
    if source.chance(0.15):
        document.add(f"{label(source, 'receipt_discount')}\t0.00")
    if source.chance(0.3):
        rounded = round(due * 20) / 20
        document.add(f"{name}\t{due:.2f}")
        document.add(f"{label(source, 'receipt_rounding')}\t{rounded - due:.2f}")
        due, name = rounded, source.pick(ROUNDED_LABELS)
    whole = f"{due:,.2f}" if source.chance(0.2) else f"{due:.2f}"
    gap = source.pick(("\t", "\t", " ", ": ", "...... "))
    document.add(name + gap, ("total", currency + whole))
    if source.chance(0.6):
        add_payment(source, document, due, gap + currency)
    if source.chance(0.2):
        document.add(columns(source, "receipt_summary"))
        net = due / 1.06
        document.add(f"{label(source, 'receipt_rate')}\t{net:.2f}\t{due - net:.2f}")


def add_payment(source: Source, document: Document, due: float, gap: str) -> None:
    """Amounts that are not the total: what was handed over and what came back."""
    paid = due if source.chance(0.3) else (due // 10 + source.between(1, 5)) * 10
    document.add(f"{label(source, 'receipt_paid')}{gap}{paid:.2f}")
    if source.chance(0.8):
        document.add(f"{label(source, 'receipt_change')}{gap}{paid - due:.2f}")


def add_footer(source: Source, document: Document) -> None:
    for line in source.some(FOOTERS, 0, 3):
        line = line.replace("{number}", str(source.between(1, 400)))
        line = line.replace("{site}", words.website(source))
        line = line.replace("{code}", words.random_string(source))
        document.add(line.replace("{phone}", words.phone(source)), align="center")
    if source.chance(0.1):
        document.add(lead(source, "receipt_other_date") + words.date(source))
