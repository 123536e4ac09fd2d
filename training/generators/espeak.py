"""Speech by espeak-ng, and which phoneme sounds when.

The program `espeak-ng` does not tell where a phoneme begins; its library does, in events. What
sounds in each frame is what the helper head learns to hear. With the letters alone (CTC, which has
to find their places itself) it stayed at the entropy of the letters for 90 minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

RATE = 16_000
PROGRAM = Path(__file__).with_name("espeak_events.py")
# Of the English voices, as the library spells them; those that begin with _ are pauses.
SPELT = """
0 3 3: ; @ @- @2 @L A: A@ D E I I# I2 N O O2 O: O@ OI S T U U@ V Z a a# aI aI3 aI@ aU aa b d dZ
e@ eI f g h i i: i@ i@3 j k l m n o@ oU p r r- s t t# t2 tS u: v w z
"""
PHONEMES = tuple(SPELT.split())
SOUNDS = len(PHONEMES) + 1  # 0 = silence
UNLABELLED = -1
NUMBERS = {name: number for number, name in enumerate(PHONEMES, 1)}


class Clip(NamedTuple):
    samples: np.ndarray  # float32 [T] at 16 kHz
    sounds: np.ndarray  # int8 [T]: 1 + the place in PHONEMES, 0 = silence, -1 = not known


def available() -> bool:
    return shutil.which("espeak-ng") is not None


def say(text: str, voice: str, speed: int, pitch: int) -> Clip:
    """The text as espeak-ng reads it, always the same.

    Raises ValueError with what the library says, for instance that there is no such voice.
    """
    command = [sys.executable, "-I", "-S", str(PROGRAM), voice, str(speed), str(pitch), text]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    header, _, sound = done.stdout.partition(b"\n")
    told = json.loads(header)
    samples = np.frombuffer(sound, np.int16).astype(np.float32) / 32768
    resampled = np.asarray(soxr.resample(samples, told["rate"], RATE), np.float32)
    return Clip(resampled, stretched(runs(told["phonemes"], len(samples)), len(resampled)))


def runs(phonemes: list[tuple[int, str]], length: int) -> np.ndarray:
    """The number of the phoneme at each sample, int8 [length]."""
    sounds = np.zeros(length, np.int8)
    for start, name in phonemes:
        silent = name == "" or name.startswith("_")
        sounds[start:] = 0 if silent else NUMBERS.get(name, UNLABELLED)
    return sounds


def stretched(sounds: np.ndarray, length: int) -> np.ndarray:
    """The same sounds over `length` samples."""
    places = (np.arange(length) * (len(sounds) / max(1, length))).astype(np.int64)
    return sounds[places]
