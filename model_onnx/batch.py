"""The sequences that are decoded together: one slot of a cache each, a step at a time.

Knows sequences, the decoder and the cache of slots; knows no queue, no thread and no prompt. In a
step every sequence is fed once: those with one token in batches, the others a chunk each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

import numpy as np

from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.costs import MOST
from model_onnx.decoder import Decoder
from model_onnx.drafting import Drafting
from model_onnx.prefill import GLOBAL_STEP, make_room
from model_onnx.scoring import score_choices
from model_onnx.sequence import Request, Sequence
from model_onnx.session import Array

# Rows beyond the window in a decode slot: the local buffers move once per so many tokens. At the
# 12B's shape a move copies 670 MB, 0.1 s; once per 128 steps of a second it does not show.
_SLACK = 128


class Batch:
    """active: the sequences, at the index of their slot. steps: so far; fed: their sequences."""

    def __init__(
        self,
        bundle: Bundle,
        decoder: Decoder,
        slots: int,
        drafting: Drafting | None = None,
        *,
        int8: bool = False,
    ) -> None:
        """int8: the rows of global layers are kept as codes, see `codes.py`."""
        self.active: list[Sequence] = []
        self.steps = self.fed = 0
        self._bundle, self._decoder, self._drafting = bundle, decoder, drafting
        self._window = bundle.config.sliding_window
        self._cache = decoder.cache(
            slots=slots,
            local_capacity=self._window - 1 + _SLACK,
            global_capacity=GLOBAL_STEP,
            int8=int8,
        )

    @property
    def is_full(self) -> bool:
        return len(self.active) == self._cache.slots

    def enter(self, sequence: Sequence, hidden: Array, prompt: KVCache) -> None:
        """Takes the first choice and, if there is more to do, moves the sequence to a slot.

        hidden: state [1, H] of the prompt's last token, whose rows are in slot 0 of `prompt`."""
        started = time.monotonic()
        if sequence.must_score:
            self._score(sequence, prompt, 0, hidden[0])
        else:
            sequence.absorb(hidden, self._decoder)
        sequence.decode_seconds += time.monotonic() - started
        if sequence.finish is not None:
            sequence.settle()
            return
        request = sequence.request
        slot = len(self.active)
        longest = max((len(option) for option in sequence.options), default=0)
        moved = make_room(
            self._decoder,
            self._cache,
            local_rows=self._window - 1 + max(_SLACK, longest),
            global_rows=len(request.prompt.ids) + budget(request) + max(_SLACK, longest),
        )
        if moved and self._drafting is not None:
            self._drafting.drafter.forget(self._cache)
        self._cache.take(slot, prompt, 0)
        self.active.append(sequence)
        attempt([sequence], partial(self._propose, slot, sequence))

    def _score(self, sequence: Sequence, cache: KVCache, slot: int, hidden: Array) -> None:
        """hidden: state [H] of the last token before the answer."""
        probabilities = score_choices(
            self._decoder,
            cache,
            hidden,
            sequence.options,
            self._bundle.eos_token_ids,
            self._bundle.suppress_tokens,
            slot=slot,
        )
        sequence.score(probabilities)

    def step(self) -> None:
        """Feeds every active sequence once and lets it choose.

        Several tokens of one sequence are a chunk of their own, whatever else is decoded: kernels
        for one row and for several round differently, and no answer may show its company.
        """
        started = time.monotonic()
        self.steps += 1
        self.fed += len(self.active)
        for slot, sequence in enumerate(self.active):
            fed = len(sequence.pending) + len(sequence.drafts)
            sequence.ready = fed == 1 and not sequence.must_score
            if not sequence.ready:
                attempt([sequence], partial(self._feed_one, slot, sequence))
        for slot, count in runs([s.ready and s.finish is None for s in self.active]):
            batch = self.active[slot : slot + count]
            attempt(batch, partial(self._feed_batch, slot, batch))
        for slot, sequence in enumerate(self.active):
            attempt([sequence], partial(self._propose, slot, sequence))
        seconds = time.monotonic() - started
        for sequence in list(self.active):
            sequence.decode_seconds += seconds
            if sequence.finish is not None:
                sequence.settle()
                self.leave(sequence)

    def _feed_one(self, slot: int, sequence: Sequence) -> None:
        started, fed = time.perf_counter(), sequence.pending + sequence.drafts
        guessed = bool(sequence.drafts)
        hidden = self._forward(slot, 1, [fed])[0]
        if sequence.must_score:
            self._score(sequence, self._cache, slot, hidden[-1])
            return
        self._cache.rewind(slot, sequence.absorb(hidden, self._decoder))
        if guessed or len(fed) == 1:  # forced ids are fed too, but nothing is chosen in their rows
            self._time_step(1, len(fed), started)

    def _feed_batch(self, slot: int, sequences: list[Sequence]) -> None:
        started = time.perf_counter()
        hidden = self._forward(slot, len(sequences), [s.pending for s in sequences])[:, 0]
        whole = [index for index, sequence in enumerate(sequences) if sequence.needs_head]
        logits = dict(zip(whole, self._decoder.logits(hidden[whole]), strict=True)) if whole else {}
        for index, sequence in enumerate(sequences):
            rows = hidden[index : index + 1], self._decoder, logits.get(index)
            attempt([sequence], partial(sequence.absorb, *rows))
        self._time_step(len(sequences), 1, started)

    def _propose(self, slot: int, sequence: Sequence) -> None:
        if self._drafting is not None and sequence.finish is None:
            self._drafting.propose(self._cache, slot, sequence, len(self.active))

    def _time_step(self, sequences: int, rows: int, started: float) -> None:
        if self._drafting is not None and rows <= MOST + 1:  # not a long text that is forced
            self._drafting.costs.add_step(sequences, rows, time.perf_counter() - started)

    def _forward(self, slot: int, count: int, tokens: list[list[int]]) -> Array:
        """Feeds tokens [count][S], in pieces that fit a slot; hidden states [count, S, H].

        The last piece is the longest one: only its rows can be dropped again, and drafts are last.
        """
        parts, length = [], len(tokens[0])
        for end in range((length - 1) % _SLACK + 1, length + 1, _SLACK):
            ids = np.array([row[max(0, end - _SLACK) : end] for row in tokens], np.int64)
            for index in range(count):
                self._cache.reserve(slot + index, ids.shape[1])
            embeds = self._decoder.embed(ids.reshape(-1)).reshape(*ids.shape, -1)
            parts.append(self._decoder.forward(self._cache, slot, embeds, np.zeros_like(ids)))
        return np.concatenate(parts, axis=1)

    def leave(self, sequence: Sequence) -> None:
        """Frees a slot: the last active sequence moves into the hole."""
        slot, last = self.active.index(sequence), len(self.active) - 1
        if slot != last:
            self._cache.take(slot, self._cache, last)
            self.active[slot] = self.active[last]
        self._cache.clear(last)
        self.active.pop()


def attempt(sequences: list[Sequence], work: Callable[[], object]) -> None:
    """Does one piece of work; an error ends the requests it was for and no others."""
    try:
        work()
    except Exception as error:
        for sequence in sequences:
            sequence.finish = "cancelled"
            sequence.settle(error)


def budget(request: Request) -> int:
    """Tokens that it may write, a thought included."""
    return request.thinking + request.max_new_tokens


def runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """(start, length) of each run of true flags."""
    start = 0
    for is_true, group in groupby(flags):
        length = len(list(group))
        if is_true:
            yield start, length
        start += length
