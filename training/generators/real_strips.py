"""Lines cut out of the scans of real receipts, each in a 48-pixel row of its own.

Most are cut by the pipeline's own line finder and matched to the annotators' boxes, so that
training sees what a run will see. The others are cut at the annotators' boxes, with other sizes and
margins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from training.generators import effects, real, render
from training.generators.render import PATCH, Picture
from training.generators.words import Source, Split

MOST_COLUMNS = 24
FOLDER = Path.home() / ".cache" / "scanscribe" / "strips"


@dataclass(frozen=True)
class Strip:
    """image: uint8 [48, W]; across: about where the characters stand, float32 [len(text)]."""

    image: np.ndarray
    text: str
    across: np.ndarray


@lru_cache(maxsize=400)
def pixels(name: str) -> np.ndarray:
    """The receipt's scan, uint8 [H, W] grey."""
    return np.asarray(Image.open(real.DATA / "receipts" / "images" / f"{name}.jpg").convert("L"))


def strip(source: Source) -> tuple[list[str], Picture]:
    """One to four lines below each other."""
    receipt = source.pick(real.receipts(source.split))
    found = found_strips(receipt.name, source.split)
    count = source.pick((1, 1, 1, 2, 4))
    if found and source.chance(0.65):
        start = source.between(0, max(0, len(found) - count))
        strips = list(found[start : start + count])
    else:
        start = source.between(0, max(0, len(receipt.rows) - count))
        strips = [cut_row(source, receipt, row) for row in receipt.rows[start : start + count]]
    width = render.round_up(max(one.image.shape[1] for one in strips), PATCH * MOST_COLUMNS)
    sheet = np.empty((PATCH * len(strips), width), np.uint8)
    centres = []
    for place, one in enumerate(strips):
        row = sheet[place * PATCH : (place + 1) * PATCH]
        row[:] = int(np.median(one.image))
        row[:, : one.image.shape[1]] = one.image[:, :width]
        centres.append(np.stack([one.across, np.full_like(one.across, (place + 0.5) * PATCH)], 1))
    texts = [one.text for one in strips]
    patches = render.by_patch("".join(texts), np.concatenate(centres), width // PATCH, len(strips))
    return texts, Picture(effects.reexpose(source, sheet), patches)


def cut_row(source: Source, receipt: real.Receipt, row: real.Row) -> Strip:
    """A row, or one box of it, cut out at the annotators' boxes."""
    if source.chance(0.6):
        at = source.between(0, len(row.lines) - 1)
        row = real.Row((row.lines[at],), row.boxes[at : at + 1])
    left, top = row.boxes[:, :2].min(0).tolist()
    right, bottom = row.boxes[:, 2:].max(0).tolist()
    height = float(np.median(row.boxes[:, 3] - row.boxes[:, 1]))
    scale = source.between(32, 46) / max(8.0, height)
    before, after = source.between(0, 24) / scale, source.between(0, 24) / scale
    scale = min(scale, PATCH * MOST_COLUMNS / (right - left + before + after))
    middle = (top + bottom) / 2 + source.between(-3, 3) / scale
    half = PATCH / 2 / scale
    box = (left - before, middle - half, right + after, middle + half)
    size = (max(1, int((box[2] - box[0]) * scale)), PATCH)
    scan = Image.fromarray(pixels(receipt.name))
    image = scan.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    text, across = spread([receipt.lines[number] for number in row.lines], row.boxes)
    return Strip(np.asarray(image), text, ((across - box[0]) * scale).astype(np.float32))


def spread(texts: list[str], boxes: np.ndarray) -> tuple[str, np.ndarray]:
    """Texts joined by a space, and the x of every character were all of a box equally wide."""
    across = []
    for text, box in zip(texts, boxes, strict=True):
        step = (box[2] - box[0]) / len(text)
        across += [box[0] + step * (np.arange(len(text)) + 0.5), np.array([box[2] + 1.0])]
    return " ".join(texts), np.concatenate(across[:-1])


@lru_cache(maxsize=600)
def found_strips(name: str, split: Split) -> tuple[Strip, ...]:
    """Strips of the pipeline's line finder whose text is known; found once, then kept."""
    receipt = next(one for one in real.receipts(split) if one.name == name)
    path = FOLDER / line_finder_version() / f"{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        strips = find_strips(receipt)
        wide = np.concatenate([np.zeros((PATCH, 0), np.uint8), *(one.image for one in strips)], 1)
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(
            part,
            image=wide,
            widths=[one.image.shape[1] for one in strips],
            texts=np.array([one.text for one in strips], dtype=np.str_),
            across=np.concatenate([np.zeros(0, np.float32), *(one.across for one in strips)]),
        )
        part.replace(path)
    with np.load(path) as kept:
        images = np.split(kept["image"], np.cumsum(kept["widths"])[:-1].astype(int), axis=1)
        texts = [str(text) for text in kept["texts"]]
        lengths = np.cumsum([len(text) for text in texts])[:-1].astype(int)
        places = np.split(kept["across"], lengths)
    if not texts:
        return ()
    return tuple(Strip(*parts) for parts in zip(images, texts, places, strict=True))


@cache
def line_finder_version() -> str:
    """The line finder's own text decides which strips are stale."""
    source = Path(__file__).parents[2] / "pipelines" / "lines.py"
    return sha256(source.read_bytes()).hexdigest()[:12]


def find_strips(receipt: real.Receipt) -> list[Strip]:
    """The line finder's strips that hold whole annotated lines, as far as they fit a picture.

    A line belongs to a strip when its middle is in it; a strip is dropped where it covers less than
    0.8 of the width of its lines, or reaches well beyond them.
    """
    from pipelines.lines import line_strips

    numbers = [number for row in receipt.rows for number in row.lines]
    boxes = np.concatenate([row.boxes for row in receipt.rows])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    out = []
    for one in line_strips(pixels(receipt.name), PATCH):
        x0, y0, x1, y1 = one.box
        slack = 0.2 * (y1 - y0)
        inside = (
            (middles[:, 0] > x0)
            & (middles[:, 0] < x1)
            & (middles[:, 1] > y0 + slack)
            & (middles[:, 1] < y1 - slack)
        )
        mine = np.flatnonzero(inside)
        if not len(mine) or one.image.shape[1] > PATCH * MOST_COLUMNS:
            continue
        mine = mine[np.argsort(boxes[mine, 0])]
        left, right = int(boxes[mine, 0].min()), int(boxes[mine, 2].max())
        height = float(np.median(boxes[mine, 3] - boxes[mine, 1]))
        if abs(left - x0) > 0.6 * height or abs(right - x1) > 0.6 * height:
            continue
        if not 0.5 * height < y1 - y0 < 1.7 * height:
            continue
        text, across = spread([receipt.lines[numbers[at]] for at in mine], boxes[mine])
        # The strip's width is rounded up to whole patches, so the scale lies between two bounds.
        most = (one.image.shape[1] - 0.1 * PATCH) / (x1 - x0)
        scale = float(np.clip(0.75 * PATCH / (y1 - y0), most - PATCH / (x1 - x0), most))
        places = (across - x0) * scale + 0.1 * PATCH
        out.append(Strip(one.image, text, places.astype(np.float32)))
    return out
