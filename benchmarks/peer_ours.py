"""The project itself as a peer: `python -m benchmarks.peer_ours BUNDLE PRECISION THREADS`.

PRECISION: `recipe`, `int8`, or `mixed` (prompts on 8 bits, answers in the recipe's form).
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime

from benchmarks.peer_process import Timed, claim_output, serve, timed
from model_onnx import matcher
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.constrain import JsonSchema
from model_onnx.decoder import Decoder
from model_onnx.engine import Engine
from model_onnx.patches import image_patches
from model_onnx.precision import Precision, Precisions
from model_onnx.prompt import MediaSpan, Prompt
from model_onnx.sequence import Request, Result
from model_onnx.session import Array

SHARED, SOFT_TOKENS, TAIL = 300, 560, 20  # tokens of a page: system turn, image, end of the prompt
_FEW_ROWS = matcher.FEW_ROWS
_SIDES = {70: (7, 10), 560: (20, 28)}  # patches
FIELDS, DIGITS = 5, 17  # of the answer's schema: 120 tokens, a third of them forced


class Ours:
    """Every method opens no model: `ready` has loaded it."""

    def __init__(self, directory: Path, precision: str, threads: int) -> None:
        self._bundle = Bundle.open(directory)
        self._threads = threads
        self._precisions = Precisions("int8", "recipe")
        if precision in get_args(Precision):
            chosen: Precision = "int8" if precision == "int8" else "recipe"
            self._precisions = Precisions(chosen, chosen)
        self._decoder = Decoder(
            self._bundle, "cpu", threads=threads, prepack=True, precisions=self._precisions
        )
        self._rng = np.random.default_rng(0)
        self._caches: dict[tuple[int, int, int], KVCache] = {}

    def version(self) -> str:
        return str(onnxruntime.__version__)

    def ready(self) -> int:
        """One token, so that mapped weights are read; layers."""
        self.decode(context=1, batch=1)
        return len(self._bundle.config.layers)

    def prefill(self, rows: int) -> Timed:
        """In the engine's chunks of 512; the head for the last row."""
        cache, pieces = self._cache(1, 512, rows, prefill=True), deque(range(0, rows, 512))
        cache.clear(0)

        def work() -> None:
            for start in pieces:
                self._forward(cache, 1, min(512, rows - start))

        seconds = timed(work)
        head = self.head(1)
        return {"seconds": seconds + head, "head_seconds": head}

    def decode(self, context: int, batch: int) -> Timed:
        """One step of `batch` sequences with so many made-up rows each."""
        cache = self._pretend(self._cache(batch, 128, context + 1), context)
        seconds = timed(lambda: self._forward(cache, batch, 1))
        head = self.head(batch)
        return {"seconds": seconds + head, "head_seconds": head}

    def verify(self, context: int, rows: int) -> Timed:
        cache = self._pretend(self._cache(1, 128, context + rows), context)
        seconds = timed(lambda: self._forward(cache, 1, rows))
        head = self.head(rows)
        return {"seconds": seconds + head, "head_seconds": head}

    def head(self, rows: int) -> float:
        hidden = self._rng.standard_normal((rows, self._bundle.config.hidden_size), np.float32)
        return timed(lambda: self._decoder.logits(hidden))

    def page(
        self, documents: int, restricted: bool, slots: int = 16, soft_tokens: int = SOFT_TOKENS
    ) -> Timed:
        """Documents through the engine: prefix once, image and answer for each. Besides the times:
        tokens of one answer and those that the grammar forced. restricted: the head on allowed rows
        alone; the answer's digits always allow it, other answers do sometimes."""
        matcher.FEW_ROWS = _FEW_ROWS if restricted else 0
        inside = 0.0
        decoder = self._decoder
        plain = type(decoder).logits

        def logits(hidden: Array) -> Array:
            nonlocal inside
            rows: list[Array] = []
            inside += timed(lambda: rows.append(plain(decoder, hidden)))
            return rows[0]

        decoder.logits = logits  # type: ignore[method-assign]
        with Engine(self._bundle, decoder, slots=min(slots, documents)) as engine:
            started, futures = time.perf_counter(), deque[Future[Result]]()
            for number in range(documents):  # a folder of any size: few requests exist at a time
                futures.append(engine.submit(self._request(number, soft_tokens)))
                if len(futures) > 2 * slots:
                    last = futures.popleft().result()
            while futures:
                last = futures.popleft().result()
            seconds = time.perf_counter() - started
        decoder.logits = plain.__get__(decoder)  # type: ignore[method-assign]
        return {
            "seconds": seconds,
            "head_seconds": inside,
            "tokens": len(last.ids),
            "forced_tokens": last.forced_tokens,
        }

    def _request(self, number: int, soft_tokens: int) -> Request:
        """Page `number`: the same system turn, an image of its own."""
        config = self._bundle.config
        width, height = _SIDES[soft_tokens]
        size = config.patch_size
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (height * size, width * size, 3), np.uint8)
        patches, places = image_patches(pixels, None, config)
        text = np.arange(SHARED + TAIL) % 50 + 40  # ordinary tokens
        image = [config.boi_token_id, *[config.image_token_id] * soft_tokens, config.eoi_token_id]
        ids = np.concatenate([text[:SHARED], image, text[SHARED:]]).astype(np.int64)
        span = MediaSpan(SHARED + 1, "image", patches, places)
        fields = {f"{name}": _digits() for name in "abcdefghij"[:FIELDS]}
        schema = {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }
        prompt = Prompt(ids, (span,), SHARED)
        return Request(prompt, JsonSchema(json.dumps(schema)), max_new_tokens=400)

    def _cache(self, slots: int, local: int, rows: int, *, prefill: bool = False) -> KVCache:
        """Kept for the next round: the first touch of memory is not what is measured."""
        key = (slots, local, rows)
        if key not in self._caches:
            self._caches[key] = self._decoder.cache(
                slots=slots,
                local_capacity=self._bundle.config.sliding_window - 1 + local,
                global_capacity=rows,
                prefill=prefill,
            )
            for buffer in (b for pair in self._caches[key].buffers for b in pair):
                buffer.fill(0.01)  # untouched pages are one page of zeros, which costs nothing
        return self._caches[key]

    def _pretend(self, cache: KVCache, context: int) -> KVCache:
        cache.positions[:] = context
        cache.local_rows[:] = min(context, self._bundle.config.sliding_window - 1)
        return cache

    def _forward(self, cache: KVCache, slots: int, count: int) -> None:
        hidden = self._bundle.config.hidden_size
        embeds = self._rng.standard_normal((slots, count, hidden), np.float32)
        for slot in range(slots):
            cache.reserve(slot, count)
        self._decoder.forward(cache, 0, embeds, np.zeros((slots, count), np.int64))


def _digits() -> dict[str, str]:
    return {"type": "string", "pattern": f"^[0-9]{{{DIGITS}}}$"}


if __name__ == "__main__":
    claim_output()
    serve(Ours(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
