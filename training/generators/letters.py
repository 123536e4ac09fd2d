"""Letters and memos in several layouts."""

from __future__ import annotations

from training.generators import prose, words
from training.generators.documents import Document, Line, label, lead
from training.generators.words import Source

LETTER = ("sender", "recipient", "date", "subject", "reference")
MEMO = ("author", "date", "subject", "amount")


def letter(source: Source) -> Document:
    document = Document("letter", LETTER)
    sender = words.company(source) if source.chance(0.4) else words.person(source)
    recipient = words.person(source) if source.chance(0.7) else words.company(source)
    signed_only = source.chance(0.3)
    if not signed_only:
        align = source.pick(("left", "right", "center"))
        document.add(lead(source, "letter_sender"), ("sender", sender), align=align)
        document.add_all(words.address(source), align)
    date_first = source.chance(0.4)
    if date_first:
        add_date_and_reference(source, document)
    if source.chance(0.9):
        document.add(lead(source, "letter_recipient"), ("recipient", recipient))
        document.add_all(words.address(source) if source.chance(0.6) else ())
    if not date_first:
        add_date_and_reference(source, document)
    if source.chance(0.85):
        document.add(lead(source, "letter_subject"), ("subject", subject(source)))
    name = recipient.split(" ")[-1]
    document.add(label(source, "letter_greeting").replace("{name}", name))
    body = prose.paragraph(source, source.between(1, 4))
    document.add_all(prose.wrap(body, source.between(28, 60)))
    document.add(label(source, "letter_closing"))
    if signed_only:
        document.add(("sender", sender))
    elif source.chance(0.7):
        document.add(sender)
    if source.chance(0.2):
        document.add(lead(source, "letter_after") + words.person(source))
    return document


def add_date_and_reference(source: Source, document: Document) -> None:
    place = f"{source.pick(words.CITIES)}, "
    before = source.pick(("", "", "", "Date: ", place))
    lines: list[Line] = [
        (before, ("date", words.date(source))),
        (lead(source, "letter_reference"), ("reference", words.identifier(source))),
    ]
    source.random.shuffle(lines)
    for line in lines:
        if source.chance(0.8):
            document.add(*line)


def subject(source: Source) -> str:
    """What a letter is about: a sentence without its mark, or a few words."""
    if source.chance(0.6):
        return prose.sentence(source).rstrip(".?!")
    return " ".join(words.word(source) for _ in range(source.between(1, 4))).capitalize()


def memo(source: Source) -> Document:
    document = Document("memo", MEMO)
    if source.chance(0.8):
        document.add(label(source, "memo_title"), align=source.pick(("center", "left")))
    heads: tuple[tuple[float, str, str, str], ...] = (
        (0.92, "memo_author", "author", words.person(source)),
        (0.90, "memo_date", "date", words.date(source)),
        (0.85, "memo_subject", "subject", subject(source)),
        (0.70, "memo_recipient", "", words.person(source)),
    )
    for probability, labels, name, value in source.some(heads, 4, 4):
        if source.chance(probability):
            document.add(lead(source, labels), (name, value) if name else value)
    body = prose.wrap(plain_paragraph(source, source.between(1, 3)), source.between(28, 60))
    place = source.between(0, len(body))
    document.add_all(body[:place])
    if source.chance(0.7):
        written = words.priced(source, words.amount(source))
        after = label(source, "memo_after_amount")
        document.add(lead(source, "memo_amount"), ("amount", written), after)
    document.add_all(body[place:])
    return document


def plain_paragraph(source: Source, sentences: int) -> str:
    """Sentences without amounts, so that a document's one amount is not in doubt."""
    out: list[str] = []
    while len(out) < sentences:
        text = prose.sentence(source)
        if "." not in text[:-1]:
            out.append(text)
    return " ".join(out)
