"""What is counted: the requests of a model server, the documents of a run.

Both keep plain sums. They are read as JSON (`status`, `summary.json`) and, where somebody asks for
a port, by Prometheus, with names and units as it wants them. Labels are stable words: never a file
name and never text of a document.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.account import Observer, Outcome, Summary
from flows.files import write_lines
from model_onnx.errors import UsageError

if TYPE_CHECKING:  # 0.1 s, for those who want a port
    from prometheus_client.core import Metric

    from model_onnx.sequence import Result

SUMMARY = "summary.json"

_RECENT_SECONDS = 60.0
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)  # seconds


class Collected(Protocol):
    """What Prometheus reads; called from its own thread."""

    def collect(self) -> Iterator[Metric]: ...


class RequestMetrics:
    """The requests of a model server. Thread-safe.

    outcomes: `stop`, `truncated`, `loop` and `cancelled` as the engine ends them; `failed`;
    `abandoned` (the client went away); `refused` (the queue was full).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._stages: defaultdict[str, float] = defaultdict(float)
        self._buckets = [0] * len(_BUCKETS)
        self._seconds = 0.0
        self._recent: deque[tuple[float, int]] = deque()

    def answered(self, result: Result, seconds: float) -> None:
        """seconds: from the request's arrival to its answer."""
        with self._lock:
            self.outcomes[result.finish] += 1
            self._tokens["prompt"] += result.prompt_tokens
            self._tokens["cached"] += result.cached_tokens
            self._tokens["new"] += len(result.ids)
            self._tokens["forced"] += result.forced_tokens
            self._stages["prefill"] += result.prefill_seconds
            self._stages["decode"] += result.decode_seconds
            self._buckets[bisect_left(_BUCKETS, seconds)] += 1
            self._seconds += seconds
            self._recent.append((self._clock(), len(result.ids)))
            self._forget()

    def ended(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def tokens_per_second(self) -> float:
        """New tokens of the answers of the last minute."""
        with self._lock:
            self._forget()
            return sum(tokens for _, tokens in self._recent) / _RECENT_SECONDS

    def _forget(self) -> None:
        while self._recent and self._recent[0][0] < self._clock() - _RECENT_SECONDS:
            self._recent.popleft()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import HistogramMetricFamily

        with self._lock:
            outcomes, tokens = dict(self.outcomes), dict(self._tokens)
            stages, counts, total = dict(self._stages), list(self._buckets), self._seconds
        yield counter("requests", "Requests by how they ended", outcomes, "outcome")
        yield counter("tokens", "Tokens of answered requests", tokens, "kind")
        yield counter("stage_seconds", "Seconds of requests, batched ones overlap", stages, "stage")
        cumulative = [sum(counts[: end + 1]) for end in range(len(counts))]
        bounds = ["+Inf" if bound == math.inf else str(bound) for bound in _BUCKETS]
        yield HistogramMetricFamily(
            "scanscribe_request_seconds",
            "Seconds from a request's arrival to its answer",
            buckets=list(zip(bounds, cumulative, strict=True)),
            sum_value=total,
        )


class RunMetrics:
    """The documents of a run. An Observer that also tells the one that shows progress."""

    def __init__(self, shown: Observer) -> None:
        self._shown, self._lock = shown, threading.Lock()
        self._began = time.monotonic()
        self._date = datetime.now(UTC)
        self._inputs = 0
        self._statuses: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._stages: dict[str, float] = dict.fromkeys(("parse", "prefill", "decode", "checks"), 0)

    def started(self, inputs: int) -> None:
        self._inputs = inputs
        self._shown.started(inputs)

    def finished(self, outcome: Outcome) -> None:
        with self._lock:
            self._statuses["unchanged" if outcome.unchanged else outcome.status] += 1
            if outcome.status == "failed":
                known = _WORD.fullmatch(outcome.reason)  # a reason of a person's own subtask may
                self._failures[outcome.reason if known else "other"] += 1  # say anything
            self._sums["pages"] += outcome.pages
            self._sums["audio_seconds"] += outcome.audio_seconds
            self._sums["prompt_tokens"] += outcome.prompt_tokens
            self._sums["new_tokens"] += outcome.new_tokens
            for stage, seconds in outcome.stages.items():
                self._stages[stage] += seconds
        self._shown.finished(outcome)

    def waiting(self, answers: int) -> None:
        self._shown.waiting(answers)

    def write(self, directory: Path, account: Summary, subtask: str, bundle: str) -> None:
        """Writes summary.json. Raises OutputError."""
        content = {"subtask": subtask, "bundle": bundle, **self.summary(account)}
        write_lines(directory / SUMMARY, [json.dumps(content, indent=1)])

    def summary(self, account: Summary) -> dict[str, Any]:
        """Of this run. Seconds of a stage are sums over the documents, which overlap: they say
        where time goes, not how long the run took. queue: inputs that were not reached."""
        seconds = time.monotonic() - self._began
        with self._lock:
            sums = {name: round(value, 3) for name, value in self._sums.items()}
            return {
                "started": self._date.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "account": asdict(account),
                "exit_code": account.exit_code,
                "pages": int(sums.get("pages", 0)),
                "audio_seconds": sums.get("audio_seconds", 0.0),
                "prompt_tokens": int(sums.get("prompt_tokens", 0)),
                "new_tokens": int(sums.get("new_tokens", 0)),
                "pages_per_minute": round(60 * self._sums["pages"] / seconds, 3),
                "tokens_per_second": round(self._sums["new_tokens"] / seconds, 3),
                "stage_seconds": {name: round(value, 3) for name, value in self._stages.items()},
                "failures": dict(sorted(self._failures.items())),
                "queue": account.pending,
                "peak_memory_bytes": peak_memory(),
                "peak_parser_memory_bytes": peak_memory(children=True),
            }

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            statuses, failures = dict(self._statuses), dict(self._failures)
            sums, stages = dict(self._sums), dict(self._stages)
        yield counter("documents", "Inputs by what became of them", statuses, "status")
        yield counter("failures", "Failed inputs by reason", failures, "reason")
        yield counter("stage_seconds", "Seconds of documents, which overlap", stages, "stage")
        tokens = {kind: sums.get(f"{kind}_tokens", 0) for kind in ("prompt", "new")}
        yield counter("tokens", "Tokens of computed documents, prompts estimated", tokens, "kind")
        yield counter("pages", "Pages of computed documents", sums.get("pages", 0))
        yield counter("audio_seconds", "Audio of computed documents", sums.get("audio_seconds", 0))
        left = self._inputs - sum(statuses.values())
        yield gauge("documents_left", "Inputs that wait or are being computed", left)
        yield gauge("peak_memory_bytes", "Largest resident size so far", peak_memory())


def counter(name: str, about: str, values: Any, label: str | None = None) -> Metric:
    """values: a number, or with a label label value -> number. `_total` is added to the name."""
    from prometheus_client.core import CounterMetricFamily

    if label is None:
        return CounterMetricFamily(f"scanscribe_{name}", about, value=values)
    family = CounterMetricFamily(f"scanscribe_{name}", about, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def gauge(name: str, about: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"scanscribe_{name}", about, value=value)


def render(source: Collected) -> bytes:
    """Prometheus text of one source and of this process."""
    from prometheus_client import generate_latest

    text: bytes = generate_latest(_registry(source))
    return text


@contextmanager
def metrics_port(port: int | None, source: Collected) -> Iterator[None]:
    """Serves /metrics on the loopback interface meanwhile; None: nowhere. Raises UsageError."""
    if port is None:
        yield
        return
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=_registry(source))
    except OSError as error:
        raise UsageError(
            f"cannot serve metrics on port {port}: {error.strerror}; say another --metrics-port"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(source: Collected) -> Any:
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(source)
    return registry


def peak_memory(*, children: bool = False) -> int:
    """Bytes: the largest resident size of this process, or of its largest child that has ended."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    size = resource.getrusage(who).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def memory() -> int:
    """Bytes that are resident now; the peak where the system does not say."""
    try:
        import os

        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory()
