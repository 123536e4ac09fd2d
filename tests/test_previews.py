"""pipelines/previews.py: pictures, sound and text for a person, made in a child process."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from model_onnx.errors import InputError
from pipelines.previews import LONG_SIDE, Previews
from tests.review_run import recording

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def previews() -> Iterator[Previews]:
    made = Previews(1)
    yield made
    made.close()


def test_a_page_is_a_small_webp_in_its_own_shape(previews: Previews) -> None:
    made = previews.page(SAMPLES / "invoice-garden.pdf", 1)
    assert made.image is not None
    picture = Image.open(io.BytesIO(made.image), formats=["WEBP"])
    assert picture.size == (made.width, made.height) and max(picture.size) == LONG_SIDE
    assert "GREEN HILL" in made.text and len(made.image) < 200_000


def test_a_scan_is_turned_as_the_run_turned_it(previews: Previews, tmp_path: Path) -> None:
    pixels = np.full((40, 80), 255, np.uint8)
    pixels[:10, :10] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = previews.page(tmp_path / "a.png", 1, turn=90)
    assert made.image is not None
    seen = np.asarray(Image.open(io.BytesIO(made.image)).convert("L"))
    assert seen.shape == (80, 40) and seen[4, 35] < 60 and seen[4, 4] > 200


def test_a_text_has_no_picture(previews: Previews) -> None:
    made = previews.page(SAMPLES / "dictation.txt", 1)
    assert made.image is None and "Nora" in made.text


def test_a_recording_is_mp3_with_its_loudness(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(recording("a", 3.0).content)
    made = previews.sound(tmp_path / "a.wav")
    samples, rate = soundfile.read(io.BytesIO(made.sound))
    assert rate == 16_000 and abs(len(samples) / rate - 3.0) < 0.2
    assert made.seconds == pytest.approx(3.0, abs=0.05)
    assert 590 <= len(made.bars) <= 610 and max(made.bars) == 100 and min(made.bars) == 0


def test_a_text_is_shown_as_the_subtasks_see_it(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" one   two \n\n three\n")
    assert previews.text(tmp_path / "a.txt") == "one two\nthree"


def test_a_damaged_file_is_an_input_error(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n nonsense")
    with pytest.raises(InputError):
        previews.page(tmp_path / "a.png", 1)
