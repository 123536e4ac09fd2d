"""Samples whose input is an image: read a strip of lines, read a page, extract from a page."""

from __future__ import annotations

from training.generators import prompts, prose, queries, real_strips, render, text_tasks, words
from training.generators.documents import Document, Line, line_text, text
from training.generators.render import Picture
from training.generators.words import Source

ImageSample = tuple[str, str, Picture]  # instruction, answer, picture


def read_line(source: Source) -> ImageSample:
    """One to four lines, half of them random strings, digits and prices."""
    count = source.pick((1, 1, 1, 2, 4))
    lines = [strip_line(source) for _ in range(count)]
    drawn, picture = render.line_strip(source, lines)
    return prompts.PAGE, "\n".join(drawn), picture


def strip_line(source: Source) -> str:
    draw = source.random.random()
    if draw < 0.2:
        return " ".join(words.random_string(source) for _ in range(source.between(1, 3)))
    if draw < 0.35:
        return " ".join(number_word(source) for _ in range(source.between(1, 4)))
    if draw < 0.5:
        return queries.copy_line(source)[:48].strip()
    if draw < 0.75:
        document = text_tasks.KINDS[source.pick(text_tasks.DOCUMENT_MIX)](source)
        return source.pick(text(document).split("\n"))[:48].strip()
    line = source.pick(prose.wrap(prose.sentence(source), source.between(15, 44)))
    return line.upper() if source.chance(0.3) else line


def number_word(source: Source) -> str:
    """Digit runs as tables and receipts have them."""
    kind = source.between(0, 5)
    if kind == 0:
        return words.digits(source, source.between(1, 13))
    if kind == 1:
        return words.priced(source, words.amount(source))
    if kind == 2:
        return words.date(source)
    if kind == 3:
        return f"{source.between(1, 30)} {source.pick('xX@')} {words.amount(source)}"
    if kind == 4:
        return source.pick((words.phone, words.clock, words.identifier))(source)
    return f"{source.pick('0015')}" * source.between(1, 4) + words.digits(
        source, source.between(1, 4)
    )


def small_document(source: Source) -> Document:
    """A document that fits on a page: lines that neither hold nor name a value are dropped."""
    document = text_tasks.KINDS[source.pick(text_tasks.DOCUMENT_MIX)](source)
    limit = source.between(8, render.MOST_ROWS)
    surplus = len(document.lines) - limit
    if surplus > 0:
        lines = document.lines
        follows = [not isinstance(after[0], str) for after in lines[1:]] + [False]
        plain = [
            place
            for place, line in enumerate(lines)
            if all(isinstance(piece, str) for piece in line) and not follows[place]
        ]
        dropped = set(source.some(plain, surplus, surplus))
        document.keep([place not in dropped for place in range(len(document.lines))])
        document.items.clear()
    return document


def beside(source: Source, document: Document) -> None:
    """Set two blocks of short lines side by side, as letter heads and invoices have them."""
    height = source.between(2, 4)
    starts = [
        start
        for start in range(len(document.lines) - 2 * height + 1)
        if all(is_short(line) for line in document.lines[start : start + 2 * height])
    ]
    if not starts:
        return
    start = source.pick(starts)
    middle, end = start + height, start + 2 * height
    pairs = zip(document.lines[start:middle], document.lines[middle:end], strict=True)
    document.lines[start:end] = [(*left, "\t", *right) for left, right in pairs]
    del document.alignments[middle:end]


def is_short(line: Line) -> bool:
    written = line_text(line)
    return len(written) < 26 and "\t" not in written


def drawn_document(source: Source, *, blocks: float = 0.0) -> tuple[Document, Picture]:
    """A document and its page; `blocks` is the probability of two blocks side by side."""
    while True:
        document = small_document(source)
        if source.chance(blocks):
            beside(source, document)
        picture = render.page(source, document) if document.lines else None
        if picture is not None:
            return document, picture


def read_page(source: Source) -> ImageSample:
    document, picture = drawn_document(source)
    lines = (" ".join(line.split()) for line in text(document).split("\n"))
    return prompts.PAGE, "\n".join(lines), picture


def extract_page(source: Source) -> ImageSample:
    document, picture = drawn_document(source, blocks=0.25)
    instruction, answer = queries.query(source, document)
    return instruction, answer, picture


def read_real(source: Source) -> ImageSample:
    """Lines of a real scan."""
    texts, picture = real_strips.strip(source)
    return prompts.PAGE, "\n".join(texts), picture
