"""What rooms, microphones and speakers do to a recording: speed, noise, echo, telephone band, gain.

Samples are float32 mono at 16 kHz, between -1 and 1; what sounds when moves with them.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from training.generators.espeak import RATE, Clip, stretched
from training.generators.words import Source

NOISE_SECONDS = 60


@cache
def noises() -> tuple[np.ndarray, ...]:
    """White, pink and humming noise of unit deviation, float32 [NOISE_SECONDS * RATE] each."""
    generator = np.random.default_rng(7)
    count = NOISE_SECONDS * RATE
    white = generator.standard_normal(count).astype(np.float32)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), count)
    time = np.arange(count) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * harmonic * time) / harmonic for harmonic in (1, 2, 3, 5))
    mixed = (white, pink, hum + 0.3 * pink / pink.std())
    return tuple((noise / noise.std()).astype(np.float32) for noise in mixed)


def stretch(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played `factor` times as fast: shorter and higher for more than 1."""
    places = np.arange(0, len(samples) - 1, factor, dtype=np.float32)
    played: np.ndarray = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
    return played


def echo(source: Source, samples: np.ndarray) -> np.ndarray:
    """A small room: some reflections, each weaker than the one before."""
    out = samples.copy()
    strength = 0.15 + 0.35 * source.random.random()
    for _ in range(source.between(3, 6)):
        delay = source.between(80, 1600)
        if delay < len(out):
            out[delay:] += samples[:-delay] * strength
        strength *= 0.7
    return out


def band(source: Source, samples: np.ndarray) -> np.ndarray:
    """A dull or thin microphone: the spectrum cut or tilted."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    shape = source.between(0, 2)
    if shape == 0:
        gain = 1 / (1 + (hertz / source.between(2500, 6000)) ** 4)
    elif shape == 1:
        gain = 1 / (1 + (source.between(100, 350) / (hertz + 1)) ** 4)
    else:
        gain = ((hertz + 200) / 1000) ** (source.random.random() - 0.5)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def record(source: Source, clip: Clip, *, speed: float = 0.1) -> Clip:
    """The clip as some microphone hears it; `speed` is the largest change of speed and pitch."""
    samples, sounds = clip
    if speed and source.chance(0.8):
        samples = stretch(samples, 1 + (source.random.random() * 2 - 1) * speed)
        sounds = stretched(sounds, len(samples))
    around = source.between(200, 6000), source.between(200, 6000)
    samples, sounds = np.pad(samples, around), np.pad(sounds, around)
    if source.chance(0.1):
        samples = echo(source, samples)
    if source.chance(0.1):
        samples = band(source, samples)
    level = 10 ** (-(source.random.random() * 24) / 20)
    samples = samples * (level * 0.9 / max(1e-4, float(np.abs(samples).max())))
    if source.chance(0.5):
        noise = source.pick(noises())
        start = source.between(0, len(noise) - len(samples))
        decibels = 20 + source.random.random() * 30
        loudness = float(np.sqrt(np.mean(samples**2))) * 10 ** (-decibels / 20)
        samples = samples + noise[start : start + len(samples)] * loudness
    return Clip(np.clip(samples, -1, 1).astype(np.float32), sounds)
