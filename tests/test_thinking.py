"""A thought: bounded, ended by force, free of control tokens, and no part of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model_onnx.bundle import Bundle
from model_onnx.constrain import Choices, FreeText, Grammar, JsonSchema, Regex
from model_onnx.engine import Engine
from model_onnx.errors import BundleError, ConstraintError, RequestError
from model_onnx.prompt import Prompt, Turn
from model_onnx.sequence import Request, Result
from tests.fake_decoder import FakeDecoder
from tests.tiny import tiny_bundle

SCHEMA = JsonSchema(
    json.dumps(
        {"type": "object", "properties": {"total": {"type": "integer", "minimum": 0, "maximum": 9}}}
    )
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle"))


@pytest.fixture(scope="module")
def grammar(bundle: Bundle) -> Grammar:
    return Grammar(bundle)


@pytest.fixture
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, FakeDecoder(bundle.config), slots=4) as opened:  # type: ignore[arg-type]
        yield opened


def prompt(engine: Engine, text: str, *, thinking: bool = True) -> Prompt:
    turns = [Turn("system", ("Some instruction.",)), Turn("user", (text,))]
    return engine.renderer.render(turns, thinking=thinking)


def favouring(bundle: Bundle, favourite: Any) -> Engine:
    decoder = FakeDecoder(bundle.config, lambda state, last: int(favourite(state, last)))
    return Engine(bundle, decoder, slots=2)  # type: ignore[arg-type]


def requests(engine: Engine) -> list[Request]:
    texts = ("a", "the quick brown fox " * 3, "7, 8, 9")
    plain = [
        Request(prompt(engine, text), max_new_tokens=12, thinking=20 + 7 * index)
        for index, text in enumerate(texts)
    ]
    return [
        *plain,
        replace(plain[0], constraint=SCHEMA, max_new_tokens=40),
        replace(plain[1], constraint=Regex("[0-9]{4}-[0-9]{2}"), draft=texts[1]),
        replace(plain[1], draft=texts[1]),
        replace(plain[2], constraint=Choices(("invoice", "receipt", "in"))),
        Request(prompt(engine, texts[0], thinking=False), max_new_tokens=12),
    ]


def summary(results: list[Result]) -> list[Any]:
    return [(r.ids, r.thought, r.finish, r.choice_probabilities) for r in results]


def test_a_thought_is_ended_by_force_and_the_answer_is_constrained(engine: Engine) -> None:
    asked = Request(prompt(engine, "a"), SCHEMA, max_new_tokens=40, thinking=30)
    result = engine.generate(asked)
    assert 0 <= json.loads(result.text)["total"] <= 9
    assert 10 < result.thought_tokens <= 30 and len(result.thought) > 0
    assert "channel" not in result.thought and result.thought not in result.text
    assert len(result.ids) == len(result.pieces) == len(result.logprobs)
    assert result.finish == "stop"


def test_the_model_ends_its_thought(bundle: Bundle, grammar: Grammar) -> None:
    close, [a, b] = grammar.channel.close, grammar.encode("ab")
    following = {a: b, b: close, close: a}
    with favouring(bundle, lambda _, last: following.get(last, a)) as engine:
        result = engine.generate(Request(prompt(engine, "a"), max_new_tokens=3, thinking=40))
    assert result.thought == "ab"
    assert result.thought_tokens == len(grammar.channel.opening) + 3
    assert result.text.startswith("ab") and "channel" not in result.text


def test_a_thought_that_repeats_itself_is_ended(bundle: Bundle, grammar: Grammar) -> None:
    [a] = grammar.encode("a")
    with favouring(bundle, lambda *_: a) as engine:
        result = engine.generate(
            Request(prompt(engine, "b"), Regex("[0-9]"), max_new_tokens=3, thinking=2000)
        )
    assert 100 < result.thought_tokens < 300
    assert result.text.isdigit() and result.finish == "stop"


def test_no_control_token_in_thought_or_answer(bundle: Bundle, grammar: Grammar) -> None:
    """A model that wants nothing but control tokens."""
    close, controls = grammar.channel.close, sorted(grammar.channel.controls)
    wanted = [token for token in controls if token != close and token not in bundle.eos_token_ids]
    with favouring(bundle, lambda state, _: wanted[state % len(wanted)]) as engine:
        result = engine.generate(Request(prompt(engine, "b"), max_new_tokens=9, thinking=40))
    assert not set(result.ids) & set(controls)
    assert result.thought_tokens > 12 and "<" not in result.thought + result.text


def test_thoughts_do_not_depend_on_the_batch(engine: Engine) -> None:
    wanted = requests(engine)
    alone = [engine.generate(request) for request in wanted]
    futures = [engine.submit(request) for request in [*wanted, *reversed(wanted)]]
    together = [future.result(60) for future in futures]
    assert summary(together) == summary(alone) + summary(alone)[::-1]
    assert all(result.thought_tokens for result in alone[:-1])
    assert any(result.cached_tokens for result in together), "no prefix was shared"
    assert sum(alone[-2].choice_probabilities.values()) == pytest.approx(1)  # type: ignore[union-attr]


def test_drafts_change_nothing(engine: Engine) -> None:
    *_, plain, _ = (r for r in requests(engine) if r.draft is not None or not r.thinking)
    one, two = engine.generate(plain), engine.generate(replace(plain, draft=None))
    assert summary([one]) == summary([two])


def test_choices_are_scored_behind_the_thought(bundle: Bundle, grammar: Grammar) -> None:
    """The same probabilities as for a prompt that holds the thought already."""
    choices = Choices(("invoice", "receipt", "in"))
    letters = grammar.encode("abcdefghij")
    with favouring(bundle, lambda state, _: letters[state % 10]) as engine:
        asked = prompt(engine, "a")
        result = engine.generate(Request(asked, choices, max_new_tokens=20, thinking=30))
        thought = [*grammar.channel.opening, *grammar.encode(result.thought), grammar.channel.close]
        whole = Prompt(np.array([*asked.ids, *thought]), (), asked.prefix)
        assert len(thought) == result.thought_tokens
        expected = engine.generate(Request(whole, choices, max_new_tokens=20))
    assert result.choice_probabilities == pytest.approx(expected.choice_probabilities)
    assert result.text in choices.options


def test_without_thinking_nothing_changes(engine: Engine) -> None:
    asked = Request(prompt(engine, "a", thinking=False), max_new_tokens=12)
    result = engine.generate(asked)
    assert (result.thought, result.thought_tokens) == ("", 0)
    assert engine.grammar.matcher(FreeText(), 9).allowed().sum() > (
        engine.grammar.matcher(FreeText(), 9, after_thought=True).allowed().sum()
    )


def test_a_time_limit_in_a_thought_closes_the_answer(bundle: Bundle, grammar: Grammar) -> None:
    with Engine(bundle, FakeDecoder(bundle.config), slots=2) as engine:  # type: ignore[arg-type]
        asked = Request(prompt(engine, "a"), SCHEMA, max_new_tokens=40, thinking=900, time_limit=0)
        result = engine.generate(asked)
    assert result.finish == "cancelled" and "total" in json.loads(result.text)


@pytest.mark.parametrize("budget", [-1, 1, 9, 100_000])
def test_a_budget_that_cannot_be_is_refused(engine: Engine, budget: int) -> None:
    with pytest.raises(RequestError, match="thinking"):
        engine.generate(Request(prompt(engine, "a"), thinking=budget))


def test_a_prompt_without_thinking_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="thinking=True"):
        engine.generate(Request(prompt(engine, "a", thinking=False), thinking=100))


def test_an_opened_channel_is_not_opened_again(grammar: Grammar) -> None:
    opening = grammar.channel.opening
    matcher = grammar.thought([5, *opening], 4)
    assert matcher.forced() == []
    for token in grammar.encode("abc"):
        matcher.advance(token)
    assert matcher.forced() == [grammar.channel.close]
    matcher.commit(matcher.forced())
    assert (matcher.finished, matcher.truncated) == (True, True)
    assert matcher.free == grammar.encode("abc")
    matcher.rollback(2)
    assert (matcher.finished, matcher.forced()) == (False, [])
    with pytest.raises(ConstraintError):
        matcher.advance(opening[0])


def test_a_tokenizer_without_channels(bundle: Bundle) -> None:
    grammar = Grammar(bundle)
    del grammar._controls["<|channel>"]
    with pytest.raises(BundleError, match=r"<\|channel>"):
        grammar.thought([5], 40)
