"""What scanners, printers and paper do to ink: skew, blur, noise, stains, stamps, fading, compression.

Works on a mask of ink (uint8 [H, W], 255 = full ink) and returns grey pixels. Random fields come from a
bank made once: drawing them anew for each page took longer than drawing the page (32 against 13 ms).
"""

from __future__ import annotations

import io
import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.generators import fonts
from training.generators.words import Source

BANK = 1536


@cache
def grain() -> np.ndarray:
    """White noise of unit deviation, int16 scaled by 64, [BANK, BANK]."""
    return (np.random.default_rng(0).standard_normal((BANK, BANK)) * 64).astype(np.int16)


@cache
def clouds() -> np.ndarray:
    """Smooth stains between -64 and 64, int16 [BANK, BANK]."""
    small = np.random.default_rng(1).integers(0, 255, (24, 24)).astype(np.uint8)
    smooth = Image.fromarray(small).resize((BANK, BANK), Image.Resampling.BICUBIC)
    return (np.asarray(smooth).astype(np.int16) - 128) // 2


def window(source: Source, bank: np.ndarray, height: int, width: int) -> np.ndarray:
    """A random cut of a bank, int16 [height, width]."""
    top = source.between(0, max(0, BANK - height))
    left = source.between(0, max(0, BANK - width))
    cut = bank[top : top + height, left : left + width]
    if cut.shape == (height, width):
        return cut
    tall, wide = -(-height // BANK), -(-width // BANK)
    return np.tile(bank, (tall, wide))[:height, :width]


def affine(width: int, height: int, degrees: float, shear: float, stretch: float) -> np.ndarray:
    """Page -> picture mapping around the centre: rotation, slant and horizontal stretch, float64 [2, 3]."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[stretch, shear], [0.0, 1.0]])
    centre = np.array([width / 2, height / 2])
    return np.column_stack([linear, centre - linear @ centre])


def warp(mask: Image.Image, mapping: np.ndarray) -> Image.Image:
    """The mask moved by a page -> picture mapping; PIL wants the way back."""
    linear = np.linalg.inv(mapping[:, :2])
    offset = -linear @ mapping[:, 2]
    data = (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])
    return mask.transform(mask.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def soften(source: Source, mask: Image.Image) -> Image.Image:
    """Blur of the lens, of the ink, or of a scan with too few dots."""
    draw = source.random.random()
    if draw < 0.35:
        return mask
    if draw < 0.65:
        return mask.filter(ImageFilter.BoxBlur(0.3 + source.random.random() * 1.0))
    factor = 1.3 + source.random.random() * 1.0
    small = (max(8, int(mask.width / factor)), max(8, int(mask.height / factor)))
    return mask.resize(small, Image.Resampling.BILINEAR).resize(mask.size, Image.Resampling.BICUBIC)


def thicken(source: Source, mask: Image.Image) -> Image.Image:
    """Ink that ran, or ink that is too thin."""
    draw = source.random.random()
    if draw < 0.08:
        return mask.filter(ImageFilter.MaxFilter(3))
    if draw < 0.12:
        return mask.filter(ImageFilter.MinFilter(3)).point(lambda level: min(255, int(level * 1.6)))
    return mask


def thermal(source: Source, ink: np.ndarray) -> np.ndarray:
    """Streaks and pale bands of a thermal printer head, float32 [H, W] -> same."""
    height, width = ink.shape
    if source.chance(0.5):
        column = source.between(0, width - 1)
        ink[:, column : column + source.between(1, 3)] *= 0.2 + 0.5 * source.random.random()
    if source.chance(0.5):
        period = source.between(3, 6)
        ink[source.between(0, period - 1) :: period] *= 0.45 + 0.4 * source.random.random()
    if source.chance(0.4):
        fade = np.linspace(1.0, 0.4 + 0.4 * source.random.random(), width, dtype=np.float32)
        ink *= fade if source.chance(0.5) else fade[::-1]
    return ink


@cache
def stamp(number: int) -> Image.Image:
    """One of the rubber stamps of the bank: a word in a frame, turned a little."""
    source = Source(random.Random(f"stamp:{number}"))
    word = source.pick(("PAID", "COPY", "RECEIVED", "APPROVED", "DRAFT", "ORIGINAL", "SENT", "OK"))
    path = fonts.paths("train", False)[number % len(fonts.paths("train", False))]
    size = source.between(36, 64)
    image = Image.new("L", (int(fonts.width(path, size, word)) + 60, size + 50), 0)
    draw = ImageDraw.Draw(image)
    box = (6, 6, image.width - 7, image.height - 7)
    if source.chance(0.5):
        draw.rectangle(box, outline=255, width=source.between(3, 6))
    else:
        draw.ellipse(box, outline=255, width=source.between(3, 6))
    draw.text((30, 16), word, fill=255, font=fonts.face(path, size))
    return image.rotate(source.between(-30, 30), Image.Resampling.BILINEAR, expand=True)


def press_stamp(source: Source, ink: np.ndarray) -> None:
    """Stamp the page in pale ink, in place; the text below stays readable."""
    mark = np.asarray(stamp(source.between(0, 23)), np.float32) * (0.15 + 0.3 * source.random.random())
    height, width = min(mark.shape[0], ink.shape[0]), min(mark.shape[1], ink.shape[1])
    top, left = source.between(0, ink.shape[0] - height), source.between(0, ink.shape[1] - width)
    spot = ink[top : top + height, left : left + width]
    np.maximum(spot, mark[:height, :width], out=spot)


def develop(source: Source, mask: Image.Image, *, stamps: float = 0.0, rough: float = 1.0) -> np.ndarray:
    """Ink mask -> grey scan, uint8 [H, W]. `rough` scales the strength of noise and stains."""
    ink = np.asarray(soften(source, thicken(source, mask)), np.float32)
    ink = ink.copy()
    if source.chance(0.3):
        ink = thermal(source, ink)
    if source.chance(stamps):
        press_stamp(source, ink)
    height, width = ink.shape
    paper = 255.0 - source.between(0, source.pick((10, 30, 90)))
    dark = source.between(0, source.pick((40, 90, 130)))
    contrast = max(50.0, paper - dark) / 255.0
    grey = paper - ink * contrast
    if source.chance(0.5):
        grey += window(source, clouds(), height, width) * (source.random.random() * 0.5 * rough)
    if source.chance(0.7):
        strength = source.pick((3.0, 6.0, 12.0, 20.0)) * rough / 64
        grey += window(source, grain(), height, width) * strength
    if source.chance(0.06):
        grey = 255.0 - grey
    pixels = np.clip(grey, 0, 255).astype(np.uint8)
    return compress(source, pixels) if source.chance(0.2) else pixels


def compress(source: Source, pixels: np.ndarray) -> np.ndarray:
    """The pixels after a JPEG of low quality."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=source.between(18, 70))
    return np.asarray(Image.open(buffer)).copy()
