"""The prompt's way into a cache: in chunks that never split an image, its shared prefix kept.

Knows prompts, embeddings and caches; knows no answer and no slot. One prompt at a time: the engine
asks for a chunk between two steps of what is decoded meanwhile.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque

import numpy as np

from model_onnx.cache import KVCache, Snapshot
from model_onnx.codes import LONG
from model_onnx.decoder import Decoder
from model_onnx.prompt import Prompt
from model_onnx.sequence import Sequence
from model_onnx.session import Array

CHUNK = 512  # tokens of a prefill chunk
GLOBAL_STEP = 256  # global buffers grow in steps of so many rows
_SNAPSHOT_BYTES = 2 << 30  # of shared prefixes; one of 300 tokens of the 12B takes 200 MB in fp32


class Prefill:
    """The prompt that is being read. sequence: whose, None between two prompts; `cache` holds its
    rows in slot 0 until the next one starts."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._window = decoder.config.sliding_window
        self.cache = self._new_cache()
        self.sequence: Sequence | None = None
        self._prefixes: OrderedDict[bytes, Snapshot] = OrderedDict()

    def start(self, sequence: Sequence) -> None:
        """Makes room, restores the shared prefix if there is one, and embeds the prompt."""
        sequence.begun = started = time.monotonic()
        prompt = sequence.request.prompt
        self._blocks = image_blocks(prompt)
        spans = [span for span in prompt.media if span.kind != "audio"]
        longest = max((len(span.features) for span in spans), default=0)
        extra = max((len(option) for option in sequence.options), default=0)
        make_room(
            self._decoder,
            self.cache,
            local_rows=self._window - 1 + max(longest, CHUNK, extra),
            global_rows=len(prompt.ids) + extra,
        )
        self.cache.clear(0)
        first = self._reuse_prefix(prompt)
        sequence.counts.cached = first
        self._embeds = self._decoder.embed(prompt.ids, prompt.media)
        self._chunks = deque(chunks(prompt, first, self._blocks))
        self.sequence = sequence
        sequence.prefill_seconds = time.monotonic() - started

    def run_chunk(self) -> Array | None:
        """Reads one chunk. After the last one: the hidden state [1, H] of the prompt's last token,
        and `sequence` is None again."""
        assert self.sequence is not None
        started = time.monotonic()
        start, end = self._chunks.popleft()
        self.cache.reserve(0, end - start)
        hidden = self._decoder.forward(
            self.cache, 0, self._embeds[None, start:end], self._blocks[None, start:end]
        )
        prompt = self.sequence.request.prompt
        if end == prompt.prefix:
            self._keep_prefix(prompt)
        self.sequence.prefill_seconds += time.monotonic() - started
        if self._chunks:
            return None
        self.sequence = None
        return np.asarray(hidden[0, -1:])

    def release(self) -> None:
        """Gives the memory of a long prompt back, once its rows were taken: 256K of them are 8 GiB
        of the 12B."""
        if self.cache.global_capacity > LONG:
            self.cache = self._new_cache()

    def _new_cache(self) -> KVCache:
        return self._decoder.cache(
            slots=1,
            local_capacity=self._window - 1 + CHUNK,
            global_capacity=GLOBAL_STEP,
            prefill=True,
        )

    def forget_prefixes(self) -> None:
        self._prefixes.clear()

    def _reuse_prefix(self, prompt: Prompt) -> int:
        """Restores the rows of a shared prefix; returns how many tokens that saves."""
        key = prompt.ids[: prompt.prefix].tobytes()
        snapshot = self._prefixes.get(key)
        if snapshot is None:
            return 0
        self._prefixes.move_to_end(key)
        self.cache.restore(0, snapshot)
        return prompt.prefix

    def _keep_prefix(self, prompt: Prompt) -> None:
        self._prefixes[prompt.ids[: prompt.prefix].tobytes()] = self.cache.snapshot(0)
        while sum(kept.nbytes for kept in self._prefixes.values()) > _SNAPSHOT_BYTES:
            self._prefixes.popitem(last=False)


def make_room(
    decoder: Decoder, cache: KVCache, *, local_rows: int = 0, global_rows: int = 0
) -> bool:
    """Makes a cache at least this large; True when its buffers have moved."""
    rounded = -(-global_rows // GLOBAL_STEP) * GLOBAL_STEP
    moved = cache.grow(local_capacity=local_rows, global_capacity=rounded)
    if moved:
        decoder.forget(cache)
    return moved


def image_blocks(prompt: Prompt) -> Array:
    """int64 [S]: which image (1, 2, ...) each token belongs to, 0 for none. Audio is causal."""
    blocks = np.zeros(len(prompt.ids), np.int64)
    for number, span in enumerate(prompt.media, start=1):
        if span.kind != "audio":
            blocks[span.start : span.start + len(span.features)] = number
    return blocks


def chunks(prompt: Prompt, start: int, blocks: Array, size: int = CHUNK) -> list[tuple[int, int]]:
    """Cuts a prompt into (start, end) pieces that never split an image.

    A cut also lies at the end of the shared prefix, cached or not, so that the arithmetic is the
    same in both cases. An image longer than `size` is one chunk.
    """
    pieces, length = [], len(prompt.ids)
    while start < length:
        end = min(start + size, length)
        if start < prompt.prefix < end:
            end = prompt.prefix
        if end < length and blocks[end] and blocks[end] == blocks[end - 1]:
            inside = np.flatnonzero(blocks == blocks[end])
            end = int(inside[0]) if inside[0] > start else int(inside[-1]) + 1
        pieces.append((start, end))
        start = end
    return pieces
