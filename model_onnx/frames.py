"""A waveform -> frames of raw samples. The model hears 16 kHz in frames of 40 ms, no features."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from model_onnx.errors import RequestError

SAMPLE_RATE = 16_000


def audio_frames(samples: NDArray[np.float32], frame_size: int) -> NDArray[np.float32]:
    """float32 mono at 16 kHz [n] -> [T, frame_size], T = ceil(n / frame_size), zeros at the tail.

    Raises RequestError for another type or shape, no samples, NaN or infinity.
    """
    _check(samples, dimensions=(1,))
    frames = np.zeros((-(-len(samples) // frame_size), frame_size), np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    return frames


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """float32 [n] or [n, channels] at `rate` Hz -> mono at 16 kHz [about n * 16000 / rate].

    soxr works through long recordings in blocks. Raises RequestError as `audio_frames` does, and
    for a rate that is not positive.
    """
    _check(samples, dimensions=(1, 2))
    if rate <= 0:
        raise RequestError(f"got a sample rate of {rate} Hz, expected a positive one")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate == SAMPLE_RATE:
        return mono
    resampled: NDArray[np.float32] = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def _check(samples: NDArray[np.float32], dimensions: tuple[int, ...]) -> None:
    if samples.dtype != np.float32 or samples.ndim not in dimensions or not samples.size:
        raise RequestError(
            f"got a waveform {samples.dtype} {list(samples.shape)}, expected float32 "
            f"{' or '.join('[n]' if d == 1 else '[n, channels]' for d in dimensions)} with at "
            "least one sample; decode and mix it first"
        )
    if not np.isfinite(samples).all():
        raise RequestError(
            "got a waveform with NaN or infinity, expected finite samples; the recording is damaged"
        )
