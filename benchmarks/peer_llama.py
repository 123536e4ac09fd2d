"""llama.cpp as a peer: `python -m benchmarks.peer_llama MODEL.gguf THREADS`, through
llama-cpp-python. Needs llama_cpp and numpy alone.

Its batches, sequences and prefix copies are used as its own server uses them. No sampler and no
grammar runs: llama.cpp gets the tokens of an answer for the price of its decode steps.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

from benchmarks.peer_process import Timed, claim_output, serve, timed

_CHUNK = 2048  # llama.cpp's own default for n_batch; it works in pieces of 512
_WIDTH = 3840
_ROUNDS = 5


class Llama:
    def __init__(self, path: Path, threads: int) -> None:
        llama.llama_backend_init()
        self._threads = threads
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise OSError(f"llama.cpp cannot load {path}")
        self._contexts: dict[tuple[int, int], Any] = {}  # by sequences and rows of each
        self._filled: dict[tuple[int, int], int] = {}
        self._context: Any = None
        self._heads: dict[int, float] = {}
        self._rng = np.random.default_rng(0)

    def version(self) -> str:
        return str(llama.__version__)

    def ready(self) -> int:
        self._open(1, 1024)
        self._decode([(0, 0)])
        return int(llama.llama_model_n_layer(self._model))

    def prefill(self, rows: int) -> Timed:
        head = self.head(1)
        self._open(1, rows + 128)
        seconds = timed(lambda: self._prefill(0, 0, rows))
        return {"seconds": seconds, "head_seconds": head}

    def decode(self, context: int, batch: int) -> Timed:
        head = self.head(batch)
        self._fill(context, batch)
        seconds = timed(lambda: self._decode([(slot, context) for slot in range(batch)]))
        self._drop(context, batch)
        return {"seconds": seconds, "head_seconds": head}

    def verify(self, context: int, rows: int) -> Timed:
        head = self.head(rows)
        self._fill(context, 1)
        seconds = timed(lambda: self._decode([(0, context + row) for row in range(rows)]))
        self._drop(context, 1)
        return {"seconds": seconds, "head_seconds": head}

    def head(self, rows: int) -> float:
        """What `rows` rows of logits add to a step: a difference of medians."""
        if rows not in self._heads:
            self._open(1, 1024)
            medians = []
            for logits in (True, False):
                taken = []
                for _ in range(_ROUNDS):
                    llama.llama_memory_clear(self._memory(), True)
                    started = time.perf_counter()
                    self._decode([(0, row) for row in range(rows)], logits=logits)
                    taken.append(time.perf_counter() - started)
                medians.append(statistics.median(taken[1:]))
            self._heads[rows] = max(0.0, medians[0] - medians[1])
        return self._heads[rows]

    def page(self, documents: int, shared: int, image: int, tail: int, answer: int) -> Timed:
        """The system turn once and copied, image rows as embeddings, then steps for all."""
        before = shared + image + tail
        heads = documents * self.head(1) + answer * self.head(documents)
        self._open(documents, before + answer + 64)

        def work() -> None:
            self._prefill(0, 0, shared, logits=False)
            for slot in range(1, documents):
                llama.llama_memory_seq_cp(self._memory(), 0, slot, -1, -1)
            for slot in range(documents):
                self._picture(slot, shared, image)
                self._prefill(slot, shared + image, tail)
            for place in range(before, before + answer):
                self._decode([(slot, place) for slot in range(documents)])

        seconds = timed(work)
        self._close((documents, before + answer + 64))
        return {"seconds": seconds, "head_seconds": heads, "tokens": answer, "forced_tokens": 0}

    def _open(self, sequences: int, cells: int) -> None:
        """Takes or makes the context for so many sequences with so many cells each; empty."""
        key = (sequences, cells)
        self._filled.pop(key, None)
        if key not in self._contexts:
            parameters = llama.llama_context_default_params()
            parameters.n_ctx, parameters.n_seq_max = sequences * (-(-cells // 256) * 256), sequences
            parameters.n_batch, parameters.n_ubatch = _CHUNK, 512
            parameters.n_threads = parameters.n_threads_batch = self._threads
            self._contexts[key] = llama.llama_init_from_model(self._model, parameters)
            if not self._contexts[key]:
                raise MemoryError(f"no context for {sequences} sequences of {cells} cells")
        self._context = self._contexts[key]
        llama.llama_memory_clear(self._memory(), True)

    def _close(self, key: tuple[int, int]) -> None:
        llama.llama_free(self._contexts.pop(key))
        self._context = None

    def _memory(self) -> Any:
        return llama.llama_get_memory(self._context)

    def _fill(self, context: int, batch: int) -> None:
        """Sequences with `context` rows each; they stay for the next round."""
        key = (batch, context + 64)
        if self._filled.get(key) == context:
            self._context = self._contexts[key]
            return
        self._open(*key)
        self._prefill(0, 0, context)
        for slot in range(1, batch):
            llama.llama_memory_seq_cp(self._memory(), 0, slot, -1, -1)
        self._filled[key] = context
        self._decode([(slot, context) for slot in range(batch)])  # the copies are made here
        self._drop(context, batch)

    def _drop(self, context: int, batch: int) -> None:
        for slot in range(batch):
            llama.llama_memory_seq_rm(self._memory(), slot, context, -1)

    def _prefill(self, slot: int, start: int, count: int, *, logits: bool = True) -> None:
        """Logits of the last row alone, if any."""
        for first in range(0, count, _CHUNK):
            last = min(first + _CHUNK, count)
            cells = [(slot, start + row) for row in range(first, last)]
            self._decode(cells, logits=logits and last == count, last_only=True)

    def _decode(
        self, cells: list[tuple[int, int]], *, logits: bool = True, last_only: bool = False
    ) -> None:
        """One batch of (sequence, position); arbitrary tokens."""
        batch = llama.llama_batch_init(len(cells), 0, 1)
        for row, (slot, place) in enumerate(cells):
            batch.token[row] = 40 + (place * 7 + slot) % 50
            wanted = logits and (not last_only or row == len(cells) - 1)
            self._place(batch, row, slot, place, wanted)
        self._run(batch, len(cells))

    def _picture(self, slot: int, start: int, count: int) -> None:
        """Embeddings that see each other, as an image's do."""
        batch = llama.llama_batch_init(count, _WIDTH, 1)
        values = self._rng.standard_normal((count, _WIDTH), np.float32)
        ctypes.memmove(batch.embd, values.ctypes.data, values.nbytes)
        for row in range(count):
            self._place(batch, row, slot, start + row, False)
        llama.llama_set_causal_attn(self._context, False)
        self._run(batch, count)
        llama.llama_set_causal_attn(self._context, True)

    def _place(self, batch: Any, row: int, slot: int, place: int, logits: bool) -> None:
        batch.pos[row], batch.n_seq_id[row], batch.seq_id[row][0] = place, 1, slot
        batch.logits[row] = logits

    def _run(self, batch: Any, count: int) -> None:
        batch.n_tokens = count
        code = llama.llama_decode(self._context, batch)
        llama.llama_synchronize(self._context)
        llama.llama_batch_free(batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")


if __name__ == "__main__":
    claim_output()
    serve(Llama(Path(sys.argv[1]), int(sys.argv[2])))
