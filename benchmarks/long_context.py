"""Memory and time of a token after 256K tokens at the 12B's shapes.

    python -m benchmarks.long_context --directory DISK              # 48 layers: everything is real
    python -m benchmarks.long_context --layers 6 --context 32768    # a small version

The rows are synthetic: counted as written and filled, so that every page of them is in memory. A
bundle of random weights is made first, and its repacked copy; both are removed in the end. For 48
layers they need 50 GB of disk. The process that decodes opens nothing else; what it holds is its
proportional memory (PSS). With fewer layers, figures for 48 are extrapolated and named so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Value, print_table, write_report
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.codes import CacheKind
from model_onnx.decoder import Decoder

FULL_LAYERS, CONTEXT = 48, 262_144
_NEW = 64  # rows of the context that are written by the steps
_GIB = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=FULL_LAYERS, help="a multiple of 6")
    parser.add_argument("--recipe", default="int4", help="int4-b128 holds less")
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--cache", choices=["int8", "float"], default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--directory", type=Path, help="where the temporary files go")
    parser.add_argument("--bundle", type=Path, help="of the 12B's shape instead of a made-up one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="long-context-") as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        figures = measure(arguments.bundle or _made_up(Path(scratch), arguments), arguments)
    print_table(figures)
    write_report("long-context" + ("" if arguments.cache == "int8" else "-float"), figures)


def _made_up(scratch: Path, arguments: argparse.Namespace) -> Path:
    from benchmarks.export import synthetic_bundle

    return synthetic_bundle(scratch, layers=arguments.layers, recipe=arguments.recipe)


def measure(bundle: Path, arguments: argparse.Namespace) -> dict[str, Value]:
    """Runs `hold` twice: the first process makes the repacked weights and is not measured."""
    context = multiprocessing.get_context("spawn")
    options = (bundle, arguments.threads, arguments.cache)
    figures: dict[str, Value] = {}
    for rows, rounds in ((_NEW + 1, 1), (arguments.context, arguments.rounds)):
        results: Any = context.Queue()
        worker = context.Process(target=_report, args=(results, *options, rows, rounds))
        worker.start()
        figures = results.get()
        worker.join()
    layers = figures["layers"]
    assert isinstance(layers, int)
    return figures | _extrapolated(figures, FULL_LAYERS / layers)


def _report(results: Any, *arguments: Any) -> None:
    results.put(hold(*arguments))


def hold(
    directory: Path, threads: int, kind: CacheKind, context: int, rounds: int
) -> dict[str, Value]:
    """Decodes behind `context` - 64 rows and says what the process holds then."""
    bundle = Bundle.open(directory)
    decoder = Decoder(bundle, "cpu", threads=threads, prepack=True)
    _step(decoder, _filled(decoder, kind, _NEW + 1))  # so that all weights are there
    weights = _pss()
    cache = _filled(decoder, kind, context)
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        _step(decoder, cache)
        seconds.append(time.perf_counter() - started)
    total = _pss()
    return {
        "layers": len(bundle.config.layers),
        "global_layers": sum(layer.kind == "global" for layer in bundle.config.layers),
        "recipe": bundle.recipe,
        "context": context,
        "cache": kind,
        "token_ms": statistics.median(seconds[1:]) * 1e3,
        "weights_pss_bytes": weights,
        "cache_bytes": sum(buffer.nbytes for pair in cache.buffers for buffer in pair),
        "pss_bytes": total,
        "pss_gib": total / _GIB,
    }


def _filled(decoder: Decoder, kind: CacheKind, context: int) -> KVCache:
    """A cache for one sequence with room for `_NEW` more rows, and no page of it untouched."""
    window, rows = decoder.config.sliding_window, context - _NEW
    cache = decoder.cache(
        slots=1, local_capacity=window + 127, global_capacity=context, int8=kind == "int8"
    )
    for pair in cache.buffers:
        for buffer in pair:
            buffer.fill(1 if buffer.dtype == np.int8 else 0.01)
    for scales in (scales for pair in cache.scales.values() for scales in pair):
        scales.fill(0.01)
    cache.positions[:], cache.local_rows[:] = rows, min(rows, window - 1)
    return cache


def _step(decoder: Decoder, cache: KVCache) -> None:
    """One token: its vector, the layers, the whole head."""
    cache.reserve(0, 1)
    embeds = decoder.embed(np.array([7], np.int64))[None]
    hidden = decoder.forward(cache, 0, embeds, np.zeros((1, 1), np.int64))
    assert np.isfinite(decoder.logits(hidden[:, 0])).all()


def _extrapolated(figures: dict[str, Value], factor: float) -> dict[str, Value]:
    """With fewer layers than 48 (the table and head count once, so this is an upper bound)."""
    if factor == 1:
        return {}
    numbers = {key: figures[key] for key in ("token_ms", "pss_gib", "cache_bytes")}
    return {
        f"extrapolated_{FULL_LAYERS}_layers_{key}": value * factor
        for key, value in numbers.items()
        if isinstance(value, int | float)
    }


def _pss() -> int:
    """Bytes of proportional memory of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
