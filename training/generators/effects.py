"""What scanners, printers and paper do to ink: blur, noise, stains, stamps, fading, compression.

Works on ink (uint8 [H, W], 255 = full ink) and returns grey pixels. Random fields come from a bank
made once: drawing them anew for each page took longer than drawing the page (32 against 13 ms).
"""

from __future__ import annotations

import io
import math
import random
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.generators import fonts
from training.generators.words import Source

Field = NDArray[np.int8]
BANK = 1536
STAMPS = 24
GRAIN = (0.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0)  # standard deviations in grey levels
STAINS = (0.0, 0.0, 0.0, 8.0, 8.0, 20.0, 35.0)


@cache
def field(grain: float, stains: float) -> Field:
    """A random field of grain and smooth stains, in grey levels, int8 [BANK, BANK]."""
    generator = np.random.default_rng(int(grain * 100 + stains))
    rough = generator.standard_normal((BANK, BANK), np.float32) * grain
    small = generator.integers(0, 255, (24, 24)).astype(np.uint8)
    smooth = Image.fromarray(small).resize((BANK, BANK), Image.Resampling.BICUBIC)
    rough += (np.asarray(smooth, np.float32) - 128) * (stains / 64)
    levels: Field = np.clip(rough, -120, 120).astype(np.int8)
    return levels


def window(source: Source, bank: Field, height: int, width: int) -> np.ndarray:
    """A random cut of a bank [height, width]; the bank repeats where it is too small."""
    tall, wide = -(-height // BANK), -(-width // BANK)
    if tall > 1 or wide > 1:
        bank = np.tile(bank, (tall, wide))
    top = source.between(0, bank.shape[0] - height)
    left = source.between(0, bank.shape[1] - width)
    cut: np.ndarray = bank[top : top + height, left : left + width]
    return cut


def warp(
    ink: np.ndarray, degrees: float, slant: float, stretch: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ink turned, slanted and stretched about its centre; where places go, float64 [2, 3]."""
    height, width = ink.shape
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[stretch, slant], [0.0, 1.0]])
    centre = np.array([width / 2, height / 2])
    mapping = np.column_stack([linear, centre - linear @ centre])
    back = np.linalg.inv(linear)
    offset = -back @ mapping[:, 2]
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    image = Image.fromarray(ink)
    moved = image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(moved), mapping


def soften(source: Source, mask: Image.Image, coarsest: float) -> Image.Image:
    """Blur of the lens, or of a scan with up to `coarsest` times too few dots."""
    draw = source.random.random()
    if draw < 0.3:
        return mask
    if draw < 0.45:
        return mask.filter(ImageFilter.BoxBlur(0.3 + source.random.random()))
    factor = 1.2 + source.random.random() * (coarsest - 1.2)
    small = (max(8, int(mask.width / factor)), max(8, int(mask.height / factor)))
    shrunk = mask.resize(small, source.pick((Image.Resampling.BILINEAR, Image.Resampling.BOX)))
    return shrunk.resize(
        mask.size, source.pick((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    )


def thicken(source: Source, mask: Image.Image) -> Image.Image:
    """Ink that ran, or ink that is too thin."""
    draw = source.random.random()
    if draw < 0.05:
        return mask.filter(ImageFilter.MaxFilter(3))
    if draw < 0.08 and mask.height > 30:
        thin = mask.filter(ImageFilter.MinFilter(3))
        return Image.blend(mask, thin, 0.6)
    return mask


def thermal(source: Source, ink: np.ndarray) -> np.ndarray:
    """Streaks and pale bands of a thermal printer head, uint8 [H, W] -> same."""
    width = ink.shape[1]
    ink = ink.copy()
    if source.chance(0.4):
        column = source.between(0, width - 1)
        ink[:, column : column + source.between(1, 3)] //= 4
    if source.chance(0.25):
        ink[::3] //= 2
        ink[:, ::3] //= 2  # dots of a needle printer
    elif source.chance(0.4):
        period = source.between(3, 6)
        ink[source.between(0, period - 1) :: period] //= 2
    if source.chance(0.4):
        fade = np.linspace(256, source.between(110, 200), width).astype(np.uint16)
        ink = ((ink * (fade if source.chance(0.5) else fade[::-1])) >> 8).astype(np.uint8)
    return ink


@cache
def stamp(number: int) -> np.ndarray:
    """One of the rubber stamps of the bank: a word in a frame, turned a little, uint8 [h, w]."""
    source = Source(random.Random(f"stamp:{number}"))
    word = source.pick(("PAID", "COPY", "RECEIVED", "APPROVED", "DRAFT", "ORIGINAL", "SENT", "OK"))
    path = source.pick(fonts.paths("train", False))
    size = source.between(36, 64)
    image = Image.new("L", (int(fonts.width(path, size, word)) + 60, size + 50), 0)
    pen = ImageDraw.Draw(image)
    box = (6, 6, image.width - 7, image.height - 7)
    if source.chance(0.5):
        pen.rectangle(box, outline=255, width=source.between(3, 6))
    else:
        pen.ellipse(box, outline=255, width=source.between(3, 6))
    pen.text((30, 16), word, fill=255, font=fonts.face(path, size))
    return np.asarray(image.rotate(source.between(-30, 30), Image.Resampling.BILINEAR, expand=True))


def press_stamp(source: Source, ink: np.ndarray) -> np.ndarray:
    """The page stamped in pale ink; the text below stays readable."""
    ink = ink.copy()
    mark = stamp(source.between(0, STAMPS - 1))
    height, width = min(mark.shape[0], ink.shape[0]), min(mark.shape[1], ink.shape[1])
    pale = (mark[:height, :width].astype(np.uint16) * source.between(40, 110) >> 8).astype(np.uint8)
    top, left = source.between(0, ink.shape[0] - height), source.between(0, ink.shape[1] - width)
    spot = ink[top : top + height, left : left + width]
    np.maximum(spot, pale, out=spot)
    return ink


def develop(
    source: Source, ink: np.ndarray, *, stamps: float = 0.0, coarsest: float = 1.9
) -> np.ndarray:
    """Ink -> grey scan, uint8 [H, W]; `stamps` is the probability of a rubber stamp."""
    mask = soften(source, thicken(source, Image.fromarray(ink)), coarsest)
    if source.chance(0.25):
        mask = Image.fromarray(thermal(source, np.asarray(mask)))
    if source.chance(stamps):
        mask = Image.fromarray(press_stamp(source, np.asarray(mask)))
    paper = 255 - source.between(0, source.pick((10, 30, 90)))
    dark = min(source.between(0, source.pick((40, 90, 130))), paper - 70)
    if source.chance(0.02):
        paper, dark = dark // 2, max(paper, 200)  # white on black
    table = [paper + (dark - paper) * level // 255 for level in range(256)]
    pixels = np.asarray(mask.point(table))
    if source.chance(0.75):
        bank = field(source.pick(GRAIN), source.pick(STAINS))
        noise = window(source, bank, *pixels.shape)
        pixels = np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return compress(source, pixels) if source.chance(0.2) else pixels


def compress(source: Source, pixels: np.ndarray) -> np.ndarray:
    """The pixels after a JPEG of low quality."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=source.between(18, 70))
    return np.asarray(Image.open(buffer))


def reexpose(source: Source, pixels: np.ndarray) -> np.ndarray:
    """A real scan in another light: contrast, brightness, some grain and blur, uint8 -> same."""
    gain, shift = 0.6 + 0.7 * source.random.random(), source.between(-30, 30)
    image = Image.fromarray(pixels).point(
        [int(128 + (level - 128) * gain + shift) for level in range(256)]
    )
    if source.chance(0.25):
        image = image.filter(ImageFilter.BoxBlur(0.3 + 0.6 * source.random.random()))
    out = np.asarray(image)
    if source.chance(0.4):
        noise = window(source, field(source.pick(GRAIN[1:4]), 0.0), *out.shape)
        out = np.clip(out.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return compress(source, out) if source.chance(0.15) else out
