from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clean import POLICY as CLEAN
from pipelines.guard import Guarded, Policy, guard, protected, protected_words
from pipelines.repair import policy as repair_policy

WORDS = st.sampled_from(
    ["the", "tbe", "wi11", "12.50", "12.5O", "2024-01-05", "AB12", "T0TAL", "sum", "~", "16", "no",
     "scratch", "that", "um", "comma", "l0:30", "X", "ends.", "(7)"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", "  ", "\n"])), max_size=12).map(
    lambda parts: "".join(word + space for word, space in parts)
)


def refusals(before: str, after: str, policy: Policy = CLEAN) -> list[str]:
    return [edit.refused for edit in guard(before, after, policy).edits]


def repaired(before: str, after: str) -> Guarded:
    return guard(before, after, repair_policy(before))


def test_letters_are_corrected_and_numbers_are_not() -> None:
    done = guard("Tbe sum is 12.5O\nTota1 wi11 do\n", "The sum is 12.60\nTotal will do\n", CLEAN)
    assert done.text == "The sum is 12.5O\nTotal will do\n"
    assert [(e.line, e.before, e.after, e.refused) for e in done.edits] == [
        (0, "Tbe", "The", ""),
        (0, "12.5O\n", "12.60\n", "protected"),
        (1, "Tota1", "Total", ""),
        (1, "wi11", "will", ""),
    ]


def test_what_is_protected() -> None:
    assert all(map(protected, ["12.50", "l0:30", "2024-01-05", "AB12", "INV-204", "(12)", "12A"]))
    assert not any(map(protected, ["wi11", "T0TAL", "the", "B2B", "--", ""]))


def test_joined_and_split_words_are_corrected() -> None:
    assert guard("th e man isgone", "the man is gone", CLEAN).text == "the man is gone"


def test_a_rewrite_is_refused() -> None:
    assert refusals("the red house", "the blue house") == ["edit_cap"]
    assert refusals("some text", "") == ["dropped"]
    assert refusals("a line here\nb line", "a line here b line") == []  # the break is kept
    assert guard("a line here\nb line", "a line here b line", CLEAN).text == "a line here\nb line"


def test_words_from_nowhere_are_refused() -> None:
    assert guard("pay now", "pay now or never", CLEAN).text == "pay now"
    assert guard("on monday", "on monday 12", CLEAN).text == "on monday"


def test_too_many_edits_are_all_refused() -> None:
    before = " ".join(["abc"] * 20)
    done = guard(before, " ".join(["axy"] * 20), CLEAN)
    assert done.text == before
    assert {edit.refused for edit in done.edits} == {"edit_cap"}


def test_an_edit_the_model_is_unsure_of_is_refused() -> None:
    done = guard("tbe rnan", "the man", CLEAN, sure=lambda start, end: start > 0)
    assert (done.text, [e.refused for e in done.edits]) == ("tbe man", ["unsure", ""])


def test_dictation_loses_fillers_commands_and_what_was_taken_back() -> None:
    said = "um dear john comma new line the the 12 no sorry 14 par- parts arrived period"
    done = repaired(said, "Dear John,\nthe 14 parts arrived.")
    assert done.text == "Dear John,\nthe 14 parts arrived."
    assert not done.refused


def test_spaces_around_a_number_may_move() -> None:
    assert guard("49of 12", "49 of 12", CLEAN).text == "49 of 12"
    assert guard("12 50", "1250", CLEAN).text == "12 50"


def test_a_stutter_may_go_with_its_number() -> None:
    assert repaired("send 12 12 12 boxes boxes now", "Send 12 boxes now").refused == ()
    assert repaired("send 12 12 boxes now", "Send boxes now").refused[0].refused == "protected"
    assert repaired("send 12 or 13 boxes", "Send 13 boxes").text == "Send 12 or 13 boxes"


def test_dictation_keeps_its_numbers_and_words() -> None:
    assert repaired("send 12 boxes", "Send 13 boxes").text == "Send 12 boxes"
    assert repaired("send 12 boxes", "Send boxes").refused[0].refused == "protected"
    assert repaired("send red boxes", "Send boxes").refused[0].refused == "dropped"
    assert repaired("send boxes", "Send boxes quickly today").refused[0].refused == "added"


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_protected_words_never_change(before: str, after: str) -> None:
    """Spaces around them may: `49of` becomes `49 of`."""
    done = guard(before, after, CLEAN)
    squeezed, at = "".join(done.text.split()), 0
    for word in protected_words(before.split()):
        at = squeezed.find(word, at)
        assert at >= 0
        at += len(word)
    numbers = [re.findall(r"\d+", word) for word in protected_words(done.text.split())]
    assert all(run in re.findall(r"\d+", before) for word in numbers for run in word)
    assert done.text.count("\n") == before.count("\n")


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_a_dictation_never_gains_or_changes_a_number(before: str, after: str) -> None:
    kept = iter(protected_words(before.split()))
    done = repaired(before, after)
    assert all(word in kept for word in protected_words(done.text.split()))


@given(TEXTS)
def test_no_change_is_no_edit(text: str) -> None:
    for policy in (CLEAN, repair_policy(text)):
        done = guard(text, text, policy)
        assert (done.text, done.edits) == (text, ())


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_survived(before: str, after: str) -> None:
    for policy in (CLEAN, repair_policy(before)):
        assert isinstance(guard(before, after, policy).text, str)
