"""Guesses follow the source, recover after differences, and stop where they do not pay."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.costs import Costs
from model_onnx.draft import MOST, NEAR, PROBE, Acceptance, PromptLookup

QUICK = settings(deadline=None)
IDS = st.lists(st.integers(0, 30), max_size=120)


def decode(source: list[int], answer: list[int]) -> tuple[int, int, int]:
    """Steps, guessed ids and right ids when the answer is written with guesses."""
    lookup, done, steps, guessed, right = PromptLookup(source), 0, 0, 0, 0
    while done < len(answer):
        guess = lookup.propose(answer[:done])
        accepted = 0
        for got, expected in zip(guess, answer[done:], strict=False):
            if got != expected:
                break
            accepted += 1
        lookup.feedback(len(guess), accepted)
        done += accepted + 1
        steps, guessed, right = steps + 1, guessed + len(guess), right + accepted
    return steps, guessed, right


@given(source=IDS, answer=IDS, seed=st.integers(0, 1000))
@QUICK
def test_a_guess_is_a_stretch_of_the_source(
    source: list[int], answer: list[int], seed: int
) -> None:
    lookup, noise = PromptLookup(source), random.Random(seed)
    for length in range(len(answer)):
        guess = lookup.propose(answer[:length])
        assert len(guess) <= MOST
        starts = range(len(source) - len(guess) + 1)
        assert any(source[start : start + len(guess)] == guess for start in starts)
        lookup.feedback(len(guess), noise.randint(0, len(guess)))


def test_a_copy_starts_at_the_source_and_soon_takes_the_longest_guesses() -> None:
    source = list(range(400))
    assert PromptLookup(source).propose([])[:3] == [0, 1, 2]
    steps, guessed, right = decode(source, source)
    assert steps < 400 / 10 and guessed == right


def test_a_copy_with_corrections_finds_its_place_again() -> None:
    noise = random.Random(3)
    source = [noise.randrange(200) for _ in range(600)]
    answer = [noise.randrange(1000, 2000) if noise.random() < 0.05 else token for token in source]
    steps, guessed, right = decode(source, answer)
    assert steps < 600 / 2.5 and right > 0.7 * guessed


def test_among_equal_matches_the_next_one_ahead_is_believed() -> None:
    source = [1, 2, 10, 11, 1, 2, 20, 21, 1, 2, 30, 31]
    lookup = PromptLookup(source)
    assert lookup.propose([1, 2])[0] == 10
    assert lookup.propose([1, 2, 10, 11, 1, 2])[0] == 20
    assert lookup.propose([1, 2, 10, 11, 1, 2, 20, 21, 1, 2])[0] == 30


def test_a_single_id_is_believed_only_a_little_ahead() -> None:
    source = [5] + [0] * (NEAR + 5) + [7, 8]
    assert PromptLookup(source).propose([7]) == []
    assert PromptLookup([5, 0, 7, 8]).propose([7]) == [8]


def test_wrong_guesses_stop_and_are_tried_again_now_and_then() -> None:
    lookup = PromptLookup([1, 2] * 50)
    for _ in range(60):
        lookup.feedback(4, 0)
    lengths = [len(lookup.propose([1, 2])) for _ in range(3 * PROBE)]
    assert sorted(set(lengths)) == [0, 2] and lengths.count(2) == 3
    for _ in range(60):
        lookup.feedback(2, 2)
    assert len(lookup.propose([1, 2])) > 8


def test_an_empty_source_gives_no_guesses() -> None:
    assert PromptLookup([]).propose([]) == [] and PromptLookup([]).propose([1, 2]) == []


def test_the_rate_follows_what_was_right() -> None:
    acceptance, costs = Acceptance(), Costs(row=0.3, draft=0.2)
    first = acceptance.count(costs)
    for _ in range(30):
        acceptance.feedback(4, 4)
    assert acceptance.count(costs) > first > 0
    for _ in range(60):
        acceptance.feedback(4, 0)
    counts = [acceptance.count(costs) for _ in range(2 * PROBE)]
    assert acceptance.rate < costs.break_even() and sorted(set(counts)) == [0, 2]
    assert (acceptance.verified, acceptance.right) == (30 * 4 + 60, 30 * 4)


def test_ids_behind_a_wrong_one_say_nothing() -> None:
    one, other = Acceptance(), Acceptance()
    one.feedback(16, 3)
    other.feedback(4, 3)
    assert one.rate == other.rate and one.verified == 4 and one.right == 3


def test_a_whole_learns_from_its_answers() -> None:
    whole = Acceptance()
    for _ in range(10):
        Acceptance(whole.rate, whole).feedback(2, 0)
    assert whole.verified == 10 and whole.rate < 0.4
