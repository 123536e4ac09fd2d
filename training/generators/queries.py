"""Questions to a document: which fields are asked for, in which order, and the answer."""

from __future__ import annotations

from training.generators import forms, lists, prompts, words
from training.generators.documents import Document
from training.generators.words import Source

DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "company": (
        "the shop that sold",
        "name of the seller",
        "trading name at the top",
        "who issued it",
    ),
    "date": ("date of the document", "as written", "day of issue", "when it was written"),
    "address": (
        "address of the company",
        "where the shop is",
        "full address",
        "street, town and code",
    ),
    "total": ("amount to pay", "total after rounding", "final amount", "the sum paid"),
    "number": ("invoice number", "number of the document"),
    "due_date": ("when payment is due", "pay before this date"),
    "seller": ("who sends the invoice", "company that sells"),
    "buyer": ("who has to pay", "customer", "company or person that buys"),
    "currency": ("currency code", "three letters"),
    "sender": ("who wrote the letter", "name of the sender"),
    "recipient": ("whom it is addressed to", "name of the recipient"),
    "subject": ("what it is about", "subject line"),
    "reference": ("reference code", "our or your reference"),
    "author": ("who wrote the memo", "name after From"),
    "amount": ("the amount named", "sum of money"),
}
# Other names under which the same field is asked for; the last of each is for the held-out split.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "company": ("shop", "store_name", "merchant", "vendor", "shop_name", "store"),
    "total": ("total_amount", "amount_paid", "sum", "amount_due", "grand_total", "total_price"),
    "date": ("receipt_date", "issue_date", "document_date", "day", "date_of_issue", "issued_on"),
    "address": (
        "shop_address",
        "location",
        "place",
        "company_address",
        "full_address",
        "store_address",
    ),
    "number": (
        "invoice_number",
        "invoice_no",
        "document_number",
        "no",
        "invoice_id",
        "bill_number",
    ),
    "seller": ("supplier", "vendor", "from", "issuer", "seller_name", "sold_by"),
    "buyer": ("customer", "client", "bill_to", "purchaser", "buyer_name", "billed_to"),
    "recipient": ("to", "addressee", "receiver", "recipient_name", "sent_to", "addressed_to"),
    "sender": ("from", "writer", "sender_name", "signed_by", "sent_by", "written_by"),
}


def query(source: Source, document: Document) -> tuple[str, str]:
    """Instruction and answer for a random subset of the fields, now and then with absent ones."""
    values = document.values()
    names = list(values)
    if not names or (document.items and source.chance(0.06)):
        return items_query(source, document)
    draw = source.random.random()
    if draw < 0.25:
        names = [source.pick(names)]
    elif draw < 0.65:
        names = source.some(names, 2, 5)
    elif draw < 0.92 and document.fields:
        names = list(document.fields)[:8]
    else:
        names = source.some(names, 1, 8)
    asked = {asked_name(source, document, name): values[name] for name in names}
    if source.chance(0.2):
        asked |= absent_field(source, document)
        if source.chance(0.7):
            keys = list(asked)
            source.random.shuffle(keys)
            asked = {key: asked[key] for key in keys}
    return prompts.extract(list(asked), described(source, list(asked))), prompts.answer(asked)


def asked_name(source: Source, document: Document, name: str) -> str:
    options = SYNONYMS.get(name, ())
    if document.kind in ("form", "table") or not options or not source.chance(0.2):
        return name
    return options[-1] if source.split == "heldout" else source.pick(options[:-1])


def described(source: Source, names: list[str]) -> dict[str, str]:
    """A description for all, some or none of the names."""
    if source.chance(0.5):
        return {}
    return {
        name: source.pick(DESCRIPTIONS[name])
        for name in names
        if name in DESCRIPTIONS and source.chance(0.8)
    }


def absent_field(source: Source, document: Document) -> dict[str, None]:
    """A field that stands nowhere in the document."""
    written = "".join(
        piece if isinstance(piece, str) else piece[1] for line in document.lines for piece in line
    )
    taken = set(document.values()) | {
        other for name in document.fields for other in SYNONYMS.get(name, ())
    }
    while True:
        label, _ = forms.entry(source)
        key = forms.label_key(label)
        if key in taken or key in DESCRIPTIONS or label.lower() in written.lower():
            continue
        if document.kind != "form" and any(part in COMMON for part in key.split("_")):
            continue
        return {key: None}


# Words of field names that other documents hold in some form, so that null would be wrong.
COMMON = frozenset(lists.load("common"))


def items_query(source: Source, document: Document) -> tuple[str, str]:
    """All items of a document that has few; an empty list where it has none."""
    keys = list(document.items[0]) if document.items else ["name", "price"]
    if len(keys) > 1 and source.chance(0.4):
        keys = keys[: source.between(1, len(keys))]
    about = source.pick(("", "the articles", "one per article", "rows of the table"))
    instruction = prompts.extract(
        ["items[]", *(f"items[].{key}" for key in keys)], {"items[]": about}
    )
    rows = [{key: item[key] for key in keys} for item in document.items]
    return instruction, prompts.answer({"items": rows})


def copy_query(source: Source) -> tuple[str, str, str]:
    """A few meaningless lines, some of them asked for: (instruction, text, answer)."""
    lines = [copy_line(source) for _ in range(source.between(2, source.pick((3, 5, 9))))]
    lines = list(dict.fromkeys(lines))
    options: dict[str, str | None] = {
        f"line_{number + 1}": line for number, line in enumerate(lines)
    }
    options |= {"first_line": lines[0], "last_line": lines[-1], f"line_{len(lines) + 1}": None}
    at = source.between(0, len(lines) - 1)
    options["after"] = lines[at + 1] if at + 1 < len(lines) else None
    before = source.between(0, len(lines) - 1)
    options["before"] = lines[before - 1] if before else None
    descriptions = {
        "after": f"the line after {lines[at]}",
        "before": f"the line before {lines[before]}",
    }
    names = source.some(list(options), 1, source.pick((1, 1, 2, 3)))
    asked = {name: options[name] for name in names}
    wanted = {name: text for name, text in descriptions.items() if name in asked}
    return prompts.extract(names, wanted), "\n".join(lines), prompts.answer(asked)


def copy_line(source: Source) -> str:
    """One line to copy: a code, a name, an amount, an address, or random words."""
    kind = source.between(0, 9)
    if kind < 3:
        return words.random_string(source)
    if kind == 3:
        return " ".join(words.random_string(source) for _ in range(source.between(2, 3)))
    if kind == 4:
        return words.company(source)
    if kind == 5:
        return words.person(source)
    if kind == 6:
        return " ".join(words.address(source))
    if kind == 7:
        return source.pick((words.date, words.amount, words.identifier))(source)
    if kind == 8:
        return " ".join(words.invented_word(source) for _ in range(source.between(1, 3)))
    return " ".join(words.word(source) for _ in range(source.between(1, 5)))
