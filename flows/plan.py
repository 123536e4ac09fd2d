"""What a run would do, and for how long. Writes nothing and computes at most one document.

Minutes come from the rate of the last run in this output; without one, the first document is
computed and its result dropped. Alone it decodes slower than in a batch, so that guess is high.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flows.discover import Entry, holds_run, read_version
from flows.run import Procedure, Size, may_pass
from flows.store import Store
from model_onnx.errors import InputError
from pipelines.subtask import Model


@dataclass(frozen=True)
class Planned:
    """state: compute, unchanged, pending (over the limit), or why it is not read."""

    path: str
    state: str
    size: Size = field(default_factory=Size)


def known_results(directory: Path) -> Store | None:
    """The store of an earlier run there."""
    return Store.read(directory) if holds_run(directory) else None


def plan(
    procedure: Procedure,
    entries: Iterable[Entry],
    store: Store | None,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
) -> Iterator[Planned]:
    """One row per input, in order. Parses what would be computed, one document at a time."""
    keys: set[str] = set()
    for entry in entries:
        try:
            if entry.problem:
                raise InputError(entry.problem, reason=entry.problem)
            version = read_version(entry.path)
            key = procedure.key(version.sha256)
            state = "unchanged" if key in keys else _state(store, key, retry_failed)
            if state == "compute" and limit is not None and len(keys) >= limit:
                state = "pending"
            size = Size()
            if state == "compute":
                keys.add(key)
                size = procedure.measure(procedure.parse(entry, version))
            yield Planned(entry.shown, state, size)
        except InputError as error:
            yield Planned(entry.shown, error.reason)


def _state(store: Store | None, key: str, retry_failed: bool) -> str:
    if store is None:
        return "compute"
    if store.status(key):
        return "unchanged"
    failure = store.failure(key)
    if failure and not (retry_failed or may_pass(failure)):
        return failure.reason
    return "compute"


def known_rate(store: Store | None) -> float | None:
    """Seconds per prompt token of the last run that computed something."""
    rate = store.about().get("seconds_per_token") if store else None
    return float(rate) if rate else None


def measured_rate(
    procedure: Procedure, entries: Iterable[Entry], engine: Callable[[], Model]
) -> float | None:
    """Seconds per prompt token of the first document that can be read."""
    for entry in entries:
        if entry.problem:
            continue
        try:
            parsed = procedure.parse(entry, read_version(entry.path))
        except InputError:
            continue
        if tokens := procedure.measure(parsed).prompt_tokens:
            model = engine()
            started = time.monotonic()
            procedure.run(model, parsed)
            return (time.monotonic() - started) / tokens
    return None
