"""One document in a worker process: what `flows.run.compute` needs is opened once per process.

Knows no cluster. The engine is kept by bundle and the run by its settings, so the next document,
flow run or night finds them warm. The weights are mapped from one file, so the processes of a
machine share them; with SCANSCRIBE_MODEL_SERVER=always they share one engine too, and its batches.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

from flows.account import Outcome
from flows.run import Job, Run, compute
from flows.scale import with_run
from flows.start import LazyEngine, Settings, bound
from flows.store import Store
from model_onnx.bundle import Bundle
from model_onnx.errors import OutputError

_RUNS: dict[Settings, Run] = {}
_LOCK = threading.Lock()


def for_workers(settings: Settings) -> Settings:
    """The same for another process: absolute paths, the run named, no password."""
    return replace(
        settings,
        input=settings.input.resolve(),
        output=settings.directory.resolve(),
        model=settings.model.resolve() if settings.model else None,
        scale=with_run(settings.scale, settings.directory),
    )


def compute_here(settings: Settings, job: Job, *, again: bool = False) -> Outcome:
    """settings: as `for_workers` gives them. Raises what `compute` raises."""
    run = _run_of(settings)
    try:
        return compute(run, job, again=again)
    except OutputError:  # a lost connection stays lost; the next document opens another
        with _LOCK:
            if _RUNS.get(settings) is run:
                del _RUNS[settings]
        raise


def _run_of(settings: Settings) -> Run:
    with _LOCK:
        if settings not in _RUNS:
            assert settings.scale.store
            bundle, procedure = bound(settings)
            store = Store.join(settings.directory, settings.scale.store)
            _RUNS[settings] = Run(store, procedure, _engine_of(bundle.directory))
        return _RUNS[settings]


@cache
def _engine_of(directory: Path) -> LazyEngine:
    return LazyEngine(Bundle.open(directory))
