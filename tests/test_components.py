from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pipelines.components import components, ink_of, join
from tests.papers import scan


def flood(ink: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Boxes of the components, the slow way."""
    left = {(int(y), int(x)) for y, x in np.argwhere(ink)}
    boxes = []
    while left:
        todo, seen = [left.pop()], []
        while todo:
            y, x = todo.pop()
            seen.append((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            todo += around
        rows, columns = zip(*seen, strict=True)
        boxes.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1))
    return sorted(boxes)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_components_are_those_of_a_flood_fill(ink: NDArray[np.bool_]) -> None:
    assert sorted(map(tuple, components(ink).tolist())) == flood(ink)


def test_join() -> None:
    pairs = np.array([[0, 5], [4, 5], [2, 3]])
    label = join(6, pairs[:, 0], pairs[:, 1])
    assert label[0] == label[4] == label[5] and label[2] == label[3]
    assert len(set(label.tolist())) == 3


@pytest.mark.parametrize("shade", [0, 60, 150])
def test_ink_is_found_on_grey_and_uneven_paper(shade: int) -> None:
    page = scan("Hello world").astype(np.int16)
    clean = page < 120
    darker = np.clip(page - np.linspace(0, shade, page.shape[1]), 0, 255).astype(np.uint8)
    found = ink_of(darker)
    assert found[clean].mean() > 0.9
    assert found.mean() < 3 * clean.mean()


def test_empty_paper_has_no_ink() -> None:
    assert not ink_of(np.full((50, 60), 200, np.uint8)).any()
    assert not ink_of(np.full((1, 1), 200, np.uint8)).any()
