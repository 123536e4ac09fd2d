from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dictation import key, pattern, units
from training.samples import generate

WORDS = st.sampled_from(
    ["the", "Anna", "12", "12", "um", "you", "know", "no", "sorry", "comma", "new", "line", "quote",
     "unquote", "scratch", "that", "al-", "period", "full", "stop", "~", "a.b", "(x)", "usa", "ß"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n"])), max_size=8).map(
    lambda parts: "".join(word + space for word, space in parts)
)


def allows(said: str, written: str) -> bool:
    repairs = pattern(said)
    return repairs is not None and re.fullmatch(repairs, written) is not None


SAID = "um dear john comma new line the 12 no sorry 14 par- parts arrived period"


@pytest.mark.parametrize(
    "written",
    [
        SAID,
        "Dear John,\nThe 14 parts arrived.",
        "Dear John, the 12 no sorry 14 parts arrived.",
        "dear John,\n\nthe 14 par- parts arrived period",
    ],
)
def test_what_a_repair_may_be(written: str) -> None:
    assert allows(SAID, written)


@pytest.mark.parametrize(
    "written",
    [
        "Dear John,\nThe 14 arrived.",  # a word less
        "Dear John,\nThe 15 parts arrived.",
        "Dear John,\nThe 14 parts arrived today.",
        "Dear John,\nThe parts 14 arrived.",
        "Dear John,\nDear John,\nThe 14 parts arrived.",
        "Dear John,\nThe 14\nparts arrived.",  # a break that was not spoken
        "Dear John,\nThe 14 parts arrived",  # a full stop was spoken
        "",
    ],
)
def test_what_a_repair_may_not_be(written: str) -> None:
    assert not allows(SAID, written)


def test_an_eraser_takes_back_all_before_and_a_slip_only_its_neighbours() -> None:
    words = "one two three four five six"
    assert allows(f"{words} scratch that seven", "Seven")
    assert allows(f"{words} no sorry seven", "One two seven")
    assert not allows(f"{words} no sorry seven", "One seven")


def test_a_stutter_leaves_one_copy() -> None:
    assert allows("send 12 12 12 boxes", "Send 12 boxes")
    assert not allows("send 12 12 12 boxes", "Send boxes")


def test_nothing_to_keep_has_no_pattern() -> None:
    assert pattern("um uh period") is None
    assert pattern(" \n ") is None


def test_breaks_of_the_text_may_stay() -> None:
    assert allows("dear john\nthe parts arrived", "Dear John\nThe parts arrived")
    assert allows("dear john\nthe parts arrived", "Dear John the parts arrived")


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_text_may_stay_as_it_is(text: str) -> None:
    found = units(text)
    assert [word for unit in found for word in unit.words] == text.split()
    assert pattern(text) is None or allows(text, " ".join(text.split()))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_content_cannot_be_left_out(text: str) -> None:
    found = units(text)
    for unit in found:
        if not unit.may_vanish:
            rest = [word for other in found if other.phrase != unit.phrase for word in other.words]
            assert not allows(text, " ".join(rest))


@pytest.mark.parametrize("seed", range(60))
def test_generated_dictations_can_be_repaired(seed: int) -> None:
    """What the embedded model is trained to answer lies within the pattern."""
    sample = generate("repair", seed, "heldout")
    assert allows(sample.text, sample.answer), key(sample.text)[:40]
