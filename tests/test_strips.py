from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.strips import padded, pieces


def strip(width: int, words: list[tuple[int, int]]) -> np.ndarray:
    image = np.full((48, width), 230, np.uint8)
    for start, end in words:
        image[12:36:2, start:end] = 20
    return image


def test_a_strip_that_fits_is_one_piece() -> None:
    assert pieces(strip(96, [(5, 90)]), 48, 2) == [(0, 96)]


def test_a_long_strip_is_cut_in_the_widest_gap() -> None:
    image = strip(480, [(0, 150), (154, 190), (210, 470)])
    assert pieces(image, 48, 5)[0] == (0, 200)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), max_size=8),
    st.integers(1, 20),
    st.integers(1, 6),
)
def test_pieces_cover_the_strip_and_fit(
    words: list[tuple[int, int]], patches: int, most: int
) -> None:
    image = strip(48 * patches, [(start, start + length) for start, length in words])
    found = pieces(image, 48, most)
    assert found[0][0] == 0 and found[-1][1] == image.shape[1]
    assert all(a[1] == b[0] for a, b in pairwise(found))
    assert all(0 < end - start <= 48 * most for start, end in found)


def test_padding_is_paper() -> None:
    made = padded(strip(50, [(0, 10)]), 48)
    assert made.shape == (48, 96)
    assert (made[:, 50:] == 230).all()
