"""Model servers for tests: in a thread of this process, on a decoder that can be held up."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.model_place import Place
from flows.model_server import Limits, ModelServer
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.constrain import Choices, Constraint, FreeText, JsonSchema, Regex
from model_onnx.engine import Engine
from model_onnx.prompt import Audio, Image, PromptRenderer, Turn
from model_onnx.sample import Sampling
from model_onnx.sequence import Request, Result
from model_onnx.session import Array
from tests.fake_decoder import FakeDecoder
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("served") / "bundle"))


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of every test in a file that imports this: its servers are not those of a user."""
    directory = Path(tempfile.mkdtemp(prefix="ss-"))  # a socket's path must be short
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


class GatedDecoder(FakeDecoder):
    """Waits in every step while its gate is closed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, cache: KVCache, start: int, embeds: Array, blocks: Array) -> Array:
        assert self.gate.wait(120), "the test left the gate closed"
        return super().forward(cache, start, embeds, blocks)


@dataclass
class Serving:
    server: ModelServer
    place: Place
    engine: Engine
    decoder: GatedDecoder
    thread: threading.Thread


@contextmanager
def serving(
    bundle: Bundle, *, clock: Callable[[], float] = time.monotonic, **limits: Any
) -> Iterator[Serving]:
    """A server in a thread. limits: of `Limits`."""
    decoder = GatedDecoder(bundle.config)
    stated = Limits(**limits)
    with (
        Engine(bundle, decoder, slots=stated.slots) as engine,  # type: ignore[arg-type]
        served(engine, stated, clock) as (server, place, thread),
    ):
        try:
            yield Serving(server, place, engine, decoder, thread)
        finally:
            decoder.gate.set()


@contextmanager
def served(
    engine: Any, limits: Limits, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[ModelServer, Place, threading.Thread]]:
    place = Place.of(engine.bundle.sha256)
    lock = place.lock()
    assert lock is not None
    server = ModelServer(engine, limits, clock=clock)
    thread = threading.Thread(target=server.run, args=(place,))
    thread.start()
    try:
        until(place.address.exists)
        yield server, place, thread
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()
        os.close(lock)


def until(condition: Callable[[], object], seconds: float = 25.0) -> None:
    """Waits for what another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@cache
def renderer_of(directory: Path) -> PromptRenderer:
    return PromptRenderer(Bundle.open(directory))


def text_request(
    bundle: Bundle, text: str, constraint: Constraint = FreeText(), **more: Any
) -> Request:
    prompt = renderer_of(bundle.directory).render([Turn("user", (text,))])
    return Request(prompt, constraint, **more)


def all_kinds(bundle: Bundle) -> list[Request]:
    """Requests with every constraint, with media, sampled, drafted, with a shared prefix."""
    renderer = renderer_of(bundle.directory)
    pixels = np.arange(96 * 48 * 3, dtype=np.uint32).astype(np.uint8).reshape(96, 48, 3)
    sound = np.sin(np.arange(3000, dtype=np.float32) / 7)
    system = Turn("system", ("Write the text of this page, line by line.",))
    media = renderer.render(
        [system, Turn("user", (Image(pixels, None), Audio(sound), "Grüße \ud83d\ude00 <|turn>"))]
    )
    schema = {
        "type": "object",
        "properties": {"name": {"type": ["string", "null"], "maxLength": 9}},
        "required": ["name"],
        "additionalProperties": False,
    }
    return [
        Request(media, max_new_tokens=20),
        Request(media, JsonSchema(json.dumps(schema)), max_new_tokens=40),
        text_request(bundle, "a", Regex("[0-9]{4}-[0-9]{2}"), max_new_tokens=10),
        text_request(bundle, "b", Choices(("invoice", "receipt", "in"))),
        text_request(bundle, "c", sampling=Sampling(1.0, 0.9, 7, 3), max_new_tokens=12),
        text_request(bundle, "d" * 90, draft="d" * 90, max_new_tokens=30, time_limit=500),
    ]


def same(one: Result, other: Result, *, tolerance: float = 1e-4) -> bool:
    """Equal in all but the times and what the cache had. tolerance: of log-probabilities, whose
    last digits a batch's make-up moves; 0 for requests that were alone."""
    plain = ("text", "ids", "pieces", "finish", "prompt_tokens", "forced_tokens")
    mine, theirs = one.choice_probabilities or {}, other.choice_probabilities or {}
    return all(getattr(one, name) == getattr(other, name) for name in plain) and (
        mine.keys() == theirs.keys()
        and all(abs(mine[name] - theirs[name]) <= tolerance for name in mine)
        and one.logprobs.dtype == other.logprobs.dtype
        and np.allclose(one.logprobs, other.logprobs, rtol=0, atol=tolerance)
    )
