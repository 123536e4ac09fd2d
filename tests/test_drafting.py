"""The engine with a drafter that foresees the fake decoder, rightly or not: the same tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.constrain import Choices, JsonSchema
from model_onnx.costs import Costs, CostSource, FixedCosts
from model_onnx.drafting import Drafting, Drafts
from model_onnx.engine import Engine
from model_onnx.prompt import Turn
from model_onnx.sequence import Request, Result
from model_onnx.session import Array
from tests.fake_decoder import FakeDecoder
from tests.tiny import WINDOW, tiny_bundle

CHEAP = FixedCosts(Costs(row=0.1, draft=0.05))
SCHEMA = JsonSchema(
    json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "total": {"type": "integer", "minimum": 0, "maximum": 99},
            },
            "required": ["name", "total"],
            "additionalProperties": False,
        }
    )
)


class Oracle:
    """Guesses what the fake decoder will want, but every `wrong`-th id (0: none) is another one."""

    def __init__(self, bundle: Bundle, wrong: int) -> None:
        self._decoder, self._wrong, self.guessed = FakeDecoder(bundle.config), wrong, 0
        self.rounds: list[int] = []

    def forget(self, cache: KVCache) -> None:
        pass

    def draft(
        self, cache: KVCache, slot: int, state: Array, tokens: list[int], count: int
    ) -> list[int]:
        key, _ = cache.buffers[-1]
        assert state[2] == key[slot, 0, cache.positions[slot] - 1, 0], "not the last token's state"
        copy = self._decoder.cache(slots=1, local_capacity=4 * WINDOW, global_capacity=4096)
        copy.take(0, cache, slot)
        fed, guesses = list(tokens), []
        for _ in range(count):
            ids = np.array(fed)
            copy.reserve(0, len(ids))
            embeds, blocks = self._decoder.embed(ids)[None], np.zeros((1, len(ids)), np.int64)
            hidden = self._decoder.forward(copy, 0, embeds, blocks)[0, -1:]
            best = int(self._decoder.logits(hidden)[0].argmax())
            self.guessed += 1
            if self._wrong and self.guessed % self._wrong == 0:
                best = 60 + best % 20
            fed = [best]
            guesses.append(best)
        self.rounds.append(count)
        return guesses


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("drafting") / "bundle"))


def requests(engine: Engine) -> list[Request]:
    prompts = [
        engine.renderer.render([Turn("user", (text,))]) for text in ("a", "one two three " * 4)
    ]
    thoughtful = engine.renderer.render([Turn("user", ("a",))], thinking=True)
    return [
        *(Request(prompt, max_new_tokens=3 * WINDOW) for prompt in prompts),
        *(Request(prompt, SCHEMA, max_new_tokens=60) for prompt in prompts),
        Request(prompts[0], max_new_tokens=30, draft="one two three four"),
        Request(prompts[1], Choices(("invoice", "receipt", "in"))),
        Request(thoughtful, SCHEMA, max_new_tokens=60, thinking=40),
    ]


def answer(
    bundle: Bundle,
    wrong: int | None,
    *,
    together: bool = False,
    costs: CostSource = CHEAP,
    drafts: Drafts = "auto",
) -> tuple[list[Result], FakeDecoder, Oracle | None]:
    """wrong: of the oracle; None: no drafter."""
    decoder = FakeDecoder(bundle.config)
    oracle = None if wrong is None else Oracle(bundle, wrong)
    drafting = None if oracle is None else Drafting(oracle, drafts, costs)
    with Engine(bundle, decoder, slots=3, drafting=drafting) as engine:  # type: ignore[arg-type]
        if together:
            futures = [engine.submit(request) for request in requests(engine)]
            results = [future.result(60) for future in futures]
        else:
            results = [engine.generate(request) for request in requests(engine)]
    return results, decoder, oracle


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_guesses_change_the_steps_and_not_the_tokens(
    bundle: Bundle, wrong: int, together: bool
) -> None:
    plain, decoder, _ = answer(bundle, None)
    drafted, other, _ = answer(bundle, wrong, together=together)
    told = [[(r.thought, r.ids, r.finish) for r in results] for results in (drafted, plain)]
    assert told[0] == told[1] and plain[-1].thought
    assert all((a.logprobs == b.logprobs).all() for a, b in zip(drafted, plain, strict=True))
    accepted = sum(result.accepted_tokens for result in drafted)
    made = sum(result.drafted_tokens for result in drafted)
    assert made > 0
    if wrong == 0:
        assert accepted > 0.6 * made and len(other.fed) < len(decoder.fed) / 2
    elif wrong == 3:
        assert 0 < accepted < made


def test_guesses_stop_below_break_even_and_go_on_when_forced(bundle: Bundle) -> None:
    dear = FixedCosts(Costs(row=0.3, draft=0.2))
    _, _, careful = answer(bundle, 1, costs=dear)
    _, _, forced = answer(bundle, 1, costs=dear, drafts="on")
    assert careful is not None and forced is not None
    assert 0 < len(careful.rounds) < len(forced.rounds) / 2
    assert careful.rounds[-1] <= 2 and min(forced.rounds[:-1]) >= 1


def test_no_guess_is_made_where_none_can_pay(bundle: Bundle) -> None:
    _, _, oracle = answer(bundle, 0, costs=FixedCosts(Costs(row=0.9, draft=0.3)))
    assert oracle is not None and set(oracle.rounds) <= {2}, "only to measure again"


def test_a_new_answer_begins_with_what_the_others_have_taught(bundle: Bundle) -> None:
    oracle = Oracle(bundle, 1)
    drafting = Drafting(oracle, costs=CHEAP)
    decoder = FakeDecoder(bundle.config)
    with Engine(bundle, decoder, slots=1, drafting=drafting) as engine:  # type: ignore[arg-type]
        before = drafting.overall.rate
        engine.generate(requests(engine)[0])
        assert drafting.overall.rate < before / 2
        oracle.rounds.clear()
        engine.generate(requests(engine)[1])
    assert max(oracle.rounds) <= 2
