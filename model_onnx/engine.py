"""Requests in, results out: one thread owns the runtime and decodes all requests as a batch.

Knows token ids, embeddings, masks and caches; knows no PDF, schema class or Prefect. A request is
prefilled in chunks (an image is never split), moves into a slot, and from then on takes part in
every step; prefill chunks and steps alternate, so a long prompt does not stop the others.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import get_args

from model_onnx.batch import Batch, attempt, budget
from model_onnx.bundle import Bundle
from model_onnx.codes import LONG, CacheKind
from model_onnx.constrain import Grammar
from model_onnx.decoder import Decoder
from model_onnx.drafter import Drafter
from model_onnx.drafting import Drafting, Drafts
from model_onnx.errors import ConfigError, EngineClosedError, RequestError
from model_onnx.placement import describe
from model_onnx.precision import (
    RECIPE,
    USUAL_SLOTS,
    Precision,
    Precisions,
    choose_precisions,
    choose_slots,
)
from model_onnx.prefill import Prefill
from model_onnx.prompt import PromptRenderer
from model_onnx.sequence import Request, Result, Sequence
from model_onnx.session import Provider, choose_provider

POCKET = Path(__file__).parent / "pocket"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """How busy an engine is. fed: sequences summed over the decode steps, so fed / steps is the
    mean batch."""

    waiting: int
    active: int
    steps: int
    fed: int


class Engine:
    """A model that answers requests from any thread. Use as a context manager or call `close`.

    left_to_cpu: graph -> operator -> nodes that another provider than the CPU's does not run."""

    provider: Provider = "cpu"
    precisions: Precisions = RECIPE
    left_to_cpu: Mapping[str, Mapping[str, int]] = MappingProxyType({})

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        *,
        slots: int = 8,
        drafting: Drafting | None = None,
        cache: CacheKind = "auto",
    ) -> None:
        """For tests and special cases; `Engine.open` is the usual way."""
        if slots < 1:
            raise RequestError(f"got {slots} slots, expected at least one")
        self.bundle, self.slots = bundle, slots
        self.renderer = PromptRenderer(bundle)
        self.grammar = Grammar(bundle)
        self._decoder, self.drafting = decoder, drafting
        if cache not in get_args(CacheKind) or (cache == "int8" and not decoder.has_int8_cache):
            raise ConfigError(
                f"cache: got {cache!r}, expected one of {get_args(CacheKind)}, int8 only with a "
                f"CPU bundle for prompts of more than {LONG} tokens; leave the option out, or "
                "export the checkpoint again"
            )
        # Sequences with codes are a batch of their own: what they share a step with must not change
        # the arithmetic. The drafter reads floats and does not guess for them.
        self._batches = [Batch(bundle, decoder, slots, drafting)]
        self._longest = LONG if cache == "auto" else 0  # tokens of a prompt of the first batch
        if decoder.has_int8_cache and cache != "float":
            self._batches.append(Batch(bundle, decoder, slots, int8=True))
        self._prefill = Prefill(decoder)
        self._waiting: deque[Sequence] = deque()
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="scanscribe-engine", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        bundle: Bundle | Path | str | None = None,
        *,
        slots: int | None = None,
        provider: Provider | None = None,
        threads: int = 0,
        prepack: bool | None = None,
        prefill: Precision | None = None,
        decode: Precision | None = None,
        drafts: Drafts = "auto",
        cache: CacheKind = "auto",
    ) -> Engine:
        """Opens a bundle, by default the embedded one.

        slots: requests decoded together (None: what fits the memory, see `choose_slots`). threads:
        0 = all cores. prepack: keep the repacked weights in the user's cache directory and map them
        (None: when they are large). prefill, decode: which decoder reads and which writes where the
        bundle has two (None: what suits the machine and the slots, see `choose_precisions`).
        drafts: whether the bundle's drafter guesses: where that is faster (`auto`; on CUDA, where
        nothing was run yet, never), at any price (`on`) or never (`off`).
        cache: whether answers are written with 8-bit rows of global layers: after long prompts,
        where the bundle can (`auto`), never (`float`) or always (`int8`).
        Raises BundleError, ConfigError, RuntimeUnavailableError.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle or POCKET)
        chosen = choose_provider(bundle, provider)
        precisions = choose_precisions(
            bundle, chosen, slots=slots or USUAL_SLOTS, prefill=prefill, decode=decode
        )
        slots = slots or choose_slots(bundle, chosen, precisions)
        decoder = Decoder(bundle, chosen, threads=threads, prepack=prepack, precisions=precisions)
        drafting = None
        if bundle.drafter is not None and (drafts == "on" or (drafts, chosen) == ("auto", "cpu")):
            drafting = Drafting(Drafter(bundle, decoder, chosen, threads=threads), drafts)
        engine = cls(bundle, decoder, slots=slots, drafting=drafting, cache=cache)
        engine.provider, engine.precisions = chosen, precisions
        engine.left_to_cpu = decoder.left_to_cpu
        if chosen != "cpu":
            _log.debug("%s left to the CPU: %s", chosen, describe(engine.left_to_cpu))
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
        steps = sum(batch.steps for batch in self._batches)
        fed = sum(batch.fed for batch in self._batches)
        return Load(len(self._waiting), len(self._active) + prefilling, steps, fed)

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
        if request.thinking < 0 or length + budget(request) > limit:
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
                if self._prefill.sequence is None and self._next_fits:
                    attempt([self._waiting[0]], self._start_prefill)
                if self._prefill.sequence is not None:
                    attempt([self._prefill.sequence], self._prefill_chunk)
                for batch in self._batches:
                    if batch.active:
                        batch.step()
        finally:  # whatever ended the thread, nobody waits for ever
            self._abandon()

    def _wait(self) -> bool:
        """Sleeps until there is work. False when the engine was closed."""
        with self._wake:
            while not (self._closed or self._has_work):
                self._wake.wait()
            return not self._closed

    @property
    def _has_work(self) -> bool:
        return bool(self._waiting or self._prefill.sequence or self._active)

    @property
    def _active(self) -> list[Sequence]:
        return [sequence for batch in self._batches for sequence in batch.active]

    @property
    def _next_fits(self) -> bool:
        return bool(self._waiting) and not self._batch_of(self._waiting[0]).is_full

    def _batch_of(self, sequence: Sequence) -> Batch:
        is_long = len(sequence.request.prompt.ids) > self._longest
        return self._batches[-1 if is_long else 0]

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
        for batch in self._batches:
            for sequence in list(filter(self._is_settled, batch.active)):
                batch.leave(sequence)

    def _is_settled(self, sequence: Sequence) -> bool:
        if sequence.future.cancelled():
            sequence.settle()
        elif sequence.overdue and not sequence.settled:
            attempt([sequence], sequence.expire)
        return sequence.settled

    def _start_prefill(self) -> None:
        with self._wake:
            sequence = self._waiting.popleft()
        self._prefill.start(sequence)

    def _prefill_chunk(self) -> None:
        sequence = self._prefill.sequence
        assert sequence is not None
        hidden = self._prefill.run_chunk()
        if hidden is not None:
            self._batch_of(sequence).enter(sequence, hidden, self._prefill.cache)
            self._prefill.release()

    def _abandon(self) -> None:
        closed = EngineClosedError("the engine was closed before this request was done")
        with self._wake:
            self._closed = True
            left = [*self._waiting, *self._active]
        if self._prefill.sequence is not None:
            left.append(self._prefill.sequence)
        for sequence in left:
            sequence.settle(closed)
