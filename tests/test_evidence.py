from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evidence import Index, Line, blocks, digest, joined, lines_of, runs
from pipelines.records import Word


def line(text: str, page: int = 1, certain: float = 1.0) -> Line:
    words = tuple(
        Word(text=word, page=page, box=(at / 10, page / 10, (at + 1) / 10, page / 10 + 0.05))
        for at, word in enumerate(text.split())
    )
    return Line(words, certain, tuple(certain for _ in words))


def test_words_become_the_lines_of_their_text() -> None:
    words = [Word(text=text) for text in ("a", "b", "c", "d")]
    assert joined(lines_of(words, "a b\n\nc")) == "a b\nc\nd"
    assert lines_of([], "") == ()


def test_a_value_is_found_with_its_place() -> None:
    index = Index([line("ACME TRADING SDN", 1, 0.5), line("TOTAL RM12.50", 2, 0.9)])
    found = index.find("TRADING  SDN TOTAL")
    assert found is not None
    assert [word.text for word in found.words] == ["TRADING", "SDN", "TOTAL"]
    assert found.certain == pytest.approx(0.5 * 0.5 * 0.9)
    assert found.grounding.page == 1
    assert found.grounding.box == pytest.approx((0.1, 0.1, 0.3, 0.15))
    part = index.find("12.50")
    assert part is not None
    assert part.grounding.evidence == "RM12.50"
    assert index.find("ACME SDN") is None
    assert index.find("") is None
    assert Index([]).find("x") is None


def test_whole_words_are_preferred() -> None:
    index = Index([line("112 12", 1)])
    found = index.find("12")
    assert found is not None
    assert found.words[0].text == "12"


def test_spans_are_joined() -> None:
    words = (Word(text="a", span=(1.0, 2.0)), Word(text="b", span=(2.0, 4.5)))
    found = Index([Line(words)]).find("a b")
    assert found is not None
    assert found.grounding.span == (1.0, 4.5)


def test_a_digest_keeps_the_top_dates_totals_and_what_follows() -> None:
    lines = [line(f"row number {n}") for n in range(30)]
    lines[20], lines[25] = line("DATE 19/10/2018"), line("TOTAL")
    kept = digest(lines, 100)
    assert [part.text for part in kept[9:]] == ["DATE 19/10/2018", "TOTAL", "row number 26"]
    assert kept[:9] == tuple(lines[:9])
    assert digest(lines, None) == digest(lines, 10_000) == tuple(lines)


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 12))
def test_blocks_joined_are_the_text(text: str, most: int) -> None:
    parts = list(blocks(text, lambda block: len(block) <= most))
    assert "".join(block + behind for block, behind in parts) == text
    assert all(len(block) <= most or len(block.split()) <= 1 for block, _ in parts)
    assert all(not behind.strip() for _, behind in parts)


def test_blocks_prefer_lines() -> None:
    text = "one\ntwo\nthree four five six\nseven"
    parts = [block for block, _ in blocks(text, lambda block: len(block) <= 10)]
    assert parts == ["one\ntwo", "three four", "five six", "seven"]


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(1, 9))
def test_runs_keep_every_line_in_order(sizes: list[int], most: int) -> None:
    units = [[line(f"u{at} l{n}") for n in range(size)] for at, size in enumerate(sizes)]
    made = list(runs(units, lambda part: len(part) <= most))
    assert [row for run in made for row in run] == [row for unit in units for row in unit]
    for run, after in pairwise(made):
        nearest = next(len(unit) for unit in units if unit[0] == after[0])
        assert len(run) + nearest > most
