"""Real recordings of spoken digits beside the repository, where they are present."""

from __future__ import annotations

import wave
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from training.generators import espeak, real
from training.generators.espeak import Clip
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
def recording(path: Path) -> Clip:
    """A recording at 16 kHz. Its sounds are where espeak-ng has them in the same digit."""
    with wave.open(str(path)) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), np.int16)
        rate = clip.getframerate()
    resampled = soxr.resample(samples.astype(np.float32) / 32768, rate, espeak.RATE)
    return Clip(np.asarray(resampled, np.float32), digit_sounds(path.stem[0], len(resampled)))


def digit_sounds(digit: str, length: int) -> np.ndarray:
    """int8 [length]; the recordings are cut closely, as they should be here."""
    if not espeak.available():
        return np.full(length, espeak.UNLABELLED, np.int8)
    sounds = espeak.say(digit, "en-us", 150, 50).sounds
    heard = np.flatnonzero(sounds)
    return espeak.stretched(sounds[heard[0] : heard[-1] + 1], length)


def spoken_digits(source: Source) -> tuple[str, Clip]:
    """One digit, or a few of one speaker with pauses between them."""
    first = source.pick(recordings(source.split))
    if source.chance(0.6):
        return first.stem[0], recording(first)
    speaker = first.stem.split("_")[1]
    same = [path for path in recordings(source.split) if path.stem.split("_")[1] == speaker]
    chosen = [first, *source.some(same, 1, 4)]
    samples: list[np.ndarray] = []
    sounds: list[np.ndarray] = []
    for path in chosen:
        clip, pause = recording(path), source.between(800, 6000)
        samples += [clip.samples, np.zeros(pause, np.float32)]
        sounds += [clip.sounds, np.zeros(pause, np.int8)]
    text = " ".join(path.stem[0] for path in chosen)
    return text, Clip(np.concatenate(samples[:-1]), np.concatenate(sounds[:-1]))
