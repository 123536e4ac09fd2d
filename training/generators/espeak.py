"""espeak-ng in this process: speech, and which phoneme sounds when.

The program `espeak-ng` does not tell where a phoneme begins; its library does, in events. What
sounds in each frame is what the helper head learns to hear. With the letters alone (CTC, which has
to find their places itself) it stayed at the entropy of the letters for 90 minutes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import soxr

LIBRARY = "libespeak-ng.so.1"
RATE = 16_000
# Numbers of speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, CHARACTERS, UTF8 = 2, 1, 1, 1
SPEED, PITCH = 1, 3
LAST_EVENT, PHONEME_EVENT = 0, 7
# Of the English voices, as the library spells them; those that begin with _ are pauses.
PHONEMES = tuple(
    "0 3 3: ; @ @- @2 @L A: A@ D E I I# I2 N O O2 O: O@ OI S T U U@ V Z a a# aI aI3 aI@ aU aa b d"
    " dZ e@ eI f g h i i: i@ i@3 j k l m n o@ oU p r r- s t t# t2 tS u: v w z".split()
)
SOUNDS = len(PHONEMES) + 1  # 0 = silence
UNLABELLED = -1
NUMBERS = {name: number for number, name in enumerate(PHONEMES, 1)}


class Clip(NamedTuple):
    samples: np.ndarray  # float32 [T] at 16 kHz
    sounds: np.ndarray  # int8 [T]: 1 + the place in PHONEMES, 0 = silence, -1 = not known


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


@dataclass
class Library:
    """The loaded library and what the call in progress has said so far."""

    functions: ctypes.CDLL
    rate: int

    def __post_init__(self) -> None:
        self.parts: list[bytes] = []
        self.phonemes: list[tuple[int, str]] = []  # first sample, name
        self.callback: Callable[..., Any] = CALLBACK(self.receive)
        self.functions.espeak_SetSynthCallback(self.callback)

    def receive(self, wave: Any, count: int, events: Any) -> int:
        if count:
            self.parts.append(ctypes.string_at(wave, 2 * count))
        place = 0
        while events[place].type != LAST_EVENT:
            event = events[place]
            if event.type == PHONEME_EVENT:
                self.phonemes.append((event.sample, event.string.decode()))
            place += 1
        return 0

    def say(self, text: str, voice: str, speed: int, pitch: int) -> tuple[np.ndarray, np.ndarray]:
        self.parts.clear()
        self.phonemes.clear()
        if self.functions.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self.functions.espeak_SetParameter(SPEED, speed, 0)
        self.functions.espeak_SetParameter(PITCH, pitch, 0)
        said = text.encode()
        self.functions.espeak_Synth(said, len(said) + 1, 0, CHARACTERS, 0, UTF8, None, None)
        samples = np.frombuffer(b"".join(self.parts), np.int16).astype(np.float32) / 32768
        return samples, runs(self.phonemes, len(samples))


def runs(phonemes: list[tuple[int, str]], length: int) -> np.ndarray:
    """The number of the phoneme at each sample, int8 [length]."""
    sounds = np.zeros(length, np.int8)
    for start, name in phonemes:
        silent = name == "" or name.startswith("_")
        sounds[start:] = 0 if silent else NUMBERS.get(name, UNLABELLED)
    return sounds


@cache
def library() -> Library | None:
    """None where it is not installed (Debian: libespeak-ng1, which comes with espeak-ng)."""
    try:
        functions = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    rate = functions.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
    return Library(functions, rate) if rate > 0 else None


def available() -> bool:
    return library() is not None


def say(text: str, voice: str, speed: int, pitch: int) -> Clip:
    """The text as espeak-ng reads it. ValueError: no such voice."""
    espeak = library()
    if espeak is None:
        raise RuntimeError(f"{LIBRARY} is not installed (Debian: espeak-ng)")
    samples, sounds = espeak.say(text, voice, speed, pitch)
    resampled = np.asarray(soxr.resample(samples, espeak.rate, RATE), np.float32)
    return Clip(resampled, stretched(sounds, len(resampled)))


def stretched(sounds: np.ndarray, length: int) -> np.ndarray:
    """The same sounds over `length` samples."""
    places = (np.arange(length) * (len(sounds) / max(1, length))).astype(np.int64)
    return sounds[places]
