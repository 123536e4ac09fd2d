"""flows/journal.py: a request that was answered is not asked again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from flows.journal import (
    Interrupted,
    JournalEngine,
    Requests,
    decode_result,
    encode_result,
    fingerprint,
)
from flows.store import Store
from model_onnx.constrain import Choices, FreeText, JsonSchema
from model_onnx.errors import OutputError, RequestError
from model_onnx.prompt import MediaSpan, Prompt
from model_onnx.sample import Sampling
from model_onnx.sequence import Request, Result
from pipelines.clips import Clip
from pipelines.extract import subtask as extract_subtask
from pipelines.items import Item
from pipelines.options import Options
from pipelines.pages import Page
from pipelines.records import Source, Word
from pipelines.subtask import run
from tests.fake_run import answer
from tests.fakes import Asked, FakeEngine


class ManualModel:
    """Its futures are settled by the test."""

    provider = "cpu"
    bundle: Any = SimpleNamespace(sha256="b" * 64)
    renderer: Any = "the renderer"

    def __init__(self) -> None:
        self.asked: list[Future[Result]] = []

    def submit(self, request: Request) -> Future[Result]:
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        yield store


def request(text: str = "a", **values: Any) -> Request:
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return Request(prompt=Prompt(ids, values.pop("media", ()), 0), **values)


def span(features: np.ndarray) -> tuple[MediaSpan, ...]:
    return (MediaSpan(0, "image", features, np.zeros((1, 2), np.int64)),)


def test_an_answer_is_remembered_before_it_is_handed_out(store: Store) -> None:
    model = ManualModel()
    journal = JournalEngine(model, store, "key", Requests())
    future = journal.submit(request())
    assert not future.done()
    model.asked[0].set_result(answer("one"))
    assert future.result().text == "ONE"
    again = journal.submit(request())
    assert again.result().text == "ONE" and len(model.asked) == 1
    journal.submit(request("b"))
    JournalEngine(model, store, "other", Requests()).submit(request())
    assert len(model.asked) == 3
    assert journal.provider == "cpu" and str(journal.renderer) == "the renderer"


def test_a_result_comes_back_as_it_was() -> None:
    result = dataclasses.replace(
        answer("ré \x00"), pieces=(b"r\xc3", b"\xa9", b""), choice_probabilities={"a": 0.25}
    )
    back = decode_result(encode_result(result))
    assert np.array_equal(back.logprobs, result.logprobs) and back.logprobs.dtype == np.float32
    for field in dataclasses.fields(Result):
        if field.name != "logprobs":
            assert getattr(back, field.name) == getattr(result, field.name)


def test_every_part_of_a_request_but_its_time_limit_tells_it_apart() -> None:
    features = np.zeros((1, 6), np.float32)
    requests = [
        request(),
        request("b"),
        request("aa"),
        request(media=span(features)),
        request(media=span(features + 1)),
        request(media=span(features.reshape(2, 3))),
        request(media=span(features.astype(np.float64))),
        request(constraint=Choices(("a", "b"))),
        request(constraint=Choices(("ab",))),
        request(constraint=JsonSchema("{}")),
        request(constraint=JsonSchema("{}", evidence="")),
        request(max_new_tokens=7),
        request(sampling=Sampling(seed=7)),
        request(draft=""),
        request(draft="None"),
    ]
    assert len({fingerprint(each) for each in requests}) == len(requests)
    assert fingerprint(request(time_limit=1.0)) == fingerprint(request())
    assert fingerprint(request(constraint=FreeText())) == fingerprint(request())


def test_a_request_of_unknown_data_is_refused() -> None:
    with pytest.raises(TypeError, match="plain data"):
        fingerprint(request(draft=object()))


@pytest.mark.parametrize("error", [RequestError("too long"), CancelledError()])
def test_errors_are_handed_on_and_not_remembered(store: Store, error: Exception) -> None:
    model = ManualModel()
    journal = JournalEngine(model, store, "key", Requests())
    future = journal.submit(request())
    model.asked[0].set_exception(error)
    with pytest.raises((RequestError, Interrupted)):
        future.result()
    assert not journal.submit(request()).done()


def test_a_time_limit_is_not_an_answer_for_ever(store: Store) -> None:
    model = ManualModel()
    journal = JournalEngine(model, store, "key", Requests())
    future = journal.submit(request())
    model.asked[0].set_result(dataclasses.replace(answer("half"), finish="cancelled"))
    assert future.result().text == "HALF" and not journal.interrupted
    assert not journal.submit(request()).done()


def test_a_full_disk_reaches_the_subtask(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("full")

    monkeypatch.setattr(store, "remember", full)
    model = ManualModel()
    future = JournalEngine(model, store, "key", Requests()).submit(request())
    model.asked[0].set_result(answer("one"))
    with pytest.raises(OutputError):
        future.result()


def finished(future: Future[Result]) -> None:
    future.set_result(dataclasses.replace(answer("half"), finish="cancelled"))


@pytest.mark.parametrize("settle", [None, finished])
def test_a_stop_interrupts_what_waits_and_what_comes(
    store: Store, settle: Callable[[Future[Result]], None] | None
) -> None:
    model, requests = ManualModel(), Requests()
    journal = JournalEngine(model, store, "key", requests)
    future = journal.submit(request())
    if settle:  # the engine had begun: it cannot be cancelled and ends by itself
        model.asked[0].set_running_or_notify_cancel()
    requests.stop()
    if settle:
        settle(model.asked[0])
    with pytest.raises(Interrupted):
        future.result()
    with pytest.raises(Interrupted):
        journal.submit(request("b"))
    assert journal.interrupted and len(model.asked) == 1


def test_a_subtask_that_gives_up_cancels_the_engines_work(store: Store) -> None:
    model = ManualModel()
    future = JournalEngine(model, store, "key", Requests()).submit(request())
    assert future.cancel() and model.asked[0].cancelled()


def item_of(kind: str) -> Item:
    """Three parts that are asked for one by one: windows of pages, strips of a page, clips."""
    source = Source(path="a", sha256="0" * 64, kind="document")
    if kind == "windows":
        texts = ("one " * 20, "two " * 21, "three " * 22)
        pages = [
            Page(n, None, tuple(Word(text=w, page=n) for w in text.split()), text, "layer")
            for n, text in enumerate(texts, 1)
        ]
        return Item(source, pages=tuple(pages))
    if kind == "strips":
        sheet = PIL.Image.new("L", (480, 300), 255)
        lines = "TOTAL 12.50\n\nTHANK YOU\n\nCASH 20.00 BACK"
        PIL.ImageDraw.Draw(sheet).text((30, 30), lines, 0, PIL.ImageFont.load_default(30))
        return Item(source, pages=(Page(1, np.asarray(sheet), (), "", "none"),))
    noise = np.random.default_rng(0).standard_normal((3, 16_000)).astype(np.float32)
    clips = (Clip(samples, (float(n), n + 1.0)) for n, samples in enumerate(noise))
    return Item(source, clips=tuple(clips))


@pytest.mark.parametrize("kind", ["windows", "strips", "clips"])
def test_an_extraction_that_was_killed_asks_only_for_what_is_missing(
    store: Store, kind: str
) -> None:
    """Whatever the parts: what was answered before the process died is not asked for again."""
    schema = {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}
    options = Options(context_tokens=300, new_tokens=100)
    item = item_of(kind)

    def respond(asked: Asked) -> str:
        extracting = asked.instruction.startswith("Extract")
        return '{"name":null}' if extracting else f"line {len(engine.asked)}"

    engine = FakeEngine(respond)
    subtask = extract_subtask(schema)
    whole = run(engine, subtask, item, options=options)
    assert whole.status == "ok" and len(engine.asked) == 3 + (kind != "windows")

    class Died(BaseException):
        pass

    def die_at_the_third(asked: Asked) -> str:
        if len(dying.asked) == 3:
            raise Died
        return respond(asked)

    dying, engine = FakeEngine(die_at_the_third), FakeEngine(respond)
    with pytest.raises(Died):
        run(JournalEngine(dying, store, "key", Requests()), subtask, item, options=options)
    again = run(JournalEngine(engine, store, "key", Requests()), subtask, item, options=options)
    assert len(engine.asked) == 1 + (kind != "windows")
    assert again.output == whole.output and again.status == "ok"
