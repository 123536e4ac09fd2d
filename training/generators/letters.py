"""Invoices, letters and memos in several layouts."""

from __future__ import annotations

from training.generators import prose, words
from training.generators.documents import Document, choose
from training.generators.words import Source

INVOICE = ("number", "date", "due_date", "seller", "buyer", "total", "currency")
LETTER = ("sender", "recipient", "date", "subject", "reference")
MEMO = ("author", "date", "subject", "amount")


def invoice(source: Source) -> Document:
    document = Document("invoice", INVOICE)
    title = choose(source, "INVOICE|Invoice|TAX INVOICE|Commercial Invoice|INVOICE / BILL")
    if source.chance(0.4):
        document.add(title, align=source.pick(("center", "left", "right")))
        title = ""
    if source.chance(0.95):
        label = choose(source, "|||From: |Seller: |Supplier: |Vendor: |Issued by ")
        document.add(label, ("seller", words.company(source)))
    if source.chance(0.7):
        for line in words.address(source):
            document.add(line)
    if source.chance(0.4):
        document.add(choose(source, "Tel |VAT no. |GST ID |Phone: ") + words.digits(source, 9))
    if title:
        document.add(title, align=source.pick(("center", "left")))
    blocks = [add_numbers, add_buyer]
    source.random.shuffle(blocks)
    for block in blocks:
        block(source, document)
    add_invoice_items(source, document)
    return document


def add_numbers(source: Source, document: Document) -> None:
    """Number, date and due date with their labels, in any order."""
    gap = source.pick((": ", " ", "\t", " : "))
    lines = []
    if source.chance(0.92):
        label = choose(
            source, "Invoice No.|Invoice number|Number|No.|INVOICE NO|Invoice|Inv #|Document no."
        )
        lines.append((label + gap, ("number", words.identifier(source))))
    if source.chance(0.9):
        lines.append(
            (
                choose(source, "Date|Invoice date|DATE|Issued|Date of issue|Dated") + gap,
                ("date", words.date(source)),
            )
        )
    if source.chance(0.7):
        label = choose(
            source, "Due date|Due|Payment due|Pay by|DUE DATE|Payable until|Please pay before"
        )
        lines.append((label + gap, ("due_date", words.date(source))))
    if source.chance(0.4):
        lines.append(
            (
                choose(source, "Order no.|PO number|Customer no.|Your ref|Account")
                + gap
                + words.identifier(source),
            )
        )
    if source.chance(0.2):
        lines.append(
            (choose(source, "Delivery date|Order date|Shipped") + gap + words.date(source),)
        )
    source.random.shuffle(lines)
    for line in lines:
        document.add(*line)


def add_buyer(source: Source, document: Document) -> None:
    if source.chance(0.08):
        return
    name = words.company(source) if source.chance(0.6) else words.person(source)
    if source.chance(0.5):
        document.add(
            choose(source, "Bill to:|BILL TO|Billed to|Customer|Invoice to:|Sold to:|Buyer:")
        )
        document.add(("buyer", name))
    else:
        document.add(
            choose(source, "Bill to: |To: |Customer: |Sold to |Buyer: |Client: |Attn: "),
            ("buyer", name),
        )
    if source.chance(0.6):
        for line in words.address(source):
            document.add(line)


def add_invoice_items(source: Source, document: Document) -> None:
    currency = source.pick(words.CURRENCIES)
    with_currency = source.chance(0.8)
    if source.chance(0.6):
        document.add(
            choose(
                source,
                "Description\tQty\tPrice\tAmount|Item\tAmount|Pos\tArticle\tTotal|Service\tCost",
            )
        )
    due = 0.0
    for _ in range(source.between(1, 4)):
        quantity, price = source.between(1, 12), round(900.0 ** source.random.random() * 2, 2)
        due += quantity * price
        name = words.product(source)
        cost = f"{quantity * price:,.2f}"
        document.add(
            f"{name}\t{quantity}\t{price:,.2f}\t{cost}" if source.chance(0.6) else f"{name}\t{cost}"
        )
        document.items.append({"name": name, "price": cost})
    if source.chance(0.5):
        document.add(f"{choose(source, 'Subtotal|Net|Net amount|Sub-total')}\t{due:,.2f}")
        tax = due * source.pick((0.05, 0.06, 0.07, 0.19, 0.2))
        document.add(f"{choose(source, 'VAT 20%|Tax|VAT|GST|Sales tax')}\t{tax:,.2f}")
        due += tax
    if not source.chance(0.94):
        return
    label = choose(
        source,
        "Total|TOTAL|Total due|Amount due|Grand total|Total amount|Balance due|Invoice total",
    )
    shape = source.between(0, 2)
    total = ("total", f"{due:,.2f}" if source.chance(0.7) else f"{due:.2f}")
    if not with_currency:
        document.add(f"{label}\t", total)
    elif shape == 0:
        document.add(f"{label} ", ("currency", currency), "\t", total)
    elif shape == 1:
        document.add(f"{label}\t", total, " ", ("currency", currency))
    else:
        document.add(f"{label} (", ("currency", currency), ")\t", total)
    if source.chance(0.4):
        bank = choose(source, "IBAN |Bank account |Account no. |Sort code ")
        document.add(bank + words.digits(source, source.between(8, 16)))
    if source.chance(0.3):
        document.add(
            choose(
                source,
                "Thank you for your business.|Payment within 30 days.|Late payment costs 5 %.",
            )
        )


def letter(source: Source) -> Document:
    document = Document("letter", LETTER)
    name = words.company(source) if source.chance(0.4) else words.person(source)
    signed_only = source.chance(0.3)
    align = source.pick(("left", "right", "center"))
    if not signed_only:
        document.add(choose(source, "|||From: |Sender: "), ("sender", name), align=align)
        for line in words.address(source):
            document.add(line, align=align)
    date = (
        choose(source, "|||Date: |{city}, ").replace("{city}", source.pick(words.CITIES)),
        ("date", words.date(source)),
    )
    reference = (
        choose(source, "Our ref: |Reference: |Ref. |Our reference |Ref: |Your ref "),
        ("reference", words.identifier(source)),
    )
    heads = [line for line in (date, reference) if source.chance(0.8)]
    source.random.shuffle(heads)
    date_first = source.chance(0.4)
    recipient = words.person(source) if source.chance(0.7) else words.company(source)
    if date_first:
        for line in heads:
            document.add(*line)
    if source.chance(0.9):
        document.add(choose(source, "||||To: |Attn: "), ("recipient", recipient))
        if source.chance(0.6):
            for line in words.address(source):
                document.add(line)
    if not date_first:
        for line in heads:
            document.add(*line)
    if source.chance(0.85):
        subject = prose.sentence(source).rstrip(".?!")
        document.add(
            choose(source, "Subject: |Re: |RE: |Concerning: |Subject |"), ("subject", subject)
        )
    document.add(
        choose(
            source,
            "Dear Sir or Madam,|Dear Ms {name},|Dear Mr {name},|To whom it may concern,|Dear {name},",
        ).replace("{name}", recipient.split(" ")[-1])
    )
    for line in prose.wrap(prose.paragraph(source, source.between(1, 4)), source.between(28, 60)):
        document.add(line)
    document.add(
        choose(
            source,
            "Yours sincerely,|Kind regards,|Yours faithfully,|Best regards,|With best wishes,",
        )
    )
    if signed_only:
        document.add(("sender", name))
    elif source.chance(0.7):
        document.add(name)
    if source.chance(0.2):
        document.add(choose(source, "Enclosure|Copy to the file|P.S. |cc: ") + words.person(source))
    return document


def memo(source: Source) -> Document:
    document = Document("memo", MEMO)
    if source.chance(0.8):
        document.add(
            choose(source, "MEMO|Memorandum|MEMORANDUM|Internal memo|Note"),
            align=source.pick(("center", "left")),
        )
    subject = prose.sentence(source).rstrip(".?!")
    heads: list[tuple[str | tuple[str, str], ...]] = []
    if source.chance(0.92):
        heads.append(
            (
                choose(source, "From: |FROM: |Author: |Written by |By: "),
                ("author", words.person(source)),
            )
        )
    if source.chance(0.9):
        heads.append((choose(source, "Date: |DATE: |On |Dated "), ("date", words.date(source))))
    if source.chance(0.85):
        heads.append(
            (choose(source, "Subject: |Re: |SUBJECT: |About: |Topic: "), ("subject", subject))
        )
    if source.chance(0.7):
        heads.append((choose(source, "To: |TO: |For: |cc: ") + words.person(source),))
    source.random.shuffle(heads)
    for line in heads:
        document.add(*line)
    body = prose.wrap(plain_paragraph(source, source.between(1, 3)), source.between(28, 60))
    if source.chance(0.7):
        place = source.between(0, len(body))
        written = words.priced(source, words.amount(source))
        before = choose(
            source,
            "Amount: |The cost is |We need |Approved: |Please pay |Budget |Sum to be paid: |The bill is for ",
        )
        after = choose(source, "|.| in total.| by then.")
        for line in body[:place]:
            document.add(line)
        document.add(before, ("amount", written), after)
        body = body[place:]
    for line in body:
        document.add(line)
    return document


def plain_paragraph(source: Source, sentences: int) -> str:
    """Sentences without amounts, so that a document's one amount is not in doubt."""
    out: list[str] = []
    while len(out) < sentences:
        text = prose.sentence(source)
        if "." not in text[:-1]:
            out.append(text)
    return " ".join(out)
