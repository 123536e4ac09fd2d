"""Samples whose input is text: copy, extract, clean, repair and tag."""

from __future__ import annotations

import re

from training.generators import (
    dictation,
    forms,
    invoices,
    letters,
    ocr_noise,
    prompts,
    prose,
    queries,
    real,
    receipts,
)
from training.generators.documents import Document, label, text
from training.generators.words import Source

TextSample = tuple[str, str, str]  # instruction, text, answer
DATE_LIKE = re.compile(
    r"\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}|\d{1,2}[ /-]?[A-Za-z]{3,9}[ /-]?\d{2,4}|\d{8}"
)
TOTAL_LIKE = re.compile(r"total|amount|due|rounding|nett?|payable|\bRM\b", re.IGNORECASE)
KINDS = {
    "receipt": receipts.receipt,
    "invoice": invoices.invoice,
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
    if source.chance(0.35) and document.kind != "table":
        rate = ocr_noise.rate(source) * 0.7
        document.map_text(lambda part: ocr_noise.confuse(source, part, rate))
        document.items.clear()
    instruction, answer = queries.query(source, document)
    return instruction, text(document, cells=source.chance(0.3)), answer


def shorten(source: Source, document: Document, limit: int = 900) -> None:
    """Receipts: often only the head or the foot, a digest where the text is longer than `limit`.

    The head holds the hard choices (which of the first lines is the company, where the address
    ends) in a third of the tokens: with whole receipts alone 4 of 10 companies stayed wrong.
    """
    if document.kind != "receipt":
        return
    count, draw = len(document.lines), source.random.random()
    if draw < 0.5:
        kept = source.between(3, 10)
        wanted = [i < kept if draw < 0.4 else i >= count - kept for i in range(count)]
    elif draw < 0.7 or len(text(document)) > limit:
        wanted = digest_lines(text(document).split("\n"))
    else:
        return
    document.keep(wanted)
    document.items.clear()


def digest_lines(lines: list[str]) -> list[bool]:
    """Which lines a digest keeps: the first nine, those with a date, two about each total."""
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


TOPICS = ("complaint", "order", "appointment", "payment", "application", "thanks")


def tag(source: Source) -> TextSample:
    """Kinds of documents, or topics of a message; a few labels to choose from, in random order."""
    if source.chance(0.6):
        right = source.pick(tuple(KINDS))
        document = KINDS[right](source)
        body = text(document)[: source.between(200, 700)]
        pool = tuple(KINDS)
    else:
        right = source.pick(TOPICS)
        parts = [prose.fill(source, label(source, f"topic_{right}"))]
        if source.chance(0.4):
            parts.insert(source.between(0, 1), prose.sentence(source))
        body, pool = " ".join(parts), TOPICS
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
