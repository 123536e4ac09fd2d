"""One request by itself: what it absorbs, what it asks to be fed next, and how it ends."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from model_onnx.bundle import Bundle
from model_onnx.constrain import Choices, Grammar, Regex
from model_onnx.prompt import Prompt
from model_onnx.sequence import Request, Sequence
from model_onnx.session import Array
from tests.tiny import tiny_bundle

PROMPT = Prompt(np.arange(40, 50), (), 0)


class Parrot:
    """A head that wants the token that stands in the hidden state [M, 1]."""

    def __init__(self, width: int) -> None:
        self.width, self.calls = width, 0

    def logits(self, hidden: Array) -> Array:
        self.calls += 1
        return np.asarray(50.0 * (np.arange(self.width) == hidden[:, :1]), np.float32)

    def logits_of(self, hidden: Array, ids: Array) -> Array:
        return np.asarray(self.logits(hidden[None])[0][ids])


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return Grammar(Bundle.open(tiny_bundle(tmp_path_factory.mktemp("sequence") / "bundle")))


def make(grammar: Grammar, **options: Any) -> Sequence:
    return Sequence(Request(PROMPT, **options), Future(), grammar)


def absorb(sequence: Sequence, grammar: Grammar, wanted: list[int]) -> int:
    """Feeds what is pending; the model wants these tokens after each of the last rows."""
    rows = len(sequence.pending) + len(sequence.drafts) or 1
    hidden = np.array([0] * (rows - len(wanted)) + wanted, np.float32)[:, None]
    return sequence.absorb(hidden, Parrot(len(grammar._vocabulary.pieces)))


def test_one_token_at_a_time(grammar: Grammar) -> None:
    sequence = make(grammar, max_new_tokens=3)
    for token in grammar.encode("abc"):
        assert absorb(sequence, grammar, [token]) == 0
        assert sequence.pending == [token] and sequence.drafts == []
    assert sequence.finish == "truncated"
    result = sequence.result()
    assert (result.text, result.ids) == ("abc", tuple(grammar.encode("abc")))
    assert np.allclose(result.logprobs, 0, atol=1e-6)


@pytest.mark.parametrize("right", range(5))
def test_drafts_are_kept_up_to_the_first_wrong_one(grammar: Grammar, right: int) -> None:
    text = grammar.encode("abcdefghijkl")
    other = grammar.encode("Z")[0]
    sequence = make(grammar, draft="abcdefghijkl")
    absorb(sequence, grammar, text[:1])
    drafts = list(sequence.drafts)
    assert drafts == text[1 : 1 + len(drafts)] and len(drafts) >= 4
    wanted = text[1 : 1 + right] + [other] * (len(drafts) + 1 - right)
    dropped = absorb(sequence, grammar, wanted)
    assert dropped == len(drafts) - right
    assert sequence.ids == [*text[: 1 + right], other]
    assert sequence.pending == [other]
    assert sequence.counts.accepted == right


def test_forced_tokens_wait_with_the_choice_before_them(grammar: Grammar) -> None:
    sequence = make(grammar, constraint=Regex("(yes, it is|no)"))
    [yes] = grammar.encode("y")
    absorb(sequence, grammar, [yes])
    assert sequence.finish == "stop" and sequence.result().text == "yes, it is"
    assert sequence.counts.forced == len(sequence.ids) - 1
    assert sequence.logprobs[1:] == [0.0] * (len(sequence.ids) - 1)


def test_the_head_is_asked_once_for_all_drafts(grammar: Grammar) -> None:
    sequence = make(grammar, draft="abcdefghijkl")
    text = grammar.encode("abcdefghijkl")
    absorb(sequence, grammar, text[:1])
    head = Parrot(len(grammar._vocabulary.pieces))
    rows = text[1 : 2 + len(sequence.drafts)]
    sequence.absorb(np.array(rows, np.float32)[:, None], head)
    assert head.calls == 1 and sequence.ids == text[: 1 + len(rows)]


def test_the_time_limit_counts_from_the_beginning_of_the_work(grammar: Grammar) -> None:
    sequence = make(grammar, time_limit=100.0)
    assert not sequence.overdue  # it waits for a slot, however long
    sequence.begun = time.monotonic()
    assert not sequence.overdue
    sequence.begun -= 101
    assert sequence.overdue
    assert not make(grammar).overdue


def test_an_expired_answer_is_closed_and_a_choice_is_none(grammar: Grammar) -> None:
    dated = make(grammar, constraint=Regex("[0-9]{4}-[0-9]{2}"))
    absorb(dated, grammar, grammar.encode("1"))
    dated.expire()
    result = dated.future.result(0)
    assert result.finish == "cancelled" and len(result.text) == 7 and result.text[4] == "-"
    chosen = make(grammar, constraint=Choices(("in", "out")))
    chosen.expire()
    result = chosen.future.result(0)
    assert (result.text, result.choice_probabilities) == ("", None)


def test_a_caller_is_told_once(grammar: Grammar) -> None:
    sequence = make(grammar)
    sequence.settle(ValueError("first"))
    sequence.settle()
    with pytest.raises(ValueError, match="first"):
        sequence.future.result(0)
    cancelled = make(grammar)
    assert cancelled.future.cancel()
    cancelled.settle()
    cancelled.settle()
    assert cancelled.settled


def test_the_best_option_is_the_answer(grammar: Grammar) -> None:
    sequence = make(grammar, constraint=Choices(("in", "invoice")))
    sequence.score(np.array([0.25, 0.75]))
    result = sequence.result()
    assert (result.text, result.finish) == ("invoice", "stop")
    assert result.choice_probabilities == {"in": 0.25, "invoice": 0.75}
    assert np.exp(result.logprobs.sum()) == pytest.approx(0.75)


def test_a_budget_that_ends_inside_a_character(grammar: Grammar) -> None:
    ids = grammar.encode("a€")
    sequence = make(grammar, max_new_tokens=max(1, len(ids) - 1))
    for token in ids[:-1]:
        absorb(sequence, grammar, [token])
    assert sequence.result().text == "a"
