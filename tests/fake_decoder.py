"""A decoder of a few lines whose logits depend on everything the real one's depend on.

Each hidden state is a hash of all rows that a global layer sees and of the rows that the window
mask leaves visible on a local layer, read back from the cache. A lost, stale, doubled or misplaced
row changes every later token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from model_onnx.cache import KVCache
from model_onnx.config import ModelConfig
from model_onnx.prompt import MediaSpan
from model_onnx.session import Array

_PRIME = 999_983


class FakeDecoder:
    """The methods of model_onnx.decoder.Decoder. favourite: (state, last id) -> likeliest id."""

    def __init__(
        self, config: ModelConfig, favourite: Callable[[int, int], int] | None = None
    ) -> None:
        self.config, self._favourite = config, favourite
        self.fed: list[tuple[int, int]] = []  # (slots, tokens each) of every step

    has_int8_cache = False

    def cache(
        self,
        *,
        slots: int,
        local_capacity: int,
        global_capacity: int,
        prefill: bool = False,
        int8: bool = False,
    ) -> KVCache:
        return KVCache(
            self.config,
            np.dtype(np.float32),
            slots=slots,
            local_capacity=local_capacity,
            global_capacity=global_capacity,
        )

    def forget(self, cache: KVCache) -> None:
        pass

    def embed(self, ids: Array, media: Sequence[MediaSpan] = ()) -> Array:
        embeds = np.zeros((len(ids), 4), np.float32)
        embeds[:, 0] = ids
        for span in media:
            hashes = (np.abs(span.features).sum(axis=1) * 997).astype(np.int64) % 5000
            embeds[span.start : span.start + len(hashes), 0] = 1000 + hashes
        return embeds

    def forward(self, cache: KVCache, start: int, embeds: Array, blocks: Array) -> Array:
        slots, count, _ = embeds.shape
        assert slots == 1 or count == 1, "the graph takes no batch of chunks"
        self.fed.append((slots, count))
        bias = cache.local_bias(start, slots, blocks)
        hidden = np.zeros_like(embeds)
        for index in range(slots):
            slot = start + index
            rows = {
                "local": int(cache.local_rows[slot]),
                "global": int(cache.positions[slot]),
            }
            for layer, pair in zip(self.config.layers, cache.buffers, strict=True):
                at = rows[layer.kind]
                for buffer in pair:
                    buffer[slot, :, at : at + count] = embeds[index, :, 0][None, :, None]
            for token in range(count):
                hidden[index, token] = self._state(cache, slot, rows, bias[index, 0], token)
                hidden[index, token, 2] = embeds[index, token, 0]
        cache.advance(start, slots, count)
        return hidden

    def logits(self, hidden: Array) -> Array:
        rows = []
        for state in hidden:
            seed = [int(state[0]), int(state[1])]
            row = np.random.default_rng(seed).standard_normal(self.config.vocab_size)
            if self._favourite is not None:
                row[self._favourite(int(state[0]), int(state[2]))] += 50
            rows.append(row.astype(np.float32))
        return np.array(rows)

    def logits_of(self, hidden: Array, ids: Array) -> Array:
        return np.asarray(self.logits(hidden[None])[0][ids])

    def _state(
        self, cache: KVCache, slot: int, rows: dict[str, int], bias: Array, token: int
    ) -> list[float]:
        state = {"local": 7, "global": 7}
        for layer, (key, value) in zip(self.config.layers, cache.buffers, strict=True):
            end = rows[layer.kind] + token + 1
            if layer.kind == "local":
                seen = key[slot, -1, np.flatnonzero(bias[token] == 0), 0]
            else:
                seen = value[slot, 0, :end, -1]
            for row in seen:
                state[layer.kind] = (state[layer.kind] * 31 + int(row)) % _PRIME
        return [state["global"], state["local"], 0, 0]
