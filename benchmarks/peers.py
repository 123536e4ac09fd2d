"""This project beside llama.cpp, onnxruntime-genai and transformers: same shapes, same tokens.

    python -m benchmarks.peer_models DIRECTORY          # once: random weights of the 12B's widths
    python -m benchmarks.peers DIRECTORY [--peer NAME=PYTHON ...] [--rounds 3]
    python -m benchmarks.peers DIRECTORY --growth       # pages by the number of documents, alone

Every engine is a process of its own; rows are measured in turns, each round from another engine on,
and what is shown is the median with the spread. `llama` and `genai` may live in another Python
(`--peer llama=/path/to/python`). With fewer than 48 layers, figures for 48 are extrapolated: layers
times 48 / layers, plus the engine's own head. A row that an engine cannot give says why.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peer_ceilings import ceilings
from benchmarks.peer_process import PeerError, Remote, evict
from benchmarks.report import Value, print_table, write_report
from model_onnx.session import cache_directory

FULL_LAYERS = 48
PAGE = {"shared": 300, "image": 562, "tail": 20}  # the image's 560 and the two marks around it
_LONG_SECONDS = 8.0  # a row that takes longer is measured once
_NO_IMAGE = "text of the same length, one document after the other: it takes no image rows and "
_NO_IMAGE += "copies no prefix"


@dataclass(frozen=True)
class Engine:
    """name: in the result's keys. module, model: what is started and with which file."""

    name: str
    module: str
    model: str
    more: tuple[str, ...] = ()
    python: str = sys.executable


@dataclass(frozen=True)
class Row:
    """One measurement. engines: those that are asked; without: why the others are not."""

    key: str
    call: str
    arguments: dict[str, int]
    engines: tuple[str, ...]
    without: dict[str, str] = field(default_factory=dict)


ENGINES = (
    Engine("int4", "peer_ours", "bundle", ("recipe",)),
    Engine("int8", "peer_ours", "bundle", ("int8",)),
    Engine("mixed", "peer_ours", "bundle", ("mixed",)),
    Engine("llama", "peer_llama", "model.gguf"),
    Engine("genai", "peer_genai", "genai"),
    Engine("transformers", "peer_transformers", "checkpoint"),
)
_OURS = ("int4", "int8")
_ALL = (*_OURS, "llama", "genai", "transformers")
_SLOW = {"genai": "filling 8192 rows takes minutes, and its generator has no other way"}
_LONG = {"llama": "filling 262144 rows takes most of an hour"}
ROWS = (
    Row("prefill_512", "prefill", {"rows": 512}, _ALL),
    Row("prefill_2048", "prefill", {"rows": 2048}, _ALL),
    Row("decode_512", "decode", {"context": 512, "batch": 1}, _ALL),
    Row("decode_8192", "decode", {"context": 8192, "batch": 1}, (*_OURS, "llama"), _SLOW),
    Row("decode_262144", "decode", {"context": 262144, "batch": 1}, ("int4",), _LONG),
    Row("batch_8", "decode", {"context": 512, "batch": 8}, _ALL),
    Row("batch_16", "decode", {"context": 512, "batch": 16}, _ALL),
    Row("verify_8", "verify", {"context": 512, "rows": 8}, _ALL),
)


class Bench:
    """The processes and what they have answered."""

    def __init__(self, directory: Path, engines: tuple[Engine, ...], threads: int) -> None:
        self._directory, self._engines, self._threads = directory, engines, threads
        self._remotes: dict[str, Remote] = {}
        self._stack = ExitStack()
        self.figures: dict[str, Value] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def load(self) -> None:
        """Times of loading and one token: cold for all, then warm; the second process stays."""
        for kind in ("cold", "warm"):
            for engine in self._engines:
                if f"{engine.name}_load_reason" in self.figures:
                    continue
                try:
                    self._load(engine, kind)
                except (PeerError, OSError) as error:
                    self._miss(engine.name, "load", _reason(self._directory / engine.model, error))

    def _load(self, engine: Engine, kind: str) -> None:
        model = self._directory / engine.model
        if not model.exists():
            raise PeerError("its model could not be made")
        if kind == "cold":
            for place in (model, cache_directory()):
                evict(place)
        remote = self._start(engine)
        self.figures[f"{engine.name}_load_{kind}_seconds"] = remote.load_seconds
        if kind == "cold":
            remote.close()
            return
        self._remotes[engine.name] = self._stack.enter_context(remote)
        self.figures["layers"] = remote.call("ready")
        self.figures[f"{engine.name}_version"] = remote.call("version")

    def _start(self, engine: Engine) -> Remote:
        path = str(self._directory / engine.model)
        return Remote(engine.python, engine.module, [path, *engine.more], self._threads)

    def rows(self, rows: tuple[Row, ...], rounds: int) -> None:
        for row in rows:
            seconds: dict[str, list[dict[str, float]]] = {}
            for number in range(rounds + 1):  # the first round warms up
                for name in _turn(list(row.engines), number):
                    taken = self._ask(name, row, seconds.setdefault(name, []))
                    if taken is not None and (number or taken["seconds"] > _LONG_SECONDS):
                        seconds[name].append(taken)
            for name, values in seconds.items():
                self._keep(f"{name}_{row.key}", values)
            for name, why in row.without.items():
                self._miss(name, row.key, why)
            self._show(row.key)

    def _ask(self, name: str, row: Row, done: list[dict[str, float]]) -> dict[str, float] | None:
        long = bool(done) and done[0]["seconds"] > _LONG_SECONDS
        if name not in self._remotes or long or f"{name}_{row.key}_reason" in self.figures:
            return None
        try:
            answer: dict[str, float] = self._remotes[name].call(row.call, **row.arguments)
        except PeerError as error:
            self._miss(name, row.key, str(error))
            return None
        return answer

    def pages(self, documents: int) -> None:
        """The page: ours with the head for the whole vocabulary and restricted, then the peers with
        as many tokens as ours have written."""
        ours = "mixed" if documents == 1 else "int8"
        answer = 120
        for name, restricted in ((ours, False), (ours, True)):
            key = f"ours_page_{documents}" + ("_restricted" if restricted else "")
            row = Row(key, "page", {"documents": documents, "restricted": restricted}, (name,))
            if (taken := self._ask(name, row, [])) is not None:
                self._keep(key, [taken])
                answer = int(taken["tokens"])
                self.figures["page_forced_tokens"] = int(taken["forced_tokens"])
        self.figures["page_answer_tokens"] = answer
        for name, count in (("llama", documents), ("genai", 1)):
            arguments = {**PAGE, "documents": count, "answer": answer}
            row = Row(f"page_{documents}", "page", arguments, (name,))
            if (taken := self._page(name, row, documents // count)) is not None:
                self._keep(f"{name}_page_{documents}", [taken])
        self._show(f"page_{documents}")

    def _page(self, name: str, row: Row, times: int) -> dict[str, float] | None:
        """An engine without batches of pages does one document; `times` as many cost that often."""
        known = self.figures.get(f"{name}_page_1_ms")
        if times > 1 and isinstance(known, float):
            self.figures[f"{name}_{row.key}_note"] = f"{times} times one page: {_NO_IMAGE}"
            return {"seconds": known * times / 1e3}
        return self._ask(name, row, [])

    def finish(self, *names: str) -> None:
        """Takes the memory of these (after their rows, so of all that they touch) and ends them."""
        for name in set(names) & set(self._remotes):
            remote = self._remotes.pop(name)
            self.figures |= {f"{name}_{key}": size for key, size in remote.memory().items()}
            remote.close()

    def _keep(self, key: str, values: list[dict[str, float]]) -> None:
        """Median and spread in milliseconds, and the figure for 48 layers."""
        if not values:
            return
        taken = [value["seconds"] * 1e3 for value in values]
        self.figures[f"{key}_ms"] = median = statistics.median(taken)
        self.figures[f"{key}_spread_ms"] = max(taken) - min(taken)
        heads = [value["head_seconds"] * 1e3 for value in values if "head_seconds" in value]
        layers = self.figures.get("layers")
        if heads and isinstance(layers, int) and layers != FULL_LAYERS:
            head = statistics.median(heads)
            full = (median - head) * FULL_LAYERS / layers + head
            self.figures[f"extrapolated_48_layers_{key}_ms"] = full

    def _miss(self, name: str, key: str, why: str) -> None:
        self.figures[f"{name}_{key}_reason"] = why
        print(f"{name} {key}: {why}", file=sys.stderr)

    def _show(self, key: str) -> None:
        found = {k: v for k, v in self.figures.items() if f"_{key}" in k and k.endswith("_ms")}
        if found:
            print_table(found)


def growth(directory: Path, threads: int, counts: tuple[int, ...]) -> Iterator[tuple[str, Value]]:
    """Seconds a page and memory by the number of documents: small images, our engine alone."""
    for count in counts:
        engine = next(engine for engine in ENGINES if engine.name == "int8")
        with Remote(
            engine.python, engine.module, [str(directory), *engine.more], threads
        ) as remote:
            taken = remote.call("page", documents=count, restricted=True, soft_tokens=70)
            yield f"growth_{count}_page_ms", taken["seconds"] / count * 1e3
            yield f"growth_{count}_pss_bytes", remote.memory()["pss_bytes"]


def _turn(names: list[str], number: int) -> list[str]:
    start = number % len(names)
    return names[start:] + names[:start]


def _reason(model: Path, error: Exception) -> str:
    with suppress(OSError):
        return (model.parent / f"{model.name}.reason").read_text().strip()
    return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="of peer_models; with --growth also a bundle")
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON of a peer")
    parser.add_argument("--without", action="append", default=[], help="a peer that is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 10, 100, 1000])
    arguments = parser.parse_args()
    if arguments.growth:
        bundle = arguments.directory / "bundle"
        found = growth(
            bundle if bundle.exists() else arguments.directory,
            arguments.threads,
            tuple(arguments.counts),
        )
        figures = dict(found)
        print_table(figures)
        write_report("peers-growth", figures)
        return
    pythons: dict[str, Any] = dict(item.split("=", 1) for item in arguments.peer)
    engines = tuple(
        Engine(e.name, e.module, e.model, e.more, pythons.get(e.name, e.python))
        for e in ENGINES
        if e.name not in arguments.without
    )
    started = time.perf_counter()
    with Bench(arguments.directory.resolve(), engines, arguments.threads) as bench:
        bench.figures |= ceilings(arguments.threads)
        bench.load()
        bench.rows(ROWS, arguments.rounds)
        bench.finish("transformers", "int4")  # the pages need their memory
        for documents in arguments.documents:
            bench.pages(documents)
        bench.finish("int8", "mixed", "llama", "genai")
        figures = bench.figures | {"seconds": time.perf_counter() - started}
    print_table(figures)
    write_report("peers", figures)


if __name__ == "__main__":
    main()
