"""pipelines/video.py: small real videos in every container, limits and broken ones."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("av", reason="needs the av extra")

from model_onnx.errors import InputError
from pipelines.parsing import Parser
from pipelines.previews import Previews
from pipelines.records import Source
from pipelines.video import VideoOptions, open_video, read_frame
from tests.films import SIZE, slide, video

SLIDES = (("FIRST", 2.0), ("SECOND", 1.0), ("FIRST", 1.0))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video(tmp_path_factory.mktemp("films") / "a.mp4", SLIDES, tone=1.0, seconds=4.0)


def source() -> Source:
    return Source(path="a", sha256="0" * 64, kind="video")


def reason(path: Path, **options: float) -> str:
    with pytest.raises(InputError) as caught:
        open_video(str(path), VideoOptions(**options))  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_frames_have_their_times_and_pixels(suffix: str, tmp_path: Path) -> None:
    path = str(video(tmp_path / f"a{suffix}", SLIDES))
    info = open_video(path, VideoOptions(rate=2.0))
    assert [round(start) for start, _ in info.spans] == [0, 2, 3]
    assert info.spans[0][1] == info.spans[1][0] and info.seconds == pytest.approx(4, abs=0.3)
    for number, (span, (text, _)) in enumerate(zip(info.spans, SLIDES, strict=True), 1):
        page = read_frame(path, number, span, VideoOptions(rate=2.0))
        assert page.number == number and page.span == span
        assert page.rgb().shape == (SIZE[1], SIZE[0], 3)
        difference = abs(page.rgb().astype(int) - slide(text)).mean()
        others = abs(page.rgb().astype(int) - slide("FIRST" if text == "SECOND" else "SECOND"))
        assert difference < min(6, others.mean())
    assert read_frame(path, 1, info.spans[0]).number == 1  # backwards: from the start again


def test_the_rate_says_which_frames_are_looked_at(tmp_path: Path) -> None:
    path = str(video(tmp_path / "a.mp4", [("A", 0.6), ("B", 0.6), ("C", 0.6)]))
    assert len(open_video(path, VideoOptions(rate=5.0)).spans) == 3
    assert len(open_video(path, VideoOptions(rate=0.2)).spans) == 1


def test_large_frames_are_scaled_down(film: Path) -> None:
    page = read_frame(str(film), 1, (0.0, 2.0), VideoOptions(pixels=10_000))
    height, width = page.rgb().shape[:2]
    assert 9_000 < height * width <= 10_000


def test_limits(film: Path) -> None:
    assert reason(film, seconds=2.0) == "too_large"
    assert reason(film, frames=2) == "too_large"
    assert reason(film, bytes=100) == "too_large"


def test_broken_videos(film: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "empty.mp4") == "empty"
    (tmp_path / "noise.webm").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(5000))
    assert reason(tmp_path / "noise.webm") == "damaged"
    content = film.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    assert reason(tmp_path / "cut.mp4") == "damaged"


def test_without_av(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert reason(film) == "unsupported"
    with pytest.raises(InputError, match=r"scanscribe\[av\]"):
        open_video(str(film))


def test_the_parser_gives_frames_and_speech(film: Path) -> None:
    with Parser(tesseract=False) as parser:
        item = parser.read(film, source())
    assert [page.number for page in item.pages] == [1, 2, 3]
    assert item.source.pages == 3 and item.source.span is not None
    assert [round(page.span[0]) for page in item.pages if page.span] == [0, 2, 3]
    assert len(item.clips) == 1 and item.clips[0].span[1] < 2


def test_sound_is_left_out_or_alone(film: Path, tmp_path: Path) -> None:
    sound = video(tmp_path / "sound.mp4", tone=1.0, seconds=2.0)
    silent = video(tmp_path / "silent.mp4", SLIDES, seconds=4.0)
    with Parser(tesseract=False, videos=VideoOptions(sound=False)) as parser:
        assert not parser.read(film, source()).clips
        heard = parser.read(sound, source())
    assert len(heard.clips) == 1 and not heard.pages and heard.source.span is None
    with Parser(tesseract=False) as parser:
        assert not parser.read(silent, source()).clips
        nothing = video(tmp_path / "nothing.mp4", seconds=2.0)
        with pytest.raises(InputError) as caught:
            parser.read(nothing, source())
    assert caught.value.reason == "silent"


def test_the_preview_of_a_frame_is_that_frame(film: Path) -> None:
    previews = Previews(workers=1)
    try:
        made = previews.page(film, 2)
        with pytest.raises(InputError, match="without this frame"):
            previews.page(film, 9)
    finally:
        previews.close()
    assert made.image is not None and (made.width, made.height) == SIZE


def test_the_preview_counts_frames_as_the_run_did(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [("ONE", 0.4), ("TWO", 0.4), ("THREE", 0.4)])
    often, seldom = VideoOptions(rate=5.0), VideoOptions()
    previews = Previews(workers=1)
    try:
        second = {o.rate: previews.page(path, 2, videos=o).image for o in (often, seldom, often)}
    finally:
        previews.close()
    for rate, text in ((often.rate, "TWO"), (seldom.rate, "THREE")):
        pixels = np.asarray(PIL.Image.open(io.BytesIO(second[rate] or b"")).convert("RGB"), int)
        far = {other: abs(pixels - slide(other)).mean() for other in ("ONE", "TWO", "THREE")}
        assert min(far, key=lambda other: far[other]) == text
