"""What a token costs: decode at several contexts, prefill, batches, verification, memory.

    python -m benchmarks.decode --bundle DIR
    python -m benchmarks.decode --shape 12b --layers 6        # synthetic weights, exact shapes

Contexts are synthetic: rows are counted as written and hold one value, at the cost of real ones.
Medians over alternating rounds. With fewer than 48 layers, figures for 48 are extrapolated (decoder
time times 48 / layers, plus the head once) and named so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import print_table, write_report
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.decoder import Decoder
from model_onnx.engine import Engine
from model_onnx.prompt import Prompt
from model_onnx.sequence import Request

CONTEXTS = (512, 8192, 32768)
BATCHES = (4, 8, 16)  # a batch of 1 is decode_ms_at_512
FULL_LAYERS = 48


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--shape", choices=["12b"])
    parser.add_argument("--layers", type=int, default=6, help="a multiple of 6 (5 local, 1 global)")
    parser.add_argument("--recipe", default="int4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    arguments = parser.parse_args()
    if (arguments.bundle is None) == (arguments.shape is None):
        parser.error("give --bundle DIR or --shape 12b")
    if arguments.bundle is not None:
        measure(arguments.bundle, arguments.bundle.name, arguments)
        return
    from benchmarks.export import synthetic_bundle

    with tempfile.TemporaryDirectory(prefix="decode-12b-") as scratch:
        bundle = synthetic_bundle(Path(scratch), layers=arguments.layers, recipe=arguments.recipe)
        measure(bundle, "12b", arguments)


def measure(directory: Path, name: str, arguments: argparse.Namespace) -> None:
    bundle = Bundle.open(directory)
    figures: dict[str, Any] = {"layers": len(bundle.config.layers), "recipe": bundle.recipe}
    figures |= _memory(directory, arguments.threads)
    decoder = Decoder(bundle, "cpu", threads=arguments.threads, prepack=True)
    figures |= _speed(decoder, arguments.rounds)
    figures |= _python_share(bundle, decoder)
    figures |= _cache_bytes(bundle)
    layers = len(bundle.config.layers)
    if name == "12b" and layers != FULL_LAYERS:
        for key in [key for key in figures if key.endswith("_ms") or "_ms_at_" in key]:
            if key != "head_ms":
                figures[f"extrapolated_48_layers_{key}"] = figures[key] * FULL_LAYERS / layers
    print_table(figures)
    write_report(f"decode-{name}", figures)


def _speed(decoder: Decoder, rounds: int) -> dict[str, float]:
    """Decoder milliseconds (without the head) for each row of the table, and the head's."""
    window, hidden = decoder.config.sliding_window, decoder.config.hidden_size
    cases: dict[str, Callable[[], object]] = {}

    def add(key: str, slots: int, count: int, context: int) -> None:
        local = window - 1 + max(count, 128)
        cache = decoder.cache(slots=slots, local_capacity=local, global_capacity=context + count)
        for buffer in (buffer for pair in cache.buffers for buffer in pair):
            buffer.fill(0.01)  # untouched pages are one page of zeros, which costs nothing
        embeds = np.random.default_rng(0).standard_normal((slots, count, hidden), np.float32)
        blocks = np.zeros((slots, count), np.int64)

        def run() -> None:
            _pretend(cache, context, window)
            decoder.forward(cache, 0, embeds, blocks)

        cases[key] = run

    for context in CONTEXTS:
        add(f"decode_ms_at_{context}", 1, 1, context)
    for batch in BATCHES:
        add(f"decode_batch_{batch}_ms_at_512", batch, 1, 512)
    add("verify_8_ms_at_512", 1, 8, 512)
    add("prefill_512_ms", 1, 512, 0)
    row = np.random.default_rng(0).standard_normal((1, hidden), np.float32)
    cases["head_ms"] = lambda: decoder.logits(row)
    return _alternate(cases, rounds)


def _pretend(cache: KVCache, context: int, window: int) -> None:
    cache.positions[:] = context
    cache.local_rows[:] = min(context, window - 1)


def _alternate(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians in milliseconds; the cases take turns, each round from another one on, so that a busy
    minute or an expensive neighbour hits all of them."""
    seconds: dict[str, list[float]] = {key: [] for key in cases}
    for round_number in range(rounds + 1):
        turn = list(cases.items())
        for key, run in turn[round_number % len(turn) :] + turn[: round_number % len(turn)]:
            started = time.perf_counter()
            run()
            if round_number:  # the first round touches the memory
                seconds[key].append(time.perf_counter() - started)
    return {key: statistics.median(values) * 1e3 for key, values in seconds.items()}


def _python_share(bundle: Bundle, decoder: Decoder) -> dict[str, float]:
    """Share of a decode step that is not spent inside ONNX Runtime, engine included."""
    inside = 0.0
    for graph in decoder._graphs.values():
        session = graph._session
        original = session.run_with_iobinding

        def timed(binding: Any, original: Any = original) -> None:
            nonlocal inside
            started = time.perf_counter()
            original(binding)
            inside += time.perf_counter() - started

        session.run_with_iobinding = timed
    ids = np.arange(64, dtype=np.int64) % 50 + 40
    with Engine(bundle, decoder, slots=1) as engine:
        request = Request(Prompt(ids, (), 0), max_new_tokens=24)
        engine.generate(request)
        inside = 0.0
        result = engine.generate(request)
    total = result.prefill_seconds + result.decode_seconds
    return {"python_outside_ort_share": max(0.0, 1 - inside / total)}


def _cache_bytes(bundle: Bundle) -> dict[str, int]:
    """KV bytes of one sequence by context: the window on local layers, every row on global ones."""
    element = 4 if bundle.activation_type == "float32" else 2
    figures = {}
    for context in (1024, *CONTEXTS[1:]):
        rows = {"local": min(context, bundle.config.sliding_window), "global": context}
        per_row = [
            (layer.kind, 2 * layer.kv_heads * layer.head_dim * element)
            for layer in bundle.config.layers
        ]
        figures[f"kv_bytes_at_{context}"] = sum(rows[kind] * size for kind, size in per_row)
    return figures


def _memory(directory: Path, threads: int) -> dict[str, int]:
    """Anonymous and proportional bytes of one process, then of two that share the weights."""
    context = multiprocessing.get_context("spawn")
    figures: dict[str, int] = {}
    for processes in (1, 2):
        results: Any = context.Queue()
        barrier = context.Barrier(processes)
        workers = [
            context.Process(target=_hold, args=(directory, threads, barrier, results))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        rows = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
        for key in ("pss_bytes", "anonymous_bytes"):
            figures[f"{processes}_process_{key}"] = sum(row[key] for row in rows)
    return figures


def _hold(directory: Path, threads: int, barrier: Any, results: Any) -> None:
    """Opens the model, runs one prefill and one token, and reports when all are this far."""
    decoder = Decoder(Bundle.open(directory), "cpu", threads=threads, prepack=True)
    window = decoder.config.sliding_window
    cache = decoder.cache(slots=1, local_capacity=window + 127, global_capacity=512)
    for count in (64, 1):
        ids = np.arange(count, dtype=np.int64) % 50
        hidden = decoder.forward(cache, 0, decoder.embed(ids)[None], np.zeros((1, count), np.int64))
    decoder.logits(hidden[0, -1:])
    barrier.wait()
    report = dict(
        line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    )
    kib = {key: int(value.split()[0]) for key, value in report.items()}
    results.put({"pss_bytes": kib["Pss"] << 10, "anonymous_bytes": kib["Anonymous"] << 10})
    barrier.wait()


if __name__ == "__main__":
    main()
