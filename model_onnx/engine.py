"""Requests in, results out: one thread owns the runtime and decodes all requests as a batch.

Knows token ids, embeddings, masks and caches; knows no PDF, schema class or Prefect. A request is
prefilled in chunks (an image is never split), moves into a slot, and from then on takes part in
every step; prefill chunks and steps alternate, so a long prompt does not stop the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np

from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.constrain import Grammar
from model_onnx.costs import MOST
from model_onnx.decoder import Decoder
from model_onnx.drafter import Drafter
from model_onnx.drafting import Drafting, Drafts
from model_onnx.errors import EngineClosedError, RequestError
from model_onnx.precision import RECIPE, Precision, Precisions, choose_precisions
from model_onnx.prefill import GLOBAL_STEP, Prefill, make_room
from model_onnx.prompt import PromptRenderer
from model_onnx.scoring import score_choices
from model_onnx.sequence import Request, Result, Sequence
from model_onnx.session import Array, Provider, choose_provider

POCKET = Path(__file__).parent / "pocket"

# Rows beyond the window in a decode slot: the local buffers move once per so many tokens. At the
# 12B's shape a move copies 670 MB, 0.1 s; once per 128 steps of a second it does not show.
_SLACK = 128


@dataclass(frozen=True)
class Load:
    """How busy an engine is. fed: sequences summed over the decode steps, so fed / steps is the
    mean batch."""

    waiting: int
    active: int
    steps: int
    fed: int


class Engine:
    """A model that answers requests from any thread. Use as a context manager or call `close`."""

    provider: Provider = "cpu"
    precisions: Precisions = RECIPE

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        *,
        slots: int = 8,
        drafting: Drafting | None = None,
    ) -> None:
        """For tests and special cases; `Engine.open` is the usual way."""
        if slots < 1:
            raise RequestError(f"got {slots} slots, expected at least one")
        self.bundle = bundle
        self.renderer = PromptRenderer(bundle)
        self.grammar = Grammar(bundle)
        window = bundle.config.sliding_window
        self._decoder, self.drafting = decoder, drafting
        self._slots = decoder.cache(
            slots=slots, local_capacity=window - 1 + _SLACK, global_capacity=GLOBAL_STEP
        )
        self._prefill = Prefill(decoder)
        self._waiting: deque[Sequence] = deque()
        self._active: list[Sequence] = []  # index = slot
        self._closed = False
        self._steps = self._fed = 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="scanscribe-engine", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        bundle: Bundle | Path | str | None = None,
        *,
        slots: int = 8,
        provider: Provider | None = None,
        threads: int = 0,
        prepack: bool | None = None,
        prefill: Precision | None = None,
        decode: Precision | None = None,
        drafts: Drafts = "auto",
    ) -> Engine:
        """Opens a bundle, by default the embedded one.

        slots: requests decoded together. threads: 0 = all cores. prepack: keep the repacked weights
        in the user's cache directory and map them (None: when they are large). prefill, decode:
        which decoder reads and which writes where the bundle has two (None: what suits the machine
        and the slots, see `choose_precisions`). drafts: whether the bundle's drafter guesses: where
        that is faster (`auto`), at any price (`on`) or never (`off`).
        Raises BundleError, ConfigError, RuntimeUnavailableError.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle or POCKET)
        chosen = choose_provider(bundle, provider)
        precisions = choose_precisions(bundle, chosen, slots=slots, prefill=prefill, decode=decode)
        decoder = Decoder(bundle, chosen, threads=threads, prepack=prepack, precisions=precisions)
        drafting = None
        if bundle.drafter is not None and drafts != "off":
            drafting = Drafting(Drafter(bundle, decoder, chosen, threads=threads), drafts)
        engine = cls(bundle, decoder, slots=slots, drafting=drafting)
        engine.provider, engine.precisions = chosen, precisions
        return engine

    def submit(self, request: Request) -> Future[Result]:
        """Queues a request; thread-safe. `future.cancel()` works until the result is there.

        The future fails with RequestError when the request does not fit the model and with
        ConstraintError when its constraint cannot be enforced.
        """
        future: Future[Result] = Future()
        try:
            self._check(request)
            sequence = Sequence(request, future, self.grammar)
        except Exception as error:
            future.set_exception(error)
            return future
        with self._wake:
            if self._closed:
                raise EngineClosedError("the engine was closed; open a new one")
            self._waiting.append(sequence)
            self._wake.notify()
        return future

    def generate(self, request: Request) -> Result:
        """`submit` and wait."""
        return self.submit(request).result()

    @property
    def load(self) -> Load:
        """At this moment; thread-safe."""
        prefilling = self._prefill.sequence is not None
        return Load(len(self._waiting), len(self._active) + prefilling, self._steps, self._fed)

    def close(self) -> None:
        """Stops the thread; requests that are not done fail with EngineClosedError."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:  # a callback of a future runs there
            self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, request: Request) -> None:
        length, limit = len(request.prompt.ids), self.bundle.config.max_positions
        if length == 0 or request.max_new_tokens < 1:
            raise RequestError("got an empty prompt or budget; expected at least one token of each")
        if not 0 <= request.prompt.prefix < length:
            raise RequestError(
                f"got a shared prefix of {request.prompt.prefix} in a prompt of {length} tokens, "
                "expected a part of it; use the engine's renderer"
            )
        if request.thinking < 0 or length + _budget(request) > limit:
            raise RequestError(
                f"got a prompt of {length} and budgets of {request.thinking} tokens for thinking "
                f"and {request.max_new_tokens} for the answer, the model holds {limit}; split the "
                "document or lower thinking or max_new_tokens"
            )

    # The loop: everything below runs in the engine's thread.

    def _run(self) -> None:
        try:
            while self._wait():
                self._drop_settled()
                if (
                    self._prefill.sequence is None
                    and self._waiting
                    and len(self._active) < self._slots.slots
                ):
                    self._attempt([self._waiting[0]], self._start_prefill)
                if self._prefill.sequence is not None:
                    self._attempt([self._prefill.sequence], self._prefill_chunk)
                if self._active:
                    self._step()
        finally:  # whatever ended the thread, nobody waits for ever
            self._abandon()

    def _wait(self) -> bool:
        """Sleeps until there is work. False when the engine was closed."""
        with self._wake:
            while not (self._closed or self._waiting or self._prefill.sequence or self._active):
                self._wake.wait()
            return not self._closed

    def _drop_settled(self) -> None:
        """Forgets the requests that were cancelled, have failed or are out of time."""
        with self._wake:
            waiting = list(self._waiting)
        for sequence in filter(self._is_settled, waiting):
            with self._wake:
                self._waiting.remove(sequence)
        reading = self._prefill.sequence
        if reading is not None and self._is_settled(reading):
            self._prefill.sequence = None
        for sequence in list(filter(self._is_settled, self._active)):
            self._leave(sequence)

    def _is_settled(self, sequence: Sequence) -> bool:
        if sequence.future.cancelled():
            sequence.settle()
        elif sequence.overdue and not sequence.settled:
            self._attempt([sequence], sequence.expire)
        return sequence.settled

    def _attempt(self, sequences: list[Sequence], work: Callable[[], object]) -> None:
        """Does one piece of work; an error ends the requests it was for and no others."""
        try:
            work()
        except Exception as error:
            for sequence in sequences:
                sequence.finish = "cancelled"
                sequence.settle(error)

    def _start_prefill(self) -> None:
        with self._wake:
            sequence = self._waiting.popleft()
        self._prefill.start(sequence)

    def _prefill_chunk(self) -> None:
        sequence = self._prefill.sequence
        assert sequence is not None
        hidden = self._prefill.run_chunk()
        if hidden is not None:
            self._enter(sequence, hidden)

    def _enter(self, sequence: Sequence, hidden: Array) -> None:
        """Takes the first choice and, if there is more to do, moves the sequence to a slot."""
        started = time.monotonic()
        if sequence.must_score:
            self._score(sequence, self._prefill.cache, 0, hidden[0])
        else:
            sequence.absorb(hidden, self._decoder)
        sequence.decode_seconds += time.monotonic() - started
        if sequence.finish is not None:
            sequence.settle()
            return
        request = sequence.request
        slot = len(self._active)
        longest = max((len(option) for option in sequence.options), default=0)
        moved = make_room(
            self._decoder,
            self._slots,
            local_rows=self.bundle.config.sliding_window - 1 + max(_SLACK, longest),
            global_rows=len(request.prompt.ids) + _budget(request) + max(_SLACK, longest),
        )
        if moved and self.drafting is not None:
            self.drafting.drafter.forget(self._slots)
        self._slots.take(slot, self._prefill.cache, 0)
        self._active.append(sequence)
        self._attempt([sequence], partial(self._propose, slot, sequence))

    def _score(self, sequence: Sequence, cache: KVCache, slot: int, hidden: Array) -> None:
        """hidden: state [H] of the last token before the answer."""
        probabilities = score_choices(
            self._decoder,
            cache,
            hidden,
            sequence.options,
            self.bundle.eos_token_ids,
            self.bundle.suppress_tokens,
            slot=slot,
        )
        sequence.score(probabilities)

    def _step(self) -> None:
        """Feeds every active sequence once and lets it choose.

        Several tokens of one sequence are a chunk of their own, whatever else is decoded: kernels
        for one row and for several round differently, and no answer may show its company.
        """
        started = time.monotonic()
        self._steps += 1
        self._fed += len(self._active)
        for slot, sequence in enumerate(self._active):
            fed = len(sequence.pending) + len(sequence.drafts)
            sequence.ready = fed == 1 and not sequence.must_score
            if not sequence.ready:
                self._attempt([sequence], partial(self._feed_one, slot, sequence))
        for slot, count in runs([s.ready and s.finish is None for s in self._active]):
            batch = self._active[slot : slot + count]
            self._attempt(batch, partial(self._feed_batch, slot, batch))
        for slot, sequence in enumerate(self._active):
            self._attempt([sequence], partial(self._propose, slot, sequence))
        seconds = time.monotonic() - started
        for sequence in list(self._active):
            sequence.decode_seconds += seconds
            if sequence.finish is not None:
                sequence.settle()
                self._leave(sequence)

    def _feed_one(self, slot: int, sequence: Sequence) -> None:
        started, fed = time.perf_counter(), sequence.pending + sequence.drafts
        hidden = self._forward(slot, 1, [fed])[0]
        if sequence.must_score:
            self._score(sequence, self._slots, slot, hidden[-1])
            return
        self._slots.rewind(slot, sequence.absorb(hidden, self._decoder))
        self._time_step(1, len(fed), started)

    def _feed_batch(self, slot: int, sequences: list[Sequence]) -> None:
        started = time.perf_counter()
        hidden = self._forward(slot, len(sequences), [s.pending for s in sequences])[:, 0]
        whole = [index for index, sequence in enumerate(sequences) if sequence.needs_head]
        logits = dict(zip(whole, self._decoder.logits(hidden[whole]), strict=True)) if whole else {}
        for index, sequence in enumerate(sequences):
            rows = hidden[index : index + 1], self._decoder, logits.get(index)
            self._attempt([sequence], partial(sequence.absorb, *rows))
        self._time_step(len(sequences), 1, started)

    def _propose(self, slot: int, sequence: Sequence) -> None:
        if self.drafting is not None and sequence.finish is None:
            self.drafting.propose(self._slots, slot, sequence, len(self._active))

    def _time_step(self, sequences: int, rows: int, started: float) -> None:
        if self.drafting is not None and rows <= MOST + 1:  # not a long text that is forced
            self.drafting.costs.add_step(sequences, rows, time.perf_counter() - started)

    def _forward(self, slot: int, count: int, tokens: list[list[int]]) -> Array:
        """Feeds tokens [count][S], in pieces that fit a slot; hidden states [count, S, H].

        The last piece is the longest one: only its rows can be dropped again, and drafts are last.
        """
        parts, length = [], len(tokens[0])
        for end in range((length - 1) % _SLACK + 1, length + 1, _SLACK):
            ids = np.array([row[max(0, end - _SLACK) : end] for row in tokens], np.int64)
            for index in range(count):
                self._slots.reserve(slot + index, ids.shape[1])
            embeds = self._decoder.embed(ids.reshape(-1)).reshape(*ids.shape, -1)
            parts.append(self._decoder.forward(self._slots, slot, embeds, np.zeros_like(ids)))
        return np.concatenate(parts, axis=1)

    def _leave(self, sequence: Sequence) -> None:
        """Frees a slot: the last active sequence moves into the hole."""
        slot, last = self._active.index(sequence), len(self._active) - 1
        if slot != last:
            self._slots.take(slot, self._slots, last)
            self._active[slot] = self._active[last]
        self._slots.clear(last)
        self._active.pop()

    def _abandon(self) -> None:
        closed = EngineClosedError("the engine was closed before this request was done")
        with self._wake:
            self._closed = True
            left = [*self._waiting, *self._active]
        if self._prefill.sequence is not None:
            left.append(self._prefill.sequence)
        for sequence in left:
            sequence.settle(closed)


def _budget(request: Request) -> int:
    return request.thinking + request.max_new_tokens


def runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, length) of each run of true flags."""
    start = 0
    for is_true, group in groupby(flags):
        length = len(list(group))
        if is_true:
            yield start, length
        start += length
