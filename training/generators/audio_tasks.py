"""Samples whose input is a recording: synthetic speech, and spoken digits real and synthetic."""

from __future__ import annotations

from training.generators import audio, prompts, real_digits, speech
from training.generators.espeak import Clip
from training.generators.words import Source

AudioSample = tuple[str, str, Clip]  # instruction, answer, recording


def read_out(source: Source) -> AudioSample:
    text, clip = speech.clip(source.between(0, speech.CLIPS[source.split] - 1), source.split)
    return prompts.SPEECH, text, audio.record(source, clip)


def digits(source: Source) -> AudioSample:
    """Mostly real recordings; changes of speed stand for speakers that are not among the five."""
    if real_digits.available() and source.chance(0.8 if source.split == "train" else 1.0):
        text, clip = real_digits.spoken_digits(source)
    else:
        text, clip = speech.digit_clip(source)
    return prompts.SPEECH, text, audio.record(source, clip, speed=0.22)
