from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import orientation
from pipelines.ocr import OcrWord, Tesseract
from pipelines.orientation import (
    dominant_turn,
    lies_sideways,
    read_upright,
    turn_box,
    turn_image,
)
from tests.papers import LETTER, scan

RECEIPTS = Path(__file__).parents[1].parent / "shared" / "data" / "receipts" / "images"
SOME = Tesseract("tesseract")


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_boxes_turn_with_the_image(turn: int) -> None:
    page = np.full((40, 80), 255, np.uint8)
    page[4:8, 16:32] = 0
    turned = turn_image(page, turn)
    height, width = turned.shape
    x0, y0, x1, y1 = turn_box((0.2, 0.1, 0.4, 0.2), turn)
    rows, columns = np.nonzero(turned == 0)
    assert (columns.min(), rows.min()) == (round(x0 * width), round(y0 * height))
    assert (columns.max() + 1, rows.max() + 1) == (round(x1 * width), round(y1 * height))


def test_a_quarter_turn_is_clockwise() -> None:
    assert turn_image(np.array([[1, 2]], np.uint8), 90).tolist() == [[1], [2]]
    assert turn_image(np.array([[1], [2]], np.uint8), 90).tolist() == [[2, 1]]


def test_the_dominant_turn_counts_letters() -> None:
    assert dominant_turn([(90, "long"), (0, "no")]) == 90
    assert dominant_turn([(90, "half"), (0, "half")]) == 0
    assert dominant_turn([]) == 0


def test_sideways() -> None:
    page = scan(*LETTER)
    assert lies_sideways(page) is False
    assert lies_sideways(turn_image(page, 90)) is True
    assert lies_sideways(scan("Hi")) is None


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the shared receipts are not there")
def test_sideways_receipts() -> None:
    for path in sorted(RECEIPTS.glob("*.jpg"))[::25]:
        page = np.asarray(Image.open(path).convert("L"))
        assert (lies_sideways(page), lies_sideways(turn_image(page, 270))) == (False, True)


def fake(monkeypatch: pytest.MonkeyPatch, good: int, page: np.ndarray) -> list[int]:
    """Tesseract that reads well only what was turned by `good`. -> the turns that it was given."""
    asked: list[int] = []

    def read(image: np.ndarray, _: Tesseract) -> list[OcrWord]:
        turn = next(t for t in (0, 90, 180, 270) if np.array_equal(image, turn_image(page, t)))
        asked.append(turn)
        confidence = 0.9 if turn == good else 0.3
        return [OcrWord("word", (0, 0, 1, 1), (0, 0, 0), confidence)] * 9

    monkeypatch.setattr(orientation, "read_words", read)
    return asked


@pytest.mark.parametrize(
    ("lies", "good", "reads"),
    [(0, 0, [0]), (0, 180, [0, 180]), (90, 90, [90]), (90, 270, [90, 270]), (0, 90, [0, 180])],
)
def test_a_second_way_is_read_only_when_needed(
    monkeypatch: pytest.MonkeyPatch, lies: int, good: int, reads: list[int]
) -> None:
    page = turn_image(scan(*LETTER), lies)
    asked = fake(monkeypatch, good, page)
    turn, words = read_upright(page, SOME)
    assert asked == reads
    assert turn == (good if good in reads else reads[0])
    assert words and len(words) == 9


def test_a_failure_leaves_the_page_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orientation, "read_words", lambda *_: None)
    assert read_upright(turn_image(scan(*LETTER), 90), SOME) == (0, None)
    monkeypatch.setattr(orientation, "read_words", lambda *_: [])
    assert read_upright(turn_image(scan(*LETTER), 90), SOME) == (0, [])
