"""Writes the repository's samples: documents, recordings and what should come out of them.

    python -m training.make_samples samples/

Deterministic with the same fonts and the same espeak-ng. `broken.png` has no expected output: a run
has to fail on it with a reason.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.generators import espeak, fonts, ocr_noise, render
from training.generators.documents import Document, line_text, text
from training.generators.render import PATCH, Pen
from training.generators.words import Source
from training.preview import write_wave

TEXTS = Path(__file__).with_name("sample_documents.txt")
SCHEMAS = {
    "receipt": ("company", "date", "address", "total"),
    "invoice": ("number", "date", "due_date", "seller", "buyer", "total", "currency"),
    "letter": ("sender", "recipient", "date", "subject", "reference"),
    "memo": ("author", "date", "subject", "amount"),
}
DICTATION = (
    "dear Nora comma new line the uh parts arrived on Monday comma but two no wait three of them "
    "were damaged period please send us new ones before Friday period new paragraph um kind "
    "regards comma new line Daniel"
)
DICTATED = (
    "Dear Nora,\nThe parts arrived on Monday, but three of them were damaged. Please send us new "
    "ones before Friday.\n\nKind regards,\nDaniel"
)
SPOKEN = "the meeting starts on friday in room 12 please bring the report and 3 copies"
DIGITS = "7 3 9"


def source(name: str) -> Source:
    return Source(random.Random(f"sample:{name}"))


def documents() -> dict[str, Document]:
    """The documents of `sample_documents.txt` by name."""
    found: dict[str, Document] = {}
    for block in re.split(r"^\[", TEXTS.read_text("ascii"), flags=re.MULTILINE)[1:]:
        name, _, body = block.partition("]\n")
        kind = name.split("-")[0]
        document = found[name] = Document(kind, SCHEMAS[kind])
        for line in body.strip("\n").split("\n"):
            pieces = re.split(r"(\{\w+:[^}]*\})", line.lstrip("^").replace("|", "\t"))
            marked = [_piece(piece) for piece in pieces if piece]
            document.add(*marked, align="center" if line.startswith("^") else "left")
    return found


def _piece(piece: str) -> str | tuple[str, str]:
    if not piece.startswith("{"):
        return piece
    name, _, value = piece[1:-1].partition(":")
    return name, value


def page(name: str, document: Document, font: str, size: int, degrees: float = 0.0) -> Image.Image:
    """A scan of the document in a font of this machine whose file name begins with `font`."""
    options = [*fonts.paths("train", False), *fonts.paths("train", True)]
    path = next((path for path in options if path.name.startswith(font)), options[0])
    pen = Pen(path, size, math.tan(math.radians(degrees)))
    rows = [line_text(line).split("\t") for line in document.lines]
    longest = max(render.row_width(pen, row) for row in rows)
    width = render.round_up(longest + 60, 30 * PATCH)
    drawn = source(name)
    picture = render.finish(drawn, render.lay_out(drawn, document, rows, width, pen))
    return Image.fromarray(picture.image)


def write_pdf_of_text(path: Path, document: Document) -> None:
    """A born-digital PDF of one A4 page in Helvetica, with a text layer, without dates."""
    shown = []
    for row, line in enumerate(document.lines):
        cells = line_text(line).split("\t")
        for column, cell in enumerate(cells):
            left = 60 + column * 400 // max(1, len(cells) - 1)
            escaped = re.sub(r"([()\\])", r"\\\1", cell)
            shown.append(f"BT /F1 11 Tf {left} {760 - row * 22} Td ({escaped}) Tj ET")
    content = "\n".join(shown)
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R "
        "/Resources << /Font << /F1 4 0 R >> >> >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    )
    pdf, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(pdf))
        pdf += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    path.write_text(f"{pdf}{end}startxref\n{len(pdf)}\n%%EOF\n", "ascii")


def write_all(out: Path) -> list[dict[str, Any]]:
    """Writes the files; returns what is expected of them."""
    texts = documents()
    rows: list[dict[str, Any]] = []

    def expect(file: str, name: str) -> Path:
        kind, values = texts[name].kind, texts[name].values()
        asked = {field: values[field] for field in SCHEMAS[kind]}
        rows.append({"file": file, "subtask": "extract", "schema": kind, "output": asked})
        return out / file

    def scan(file: str, name: str, font: str, size: int, degrees: float = 0.0) -> None:
        page(name, texts[name], font, size, degrees).save(expect(file, name), quality=60)

    scan("receipt-grocer.png", "receipt-grocer", "DejaVuSansMono.", 32)
    scan("receipt-hardware.jpg", "receipt-hardware", "FreeMonoBold.", 30, 0.8)
    scan("receipt-tea.jpg", "receipt-tea", "LiberationSans-Regular", 36, -0.6)
    scan("invoice-paper.png", "invoice-paper", "LiberationSerif-Regular", 34)
    scan("memo-heating.jpg", "memo-heating", "DejaVuSans.", 30, 0.4)
    write_pdf_of_text(expect("invoice-garden.pdf", "invoice-garden"), texts["invoice-garden"])
    pages = [page(n, texts[n], "LiberationSans-R", 34) for n in ("letter-roof", "letter-roof-2")]
    first = expect("letter-two-pages.pdf", "letter-roof")
    when = time.gmtime(0)  # not now, so that the file is the same each time
    pages[0].save(first, save_all=True, append_images=pages[1:], creationDate=when, modDate=when)
    rows += write_texts(out, texts["letter-insurance"])
    if espeak.available():
        rows += write_recordings(out)
    (out / "broken.png").write_bytes((out / "receipt-grocer.png").read_bytes()[:20_000])
    return rows


def write_texts(out: Path, letter: Document) -> list[dict[str, Any]]:
    """A letter as bad character recognition left it, and a dictation as it was said."""
    right, drawn = text(letter), source("letter-noisy")
    noisy = "\n".join(ocr_noise.confuse(drawn, line, 0.025) for line in right.split("\n"))
    (out / "letter-noisy.txt").write_text(noisy + "\n", "ascii")
    (out / "dictation.txt").write_text(DICTATION + "\n", "ascii")
    return [
        {"file": "letter-noisy.txt", "subtask": "clean", "text": right},
        {"file": "dictation.txt", "subtask": "repair", "text": DICTATED},
    ]


def write_recordings(out: Path) -> list[dict[str, Any]]:
    """Two recordings by espeak-ng."""
    quiet: Callable[[np.ndarray], np.ndarray] = lambda samples: np.pad(samples, 4000) * 0.7  # noqa: E731
    write_wave(out / "dictation.wav", quiet(espeak.say(SPOKEN, "en", 150, 50).samples))
    write_wave(out / "digits.wav", quiet(espeak.say(DIGITS, "en-us", 140, 45).samples))
    return [
        {"file": "dictation.wav", "subtask": "transcribe", "text": SPOKEN},
        {"file": "digits.wav", "subtask": "transcribe", "text": DIGITS},
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the sample files.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in write_all(out)]
    (out / "expected.jsonl").write_text("\n".join(lines) + "\n", "ascii")


if __name__ == "__main__":
    main()
