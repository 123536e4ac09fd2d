"""Words of a page image from Tesseract, an optional program.

Knows no file format. The program is found by the caller (the sandbox has no PATH), gets the
image on its standard input and is killed after its own time limit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Box

# Character error on 24 receipts: 0.24 as one block (mode 6), 0.31 as one column (mode 4), 0.35 as
# scattered words (mode 11); the exact total in 21, 17 and 14 of them. Larger pictures gain nothing.
# A wide page may have columns, which one block would mix: mode 3 finds them.
_ONE_BLOCK, _AUTOMATIC = 6, 3


@dataclass(frozen=True)
class Tesseract:
    """program: its path; data: the directory with `eng.traineddata`, None for the built-in one."""

    program: str
    data: str | None = None
    languages: str = "eng"
    seconds: float = 30.0


@dataclass(frozen=True)
class OcrWord:
    """line: words with the same value stand on one line; confidence: Tesseract's own, 0..1."""

    text: str
    box: Box
    line: tuple[int, int, int]
    confidence: float


def find_tesseract(languages: str = "eng") -> Tesseract | None:
    """The installed program, or None."""
    program = shutil.which("tesseract")
    data = os.environ.get("TESSDATA_PREFIX")
    return Tesseract(program, data, languages) if program else None


def read_words(image: NDArray[np.uint8], tesseract: Tesseract) -> list[OcrWord] | None:
    """The words of an upright page in reading order; None when Tesseract failed or took too long.

    image: [H, W] or [H, W, 3]. Boxes are fractions of it.
    """
    height, width = image.shape[:2]
    mode = _ONE_BLOCK if height > 1.6 * width else _AUTOMATIC
    table = _run(image, tesseract, ["--psm", str(mode), "tsv"])
    if table is None:
        return None
    words = []
    for row in table.splitlines()[1:]:
        cells = row.split("\t")
        if len(cells) != 12 or cells[0] != "5" or not cells[11].strip():
            continue
        block, paragraph, line = (int(cell) for cell in cells[2:5])
        left, top, wide, high = (int(cell) for cell in cells[6:10])
        box = (left / width, top / height, (left + wide) / width, (top + high) / height)
        words.append(
            OcrWord(cells[11].strip(), box, (block, paragraph, line), float(cells[10]) / 100)
        )
    return words


def _run(image: NDArray[np.uint8], tesseract: Tesseract, arguments: list[str]) -> str | None:
    kind = b"P5" if image.ndim == 2 else b"P6"
    size = f"{image.shape[1]} {image.shape[0]}".encode()
    picture = b"%s %s 255\n" % (kind, size) + image.tobytes()
    environment = {"OMP_THREAD_LIMIT": "1"}  # its threads make one page slower, not faster
    if tesseract.data:
        environment["TESSDATA_PREFIX"] = tesseract.data
    try:
        done = subprocess.run(
            [tesseract.program, "-", "-", "-l", tesseract.languages, *arguments],
            input=picture,
            capture_output=True,
            timeout=tesseract.seconds,
            env=environment,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
