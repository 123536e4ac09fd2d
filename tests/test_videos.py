"""flows/videos.py: how videos are read, as text."""

from __future__ import annotations

import pytest

from flows.videos import video_options
from model_onnx.errors import ConfigError
from pipelines.video import VideoOptions


def test_what_is_not_said_stays_as_it_is() -> None:
    assert video_options("") == VideoOptions()
    made = video_options("rate=0.5, sound=no,seconds=1800")
    assert made == VideoOptions(rate=0.5, sound=False, seconds=1800.0)
    assert video_options("frames=20,bytes=1000,pixels=500,sound=yes").frames == 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed=2", "expected each of rate, sound, seconds, frames, bytes, pixels at most once"),
        ("rate=1,rate=2", "at most once"),
        ("rate", "expected a number"),
        ("rate=fast", "expected a number"),
        ("frames=2.5", "expected a number"),
        ("sound=maybe", "expected yes or no"),
        ("rate=0", "above 0"),
        ("rate=nan", "above 0"),
        ("seconds=inf", "above 0"),
        ("frames=-1", "above 0"),
    ],
)
def test_what_cannot_be_is_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        video_options(text)
