"""Samples whose input is text: copy, extract, clean, repair and tag."""

from __future__ import annotations

import re

from training.generators import (
    dictation,
    forms,
    letters,
    ocr_noise,
    prompts,
    prose,
    queries,
    real,
    receipts,
)
from training.generators.documents import Document, text
from training.generators.words import Source

TextSample = tuple[str, str, str]  # instruction, text, answer
DATE_LIKE = re.compile(
    r"\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}|\d{1,2}[ /-]?[A-Za-z]{3,9}[ /-]?\d{2,4}|\d{8}"
)
TOTAL_LIKE = re.compile(r"total|amount|due|rounding|nett?|payable|\bRM\b", re.IGNORECASE)
KINDS = {
    "receipt": receipts.receipt,
    "invoice": letters.invoice,
    "letter": letters.letter,
    "memo": letters.memo,
    "form": forms.form,
    "table": forms.table,
}
DOCUMENT_MIX = (
    ("receipt",) * 7
    + ("invoice",) * 3
    + ("letter",) * 2
    + ("memo",) * 2
    + ("form",) * 5
    + ("table",)
)


def copy_text(source: Source) -> TextSample:
    """Copying on its own: meaningless lines, or a short form with a few labelled values."""
    if source.chance(0.6):
        return queries.copy_query(source)
    document = forms.form(source)
    instruction, answer = queries.query(source, document)
    return instruction, text(document), answer


def extract_text(source: Source) -> TextSample:
    document = KINDS[source.pick(DOCUMENT_MIX)](source)
    shorten(source, document)
    if source.chance(0.35):
        rate = ocr_noise.rate(source) * 0.7
        document.map_text(lambda part: ocr_noise.confuse(source, part, rate))
        document.items.clear()
    instruction, answer = queries.query(source, document)
    return instruction, text(document, cells=source.chance(0.3)), answer


def shorten(source: Source, document: Document, limit: int = 900) -> None:
    """Receipts: sometimes a digest as the pipeline sends it, always when the text is longer than `limit`."""
    length = len(text(document))
    if document.kind == "receipt" and (length > limit or source.chance(0.25)):
        document.keep(digest_lines([text_of for text_of in text(document).split("\n")]))
        document.items.clear()


def digest_lines(lines: list[str]) -> list[bool]:
    """Which lines a digest keeps: the first nine, those with a date, those about totals and what follows them."""
    wanted = [place < 9 or bool(DATE_LIKE.search(line)) for place, line in enumerate(lines)]
    for place, line in enumerate(lines):
        if TOTAL_LIKE.search(line):
            wanted[place : place + 2] = [True] * len(wanted[place : place + 2])
    return wanted


def clean(source: Source) -> TextSample:
    """Noisy text and the text as it was; sometimes there is nothing to correct."""
    kind = source.random.random()
    if kind < 0.5:
        whole = prose.paragraph(source, source.between(1, 3))
        lines = prose.wrap(whole, source.between(30, 70)) if source.chance(0.7) else [whole]
    elif kind < 0.85:
        lines = text(KINDS[source.pick(DOCUMENT_MIX)](source)).split("\n")
        start = source.between(0, max(0, len(lines) - 4))
        lines = lines[start : start + source.between(1, 6)]
    else:
        lines = [queries.copy_line(source) for _ in range(source.between(1, 3))]
    right = "\n".join(" ".join(line.split()) for line in lines)
    rate = 0.0 if source.chance(0.08) else ocr_noise.rate(source)
    noisy = "\n".join(ocr_noise.noisy_line(source, line, rate) for line in right.split("\n"))
    return prompts.CLEAN, noisy, right


def repair(source: Source) -> TextSample:
    said, right = dictation.dictation(source)
    return prompts.REPAIR, said, right


TOPICS: dict[str, tuple[str, ...]] = {
    "complaint": ("The {noun} is {adjective} and I want my money back.", "I am not happy with the {noun}.",
                  "This is the third time the {noun} is broken.", "The {noun} arrived damaged, please replace it."),
    "order": ("Please send {number} boxes of {noun}.", "We would like to order {number} {noun}s.",
              "I need {number} more {noun}s by {weekday}.", "Kindly deliver {number} {noun}s to {place}."),
    "appointment": ("Can we meet on {weekday} at {clock}?", "My appointment is on {date} at {clock}.",
                    "Please move the meeting to {weekday}.", "The doctor can see you on {weekday} at {clock}."),
    "payment": ("We paid {amount} on {date}.", "The invoice over {amount} is still open.",
                "Please transfer {amount} within {number} days.", "Your payment of {amount} has arrived."),
    "application": ("I would like to apply for the job of {noun} manager.", "Please find my curriculum vitae enclosed.",
                    "I have {number} years of experience in this work.", "I am applying for the position in {place}."),
    "thanks": ("Thank you very much for the {noun}.", "Many thanks for your kind help on {weekday}.",
               "We are very grateful for the {adjective} {noun}.", "Thanks again for your visit."),
}  # fmt: skip


def tag(source: Source) -> TextSample:
    """Kinds of documents, or topics of a message; a few labels to choose from, in random order."""
    if source.chance(0.6):
        right = source.pick(tuple(KINDS))
        document = KINDS[right](source)
        body = text(document)[: source.between(200, 700)]
        pool = tuple(KINDS)
    else:
        right = source.pick(tuple(TOPICS))
        parts = [prose.fill(source, source.pick(TOPICS[right]))]
        if source.chance(0.4):
            parts.insert(source.between(0, 1), prose.sentence(source))
        body, pool = " ".join(parts), tuple(TOPICS)
    labels = [right, *source.some([label for label in pool if label != right], 1, 4)]
    if source.chance(0.15):
        labels.append("other")
        if source.chance(0.5):
            labels.remove(right)
            right = "other"
    source.random.shuffle(labels)
    if source.chance(0.3):
        rate = ocr_noise.rate(source)
        body = ocr_noise.confuse(source, body, rate)
    return prompts.tag(labels), body, right


def extract_real(source: Source) -> TextSample:
    """The lines of a real receipt, as annotated or with noise as from a bad scan."""
    document = real.document(source)
    shorten(source, document)
    if source.chance(0.35):
        rate = ocr_noise.rate(source) * 0.7
        document.map_text(lambda part: ocr_noise.confuse(source, part, rate))
    instruction, answer = queries.query(source, document)
    return instruction, text(document), answer
