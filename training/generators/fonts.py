"""Fonts of this machine that hold the Latin alphabet, with the widths of their characters."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from training.generators.words import Source, Split

FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
NOTO = ("Sans-", "Serif-", "SansMono-", "SansDisplay-", "SerifDisplay-", "Mono-")
FAMILIES = ("DejaVu", "Liberation", "Free", *(f"Noto{family}" for family in NOTO))
# Never drawn in training: one family each of sans, serif, narrow and typewriter.
HELD_OUT = ("FreeSans", "DejaVuSerif", "LiberationSansNarrow", "LiberationMono")
TYPEWRITER = ("Mono", "Courier")
# Faces that documents hardly ever have.
LEFT_OUT = ("Math", "BoldItalic", "BoldOblique", "ExtraLight", "Display")


@cache
def paths(split: Split, typewriter: bool) -> tuple[Path, ...]:
    """Font files of the split; raises FileNotFoundError where none is installed."""
    files = sorted(
        {
            path
            for folder in FOLDERS
            for ending in ("*.ttf", "*.otf")
            for path in folder.rglob(ending)
            if path.name.startswith(FAMILIES) and not any(part in path.name for part in LEFT_OUT)
        },
        key=lambda path: path.name,
    )
    files = [path for path in files if any(part in path.name for part in TYPEWRITER) is typewriter]
    files = [path for path in files if path.name.startswith(HELD_OUT) == (split == "heldout")]
    if not files:
        raise FileNotFoundError(
            f"got no font in {[str(folder) for folder in FOLDERS]}, expected DejaVu, Liberation, "
            "FreeFont or Noto; install fonts-dejavu, fonts-liberation, fonts-freefont-ttf"
        )
    return tuple(files)


@lru_cache(maxsize=512)
def face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=512)
def advances(path: Path, size: int) -> np.ndarray:
    """Widths in pixels of the characters 0-127 -> float32 [128]."""
    font = face(path, size)
    widths = [font.getlength(chr(code)) if 32 <= code < 127 else 0.0 for code in range(128)]
    return np.array(widths, np.float32)


@lru_cache(maxsize=40_000)
def glyph(path: Path, size: int, stretch: float, character: str) -> tuple[np.ndarray, int, int]:
    """Ink of one character (uint8 [h, w]), its offset right of the pen and below the base line."""
    mask, (left, top) = face(path, size).getmask2(character, "L", anchor="ls")
    width, height = mask.size
    if not width or not height:
        return np.zeros((0, 0), np.uint8), left, top
    ink = np.array(mask, np.uint8).reshape(height, width)
    if stretch == 1.0:
        return ink, left, top
    wide = max(1, round(width * stretch))
    image = Image.fromarray(ink).resize((wide, height), Image.Resampling.BILINEAR)
    return np.asarray(image), round(left * stretch), top


def codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8)


def width(path: Path, size: int, text: str) -> float:
    return float(advances(path, size)[codes(text)].sum())


def choose(source: Source, typewriter: float = 0.35) -> Path:
    """A font of the split, of typewriter kind with the given probability, seldom slanted."""
    options = paths(source.split, source.chance(typewriter))
    path = source.pick(options)
    if ("Italic" in path.name or "Oblique" in path.name) and source.chance(0.75):
        path = source.pick(options)
    return path
