"""Samples whose input is a recording: synthetic speech, and spoken digits real and synthetic."""

from __future__ import annotations

import numpy as np

from training.generators import audio, prompts, real_digits, speech
from training.generators.words import Source

AudioSample = tuple[str, str, np.ndarray]  # instruction, answer, float32 [T] at 16 kHz


def read_out(source: Source) -> AudioSample:
    text, samples = speech.clip(source.between(0, speech.CLIPS[source.split] - 1), source.split)
    return prompts.SPEECH, text, audio.record(source, samples)


def digits(source: Source) -> AudioSample:
    """Mostly real recordings; changes of speed stand for speakers that are not among the five."""
    if real_digits.available() and source.chance(0.8 if source.split == "train" else 1.0):
        text, samples = real_digits.spoken_digits(source)
    else:
        text, samples = speech.digit_clip(source)
    return prompts.SPEECH, text, audio.record(source, samples, speed=0.22)
