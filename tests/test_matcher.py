"""One answer step by step: budget, endings, rollback, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.constrain import Choices, Constraint, FreeText, Grammar, JsonSchema, Regex
from model_onnx.errors import ConstraintError
from tests.small_grammar import (
    EOS,
    PADDING,
    QUICK,
    RECEIPT,
    RECEIPT_KINDS,
    SUPPRESSED,
    characters_tokenizer,
    grammar_of,
    merged_tokenizer,
    noisy,
    noisy_rest,
    step,
    text_of,
)


@pytest.fixture(scope="module", params=[characters_tokenizer, merged_tokenizer])
def grammar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(request.param(), tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(characters_tokenizer(), tmp_path_factory.mktemp("characters"))


@given(budget=st.integers(1, 120), seed=st.integers(0, 2**32))
@settings(QUICK, max_examples=60)
def test_a_budget_is_either_refused_at_once_or_kept(
    characters: Grammar, budget: int, seed: int
) -> None:
    constraint = JsonSchema(json.dumps(RECEIPT), "A shop, tea 3.50")
    least = len('{"vendor":"A","total":0,"items":[],"kind":"other"}')
    try:
        answer = text_of(characters, noisy(characters, constraint, budget, seed))
    except ConstraintError as error:
        assert "raise max_new_tokens" in str(error) and budget < least + 5
    else:
        assert json.loads(answer)["kind"] in RECEIPT_KINDS and budget >= least


def test_a_truncated_answer_is_closed_and_says_so(characters: Grammar) -> None:
    constraint = JsonSchema('{"type":"array","items":{"type":"string","maxLength":90}}')
    matcher = characters.matcher(constraint, 12)
    for token in characters.encode('["abcdefg'):
        assert matcher.advance(token) == [token]
    assert matcher.advance(characters.encode("h")[0]) != characters.encode('"]')
    assert matcher.advance(characters.encode("i")[0]) == characters.encode('"]')
    assert matcher.finished and matcher.truncated
    assert text_of(characters, matcher) == '["abcdefgh"]'


def test_close_ends_an_answer_legally_wherever_it_stands(grammar: Grammar) -> None:
    constraint = JsonSchema(json.dumps(RECEIPT), 'A "shop"\ntea 3.50')
    for seed in range(40):
        matcher, noise = grammar.matcher(constraint, 300), np.random.default_rng(seed)
        for _ in range(int(noise.integers(0, 40))):
            if not matcher.finished:
                step(matcher, noise)
        ended = matcher.finished
        ending = matcher.close()
        assert matcher.tokens[len(matcher.tokens) - len(ending) :] == ending
        assert matcher.finished and (ended or matcher.truncated)
        json.loads(text_of(grammar, matcher))


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(QUICK, max_examples=60)
def test_rollback_is_as_if_nothing_had_been_committed(
    grammar: Grammar, seed: int, data: st.DataObject
) -> None:
    constraints: list[Constraint] = [
        JsonSchema(json.dumps(RECEIPT), 'the "tea" 3.50\nand cake'),
        Regex("[a-z]{2,30}(-[0-9]+)?"),
        Choices(("in", "invoice", "<turn|>")),
        FreeText(),
    ]
    constraint = data.draw(st.sampled_from(constraints))
    noise = np.random.default_rng(seed)
    matcher = grammar.matcher(constraint, 150)
    for _ in range(data.draw(st.integers(0, 30))):
        if not matcher.finished:
            step(matcher, noise)
    matcher.rollback(data.draw(st.integers(0, len(matcher.tokens))))
    fresh = grammar.matcher(constraint, 150)
    for token in matcher.tokens:
        assert fresh.advance(token) == [token]
    for state in ("finished", "truncated", "accepting", "remaining", "tokens"):
        assert getattr(matcher, state) == getattr(fresh, state), state
    assert matcher.forced() == fresh.forced()
    assert np.array_equal(matcher.allowed(), fresh.allowed())
    assert noisy_rest(matcher).tokens == noisy_rest(fresh).tokens


def test_a_token_that_is_not_allowed_is_refused_and_changes_nothing(grammar: Grammar) -> None:
    for constraint in (JsonSchema(json.dumps(RECEIPT)), Regex("[a-z]+"), FreeText()):
        matcher = grammar.matcher(constraint, 200)
        matcher.commit(matcher.forced())
        allowed = matcher.allowed()
        for token in np.flatnonzero(~allowed)[:300].tolist():
            with pytest.raises(ConstraintError, match=r"token"):
                matcher.advance(token)
        assert np.array_equal(matcher.allowed(), allowed)
        noisy_rest(matcher)


def test_commit_refuses_what_was_not_forced(characters: Grammar) -> None:
    matcher = characters.matcher(JsonSchema('{"type":"boolean"}'), 9)
    with pytest.raises(ConstraintError, match="does not allow"):
        matcher.commit(characters.encode("no"))
    with pytest.raises(ConstraintError, match="rollback of 3"):
        matcher.rollback(3)


@given(seed=st.integers(0, 2**32), draft=st.lists(st.integers(0, 300), max_size=6))
@settings(QUICK, max_examples=60)
def test_the_legal_part_of_a_draft_is_what_single_steps_would_take(
    grammar: Grammar, seed: int, draft: list[int]
) -> None:
    constraint = JsonSchema('{"type":"array","items":{"type":"string"}}')
    matcher, noise = grammar.matcher(constraint, 400), np.random.default_rng(seed)
    for _ in range(int(noise.integers(0, 20))):
        if not matcher.finished:
            step(matcher, noise)
    legal, taken = matcher.legal_prefix(draft), 0
    for token in draft:
        if matcher.finished or not matcher.allowed()[token] or token in EOS:
            break
        assert matcher.advance(token) == [token]
        taken += 1
    assert taken == legal


def test_free_text_ends_at_an_end_token_or_the_budget(characters: Grammar) -> None:
    matcher = characters.matcher(FreeText(), 3)
    assert matcher.forced() == [] and matcher.allowed_ids() is None and matcher.accepting
    padding = np.arange(len(matcher.allowed()))[-PADDING:].tolist()
    assert np.flatnonzero(~matcher.allowed()).tolist() == [*SUPPRESSED, *padding]
    with pytest.raises(ConstraintError, match="no answer contains"):
        matcher.advance(SUPPRESSED[0])
    assert matcher.legal_prefix([300, 301, EOS[1], 300]) == 2
    assert matcher.advance(300) == [300] and matcher.advance(EOS[1]) == []
    assert matcher.finished and not matcher.truncated and matcher.tokens == [300]
    with pytest.raises(ConstraintError, match="after the answer was finished"):
        matcher.advance(300)
    matcher = characters.matcher(FreeText(), 2)
    assert [matcher.advance(300), matcher.advance(300)] == [[300], [300]]
    assert matcher.finished and matcher.truncated


def test_an_end_token_is_refused_before_the_answer_is_whole(characters: Grammar) -> None:
    matcher = characters.matcher(Regex("ab+"), 9)
    matcher.commit(matcher.forced())
    assert matcher.tokens == characters.encode("ab")
    assert matcher.accepting and matcher.advance(EOS[0]) == []
    with pytest.raises(ConstraintError, match="before the answer is whole"):
        characters.matcher(Regex("ab+"), 9).advance(EOS[0])
