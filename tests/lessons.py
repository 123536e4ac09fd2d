"""A labelled set of every kind for fine-tuning, and a tiny checkpoint that can take it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from pipelines.labelled import Row, write_set
from tests.tiny import tiny_checkpoint

SCHEMA = {
    "type": "object",
    "properties": {
        "code": {"type": ["string", "null"], "description": "the order's"},
        "due": {"type": ["string", "null"], "format": "date"},
        "sum": {"type": ["number", "null"], "format": "amount"},
        "rows": {
            "type": "array",
            "maxItems": 4,
            "items": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}},
        },
    },
}
TEXT = "WORK ORDER\nCode: AB-{at}\nDue 0{at}.03.2024\nSum EUR 1{at}.50\nbolt\nnut"
PAGE = "ORDER 17\nTOTAL 12.50"


def checkpoint(directory: Path, **options: object) -> Path:
    """As `tiny_checkpoint`; reads a page as one picture."""
    tiny_checkpoint(directory, **options)  # type: ignore[arg-type]
    path = directory / "generation_config.json"
    habits = {"context_tokens": 2048, "reading": "page", "images_with_text": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pipeline": habits}))
    return directory


def rows() -> list[Row]:
    orders = [
        Row(
            f"{at}.txt",
            "extract",
            schema=SCHEMA,
            output={
                "code": f"AB-{at}",
                "due": f"0{at}.03.2024",
                "sum": f"1{at}.50",
                "rows": [{"name": "bolt"}, {"name": "nut"}, {"name": "gold"}],
            },
        )
        for at in range(1, 9)
    ]
    return [
        *orders,
        Row("page.png", "transcribe", text=PAGE),
        Row("voice.wav", "transcribe", text="seven\nthree"),
        Row("letter.txt", "tag", labels=("letter", "memo"), label="memo"),
        Row("noisy.txt", "clean", text="The sum is 12.50"),
        Row("said.txt", "repair", text="The sum is due."),
    ]


def write(directory: Path, chosen: list[Row] | None = None) -> Path:
    return write_set(directory, rows() if chosen is None else chosen, _write)


def _write(path: Path, row: Row) -> None:
    texts = {"letter.txt": "Dear all, hello", "noisy.txt": "Tbe sum is 12.50"}
    texts["said.txt"] = "um the sum is due period"
    if path.suffix == ".png":
        image = Image.new("L", (240, 110), 255)
        ImageDraw.Draw(image).text((10, 10), PAGE, 0, ImageFont.load_default(32))
        image.save(path)
    elif path.suffix == ".wav":
        time = np.arange(16000) / 16000
        voice = 0.3 * np.sin(2 * np.pi * 300 * time) * (time > 0.2) * (time < 0.8)
        soundfile.write(path, voice.astype(np.float32), 16000)
    else:
        path.write_text(texts.get(path.name, TEXT.format(at=path.stem)), encoding="utf-8")
