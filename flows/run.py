"""One document of a run: look at an input, compute its record, keep what became of it.

Knows no command line, Prefect or file format; a `Procedure` brings the parser and the subtask.
`look_at` and `compute` are one document's two steps, which flows/drive.py repeats with several
documents in flight: while some wait for the engine, which batches them, the next ones are parsed.

What is computed: an input whose key has no record. A key that failed is tried again by the next run
when its reason may pass by itself (TRANSIENT) and it failed fewer than ATTEMPTS times; with
`retry_failed` always.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from traceback import format_tb
from typing import Any

from flows.account import Outcome
from flows.discover import PROBLEMS, Entry, Version, check_same, read_version
from flows.faults import passes_by_itself
from flows.journal import JournalEngine, Requests
from flows.store import Claim, Failure, Store
from flows.watch import CRASH, CRASH_MESSAGE, ended_before, is_guilty, under_way
from model_onnx.errors import (
    ConfigError,
    ConstraintError,
    EngineClosedError,
    InputError,
    ModelError,
    OutputError,
    RequestError,
)
from pipelines.records import Record
from pipelines.subtask import Model

TRANSIENT = frozenset(
    {"timeout", "memory", "parser_crashed", "cancelled", "internal", "model_busy", "model_crashed"}
)
ATTEMPTS = 3
CLAIMED = "claimed"  # another process computes it

_FATAL = (OutputError, ModelError, EngineClosedError, ConfigError)  # they concern every document
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """What a document costs before it is run. prompt_tokens: an estimate."""

    pages: int = 0
    audio_seconds: float = 0.0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Procedure:
    """One subtask with its options. `parse` and `run` are called from many threads.

    identity: all that decides a record beside the file's bytes (schema, bundle, options ...);
    parse: raises InputError, in time; run: (model, parsed) -> Record;
    abandon: ends parsers that are busy, when the run is told to stop.
    """

    subtask: str
    identity: Mapping[str, str]
    parse: Callable[[Entry, Version], Any]
    run: Callable[[Model, Any], Record]
    measure: Callable[[Any], Size] = lambda parsed: Size()
    abandon: Callable[[], None] = lambda: None

    def key(self, sha256: str) -> str:
        text = json.dumps({"file": sha256, **self.identity}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Run:
    """One run in progress. signal: its number once the run was told to stop."""

    store: Store
    procedure: Procedure
    engine: Model
    retry_failed: bool = False
    limit: int | None = None
    in_flight: int = 10
    signal: int | None = None
    requests: Requests = field(default_factory=Requests)
    computed: set[str] = field(default_factory=ended_before)  # keys that this run has started

    def stop(self) -> None:
        if not self.requests.stopped:
            self.requests.stop()
            self.procedure.abandon()


@dataclass(frozen=True)
class Job:
    """A document to compute."""

    entry: Entry
    version: Version
    key: str


def look_at(run: Run, entry: Entry) -> Job | Outcome:
    """Hashes an input and looks its key up: what is to be computed, or why nothing is."""
    try:
        if entry.problem:
            raise InputError(PROBLEMS[entry.problem], reason=entry.problem)
        version = read_version(entry.path)
    except InputError as error:
        return _settle(run, entry, error)
    key = run.procedure.key(version.sha256)
    status = run.store.status(key)
    unchanged = status is not None and key not in run.computed
    run.store.identify(entry.raw, version, key, unchanged=unchanged)
    if status:
        return Outcome(entry.shown, status, unchanged=unchanged)
    failure = run.store.failure(key)
    if failure and (key in run.computed or not (run.retry_failed or may_pass(failure))):
        status, known = _failed_status(failure.reason), key not in run.computed
        return Outcome(entry.shown, status, failure.reason, unchanged=known)
    return Job(entry, version, key)


def may_pass(failure: Failure) -> bool:
    """Whether the next run tries a failed key by itself."""
    return failure.reason in TRANSIENT and failure.attempts < ATTEMPTS


def compute(run: Run, job: Job, *, again: bool = False) -> Outcome:
    """Parses a document, runs the subtask, keeps the result.

    Raises only what concerns every document: OutputError, ModelError, EngineClosedError,
    ConfigError. again: the caller will try again, so an error that passes by itself is raised too.
    """
    claim = run.store.claim(job.key)
    if claim != "mine":
        return of_others(run, job, claim)
    try:
        if is_guilty(job.key):
            return _fail(run, job, CRASH, CRASH_MESSAGE)
        with under_way(job.key):
            return _compute(run, job, again)
    finally:
        run.store.release(job.key)


def of_others(run: Run, job: Job, claim: Claim) -> Outcome:
    """What another process made of a document since this one looked at it."""
    if claim == "theirs":
        return Outcome(job.entry.shown, "pending", CLAIMED)
    if failure := run.store.failure(job.key):
        return Outcome(job.entry.shown, _failed_status(failure.reason), failure.reason)
    return Outcome(job.entry.shown, run.store.status(job.key) or "pending")


def _compute(run: Run, job: Job, again: bool) -> Outcome:
    started = time.monotonic()
    engine = JournalEngine(run.engine, run.store, job.key, run.requests)
    try:
        parsed = run.procedure.parse(job.entry, job.version)
        check_same(job.entry.path, job.version)
        seconds = (begun := time.monotonic()) - started
        record = run.procedure.run(engine, parsed)
        checks = time.monotonic() - begun - engine.waited
        if engine.interrupted:  # whatever the subtask made of that
            return Outcome(job.entry.shown, "pending", "interrupted")
        outcome = _keep(run, job, record, seconds, run.procedure.measure(parsed))
        return replace(outcome, stages=_stages(record, seconds, checks))
    except _FATAL:
        raise
    except Exception as error:
        if run.requests.stopped:
            return Outcome(job.entry.shown, "pending", "interrupted")
        if again and passes_by_itself(error):
            raise
        return _failed(run, job, error)


def _stages(record: Record, parse: float, checks: float) -> dict[str, float]:
    prefill, decode = record.timing.prefill_seconds, record.timing.decode_seconds
    return {"parse": parse, "prefill": prefill, "decode": decode, "checks": max(checks, 0.0)}


def _failed(run: Run, job: Job, error: Exception) -> Outcome:
    match error:
        case InputError(reason="changed" | "vanished" | "unreadable"):
            return _settle(run, job.entry, error)
        case InputError():
            return _fail(run, job, error.reason, str(error))
        case RequestError():
            return _fail(run, job, "request", str(error))
        case ConstraintError():
            return _fail(run, job, "constraint", str(error))
        case MemoryError():
            return _fail(
                run, job, "memory", "the document needs more memory than there is; split it"
            )
        case _:
            return _fail(run, job, "internal", log_unexpected(error))


def _keep(run: Run, job: Job, record: Record, seconds: float, size: Size) -> Outcome:
    timing = record.timing.model_copy(update={"parse_seconds": round(seconds, 3)})
    text = _to_text(record)
    if record.status == "failed":
        message = "; ".join(check.reason for check in record.checks if not check.passed)
        return _fail(run, job, record.reason, message, text)
    run.store.finish(
        job.key,
        status=record.status,
        reason=record.reason,
        record=text,
        timing=timing.model_dump_json(),
    )
    return Outcome(
        job.entry.shown,
        record.status,
        record.reason,
        pages=size.pages,
        audio_seconds=size.audio_seconds,
        prompt_tokens=size.prompt_tokens,
        new_tokens=timing.new_tokens,
    )


def _to_text(record: Record) -> str:
    """Without what differs between two inputs of the same bytes, or between two runs of one."""
    fields = {  # a batch's make-up moves the last digits of a probability
        path: value.model_copy(update={"confidence": round(value.confidence, 4)})
        for path, value in record.fields.items()
    }
    record = record.model_copy(update={"fields": fields})
    left_out: Any = {"id": True, "timing": True, "source": {"path"}}
    if not record.thoughts:
        left_out["thoughts"] = True
    return record.model_dump_json(exclude=left_out)


def _fail(run: Run, job: Job, reason: str, message: str, record: str | None = None) -> Outcome:
    run.store.fail(job.key, reason, message, record)
    return Outcome(job.entry.shown, _failed_status(reason), reason)


def _failed_status(reason: str) -> str:
    return "unsupported" if reason == "unsupported" else "failed"


def _settle(run: Run, entry: Entry, error: InputError) -> Outcome:
    unsupported = error.reason in ("unsupported", "labels", "symlink_directory")
    state = "unsupported" if unsupported else "failed"
    run.store.settle(entry.raw, state=state, reason=error.reason, message=str(error))
    return Outcome(entry.shown, state, error.reason)


def log_unexpected(error: BaseException) -> str:
    """Logs where an error came from, never its text, which may quote a document. -> a message."""
    trace = uuid.uuid4().hex[:8]
    frames = "".join(format_tb(error.__traceback__))
    _log.error("unexpected %s, trace %s\n%s", type(error).__name__, trace, frames)
    return f"unexpected {type(error).__name__}, trace {trace}; report it with the log"
