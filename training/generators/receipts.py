"""Till receipts: company, date, address and total among the decoys that real ones print."""

from __future__ import annotations

from training.generators import lists, words
from training.generators.documents import Document, choose
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
    if source.chance(0.4):
        document.add(
            choose(source, "CO. REG NO: |CO NO: |REG. |") + registration(source), align=align
        )
    if source.chance(0.12):
        document.add(slogan(source), align=align)
    if source.chance(0.92):
        label = choose(source, "||||ADDRESS : |ADDR: ") if source.chance(0.3) else ""
        for number, line in enumerate(words.address(source)):
            document.add(label if number == 0 else "", ("address", line), align=align)
    if source.chance(0.7):
        extra = choose(source, "|| FAX : |  FAX: | / ")
        second = extra + words.phone(source) if extra else ""
        label = choose(source, "TEL: |TEL : |TEL NO. : |PHONE: |H/P: |Tel |")
        document.add(label + words.phone(source) + second, align=align)
    if source.chance(0.35):
        document.add(
            choose(source, "GST ID: |GST NO : |GST REG NO: |SST ID |VAT ")
            + words.digits(source, 12),
            align=align,
        )
    if source.chance(0.2):
        document.add(choose(source, "EMAIL: |E-MAIL |") + words.email(source), align=align)


def slogan(source: Source) -> str:
    line = source.own(SLOGANS)
    while "{name}" in line:
        line = line.replace("{name}", words.invented_word(source).upper(), 1)
    return line


def registration(source: Source) -> str:
    return f"({words.digits(source, source.between(6, 7))}-{source.pick('ABCDHKMTUVWX')})"


def add_date(source: Source, document: Document) -> None:
    label = choose(
        source,
        "DATE: |DATE : |DATE |Date: ||||INV DATE: |DATE/TIME: |BILL DATE: |DT: |TRANS DATE : ",
    )
    after = f" {words.clock(source)}" if source.chance(0.6) else ""
    if after and source.chance(0.15):
        after = choose(source, " TIME:| TIME :|  ") + after
    if source.chance(0.2):
        after += choose(
            source, f"\tCASHIER: {words.invented_word(source).upper()}| #{words.digits(source, 2)}"
        )
    if source.chance(0.1):
        label = f"{choose(source, 'BILL NO: |INV: |#|SLIP ')}{words.identifier(source)}\t{label}"
    document.add(label, ("date", words.date(source)), after)


def add_particulars(source: Source, document: Document) -> None:
    for _ in range(source.between(0, 3)):
        kind = source.between(0, 5)
        if kind == 0:
            document.add(
                choose(source, "CASHIER: |SERVED BY : |STAFF |SALESPERSON : ")
                + words.person(source).upper()
            )
        elif kind == 1:
            document.add(
                choose(source, "INVOICE NO: |RECEIPT # |BILL NO.: |DOC NO. : ")
                + words.identifier(source)
            )
        elif kind == 2:
            document.add(
                choose(source, "TABLE |COUNTER |TERMINAL |POS |QUEUE NO ") + words.digits(source, 2)
            )
        elif kind == 3:
            document.add(
                choose(source, "CUSTOMER: |BILL TO: |M/S: |ATTN: ") + words.company(source)
            )
        elif kind == 4:
            document.add(
                choose(source, "TAX INVOICE|CASH SALES|RECEIPT|INVOICE|SIMPLIFIED TAX INVOICE"),
                align="center",
            )
        else:
            document.add(choose(source, "MEMBER NO: |CARD |REF |TRANS ") + words.digits(source, 9))


def add_items(source: Source, document: Document) -> float:
    """Items with prices; returns their sum."""
    if source.chance(0.5):
        document.add(
            choose(source, "ITEM\tQTY\tAMOUNT|DESCRIPTION\tAMT(RM)|QTY\tITEM\tRM|Item\tPrice")
        )
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
    label = source.own(TOTAL_LABELS)
    if source.chance(0.4):
        document.add(
            f"{choose(source, 'SUBTOTAL|SUB TOTAL :|SUB-TOTAL|TOTAL EXCL. GST|Subtotal')}\t{due:.2f}"
        )
    if source.chance(0.3):
        tax = round(due * 0.06, 2)
        due += tax
        document.add(
            f"{choose(source, 'GST 6%|TAX|GST @6%|VAT|SERVICE TAX 6%|TOTAL GST')}\t{tax:.2f}"
        )
    if source.chance(0.15):
        document.add(f"{choose(source, 'DISCOUNT|TOTAL DISCOUNT|TOTAL SAVINGS|DISC')}\t0.00")
    if source.chance(0.3):
        rounded = round(due * 20) / 20
        before = f"{due:.2f}"
        document.add(f"{label}\t{before}")
        rounding = choose(
            source, "ROUNDING|ROUNDING ADJ|ROUND ADJ:|ROUNDING ADJUSTMENT :|5 CENTS ROUNDING"
        )
        document.add(f"{rounding}\t{rounded - due:.2f}")
        due, label = rounded, source.pick(ROUNDED_LABELS)
    whole = f"{due:,.2f}" if source.chance(0.2) else f"{due:.2f}"
    gap = source.pick(("\t", "\t", " ", ": ", "...... "))
    document.add(label + gap, ("total", currency + whole))
    if source.chance(0.6):
        paid = due if source.chance(0.3) else (due // 10 + source.between(1, 5)) * 10
        how = choose(
            source, "CASH|CASH TENDERED|PAID|CASH :|VISA|MASTER CARD|PAYMENT|AMOUNT PAID|TENDERED"
        )
        document.add(f"{how}{gap}{currency}{paid:.2f}")
        if source.chance(0.8):
            document.add(
                f"{choose(source, 'CHANGE|CHANGE DUE|CHANGE :|Change|BALANCE')}{gap}{paid - due:.2f}"
            )
    if source.chance(0.2):
        document.add(choose(source, "GST SUMMARY|TAX SUMMARY\tAMOUNT\tTAX|GST ANALYSIS"))
        document.add(
            f"{choose(source, 'SR 6%|S = 6%|Z = 0%|GST @0%')}\t{due / 1.06:.2f}\t{due - due / 1.06:.2f}"
        )


def add_footer(source: Source, document: Document) -> None:
    for line in source.some(FOOTERS, 0, 3):
        line = line.replace("{number}", str(source.between(1, 400))).replace(
            "{site}", words.website(source)
        )
        line = line.replace("{code}", words.random_string(source)).replace(
            "{phone}", words.phone(source)
        )
        document.add(line, align="center")
    if source.chance(0.1):
        document.add(
            choose(source, "VALID UNTIL |PROMOTION ENDS |EXPIRY |NEXT VISIT BEFORE |PRINTED ")
            + words.date(source)
        )
