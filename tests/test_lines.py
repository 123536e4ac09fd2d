from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.lines import (
    find_lines,
    grey_of,
    line_pitch,
    line_strips,
    page_for_model,
    text_lines,
)
from tests.papers import LETTER, scan

RECEIPTS = Path(__file__).parents[1].parent / "shared" / "data" / "receipts"


def turned(page: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(page).rotate(degrees, fillcolor=240, expand=True))


@pytest.mark.parametrize("size", [12, 24, 48])
@pytest.mark.parametrize("degrees", [0, 1.5, -3])
def test_every_line_is_found_in_order(size: int, degrees: float) -> None:
    page = turned(scan(*LETTER, size=size, width=26 * size), degrees)
    lines = find_lines(page)
    assert len(lines) == len(LETTER)
    assert lines[0].slope == pytest.approx(-np.tan(np.radians(degrees)), abs=0.006)
    boxes = text_lines(page)
    assert (np.diff(boxes[:, 1]) > 0).all()
    assert line_pitch(lines) == pytest.approx(1.6 * size, rel=0.06)
    tallest = float((boxes[:, 3] - boxes[:, 1]).max())
    assert tallest < 1.6 * size + np.tan(np.radians(3)) * 26 * size


def test_columns_are_apart_and_words_together() -> None:
    left = scan("Coffee with milk", "Tea", width=300)
    page = np.hstack([left, scan("3.50", "12.00", width=200)])
    boxes = text_lines(page)
    assert len(boxes) == 4
    assert (boxes[0, 2] < 300 < boxes[1, 0]) and (boxes[2, 2] < 300 < boxes[3, 0])


def test_rules_specks_and_pictures_are_no_lines() -> None:
    page = scan("Some words here", "and there").copy()
    page[5:7, 20:600] = 0
    page[20:22, 5:7] = 0
    assert len(text_lines(page)) == 2
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000)).astype(np.uint8)
    assert len(text_lines(noise)) == 0  # tens of thousands of specks would take minutes
    assert text_lines(np.full((100, 100), 255, np.uint8)).shape == (0, 4)
    assert line_strips(np.full((3, 3), 255, np.uint8)) == []


@pytest.mark.parametrize("size", [12, 24, 60])
def test_strips_hold_their_line_level_at_the_same_size(size: int) -> None:
    page = turned(scan(*LETTER, size=size, width=26 * size), 2)
    strips = line_strips(page, 48)
    assert len(strips) == len(LETTER)
    for strip in strips:
        assert strip.image.dtype == np.uint8
        assert strip.image.shape[0] == 48 and strip.image.shape[1] % 48 == 0
        rows = np.flatnonzero((strip.image < 140).any(axis=1))
        assert 28 <= rows[-1] - rows[0] + 1 <= 40
        columns = np.flatnonzero((strip.image < 140).any(axis=0))
        assert columns[0] < 24 and columns[-1] < strip.image.shape[1] - 2
        height, width = page.shape
        x0, y0, x1, y1 = strip.box
        assert -1 <= x0 < x1 <= width + 1 and -1 <= y0 < y1 <= height + 1


def test_a_line_of_small_letters_is_not_blown_up() -> None:
    strips = line_strips(scan("Total Amount", "Gross Price", "ace ---"))
    heights = [np.ptp(np.flatnonzero((s.image < 140).any(axis=1))) for s in strips]
    assert heights[2] < 0.9 * max(heights[:2])


@pytest.mark.parametrize("patch", [24, 48])
def test_pages_for_the_model_have_the_patchs_pitch(patch: int) -> None:
    page = scan(*LETTER, size=20, width=500)
    scaled = page_for_model(page, patch, 1000)
    pitch = line_pitch(find_lines(scaled))
    assert pitch == pytest.approx(patch, rel=0.06)
    colour = np.repeat(page[:, :, None], 3, axis=2)
    assert page_for_model(colour, patch, 1000).shape == (*scaled.shape, 3)


@pytest.mark.parametrize("budget", [1, 4, 30, 280])
def test_the_budget_of_soft_tokens_holds(budget: int) -> None:
    scaled = page_for_model(scan(*LETTER), 48, budget)
    assert np.prod(np.ceil(np.array(scaled.shape) / 48)) <= budget
    empty = page_for_model(np.full((300, 40), 255, np.uint8), 48, budget)
    assert np.prod(np.ceil(np.array(empty.shape) / 48)) <= budget


def test_grey_of() -> None:
    grey = scan("a")
    assert grey_of(grey) is grey
    assert np.array_equal(grey_of(np.repeat(grey[:, :, None], 3, axis=2)), grey)


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the shared receipts are not there")
def test_most_annotated_lines_of_receipts_are_found() -> None:
    """0.87 on all 500; the tuning used other ones."""
    names = sorted(path.stem for path in (RECEIPTS / "images").glob("*.jpg"))
    hits = total = 0
    for name in random.Random(11).sample(names, 40):
        page = np.asarray(Image.open(RECEIPTS / "images" / f"{name}.jpg").convert("L"))
        entries = json.loads((RECEIPTS / "lines" / f"{name}.json").read_text())
        wanted = np.array([entry["bbox"] for entry in entries], np.float64)
        hits += int((_overlap(wanted, text_lines(page)).max(axis=1, initial=0) > 0.5).sum())
        total += len(wanted)
    assert hits / total > 0.85


def _overlap(a: NDArray[np.float64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each pair, [len(a), len(b)]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    sizes = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    result: NDArray[np.float64] = shared / (sizes[0][:, None] + sizes[1][None] - shared)
    return result
