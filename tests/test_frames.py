"""Frames against the reference extractor; resampling against known signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.errors import RequestError
from model_onnx.frames import SAMPLE_RATE, audio_frames, resample

Samples = np.ndarray[Any, np.dtype[np.float32]]


def tone(rate: int, seconds: float, hertz: float = 440.0) -> Samples:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@settings(deadline=None)
@given(count=st.integers(1, 2000), frame=st.sampled_from([640, 64, 7]), seed=st.integers(0, 9))
def test_frames_are_those_of_the_reference_extractor(count: int, frame: int, seed: int) -> None:
    from transformers.models.gemma4_unified.feature_extraction_gemma4_unified import (
        Gemma4UnifiedAudioFeatureExtractor,
    )

    extractor = Gemma4UnifiedAudioFeatureExtractor(
        feature_size=frame, audio_samples_per_token=frame
    )
    samples = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    reference = extractor(samples, return_tensors="np")
    frames = audio_frames(samples, frame)
    assert frames.dtype == np.float32 and np.array_equal(frames, reference["input_features"][0])
    assert reference["input_features_mask"].all()


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_a_tone(rate: int) -> None:
    heard = resample(tone(rate, 2.0), rate)
    assert heard.dtype == np.float32 and abs(len(heard) - 2 * SAMPLE_RATE) <= 1
    middle = slice(2000, 30_000)  # the filter rings at both ends
    np.testing.assert_allclose(heard[middle], tone(SAMPLE_RATE, 2.0)[middle], atol=1e-3)


def test_resampling_removes_what_16_khz_cannot_hold() -> None:
    heard = resample(tone(48_000, 1.0, hertz=15_000.0), 48_000)
    assert np.abs(heard[1000:-1000]).max() < 1e-3


@pytest.mark.parametrize("rate", [44_100, 7919])
def test_long_recordings_come_out_as_if_streamed(rate: int) -> None:
    import soxr

    samples = np.random.default_rng(0).standard_normal(rate * 60 + 13).astype(np.float32)
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    blocks = np.array_split(samples, 7)
    streamed = [stream.resample_chunk(b, last=i == 6) for i, b in enumerate(blocks)]
    np.testing.assert_array_equal(resample(samples, rate), np.concatenate(streamed))


def test_channels_are_mixed_and_16_khz_stays() -> None:
    left = tone(SAMPLE_RATE, 0.1)
    stereo = np.stack((left, np.zeros_like(left)), axis=1)
    np.testing.assert_array_equal(resample(stereo, SAMPLE_RATE), left / 2)
    assert resample(left, SAMPLE_RATE) is left


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, np.float32), "at least one sample"),
        (np.zeros(10, np.int16), "expected float32"),
        (np.zeros((10, 2), np.float32), r"expected float32 \[n\]"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([0.0, np.inf], np.float32), "infinity"),
    ],
)
def test_unusable_waveforms_are_refused(samples: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        audio_frames(samples, 640)


def test_unusable_rates_are_refused() -> None:
    with pytest.raises(RequestError, match="positive"):
        resample(np.zeros(10, np.float32), 0)
    with pytest.raises(RequestError, match=r"\[n, channels\]"):
        resample(np.zeros((2, 2, 2), np.float32), 8000)
