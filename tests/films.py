"""Small real videos, made with av: a few seconds of slides, and a tone for speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (640, 360)
RATE = 5  # frames a second
CODECS = {
    ".mp4": ("libx264", "aac", 44_100),
    ".mov": ("mpeg4", "aac", 44_100),
    ".webm": ("libvpx", "libopus", 48_000),
}


def slide(text: str) -> np.ndarray:
    """uint8 [H, W, 3]: black letters of 40 pixels on white."""
    image = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(image).multiline_text((30, 30), text, "black", ImageFont.load_default(40))
    return np.asarray(image)


def video(
    path: Path, slides: Sequence[tuple[str, float]] = (), *, tone: float = 0.0, seconds: float = 0.0
) -> Path:
    """slides: (text, seconds) one after another; seconds: of a sound track, whose first `tone`
    seconds are loud (0: none)."""
    import av

    pictures, sounds, hertz = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        film = container.add_stream(pictures, rate=RATE) if slides else None
        track = container.add_stream(sounds, rate=hertz, layout="mono") if seconds else None
        if film:
            film.width, film.height, film.pix_fmt = *SIZE, "yuv420p"
            for text, lasting in slides:
                frame = av.VideoFrame.from_ndarray(slide(text), format="rgb24")
                for _ in range(round(lasting * RATE)):
                    frame.pts = None
                    container.mux(film.encode(frame))
        if track:
            time = np.arange(round(seconds * hertz)) / hertz
            wave = 0.4 * np.sin(2 * np.pi * 300 * time) * (time < tone)
            sound = av.AudioFrame.from_ndarray(
                wave.astype(np.float32)[None], format="fltp", layout="mono"
            )
            sound.sample_rate = hertz
            resampler = av.AudioResampler(
                format=track.format, layout="mono", rate=hertz, frame_size=track.frame_size or 960
            )
            for part in [*resampler.resample(sound), *resampler.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode(None))
        if film:
            container.mux(film.encode(None))
    return path
