"""Lines cut out of the scans of real receipts, each in a 48-pixel row of its own."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from training.generators import effects, real, render
from training.generators.render import Picture
from training.generators.words import Source

MOST_COLUMNS = 24


@lru_cache(maxsize=400)
def pixels(name: str) -> np.ndarray:
    """The receipt's scan, uint8 [H, W] grey."""
    return np.asarray(Image.open(real.DATA / "receipts" / "images" / f"{name}.jpg").convert("L"))


def strip(source: Source) -> tuple[list[str], Picture]:
    """One to four rows (or single boxes) of a scan, each scaled into a 48-pixel row of its own."""
    receipt = source.pick(real.receipts(source.split))
    count = source.pick((1, 1, 1, 1, 2, 3))
    start = source.between(0, max(0, len(receipt.rows) - count))
    rows = receipt.rows[start : start + count]
    if source.chance(0.6):
        picks = [source.between(0, len(row.lines) - 1) for row in rows]
        rows = tuple(
            real.Row((row.lines[at],), row.boxes[at : at + 1])
            for row, at in zip(rows, picks, strict=True)
        )
    texts = [" ".join(receipt.lines[number] for number in row.lines) for row in rows]
    cuts = [cut_row(source, receipt, row) for row in rows]
    width = render.round_up(max(image.width for image, _ in cuts), render.PATCH * MOST_COLUMNS)
    sheet = Image.new("L", (width, render.PATCH * len(cuts)), 255)
    centres = []
    for place, (cut, across) in enumerate(cuts):
        edge = int(np.median(np.asarray(cut)[:, -1]))
        sheet.paste(edge, (0, place * render.PATCH, width, (place + 1) * render.PATCH))
        sheet.paste(cut, (0, place * render.PATCH))
        middle = np.full_like(across, (place + 0.5) * render.PATCH)
        centres.append(np.stack([across, middle], 1))
    image = effects.reexpose(source, np.asarray(sheet))
    texts_by_patch = render.by_patch(
        "".join(texts), np.concatenate(centres), width // render.PATCH, len(cuts)
    )
    return texts, Picture(image, texts_by_patch)


def cut_row(source: Source, receipt: real.Receipt, row: real.Row) -> tuple[Image.Image, np.ndarray]:
    """A row cut out, 48 pixels high, and about where its characters stand, float32 [n]."""
    scan = pixels(receipt.name)
    left, top = row.boxes[:, :2].min(0).tolist()
    right, bottom = row.boxes[:, 2:].max(0).tolist()
    height = float(np.median(row.boxes[:, 3] - row.boxes[:, 1]))
    scale = source.between(30, 43) / max(8.0, height)
    before, after = source.between(0, 24) / scale, source.between(0, 24) / scale
    scale = min(scale, render.PATCH * MOST_COLUMNS / (right - left + before + after))
    middle = (top + bottom) / 2 + source.between(-3, 3) / scale
    box = (
        left - before,
        middle - render.PATCH / 2 / scale,
        right + after,
        middle + render.PATCH / 2 / scale,
    )
    size = (max(1, int((box[2] - box[0]) * scale)), render.PATCH)
    image = Image.fromarray(scan).transform(
        size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=255
    )
    across = []
    for number, cell in zip(row.lines, row.boxes, strict=True):
        text = receipt.lines[number]
        step = (cell[2] - cell[0]) / len(text)
        across.append(cell[0] + step * (np.arange(len(text)) + 0.5))
        if number != row.lines[-1]:
            across.append(np.array([cell[2] + 1.0]))
    places = (np.concatenate(across) - box[0]) * scale
    return image, places.astype(np.float32)
