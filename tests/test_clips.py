from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from model_onnx.errors import InputError
from pipelines.clips import ClipOptions, make_clips, open_recording, read_clip
from pipelines.parsing import Parser
from pipelines.records import Span

SPEECH = Path(__file__).parents[1].parent / "shared" / "data" / "speech" / "jfk.flac"


def tone(seconds: float, rate: int = 16_000) -> NDArray[np.float32]:
    """A voice-like buzz: harmonics of 150 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    parts = [np.sin(time * 2 * np.pi * 150 * n) / n for n in range(1, 5)]
    buzz: NDArray[np.float32] = (np.stack(parts).sum(axis=0) / 4).astype(np.float32)
    return buzz


def rest(seconds: float, rate: int = 16_000) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, 1e-4, round(seconds * rate))
    return noise.astype(np.float32)


def spoken(rate: int = 16_000) -> NDArray[np.float32]:
    parts = [rest(3, rate), tone(1, rate), rest(4, rate), tone(2, rate), rest(2, rate)]
    return np.concatenate(parts)


def check(spans: tuple[Span, ...]) -> None:
    """Speech at 3-4 s and 8-10 s, each with at most 0.3 s around it."""
    assert len(spans) == 2
    for (start, end), (first, last) in zip(spans, ((3, 4), (8, 10)), strict=True):
        assert first - 0.3 <= start <= first and last <= end <= last + 0.3


def reason(path: Path, options: ClipOptions | None = None) -> str:
    with pytest.raises(InputError) as caught:
        open_recording(str(path), options)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "rate", "subtype"),
    [
        ("a.wav", 8_000, "PCM_16"),
        ("a.wav", 44_100, "FLOAT"),
        ("a.flac", 48_000, "PCM_24"),
        ("a.mp3", 22_050, None),
        ("a.ogg", 16_000, "VORBIS"),
        ("a.opus", 48_000, "OPUS"),
    ],
)
def test_formats(tmp_path: Path, name: str, rate: int, subtype: str | None) -> None:
    path = tmp_path / name
    stereo = np.stack([spoken(rate)] * 2, axis=1)
    container = "OGG" if name.endswith((".opus", ".ogg")) else None
    soundfile.write(path, stereo, rate, subtype=subtype, format=container)
    info = open_recording(str(path))
    assert abs(info.seconds - 12) < 0.2
    check(info.spans)
    samples = read_clip(str(path), info.spans[1])
    assert samples.dtype == np.float32
    assert abs(len(samples) - (info.spans[1][1] - info.spans[1][0]) * 16_000) < 10
    assert abs(_pitch(samples) - 150) < 3  # neither the rate nor the place has slipped
    assert np.abs(samples[8_000:24_000]).max() > 0.2


def _pitch(samples: NDArray[np.float32]) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples))


def test_m4a(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs the av extra")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(spoken()[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(1024, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    info = open_recording(str(path))
    check(info.spans)
    assert abs(_pitch(read_clip(str(path), info.spans[0])) - 150) < 3
    path.write_bytes(path.read_bytes()[:200])
    assert reason(path) == "damaged"


def test_m4a_without_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    assert reason(tmp_path / "a.m4a") == "unsupported"


def test_a_waveform_gives_the_same_clips_as_its_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(), 16_000, subtype="FLOAT")
    info = open_recording(str(tmp_path / "a.wav"))
    clips = make_clips(spoken(), 16_000)
    assert tuple(clip.span for clip in clips) == info.spans
    for clip in clips:
        assert np.allclose(clip.samples, read_clip(str(tmp_path / "a.wav"), clip.span), atol=1e-6)
        assert clip.seconds == clip.span[1] - clip.span[0]


def test_what_is_no_recording(tmp_path: Path) -> None:
    empty, header, noise, nan = (tmp_path / f"{name}.wav" for name in "abcd")
    empty.touch()
    assert reason(empty) == "empty"
    soundfile.write(header, np.zeros(0), 16_000)
    assert reason(header) == "empty"
    noise.write_bytes(b"RIFF garbage" * 50)
    assert reason(noise) == "damaged"
    soundfile.write(nan, np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    assert reason(nan) == "damaged"
    with pytest.raises(InputError, match="without a sample"):
        make_clips(np.zeros(0, np.float32), 16_000)


def test_limits(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(), 16_000)
    assert reason(tmp_path / "a.wav", ClipOptions(seconds=10)) == "too_large"
    assert reason(tmp_path / "a.wav", ClipOptions(bytes=1000)) == "too_large"


def test_an_hour_of_silence_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 16_000, np.int16))
    assert reason(path) == "silent"
    with Parser(tesseract=False) as parser, pytest.raises(InputError, match="3600 s of silence"):
        list(parser.clips(path))


@pytest.mark.skipif(not SPEECH.exists(), reason="the shared recording is not there")
def test_a_real_speech_is_one_clip() -> None:
    info = open_recording(str(SPEECH))
    assert abs(info.seconds - 11) < 0.1
    assert len(info.spans) == 1
    start, end = info.spans[0]
    assert start < 0.5 and end > 10
