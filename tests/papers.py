"""Documents for the tests of the parsers, made in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LETTER = (
    "Dear Sir or Madam,",
    "thank you for the parcel of 12 May, which",
    "arrived in good order. The amount of 120.50",
    "has been sent to your account today.",
    "With kind regards, Jane Miller",
)


def pdf(path: Path, *pages: str, rotation: int = 0, turned: int = 0) -> Path:
    """One page of text for each string. turned: degrees that the letters themselves are turned."""
    with pymupdf.open() as document:
        for text in pages:
            page = document.new_page(width=400, height=300)
            for number, line in enumerate(text.split("\n")):
                along = 40 + 20 * number
                start = {0: (40, along), 90: (along, 260), 180: (360, along), 270: (along, 40)}
                page.insert_text(start[turned], line, fontsize=12, rotate=turned)
            page.set_rotation(rotation)
        document.save(path)
    return path


def scan(*lines: str, size: int = 24, width: int = 620) -> NDArray[np.uint8]:
    """Grey [H, W]: printed lines on slightly uneven paper."""
    picture = Image.new("L", (width, int(1.6 * size * (len(lines) + 2))), 245)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((30, 1.6 * size * (number + 1)), line, fill=30, font=ImageFont.load_default(size))
    noise = np.random.default_rng(0).normal(0, 2, (picture.height, picture.width))
    shade = np.linspace(0, -20, picture.width)
    return np.clip(np.asarray(picture) + noise + shade, 0, 255).astype(np.uint8)


def raw_pdf(*objects: str) -> bytes:
    """A PDF of the given objects, numbered from 1; the first is the catalog."""
    body, places = "%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj {text} endobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(body)
    count = len(objects) + 1
    body += f"xref\n0 {count}\n0000000000 65535 f \n{table}"
    body += f"trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return body.encode()
