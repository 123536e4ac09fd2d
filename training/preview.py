"""Writes samples to a folder for a look: images as PNG, recordings as WAV, texts beside them.

python -m training.preview OUT_DIR --task read_page --n 8 --split heldout
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np
from PIL import Image

from training.generators.espeak import RATE
from training.samples import TASKS, Sample, generate


def write_wave(path: Path, samples: np.ndarray) -> None:
    """float32 [T] between -1 and 1 at 16 kHz -> 16-bit mono WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def write(sample: Sample, stem: Path) -> None:
    """`stem`.txt with the texts, and `stem`.png or `stem`.wav where the sample has one."""
    parts = ["# instruction", sample.instruction, "# text", sample.text, "# answer", sample.answer]
    if sample.image is not None:
        Image.fromarray(sample.image).save(stem.with_suffix(".png"))
        columns = sample.image.shape[1] // 48
        cells = [repr(cell) for cell in sample.patch_text or ()]
        rows = [" ".join(cells[at : at + columns]) for at in range(0, len(cells), columns)]
        parts += ["# characters by patch", *rows]
    if sample.audio is not None:
        write_wave(stem.with_suffix(".wav"), sample.audio)
    stem.with_suffix(".txt").write_text("\n".join(parts) + "\n", "utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write training samples to a folder for a look.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=TASKS, action="append", help="default: all tasks")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for task in chosen.task or TASKS:
        for seed in range(chosen.n):
            write(generate(task, seed, chosen.split), chosen.out / f"{task}-{seed:03}")


if __name__ == "__main__":
    main()
