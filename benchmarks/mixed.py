"""A folder of small mixed files, all different: text, scanned receipts, PDFs, short recordings.

Knows no model. Kinds take turns, so that any hundred files in the order of their names cost the
same; contents are decided by the number alone. A light folder is for many files: receipts of one
item, one page, one word of speech, and of ten files five are text, three PDFs, one a scan and one
a recording.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pymupdf
import soundfile
from PIL import Image, ImageDraw, ImageFont

SPOKEN = Path(__file__).parents[1] / "samples" / "digits.wav"
_COMPANIES = ("HILL FARM SHOP", "NORTH PAPER LTD", "OAK AND SONS", "RIVER TOOLS", "TEA CORNER")
_STREETS = ("MARKET ROAD", "STATION STREET", "MILL LANE", "HIGH STREET", "PARK AVENUE")
_GOODS = ("APPLES", "ENVELOPES", "GREEN TEA", "LAMP", "NAILS 40 MM", "PENCILS", "ROPE", "SOAP")


def write_folder(directory: Path, files: int, *, light: bool = False) -> list[Path]:
    """Writes `files` files into a new directory, in the order in which a run takes them."""
    directory.mkdir()
    kinds = _LIGHT if light else _EVEN
    return [
        kinds[number % len(kinds)](directory / f"{number:05}", number, light)
        for number in range(files)
    ]


def receipt(number: int, light: bool = False) -> list[str]:
    """The lines of one receipt."""
    drawn = random.Random(number)
    items = 1 if light else drawn.randint(2, 4)
    prices = [drawn.randint(50, 2000) / 100 for _ in range(items)]
    return [
        drawn.choice(_COMPANIES),
        f"{drawn.randint(1, 99)} {drawn.choice(_STREETS)}",
        f"DATE {drawn.randint(1, 28):02}/{drawn.randint(1, 12):02}/2024",
        f"RECEIPT {number:05}",
        *(f"{drawn.choice(_GOODS)} {price:.2f}" for price in prices),
        f"TOTAL {sum(prices):.2f}",
    ]


def _write_text(stem: Path, number: int, light: bool) -> Path:
    path = stem.with_suffix(".txt")
    path.write_text("\n".join(receipt(number, light)) + "\n", encoding="ascii")
    return path


def _write_scan(stem: Path, number: int, light: bool) -> Path:
    path, lines = stem.with_suffix(".png"), receipt(number, light)
    picture = Image.new("L", (480, 42 * (len(lines) + 2)), 245)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(26)
    for row, line in enumerate(lines, 1):
        draw.text((30, 42 * row), line, fill=30, font=font)
    picture.save(path)
    return path


def _write_pdf(stem: Path, number: int, light: bool) -> Path:
    """One or two pages with a text layer."""
    path = stem.with_suffix(".pdf")
    with pymupdf.open() as document:
        for part in range(1 if light else 1 + number // 4 % 2):
            page = document.new_page(width=300, height=400)
            for row, line in enumerate([*receipt(number, light), f"PAGE {part + 1}"], 1):
                page.insert_text((30, 24 * row), line, fontsize=12)
        document.save(path)
    return path


def _write_recording(stem: Path, number: int, light: bool) -> Path:
    """The digits of samples/, each time in another noise."""
    path = stem.with_suffix(".wav")
    spoken, rate = soundfile.read(SPOKEN, dtype="float32")
    spoken = spoken[: rate // 2] if light else spoken
    noise = np.random.default_rng(number).standard_normal(len(spoken)).astype(np.float32)
    soundfile.write(path, 0.9 * spoken + 0.002 * noise, rate)
    return path


_EVEN = (_write_text, _write_scan, _write_pdf, _write_recording)
_LIGHT = (
    *(_write_text, _write_pdf, _write_text, _write_scan, _write_text),
    *(_write_pdf, _write_text, _write_recording, _write_text, _write_pdf),
)
