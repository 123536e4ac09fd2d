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
from flows.run import Job, Procedure, Run, compute
from flows.scale import with_run
from flows.start import LazyEngine, Settings, bound
from flows.store import Store
from model_onnx.bundle import Bundle

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
    return compute(_run_of(settings), job, again=again)


def _run_of(settings: Settings) -> Run:
    with _LOCK:
        run = _RUNS.get(settings)
        if run is None or run.store.lost:
            procedure, engine = _kept(settings)
            assert settings.scale.store
            store = Store.join(settings.directory, settings.scale.store)
            run = _RUNS[settings] = Run(store, procedure, engine)
        return run


@cache
def _kept(settings: Settings) -> tuple[Procedure, LazyEngine]:
    bundle, procedure = bound(settings)
    return procedure, _engine_of(bundle.directory)


@cache
def _engine_of(directory: Path) -> LazyEngine:
    return LazyEngine(Bundle.open(directory))
