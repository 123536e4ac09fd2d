"""Recordings -> clips of speech: WAV, FLAC, MP3, OGG, Opus; with `av` M4A and the sound of videos.

    info = open_recording("memo.mp3")               # RecordingInfo(seconds=93.2, spans=(...))
    samples = read_clip("memo.mp3", info.spans[0])  # float32 [n], mono, 16 kHz

Knows no model. Runs in a sandbox child; the file is decoded in blocks, so an hour needs no more
memory than a minute. Speech is what is louder than the recording's own floor.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from model_onnx.errors import InputError
from model_onnx.frames import SAMPLE_RATE, resample
from pipelines.records import Span
from pipelines.speech import FRAME_SECONDS, Cutting, spans_of
from pipelines.video import is_video

_BLOCK_SECONDS = 30


@dataclass(frozen=True)
class ClipOptions:
    """seconds: longest recording; bytes: largest file; cutting: how speech becomes clips."""

    seconds: float = 4 * 3600
    bytes: int = 2 << 30
    cutting: Cutting = field(default_factory=Cutting)


@dataclass(frozen=True)
class RecordingInfo:
    """spans: of the clips, in seconds from the start of the recording."""

    seconds: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Clip:
    """samples: float32 [n], mono, 16 kHz; span: seconds from the start of the recording."""

    samples: NDArray[np.float32]
    span: Span

    @property
    def seconds(self) -> float:
        return self.span[1] - self.span[0]


def open_recording(path: str, options: ClipOptions | None = None) -> RecordingInfo:
    """Raises InputError: `empty`, `silent`, `damaged`, `unsupported`, `too_large`."""
    options = options or ClipOptions()
    if (size := os.stat(path).st_size) > options.bytes:
        raise InputError(
            f"got {size} bytes, expected at most {options.bytes}; split the recording or raise "
            "ClipOptions.bytes",
            reason="too_large",
        )
    with _open(path, options) as file:
        levels = np.concatenate([np.zeros(0), *_levels(file, options)])
    if not len(levels):
        raise _without_samples()
    return RecordingInfo(round(len(levels) * FRAME_SECONDS, 2), _spans(levels, options.cutting))


def read_clip(path: str, span: Span, options: ClipOptions | None = None) -> NDArray[np.float32]:
    """The samples of a span, float32 [n], mono, 16 kHz. Raises InputError `damaged`."""
    with _open(path, options or ClipOptions()) as file:
        try:
            file.seek(min(int(span[0] * file.samplerate), file.frames))
            block = file.read(int((span[1] - span[0]) * file.samplerate), "float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _damaged(error) from None
    return resample(_mono(block), file.samplerate)


def make_clips(
    samples: NDArray[np.float32], rate: int, cutting: Cutting | None = None
) -> list[Clip]:
    """The clips of a mono waveform [n] at `rate` Hz. Raises InputError as `open_recording`."""
    if not len(samples):
        raise _without_samples()
    levels = _mean_squares(samples[:, None], max(1, round(rate * FRAME_SECONDS)))
    clips = []
    for start, end in _spans(levels, cutting or Cutting()):
        part = _mono(samples[int(start * rate) : int(end * rate), None])
        clips.append(Clip(resample(part, rate), (start, end)))
    return clips


def open_recording_plain(path: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """`open_recording` for the sandbox: plain data in and out."""
    return asdict(open_recording(path, _options(options)))


def read_clip_plain(path: str, span: list[float], options: dict[str, Any] | None = None) -> Any:
    """`read_clip` for the sandbox."""
    return read_clip(path, (span[0], span[1]), _options(options))


def _options(plain: dict[str, Any] | None) -> ClipOptions:
    plain = dict(plain or {})
    return ClipOptions(**plain | {"cutting": Cutting(**plain.get("cutting", {}))})


def _levels(file: Any, options: ClipOptions) -> Iterator[NDArray[np.float64]]:
    """Mean square of each frame of FRAME_SECONDS."""
    size = max(1, round(file.samplerate * FRAME_SECONDS))
    most = options.seconds / FRAME_SECONDS
    frames = 0
    while True:
        try:
            block = file.read(
                size * round(_BLOCK_SECONDS / FRAME_SECONDS), "float32", always_2d=True
            )
        except soundfile.LibsndfileError as error:
            raise _damaged(error) from None
        if not len(block):
            return
        levels = _mean_squares(block, size)
        frames += len(levels)
        if frames > most:
            raise InputError(
                f"got a recording of more than {options.seconds:.0f} s, expected at most that; "
                "split it or raise ClipOptions.seconds",
                reason="too_large",
            )
        yield levels


def _mean_squares(block: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """[n, channels] -> the mean square of each `size` samples."""
    mono = _mono(block)
    frames = np.pad(mono, (0, -len(mono) % size)).reshape(-1, size)
    return np.mean(np.square(frames, dtype=np.float64), axis=1)  # type: ignore[no-any-return]


def _spans(levels: NDArray[np.float64], cutting: Cutting) -> tuple[Span, ...]:
    if spans := spans_of(levels, cutting):
        return spans
    raise InputError(
        f"got {len(levels) * FRAME_SECONDS:.0f} s of silence, expected speech; check the level of "
        "the recording",
        reason="silent",
    )


def _without_samples() -> InputError:
    return InputError(
        "got a recording without a sample, expected sound; record or export it again",
        reason="empty",
    )


def _mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    mono = block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0]
    if not np.isfinite(mono).all():
        raise InputError(
            "got samples that are not numbers (NaN or infinite), expected sound; export it again",
            reason="damaged",
        )
    return np.clip(mono, -1.0, 1.0)


@contextmanager
def _open(path: str, options: ClipOptions) -> Iterator[Any]:
    """A soundfile.SoundFile, of the file itself or of what `av` decoded."""
    with open(path, "rb") as file:
        head = file.read(1)
    if not head:
        raise InputError(
            "got a file of 0 bytes, expected a recording; copy it again", reason="empty"
        )
    if is_video(path):  # MP4, M4A, MOV and WebM
        decoded = _decoded(path, options)
        decoded.seek(0)
        with soundfile.SoundFile(decoded) as sound:  # leaves `decoded` open
            yield sound
        return
    try:
        sound = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise _damaged(error) from None
    with sound:
        yield sound


_last: tuple[object, IO[bytes]] | None = None  # the next clip is likely of the same recording


def _decoded(path: str, options: ClipOptions) -> IO[bytes]:
    """A temporary WAV, mono, 16 kHz, of a file that only `av` reads."""
    global _last
    status = os.stat(path)
    identity = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    if _last is None or _last[0] != identity:
        if _last:
            _last[1].close()
            _last = None
        _last = (identity, _decode(path, options))
    return _last[1]


def _decode(path: str, options: ClipOptions) -> IO[bytes]:
    try:
        import av
    except ImportError:
        raise InputError(
            "got M4A, MP4, MOV or WebM, which needs PyAV; install scanscribe[av], or make it WAV",
            reason="unsupported",
        ) from None
    target = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as clips are read
    try:
        with (
            av.open(path, metadata_errors="ignore") as container,
            soundfile.SoundFile(target, "w", SAMPLE_RATE, 1, "PCM_16", format="WAV") as wave,
        ):
            if not container.streams.audio:
                raise InputError(
                    "got a film without sound, expected some; leave it out", reason="empty"
                )
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(audio=0):
                for part in resampler.resample(frame):
                    wave.write(part.to_ndarray()[0])
                if wave.frames > options.seconds * SAMPLE_RATE:
                    raise InputError(
                        f"got a recording of more than {options.seconds:.0f} s, expected at most "
                        "that; split it or raise ClipOptions.seconds",
                        reason="too_large",
                    )
            for part in resampler.resample(None):
                wave.write(part.to_ndarray()[0])
    except BaseException as error:
        target.close()
        raise (_damaged(error) if isinstance(error, av.FFmpegError) else error) from None
    return target


def _damaged(error: Exception) -> InputError:
    return InputError(
        f"got a recording that cannot be read ({type(error).__name__}), expected WAV, FLAC, MP3, "
        "OGG, Opus, M4A or a video; export it again",
        reason="damaged",
    )
