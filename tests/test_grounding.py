from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.grounding import Aligner, ground
from pipelines.records import Word


def words(text: str, page: int = 1) -> list[Word]:
    """One word beside the other, lines one below the other."""
    return [
        Word(text=word, page=page, box=(0.1 * x, 0.1 * y, 0.1 * x + 0.1, 0.1 * y + 0.1))
        for y, line in enumerate(text.split("\n"))
        for x, word in enumerate(line.split())
    ]


PAPER = words(
    "ACME Trading Sdn. Bhd.\n12, Jalan Besar\nTOTAL RM12.50 of 112.50\nﬁve ＡＢＣ 1,234.50"
)


@pytest.mark.parametrize(
    ("value", "evidence"),
    [
        ("Acme trading", "ACME Trading"),
        ("Bhd. 12, Jalan", "Bhd. 12, Jalan"),  # across lines
        ("12,Jalan Besar", "12, Jalan Besar"),
        ("12.50", "RM12.50"),
        ("RM 12.50", "RM12.50"),
        ("112.50", "112.50"),
        ("five abc", "ﬁve ＡＢＣ"),
        ("1,234.50", "1,234.50"),
        ("Sdn", "Sdn."),
    ],
)
def test_exact(value: str, evidence: str) -> None:
    found = ground(value, PAPER)
    assert (found.status, found.evidence, found.page) == ("exact", evidence, 1)


@pytest.mark.parametrize(
    "value", ["2.50", "12.5", "50", "234.50", "34", "1,234", "Trad", "cme", "", " ", None, True, 7]
)
def test_parts_of_numbers_and_words_do_not_count(value: object) -> None:
    assert ground(value, PAPER).status == "none"


def test_a_whole_word_goes_before_a_part_that_stands_earlier() -> None:
    found = ground("12.50", words("RM12.50\nnothing\n12.50"))
    assert found.evidence == "12.50" and found.box == pytest.approx((0, 0.2, 0.1, 0.3))


def test_a_few_letters_may_differ_but_no_digit() -> None:
    paper = words("ACME TRADlNG SDN BHD\nInvoice 2023-00157 of May")
    assert ground("ACME TRADING SDN BHD", paper).status == "fuzzy"
    assert ground("ACME TRADING SDN BHD", paper).evidence == "ACME TRADlNG SDN BHD"
    assert ground("Invoice 2023-00158 of May", paper).status == "none"
    assert ground("ACMF", paper).status == "none"
    assert ground("something else entirely", paper).status == "none"
    assert ground("ACME TRADING SDN BHD " * 5, paper).status == "none"


def test_the_box_is_around_all_words_of_the_first_page() -> None:
    paper = [*words("one two\nthree"), *words("four", page=2)]
    found = ground("two three", paper)
    assert found.box == pytest.approx((0, 0, 0.2, 0.2))
    found = ground("three four", paper)
    assert found.page == 1 and found.box == pytest.approx((0, 0.1, 0.1, 0.2))


def test_recordings_have_spans() -> None:
    spoken = [Word(text="seven", span=(1, 2)), Word(text="nine", span=(3, 4))]
    found = ground("Seven nine", spoken)
    assert (found.span, found.box, found.page) == ((1, 4), None, None)


def test_no_words() -> None:
    assert ground("a", []).status == "none"
    assert ground("a", [Word(text=" ")]).status == "none"


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30), st.data())
def test_every_run_of_words_is_found(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts) - 1))
    end = data.draw(st.integers(start + 1, len(texts)))
    value = " ".join(texts[start:end])
    found = Aligner([Word(text=text) for text in texts]).find(value)
    assert found.status == ("exact" if "".join(value.split()) else "none")
    if found.evidence is not None:
        fold = [
            "".join(
                "".join(unicodedata.normalize("NFKC", word).casefold().split())
                for word in text.split()
            )
            for text in (value, found.evidence)
        ]
        assert fold[0] == fold[1]


def test_five_thousand_words() -> None:
    paper = [Word(text=f"word{number}", page=1, box=(0, 0, 1, 1)) for number in range(5000)]
    aligner = Aligner(paper)
    assert aligner.find("word4998 word4999").status == "exact"
    assert aligner.find("a value that does not stand there").status == "none"
