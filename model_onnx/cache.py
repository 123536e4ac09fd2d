"""The KV cache: one preallocated buffer per layer, written in place by the decoder graph.

Knows no token and no text. Local layers keep a compact linear buffer of recent rows, global
layers keep every row. A slot is one sequence; active slots are 0..n-1: a batch is a view.
When a local buffer is full the last `sliding_window - 1` rows move to its front; positions live in
the graph's inputs, so nothing else changes. With `int8`, global layers keep codes of 8 bits: such a
cache is filled by `take` from one of floats, whose rows give the scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_onnx.codes import encode, scales_of
from model_onnx.config import ModelConfig
from model_onnx.session import Array


@dataclass(frozen=True)
class Snapshot:
    """The rows of one sequence, copied out. arrays: per layer (key, value), [heads, rows, dim]."""

    positions: int
    local_rows: int
    arrays: tuple[tuple[Array, Array], ...]

    @property
    def nbytes(self) -> int:
        return sum(key.nbytes + value.nbytes for key, value in self.arrays)


class KVCache:
    """Buffers [slots, kv_heads, capacity, head_dim] for each layer and the length of each slot.

    Pages are touched only when rows are written, so an unused slot costs no memory.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: np.dtype[np.generic],
        *,
        slots: int,
        local_capacity: int,
        global_capacity: int,
        int8: bool = False,
    ) -> None:
        if local_capacity < config.sliding_window:
            raise ValueError(f"local_capacity {local_capacity} < window {config.sliding_window}")
        self.slots = slots
        self.positions = np.zeros(slots, np.int64)  # tokens seen = rows in global buffers
        self.local_rows = np.zeros(slots, np.int64)
        self._config, self._dtype = config, dtype
        self.int8 = np.array(int8)  # bool [], bound to the graph as it is
        self._capacity = {"local": local_capacity, "global": global_capacity}
        self.buffers = [
            self._allocate(index, self._capacity[layer.kind])
            for index, layer in enumerate(config.layers)
        ]
        # Of the codes of global layers: key and value, float32 [slots, 1, kv_heads * head_dim].
        self.scales = {
            index: tuple(np.ones((slots, 1, layer.kv_heads * layer.head_dim), dtype) for _ in "kv")
            for index, layer in enumerate(config.layers)
            if int8 and layer.kind == "global"
        }

    @property
    def local_capacity(self) -> int:
        return self._capacity["local"]

    @property
    def global_capacity(self) -> int:
        return self._capacity["global"]

    def grow(self, *, local_capacity: int = 0, global_capacity: int = 0) -> bool:
        """Makes the buffers at least this long, keeping all rows. True when memory moved. When
        memory does not suffice, MemoryError is raised and nothing has changed."""
        wanted = {"local": local_capacity, "global": global_capacity}
        longer = {kind: size for kind, size in wanted.items() if size > self._capacity[kind]}
        fresh = {
            index: self._allocate(index, longer[layer.kind])
            for index, layer in enumerate(self._config.layers)
            if layer.kind in longer
        }
        for index, pair in fresh.items():
            local = self._config.layers[index].kind == "local"
            for new, old in zip(pair, self.buffers[index], strict=True):
                for slot, rows in enumerate(self.local_rows if local else self.positions):
                    new[slot, :, :rows] = old[slot, :, :rows]
            self.buffers[index] = pair
        self._capacity.update(longer)
        return bool(longer)

    def reserve(self, slot: int, count: int) -> None:
        """Makes room for `count` new rows. Compacts the local buffers when they are full, so after
        it up to `count` new rows can be dropped again with `rewind`."""
        rows, keep = int(self.local_rows[slot]), self._config.sliding_window - 1
        if int(self.positions[slot]) + count > self.global_capacity:
            raise ValueError(f"{count} rows do not fit the global capacity {self.global_capacity}")
        if rows + count <= self.local_capacity:
            return
        if min(rows, keep) + count > self.local_capacity:
            raise ValueError(f"{count} rows do not fit the local capacity {self.local_capacity}")
        keep = min(rows, keep)
        for layer, pair in zip(self._config.layers, self.buffers, strict=True):
            if layer.kind == "local":
                for buffer in pair:  # numpy copes with the overlap
                    buffer[slot, :, :keep] = buffer[slot, :, rows - keep : rows]
        self.local_rows[slot] = keep

    def advance(self, start: int, slots: int, count: int) -> None:
        """Counts the rows that a step has written."""
        self.positions[start : start + slots] += count
        self.local_rows[start : start + slots] += count

    def rewind(self, slot: int, count: int) -> None:
        """Drops the last rows: at most as many as were added since the last `reserve`."""
        if count > self.local_rows[slot]:
            raise ValueError(f"cannot drop {count} of {self.local_rows[slot]} rows")
        self.positions[slot] -= count
        self.local_rows[slot] -= count

    def clear(self, slot: int) -> None:
        self.positions[slot] = self.local_rows[slot] = 0

    def snapshot(self, slot: int) -> Snapshot:
        """Copies out what later tokens can see: the window on local layers, all of global ones."""
        rows = int(self.local_rows[slot])
        kept = min(rows, self._config.sliding_window - 1)
        spans = {"local": slice(rows - kept, rows), "global": slice(0, int(self.positions[slot]))}
        arrays = tuple(
            (key[slot, :, spans[layer.kind]].copy(), value[slot, :, spans[layer.kind]].copy())
            for layer, (key, value) in zip(self._config.layers, self.buffers, strict=True)
        )
        return Snapshot(int(self.positions[slot]), kept, arrays)

    def restore(self, slot: int, snapshot: Snapshot) -> None:
        """Makes a slot hold a snapshot's rows; the slot must be large enough."""
        for pair, rows in zip(self.buffers, snapshot.arrays, strict=True):
            for buffer, array in zip(pair, rows, strict=True):
                buffer[slot, :, : array.shape[1]] = array
        self.positions[slot], self.local_rows[slot] = snapshot.positions, snapshot.local_rows

    def take(self, slot: int, other: KVCache, other_slot: int) -> None:
        """Copies a sequence from another cache, or from another slot of this one; into a cache of
        codes from either kind. Never from codes to floats: ValueError."""
        if other.int8 and not self.int8:
            raise ValueError("got codes, expected floats: a cache of floats takes no codes")
        rows = int(other.local_rows[other_slot])
        kept = min(rows, self._config.sliding_window - 1) if other is not self else rows
        positions = int(other.positions[other_slot])
        for index, layer in enumerate(self._config.layers):
            span = slice(rows - kept, rows) if layer.kind == "local" else slice(0, positions)
            length = span.stop - span.start
            for which, source in enumerate(other.buffers[index]):
                target, values = self.buffers[index][which][slot], source[other_slot, :, span]
                if index not in self.scales or other.int8:
                    target[:, :length] = values
                else:
                    scales = scales_of(values)
                    encode(values, scales, target[:, :length])
                    self.scales[index][which][slot, 0] = scales.reshape(-1)
            if index in self.scales and other.int8:
                for mine, theirs in zip(self.scales[index], other.scales[index], strict=True):
                    mine[slot] = theirs[other_slot]
        self.positions[slot], self.local_rows[slot] = positions, kept

    def local_bias(self, start: int, slots: int, blocks: Array) -> Array:
        """Additive mask of the next step on local layers, float32 [slots, 1, S, T]: 0 or -inf-like.

        blocks: int [slots, S], the image that each new token belongs to (0: none). A key is visible
        when it is not in the future or in the same image, and closer than the window on both sides
        (the rule of Google's JAX model; images never continue from an earlier step).
        """
        count, window = blocks.shape[1], self._config.sliding_window
        chosen = slice(start, start + slots)
        total = int(self.local_rows[chosen].max()) + count
        first = (self.positions - self.local_rows)[chosen]  # position of row 0
        keys = first[:, None, None] + np.arange(total)
        queries = self.positions[chosen, None, None] + np.arange(count)[:, None]
        ahead = keys - queries
        visible = ahead <= 0
        if blocks.any():
            new_rows = keys - self.positions[chosen, None, None]  # index among the new tokens
            inside = (new_rows >= 0) & (new_rows < count)
            of_key = np.take_along_axis(blocks, np.clip(new_rows[:, 0], 0, count - 1), axis=1)
            same = (of_key[:, None, :] == blocks[:, :, None]) & (blocks[:, :, None] > 0) & inside
            visible |= same
        visible &= np.abs(ahead) < window
        return np.where(visible, np.float32(0), np.finfo(np.float32).min)[:, None]

    def _allocate(self, index: int, capacity: int) -> tuple[Array, Array]:
        layer = self._config.layers[index]
        shape = (self.slots, layer.kv_heads, capacity, layer.head_dim)
        dtype = np.dtype(np.int8) if self.int8 and layer.kind == "global" else self._dtype
        # Zeros, not garbage: a NaN in an unwritten row would spoil a masked product.
        return np.zeros(shape, dtype), np.zeros(shape, dtype)
