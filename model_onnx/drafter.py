"""Guesses the next tokens of any answer with the bundle's drafter, a small model of its own.

Knows token ids, hidden states and caches; knows no request. It reads the rows that the target has
cached for a sequence where they lie, and the position stays that of the first token it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.decoder import Decoder
from model_onnx.errors import BundleError
from model_onnx.session import (
    ELEMENT_TYPES,
    Array,
    Provider,
    Tensor,
    bind,
    open_graph,
    tensor,
    to_elements,
)


class Drafter:
    """Runs `drafter.onnx`. Not thread-safe: the thread that owns the decoder owns it too."""

    def __init__(
        self, bundle: Bundle, decoder: Decoder, provider: Provider, *, threads: int = 0
    ) -> None:
        if bundle.drafter is None:
            raise BundleError(f"{bundle.directory} has no drafter; export one into it")
        self._decoder, self._kind = decoder, bundle.activation_type
        self._works_in_place = provider == "cpu"
        self._floor = np.float32(-65504 if self._kind == "float16" else np.finfo(np.float32).min)
        config = bundle.drafter.config
        self._sources = config.sources(bundle.config)
        self._layers = [self._sources[layer.kind] for layer in config.layers]
        self._graph = open_graph(bundle, names.DRAFTER, provider, threads=threads, prepack=False)
        self._views: WeakKeyDictionary[KVCache, dict[int, Any]] = WeakKeyDictionary()
        element = ELEMENT_TYPES[self._kind].dtype
        backbone = (1, 1, config.backbone_hidden_size)
        self._state, self._next = np.zeros(backbone, element), np.zeros(backbone, element)
        self._logits = np.zeros((1, config.vocab_size), np.float32)

    def draft(
        self, cache: KVCache, slot: int, state: Array, tokens: Sequence[int], count: int
    ) -> list[int]:
        """The `count` ids that it believes to follow `tokens`, which are not yet in the cache.

        state: the target's hidden state [H] of the last token in the cache."""
        inputs, binding = self._round(cache, slot), self._view(cache, slot)
        outputs = {
            names.NEXT_HIDDEN_STATES: self._tensor(self._next),
            names.LOGITS: tensor(self._logits),
        }
        self._state[...] = state
        guesses: list[int] = []
        for step in range(len(tokens) - 1 + count):
            token = tokens[step] if step < len(tokens) else guesses[-1]
            embeds = self._decoder.embed(np.array([token], np.int64))
            inputs[names.INPUTS_EMBEDS] = self._tensor(embeds[None])
            inputs[names.HIDDEN_STATES] = self._tensor(self._state)
            self._graph.run(binding, inputs, outputs)
            if step >= len(tokens) - 1:
                guesses.append(int(self._logits.argmax()))
            self._state[...] = self._next
        return guesses

    def forget(self, cache: KVCache) -> None:
        """To be called when a cache's buffers have moved: their addresses are bound here."""
        self._views.pop(cache, None)

    def _round(self, cache: KVCache, slot: int) -> dict[str, Tensor]:
        """What stays the same for all guesses of a round: position, rows, mask."""
        inputs = {names.POSITION_IDS: tensor(cache.positions[slot].reshape(1, 1))}
        lengths = {
            "local": (names.LOCAL_SEQLENS, names.LOCAL_TOTAL, cache.local_rows[slot]),
            "global": (names.GLOBAL_SEQLENS, names.GLOBAL_TOTAL, cache.positions[slot]),
        }
        for kind in self._sources:
            seqlens, total, rows = lengths[kind]
            inputs[seqlens] = tensor(np.array([rows - 1], np.int32))
            inputs[total] = tensor(np.array(rows, np.int32))
        if "local" in self._sources:
            # As the next token would see them, without its own row.
            bias = cache.local_bias(slot, 1, np.zeros((1, 1), np.int64))[..., :-1]
            bias = np.maximum(bias, self._floor)
            inputs[names.LOCAL_ATTENTION_BIAS] = self._tensor(to_elements(bias, self._kind))
        return inputs

    def _view(self, cache: KVCache, slot: int) -> Any:
        """The binding with a slot's rows, made once where the graph reads them in place."""
        views = self._views.setdefault(cache, {})
        if slot not in views or not self._works_in_place:
            binding = self._graph.binding()
            rows = {
                source: [self._tensor(buffer[slot : slot + 1]) for buffer in cache.buffers[source]]
                for source in self._layers
            }
            for source, pair in rows.items():
                bind(binding.bind_input, dict(zip(names.past_names(source), pair, strict=True)))
            for layer, source in enumerate(self._layers):
                present = zip(names.present_names(layer), rows[source], strict=True)
                bind(binding.bind_output, dict(present))
            views[slot] = binding
        return views[slot]

    def _tensor(self, array: Array) -> Tensor:
        return Tensor(np.require(array, requirements="C"), ELEMENT_TYPES[self._kind].onnx)
