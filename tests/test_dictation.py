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
        "Dear John,\nThe 14 parts arrived.",
        "Dear John,\n\nThe 14 parts arrived.",
        "dear john,\nthe 12 no sorry 14 par- parts arrived.",
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
        "Dear John, The 14 parts arrived.",  # a break was spoken
        "Dear John,\nThe 14 parts. Arrived.",  # who speaks full stops speaks all of them
        "um Dear John,\nThe 14 parts arrived.",
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


def test_marks_that_nobody_speaks_may_be_written() -> None:
    said = "the parts arrived on monday they are here"
    assert allows(said, "The parts arrived on Monday. They are here.")
    assert allows(f"john comma {said}", "John, the parts arrived on Monday. They are here.")
    assert not allows(f"john comma {said}", "John, the parts, arrived on Monday.")


def test_a_command_behind_a_determiner_may_be_words() -> None:
    assert allows("we sell a new line of pumps", "We sell a new line of pumps.")
    assert allows("the trial period ends", "The trial period ends.")
    assert not allows("we sell pumps new line thanks", "We sell pumps new line thanks")


def test_quotes_and_brackets_stand_where_they_are_spoken() -> None:
    assert allows("he said quote stop unquote", 'He said "stop"')
    assert allows("the pump open bracket new close bracket", "The pump (new)")
    assert not allows("the pump is new", "The (pump is new")


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_plain_words_may_stay_as_they_are(text: str) -> None:
    found = units(text)
    assert [word for unit in found for word in unit.words] == text.split()
    if pattern(text) is not None and not any(unit.certain for unit in found):
        assert allows(text, " ".join(text.split()))


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
