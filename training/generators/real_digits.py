"""Real recordings of spoken digits beside the repository, where they are present."""

from __future__ import annotations

import wave
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from training.generators import audio, real
from training.generators.words import Source, Split

HELD_OUT_SPEAKER = "yweweler"


def available() -> bool:
    return (real.DATA / "digits").is_dir()


@cache
def recordings(split: Split) -> tuple[Path, ...]:
    """Spoken digits; one speaker and every fifth recording of the others are held out."""
    return tuple(
        path
        for path in sorted((real.DATA / "digits").glob("*.wav"))
        if digit_held_out(path) == (split == "heldout")
    )


def digit_held_out(path: Path) -> bool:
    _, speaker, number = path.stem.split("_")
    return speaker == HELD_OUT_SPEAKER or int(number) % 5 == 0


@cache
def recording(path: Path) -> np.ndarray:
    """A recording at 16 kHz, float32 [T]."""
    with wave.open(str(path)) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), np.int16)
        rate = clip.getframerate()
    return np.asarray(
        soxr.resample(samples.astype(np.float32) / 32768, rate, audio.RATE), np.float32
    )


def spoken_digits(source: Source) -> tuple[str, np.ndarray]:
    """One digit, or a few of one speaker with pauses between them."""
    first = source.pick(recordings(source.split))
    if source.chance(0.6):
        return first.stem[0], recording(first)
    speaker = first.stem.split("_")[1]
    same = [path for path in recordings(source.split) if path.stem.split("_")[1] == speaker]
    chosen = [first, *source.some(same, 1, 4)]
    parts: list[np.ndarray] = []
    for path in chosen:
        parts += [recording(path), np.zeros(source.between(800, 6000), np.float32)]
    return " ".join(path.stem[0] for path in chosen), np.concatenate(parts[:-1])
