"""The five graphs of a bundle as functions on arrays: embed, forward, logits.

Knows token ids, positions and caches; knows no request, constraint or text. The engine's tests put
a fake with the same methods in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.precision import GRAPH_OF, RECIPE, Precisions
from model_onnx.prompt import MediaSpan
from model_onnx.session import (
    ELEMENT_TYPES,
    Array,
    Graph,
    Provider,
    Tensor,
    bind,
    from_elements,
    open_graph,
    tensor,
    to_elements,
)


class Decoder:
    """Runs a bundle's graphs. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        bundle: Bundle,
        provider: Provider,
        *,
        threads: int = 0,
        prepack: bool | None = None,
        precisions: Precisions = RECIPE,
    ) -> None:
        self.config = bundle.config
        self._kind = bundle.activation_type
        # float16 has no room for float32's least value: minus infinity spoils a row's softmax.
        self._floor = np.float32(-65504 if self._kind == "float16" else np.finfo(np.float32).min)
        self._works_in_place = provider == "cpu"
        self._factor = np.float32(bundle.embedding_factor)
        self._graphs: dict[str, Graph] = {}
        self._precisions = precisions
        decoders = [GRAPH_OF[precision] for precision in dict.fromkeys(precisions)]
        others = [name for name in names.GRAPHS if name != names.DECODER]
        for name in (*decoders, *others):
            # Only the decoder and the head hold matrices that ONNX Runtime repacks.
            packs = prepack if name in (*decoders, names.HEAD) else False
            self._graphs[name] = open_graph(bundle, name, provider, threads=threads, prepack=packs)
        self._views: WeakKeyDictionary[KVCache, dict[tuple[int, int], ort.IOBinding]]
        self._views = WeakKeyDictionary()
        self._graph_of: WeakKeyDictionary[KVCache, str] = WeakKeyDictionary()
        self._unused: dict[tuple[int, ...], tuple[Array, Array]] = {}
        self._bindings = {name: graph.binding() for name, graph in self._graphs.items()}

    @property
    def left_to_cpu(self) -> dict[str, Mapping[str, int]]:
        """Graph -> operator -> nodes that another provider than the CPU's does not run."""
        return {name: graph.left_to_cpu for name, graph in self._graphs.items()}

    @property
    def has_int8_cache(self) -> bool:
        """Whether caches may hold codes: the CPU's bundles of models for long contexts."""
        return names.INT8_CACHE in self._graphs[GRAPH_OF[self._precisions.decode]].inputs

    def cache(
        self,
        *,
        slots: int,
        local_capacity: int,
        global_capacity: int,
        prefill: bool = False,
        int8: bool = False,
    ) -> KVCache:
        """An empty cache of this model's activation type. prefill: it is for prompts, and its steps
        run on the decoder for these. int8: global layers keep codes, see `has_int8_cache`."""
        cache = KVCache(
            self.config,
            ELEMENT_TYPES[self._kind].dtype,
            slots=slots,
            local_capacity=local_capacity,
            global_capacity=global_capacity,
            int8=int8,
        )
        phase = self._precisions.prefill if prefill else self._precisions.decode
        self._graph_of[cache] = GRAPH_OF[phase]
        return cache

    def embed(self, ids: Array, media: Sequence[MediaSpan] = ()) -> Array:
        """Token ids int64 [S] -> embeddings [S, H]; media spans overwrite their placeholders."""
        embeds: Array = self._embed(ids[None])[0]
        for span in media:
            soft = self._soft_tokens(span)
            embeds[span.start : span.start + len(soft)] = soft
        return embeds

    def forward(self, cache: KVCache, start: int, embeds: Array, blocks: Array) -> Array:
        """One step of slots start.. for embeddings [n, S, H]; the cache must have room (`reserve`).

        blocks: int [n, S], number of the image a token belongs to, 0 for none. n > 1 needs S = 1
        (GroupQueryAttention takes no batch of chunks with a past). Returns hidden states
        [n, S, H] after the final norm and counts the new rows.
        """
        slots, count, _ = embeds.shape
        chosen = slice(start, start + slots)
        local, total = cache.local_rows[chosen] + count, cache.positions[chosen] + count
        bias = np.maximum(cache.local_bias(start, slots, blocks), self._floor)
        hidden = np.empty_like(embeds)
        inputs = {
            names.INPUTS_EMBEDS: self._tensor(embeds),
            names.POSITION_IDS: tensor(cache.positions[chosen, None] + np.arange(count)),
            names.LOCAL_ATTENTION_BIAS: self._tensor(to_elements(bias, self._kind)),
            names.LOCAL_SEQLENS: tensor((local - 1).astype(np.int32)),
            names.LOCAL_TOTAL: tensor(np.array(local.max(), np.int32)),
            names.GLOBAL_SEQLENS: tensor((total - 1).astype(np.int32)),
            names.GLOBAL_TOTAL: tensor(np.array(total.max(), np.int32)),
        }
        outputs = {names.HIDDEN_STATES: self._tensor(hidden)}
        graph = self._graphs[self._graph_of[cache]]
        graph.run(self._view(cache, start, slots), inputs, outputs)
        cache.advance(start, slots, count)
        return hidden

    def logits(self, hidden: Array) -> Array:
        """Hidden states [M, H] -> soft-capped logits float32 [M, vocab_size]."""
        logits = np.empty((len(hidden), self.config.vocab_size), np.float32)
        self._run(
            names.HEAD,
            {names.HIDDEN_STATES: self._tensor(hidden)},
            {names.LOGITS: tensor(logits)},
        )
        return logits

    def logits_of(self, hidden: Array, ids: Array) -> Array:
        """Logits float32 [R] of the tokens `ids` int64 [R] alone, for one hidden state [H].

        The head is the embedding table (tied), so its rows come from the embedding graph: 64 rows
        of the 12B cost 0.7 ms where the whole head costs 80.
        """
        rows = from_elements(self._embed(ids[None])[0], self._kind) / self._factor
        cap = np.float32(self.config.final_logit_softcapping)
        scores = rows @ from_elements(hidden, self._kind)
        return np.asarray(cap * np.tanh(scores / cap), np.float32)

    def forget(self, cache: KVCache) -> None:
        """To be called when a cache's buffers have moved: their addresses are bound here."""
        self._views.pop(cache, None)

    def _embed(self, ids: Array) -> Array:
        shape = (*ids.shape, self.config.hidden_size)
        embeds = np.empty(shape, ELEMENT_TYPES[self._kind].dtype)
        inputs, outputs = (
            {names.INPUT_IDS: tensor(ids)},
            {names.INPUTS_EMBEDS: self._tensor(embeds)},
        )
        self._run(names.EMBEDDING, inputs, outputs)
        return embeds

    def _soft_tokens(self, span: MediaSpan) -> Array:
        soft = np.empty(
            (len(span.features), self.config.hidden_size), ELEMENT_TYPES[self._kind].dtype
        )
        outputs = {names.SOFT_TOKENS: self._tensor(soft)}
        if span.positions is None:
            self._run(names.AUDIO_EMBEDDER, {names.INPUT_FEATURES: tensor(span.features)}, outputs)
        else:
            inputs = {
                names.PIXEL_VALUES: tensor(span.features),
                names.IMAGE_POSITION_IDS: tensor(span.positions),
            }
            self._run(names.VISION_EMBEDDER, inputs, outputs)
        return soft

    def _run(self, name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
        self._graphs[name].run(self._bindings[name], inputs, outputs)

    def _tensor(self, array: Array) -> Tensor:
        return Tensor(np.require(array, requirements="C"), ELEMENT_TYPES[self._kind].onnx)

    def _view(self, cache: KVCache, start: int, slots: int) -> ort.IOBinding:
        """The binding with the buffers of these slots as past and present.

        Made once on the CPU, where the graph writes into them. Elsewhere binding is what copies the
        past to the device, so it is done for every step: right, but slow with a long context.
        """
        views_of_cache = self._views.setdefault(cache, {})
        if (start, slots) not in views_of_cache or not self._works_in_place:
            binding = self._graphs[self._graph_of[cache]].binding()
            for layer in range(len(cache.buffers)):
                for past, present, rows in self._rows(cache, layer, slice(start, start + slots)):
                    bind(binding.bind_input, dict(zip(past, rows, strict=True)))
                    bind(binding.bind_output, dict(zip(present, rows, strict=False)))
            if self._is_switched(cache):
                bind(binding.bind_input, {names.INT8_CACHE: tensor(cache.int8)})
            views_of_cache[start, slots] = binding
        return views_of_cache[start, slots]

    def _is_switched(self, cache: KVCache) -> bool:
        return names.INT8_CACHE in self._graphs[self._graph_of[cache]].inputs

    def _rows(
        self, cache: KVCache, layer: int, chosen: slice
    ) -> list[tuple[tuple[str, ...], tuple[str, ...], list[Tensor]]]:
        """Inputs, outputs and the memory of both, for one layer: its rows in these slots and, where
        the graph has two caches for it, one row that stands in for the other."""
        views = [buffer[chosen] for buffer in cache.buffers[layer]]
        floats = names.past_names(layer), names.present_names(layer)
        codes = names.past_code_names(layer), names.present_code_names(layer)
        if self.config.layers[layer].kind == "local" or not self._is_switched(cache):
            return [(*floats, [self._tensor(view) for view in views])]
        slots, heads, _, dim = views[0].shape
        shape = (slots, heads, 1, dim)
        if shape not in self._unused:
            dtype = ELEMENT_TYPES[self._kind].dtype
            self._unused[shape] = np.zeros(shape, dtype), np.zeros(shape, np.int8)
        unused = self._unused[shape]
        scales = [unused[0].reshape(slots, 1, heads * dim)] * 2
        if cache.int8:
            scales = [scale[chosen] for scale in cache.scales[layer]]
        return [
            (*floats, [self._tensor(view) for view in ([unused[0]] * 2 if cache.int8 else views)]),
            (*codes, [tensor(view) for view in (views if cache.int8 else [unused[1]] * 2)]),
            (names.code_scale_names(layer), (), [self._tensor(scale) for scale in scales]),
        ]
