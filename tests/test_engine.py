"""The engine on a fake decoder: the same tokens whatever else runs, and every way to end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_onnx.bundle import Bundle
from model_onnx.constrain import Choices, FreeText, JsonSchema, Regex
from model_onnx.engine import Engine, Request, Result
from model_onnx.errors import ConstraintError, EngineClosedError, RequestError
from model_onnx.prefill import CHUNK
from model_onnx.prompt import Prompt, Turn
from model_onnx.sample import Sampling
from model_onnx.session import Array
from tests.fake_decoder import FakeDecoder
from tests.tiny import tiny_bundle

SCHEMA = JsonSchema(
    json.dumps(
        {
            "type": "object",
            "properties": {
                "company_name": {"anyOf": [{"type": "string", "maxLength": 12}, {"type": "null"}]},
                "total": {"type": "integer", "minimum": 0, "maximum": 999},
            },
            "required": ["company_name", "total"],
            "additionalProperties": False,
        }
    )
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle"))


@pytest.fixture
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, FakeDecoder(bundle.config), slots=4) as opened:  # type: ignore[arg-type]
        yield opened


def prompt(engine: Engine, text: str, system: str = "") -> Prompt:
    turns = [Turn("user", (text,))]
    return engine.renderer.render([Turn("system", (system,)), *turns] if system else turns)


def requests(engine: Engine) -> list[Request]:
    """Every kind of request, short and long, some sharing a prefix, some copying a text."""
    texts = ["a", "the quick brown fox " * 3, "x" * 700, "7, 8, 9", "zz " * 40]
    plain = [
        Request(prompt(engine, text, system), max_new_tokens=12 + 3 * index)
        for index, text in enumerate(texts)
        for system in ("", "Write the text of this page, line by line.")
    ]
    sampled = [
        replace(plain[0], sampling=Sampling(temperature=1.0, top_p=0.9, seed=seed))
        for seed in range(3)
    ]
    drafted = [replace(request, draft=texts[1]) for request in plain[2:5]]
    constrained = [
        replace(plain[3], constraint=SCHEMA, max_new_tokens=80),
        replace(plain[4], constraint=Regex("[0-9]{4}-[0-9]{2}"), max_new_tokens=10),
        replace(plain[5], constraint=Choices(("invoice", "receipt", "in"))),
    ]
    return [*plain, *sampled, *drafted, *constrained]


def answers(results: list[Result]) -> list[tuple[tuple[int, ...], str]]:
    return [(result.ids, result.finish) for result in results]


def naive(decoder: FakeDecoder, request: Prompt, count: int, permitted: Array) -> list[int]:
    """Greedy decoding that starts from scratch for every token."""
    ids = list(request.ids)
    for _ in range(count):
        cache = decoder.cache(slots=1, local_capacity=4096, global_capacity=4096)
        embeds = decoder.embed(np.array(ids))[None]
        hidden = decoder.forward(cache, 0, embeds, np.zeros((1, len(ids)), np.int64))
        logits = np.where(permitted, decoder.logits(hidden[0, -1:])[0], -np.inf)
        ids.append(int(logits.argmax()))
    return ids[len(request.ids) :]


def no_end(engine: Engine) -> Array:
    """Free text without its end: what greedy decoding may choose before it stops."""
    return engine.grammar.matcher(FreeText(), 99).allowed()


@pytest.mark.parametrize("text", ["short", "long " * 200])
def test_greedy_is_decoding_from_scratch(engine: Engine, bundle: Bundle, text: str) -> None:
    request = Request(prompt(engine, text, "Some instruction."), max_new_tokens=24)
    result = engine.generate(request)
    expected = naive(FakeDecoder(bundle.config), request.prompt, 24, no_end(engine))
    ends = [at for at, token in enumerate(expected) if token in bundle.eos_token_ids]
    assert list(result.ids) == expected[: ends[0] if ends else 24]
    assert result.finish == ("stop" if ends else "truncated")


def test_tokens_do_not_depend_on_the_batch(engine: Engine) -> None:
    wanted = requests(engine)
    alone = [engine.generate(request) for request in wanted]
    futures = [engine.submit(request) for request in [*wanted, *reversed(wanted)]]
    together = [future.result(60) for future in futures]
    assert answers(together) == answers(alone) + answers(alone)[::-1]
    assert any(count > 1 for count, _ in decoder_of(engine).fed), "nothing was batched"


def test_a_chunk_is_the_same_chunk_in_any_company(engine: Engine) -> None:
    """Kernels for one row and for several round differently: forced tokens must be fed in the same
    pieces whether or not there is a batch to join."""
    wanted = requests(engine)
    chunks: list[list[tuple[int, int]]] = []
    for together in (False, True):
        decoder_of(engine).fed.clear()
        futures = []
        for request in wanted:
            futures.append(engine.submit(request))
            if not together:
                futures[-1].result(60)
        for future in futures:
            future.result(60)
        chunks.append(sorted(fed for fed in decoder_of(engine).fed if fed[1] > 1))
        engine._prefill.forget_prefixes()
    assert chunks[0] == chunks[1] and len(chunks[0]) > len(wanted)


def test_long_prompts_do_not_stop_an_answer(engine: Engine) -> None:
    """While an answer is written, a step of it lies between any two chunks of prompts."""
    answer = Request(prompt(engine, "short"), Regex("[a-z]{30}"), max_new_tokens=40)
    texts = [f"{number} long text " * 60 for number in range(2)]
    prompts = [Request(prompt(engine, text), max_new_tokens=1) for text in texts]
    assert all(len(request.prompt.ids) > CHUNK for request in prompts)
    for future in [engine.submit(request) for request in [answer, *prompts]]:
        future.result(60)
    fed = [count for _, count in decoder_of(engine).fed]
    first = fed.index(1)
    last = len(fed) - 1 - fed[::-1].index(1)
    chunks = [at for at in range(first, last) if fed[at] > 1]
    assert len(chunks) >= 2 * len(prompts)
    assert all(fed[at + 1] == 1 for at in chunks)


def decoder_of(engine: Engine) -> FakeDecoder:
    decoder = engine._decoder
    assert isinstance(decoder, FakeDecoder)
    return decoder


def test_the_load_counts_what_waits_and_what_is_decoded_together(engine: Engine) -> None:
    assert (engine.load.waiting, engine.load.active, engine.load.steps) == (0, 0, 0)
    futures = [engine.submit(request) for request in requests(engine)]
    assert 0 < engine.load.waiting + engine.load.active <= len(futures)
    for future in futures:
        future.result()
    assert engine.load.steps < engine.load.fed <= 4 * engine.load.steps  # four slots


def test_submitting_from_many_threads(engine: Engine) -> None:
    wanted = requests(engine)
    alone = answers([engine.generate(request) for request in wanted])
    together: dict[int, Result] = {}

    def ask(index: int) -> None:
        together[index] = engine.submit(wanted[index]).result(60)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers([together[index] for index in range(len(wanted))]) == alone


def test_a_shared_prefix_is_prefilled_once(engine: Engine, bundle: Bundle) -> None:
    system = "Extract these fields as JSON, null where absent:\ncompany\ntotal"
    first = Request(prompt(engine, "one", system), max_new_tokens=8)
    second = Request(prompt(engine, "two", system), max_new_tokens=8)
    results = [engine.generate(request) for request in (first, second, first)]
    assert [result.cached_tokens for result in results] == [
        0,
        first.prompt.prefix,
        first.prompt.prefix,
    ]
    assert results[0].ids == results[2].ids
    with Engine(bundle, FakeDecoder(bundle.config)) as fresh:  # type: ignore[arg-type]
        assert fresh.generate(second).ids == results[1].ids


def test_drafts_change_the_steps_and_not_the_tokens(bundle: Bundle) -> None:
    text = "the cat sat on the mat and the cat sat on the hat"
    with Engine(bundle, FakeDecoder(bundle.config)) as probe:  # type: ignore[arg-type]
        ids = list(dict.fromkeys(probe.grammar.encode(text)))

    def copying(state: int, last: int) -> int:
        """Runs round the text's distinct characters."""
        return ids[(ids.index(last) + 1) % len(ids)] if last in ids else ids[0]

    def slipping(state: int, last: int) -> int:
        """The same with slips that no draft can foresee."""
        return ids[3] if state % 7 == 0 else copying(state, last)

    cycle = "".join(dict.fromkeys(text))
    for model in (copying, slipping):
        outcomes = []
        for draft in (None, cycle * 6):
            decoder = FakeDecoder(bundle.config, model)
            with Engine(bundle, decoder) as engine:  # type: ignore[arg-type]
                request = Request(prompt(engine, text), max_new_tokens=60, draft=draft)
                outcomes.append((engine.generate(request), len(decoder.fed)))
        (plain, plain_steps), (drafted, drafted_steps) = outcomes
        assert drafted.ids == plain.ids and drafted.finish == plain.finish
        assert np.allclose(drafted.logprobs, plain.logprobs)
        assert drafted.accepted_tokens > 10
        assert drafted_steps < plain_steps * 0.7


def test_constrained_answers_are_legal_and_forced_tokens_cost_no_step(engine: Engine) -> None:
    request = Request(prompt(engine, "a receipt"), SCHEMA, max_new_tokens=80)
    result = engine.generate(request)
    value = json.loads(result.text)
    assert list(value) == ["company_name", "total"] and 0 <= value["total"] <= 999
    assert b"".join(result.pieces).decode() == result.text
    assert result.finish == "stop" and result.forced_tokens > len('{"company_name":')
    chosen = len(result.ids) - result.forced_tokens
    assert len(decoder_of(engine).fed) <= 1 + 1 + chosen  # the prompt, the first key, the choices
    assert (result.logprobs <= 0).all() and result.logprobs.shape == (len(result.ids),)


@pytest.mark.parametrize("budget", range(29, 60, 4))
def test_a_tight_budget_closes_the_answer(engine: Engine, budget: int) -> None:
    result = engine.generate(Request(prompt(engine, "a"), SCHEMA, max_new_tokens=budget))
    assert len(result.ids) <= budget
    assert set(json.loads(result.text)) == {"company_name", "total"}


def test_choices_have_the_probabilities_of_the_whole_vocabulary(
    engine: Engine, bundle: Bundle
) -> None:
    options = ("in", "invoice", "receipt")
    request = Request(prompt(engine, "what is it?"), Choices(options))
    result = engine.generate(request)
    expected = []
    for ids in engine.grammar.choice_token_ids(options):
        score, so_far = 0.0, list(request.prompt.ids)
        for token in ids:
            decoder = FakeDecoder(bundle.config)
            cache = decoder.cache(slots=1, local_capacity=512, global_capacity=512)
            embeds = decoder.embed(np.array(so_far))[None]
            hidden = decoder.forward(cache, 0, embeds, np.zeros((1, len(so_far)), np.int64))
            row = decoder.logits(hidden[0, -1:])[0].astype(np.float64)
            row[list(bundle.suppress_tokens)] = -np.inf
            tokens = list(bundle.eos_token_ids) if token in bundle.eos_token_ids else [token]
            score += np.log(np.exp(row[tokens]).sum() / np.exp(row).sum())
            so_far.append(token)
        expected.append(np.exp(score))
    assert result.choice_probabilities is not None
    got = [result.choice_probabilities[option] for option in options]
    assert np.allclose(got, np.array(expected) / sum(expected), rtol=1e-6)
    assert result.text == options[int(np.argmax(got))]


def test_a_cancelled_request_leaves_no_trace(bundle: Bundle) -> None:
    with Engine(bundle, Slow(bundle), slots=2) as engine:  # type: ignore[arg-type]
        kept = Request(prompt(engine, "keep me"), max_new_tokens=30)
        alone = engine.generate(kept)
        doomed = [engine.submit(replace(kept, max_new_tokens=400)) for _ in range(4)]
        survivor = engine.submit(kept)
        time.sleep(0.05)
        assert all(future.cancel() for future in doomed)
        assert survivor.result(60).ids == alone.ids
        with pytest.raises(CancelledError):
            doomed[0].result()
        assert engine.generate(kept).ids == alone.ids


class Slow(FakeDecoder):
    """Long enough steps that a caller can act between them; never ends a turn."""

    def __init__(self, bundle: Bundle) -> None:
        ordinary = max(bundle.config.vocab_size - 200, 100)
        super().__init__(bundle.config, lambda state, last: 60 + state % (ordinary - 60))

    def forward(self, cache, start, embeds, blocks):  # type: ignore[no-untyped-def]
        time.sleep(0.002)
        return super().forward(cache, start, embeds, blocks)


def test_a_time_limit_returns_what_there_is(bundle: Bundle) -> None:
    with Engine(bundle, Slow(bundle)) as engine:  # type: ignore[arg-type]
        request = Request(prompt(engine, "a"), max_new_tokens=2000, time_limit=0.2)
        result = engine.generate(request)
        assert result.finish == "cancelled" and 0 < len(result.ids) < 2000


def test_a_time_limit_closes_constrained_text(bundle: Bundle) -> None:
    with Engine(bundle, Slow(bundle)) as engine:  # type: ignore[arg-type]
        for limit in (0.0, 0.02, 0.04):  # before the first token, and in the middle
            request = Request(prompt(engine, "a"), SCHEMA, max_new_tokens=80, time_limit=limit)
            result = engine.generate(request)
            assert result.finish == "cancelled" or limit
            assert set(json.loads(result.text)) == {"company_name", "total"}
            assert len(result.ids) == len(result.logprobs) <= 80
        two_chunks = prompt(engine, "x" * 600)
        choice = engine.generate(Request(two_chunks, Choices(("in", "out")), time_limit=0))
        assert (choice.text, choice.finish, choice.choice_probabilities) == ("", "cancelled", None)


def test_a_loop_is_cut(bundle: Bundle) -> None:
    with Engine(bundle, FakeDecoder(bundle.config, lambda state, last: 77)) as engine:  # type: ignore[arg-type]
        result = engine.generate(Request(prompt(engine, "a"), max_new_tokens=400))
        assert result.finish == "loop" and len(result.ids) < 300


def test_an_error_ends_only_its_own_request(bundle: Bundle) -> None:
    class Failing(FakeDecoder):
        def embed(self, ids, media=()):  # type: ignore[no-untyped-def]
            if len(ids) > 300:
                raise RuntimeError("no such picture")
            return super().embed(ids, media)

    with Engine(bundle, Failing(bundle.config)) as engine:  # type: ignore[arg-type]
        good = Request(prompt(engine, "good"), max_new_tokens=20)
        bad = Request(prompt(engine, "bad " * 100), max_new_tokens=20)
        futures = [engine.submit(request) for request in (good, bad, good)]
        assert futures[0].result(30).ids == futures[2].result(30).ids
        with pytest.raises(RuntimeError, match="no such picture"):
            futures[1].result(30)


def test_an_error_in_a_step_ends_only_the_request_it_was_for(bundle: Bundle) -> None:
    class Failing(FakeDecoder):
        def forward(self, cache, start, embeds, blocks):  # type: ignore[no-untyped-def]
            if cache.slots > 1 and embeds.shape[1] > 1:
                raise RuntimeError("no such kernel")  # for a chunk of drafts
            return super().forward(cache, start, embeds, blocks)

    with Engine(bundle, FakeDecoder(bundle.config), slots=4) as whole:  # type: ignore[arg-type]
        good = [Request(prompt(whole, text), max_new_tokens=20) for text in ("a", "b", "c")]
        expected = answers([whole.generate(request) for request in good])
    with Engine(bundle, Failing(bundle.config), slots=4) as engine:  # type: ignore[arg-type]
        bad = Request(prompt(engine, "bad"), max_new_tokens=20, draft="any text")
        futures = [engine.submit(request) for request in (good[0], bad, *good[1:])]
        with pytest.raises(RuntimeError, match="no such kernel"):
            futures.pop(1).result(30)
        assert answers([future.result(30) for future in futures]) == expected


def test_a_request_may_be_cancelled_in_the_moment_in_which_it_fails(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Future[Result]):
        def set_running_or_notify_cancel(self) -> bool:
            self.cancel()
            return super().set_running_or_notify_cancel()

    class Failing(FakeDecoder):
        def forward(self, cache, start, embeds, blocks):  # type: ignore[no-untyped-def]
            raise RuntimeError("no such kernel")

    with Engine(bundle, Failing(bundle.config)) as engine:  # type: ignore[arg-type]
        monkeypatch.setattr("model_onnx.engine.Future", Late)
        cancelled = engine.submit(Request(prompt(engine, "a")))
        monkeypatch.undo()
        with pytest.raises(CancelledError):
            cancelled.result(30)
        with pytest.raises(RuntimeError, match="no such kernel"):
            engine.submit(Request(prompt(engine, "a"))).result(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_is_gone(bundle: Bundle) -> None:
    class Deadly(FakeDecoder):
        def forward(self, cache, start, embeds, blocks):  # type: ignore[no-untyped-def]
            raise SystemExit  # no Exception: it ends the thread

    engine = Engine(bundle, Deadly(bundle.config))  # type: ignore[arg-type]
    futures = [engine.submit(Request(prompt(engine, "a"))) for _ in range(2)]
    for future in futures:
        with pytest.raises(EngineClosedError):
            future.result(30)
    with pytest.raises(EngineClosedError):
        engine.submit(Request(prompt(engine, "a")))
    engine.close()


def test_a_callback_may_submit_and_close(bundle: Bundle) -> None:
    """Callbacks of futures run in the engine's own thread."""
    engine = Engine(bundle, Slow(bundle), slots=1)  # type: ignore[arg-type]
    again: list[Future[Result]] = []
    submitted = threading.Event()
    request = Request(prompt(engine, "a"), max_new_tokens=40)
    late = replace(request, time_limit=0.01)  # ends before its 40 tokens are there

    def go_on(done: Future[Result]) -> None:
        assert done.result().finish == "cancelled"
        again.append(engine.submit(request))
        again[0].add_done_callback(lambda _: engine.close())
        submitted.set()

    first, second = engine.submit(request), engine.submit(late)
    second.add_done_callback(go_on)
    assert submitted.wait(30)
    assert first.result(30).ids == again[0].result(30).ids
    engine._thread.join(30)
    assert not engine._thread.is_alive()


@pytest.mark.parametrize("length", [120, 125, 126, 127, 128])
def test_drafts_after_a_long_forced_text_can_be_dropped(bundle: Bundle, length: int) -> None:
    """Forced tokens and drafts together are more than a slot takes at once, and all drafts are
    wrong: no row that the window still shows may be dropped with them."""
    constraint = Regex(f"Q{{{length}}}[a-z]{{30}}")
    outcomes = []
    for draft in (None, "QQQQ" + "0123456789" * 3):
        with Engine(bundle, FakeDecoder(bundle.config)) as engine:  # type: ignore[arg-type]
            request = Request(prompt(engine, "a"), constraint, max_new_tokens=200, draft=draft)
            outcomes.append(engine.generate(request))
    plain, drafted = outcomes
    assert plain.forced_tokens == drafted.forced_tokens == length
    assert drafted.drafted_tokens >= 4 and drafted.accepted_tokens == 0
    assert drafted.ids == plain.ids


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: replace(r, max_new_tokens=0), RequestError, "empty prompt or budget"),
        (lambda r: replace(r, max_new_tokens=10**6), RequestError, "split the document"),
        (
            lambda r: replace(r, prompt=replace(r.prompt, prefix=len(r.prompt.ids))),
            RequestError,
            "shared prefix",
        ),
        (
            lambda r: replace(r, constraint=SCHEMA, max_new_tokens=5),
            ConstraintError,
            "within 5 tokens",
        ),
        (lambda r: replace(r, constraint=Regex("(")), ConstraintError, "cannot be enforced"),
    ],
)
def test_requests_that_cannot_be_served(
    engine: Engine,
    change: Callable[[Request], Request],
    error: type[Exception],
    message: str,
) -> None:
    request = change(Request(prompt(engine, "a"), FreeText()))
    with pytest.raises(error, match=message):
        engine.submit(request).result(30)


def test_closing_fails_what_is_not_done(bundle: Bundle) -> None:
    engine = Engine(bundle, Slow(bundle), slots=2)  # type: ignore[arg-type]
    futures = [engine.submit(Request(prompt(engine, "a"), max_new_tokens=2000)) for _ in range(4)]
    engine.close()
    for future in futures:
        with pytest.raises(EngineClosedError):
            future.result(10)
    with pytest.raises(EngineClosedError):
        engine.submit(Request(prompt(engine, "a")))


def test_an_engine_without_slots_is_refused(bundle: Bundle) -> None:
    with pytest.raises(RequestError, match="got 0 slots"):
        Engine(bundle, FakeDecoder(bundle.config), slots=0)  # type: ignore[arg-type]


def test_opening_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="flows export"):
        Engine.open(tmp_path)
