"""A run over many inputs: keeps several documents in flight, and accounts for every input.

Knows no parser and no model: `flows.run` computes one document, `submit` says where.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flows.account import Observer, Outcome, Silent, Summary, summarise
from flows.discover import Entry
from flows.run import CLAIMED, Job, Run, compute, look_at, of_others
from flows.store import Store
from flows.views import write_views
from flows.watch import is_suspect
from model_onnx.errors import ScanscribeError

Submit = Callable[[Job], Future[Outcome]]

_LOOK_AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


def run_folder(
    run: Run,
    entries: Iterable[Entry],
    *,
    observer: Observer | None = None,
    submit: Submit | None = None,
    about: Mapping[str, str] | None = None,
) -> Summary:
    """Computes what is missing, writes the two views, returns an account that adds up.

    submit: how a document is started (default: threads, `run.in_flight` of them). Raises
    OutputError and ModelError; what was finished stays, and the views are written if they can be.
    """
    entries = list(entries)
    observer = observer or Silent()
    started = time.monotonic()
    run.store.begin(
        entries, {"subtask": run.procedure.subtask, **run.procedure.identity, **(about or {})}
    )
    observer.started(len(entries))
    try:
        with ThreadPoolExecutor(run.in_flight, thread_name_prefix="document") as threads:
            start = submit or (lambda job: threads.submit(compute, run, job))
            try:
                tokens = _Driver(run, observer, start).drive(entries)
            except BaseException:
                run.stop()  # lets the threads end, which the pool waits for
                raise
    except BaseException:
        _write_what_there_is(run.store)
        raise
    if tokens:
        run.store.note(seconds_per_token=str((time.monotonic() - started) / tokens))
    write_views(run.store, run.store.directory)
    # Others may have found more inputs in the same run.
    inputs = sum(run.store.counts().values()) if run.store.shared else len(entries)
    return summarise(run.store, inputs, run.signal)


def _write_what_there_is(store: Store) -> None:
    try:
        write_views(store, store.directory)
    except ScanscribeError as error:  # the error that brought us here says what to do
        _log.warning("%s", error)


class _Driver:
    """Keeps `in_flight` documents going until all are done or the run is told to stop."""

    def __init__(self, run: Run, observer: Observer, submit: Submit) -> None:
        self._run, self._observer, self._submit = run, observer, submit
        self._working: dict[Future[Outcome], Job] = {}
        self._twins: list[Entry] = []  # the same bytes are in flight
        self._elsewhere: list[Job] = []  # in flight in other processes
        self._tokens = 0

    def drive(self, entries: list[Entry]) -> int:
        """Returns the prompt tokens of what was computed."""
        self._start(entries)
        self._collect(0)
        self._start(self._twins)  # now their key has a result, or may be tried
        self._collect(0)
        while self._elsewhere and not self._run.signal:
            self._wait_for_others()
        return self._tokens

    def _start(self, entries: list[Entry]) -> None:
        for entry in entries:
            if self._run.signal:
                return
            job = look_at(self._run, entry)
            if isinstance(job, Outcome):
                self._observer.finished(job)
            elif any(job.key == other.key for other in self._working.values()):
                self._twins.append(entry)
            elif self._is_over_limit(job.key):
                self._observer.finished(Outcome(entry.shown, "pending", "limit"))
            else:
                alone = is_suspect(job.key)  # it was under way when the process died
                self._collect(0 if alone else self._run.in_flight - 1)
                self._run.computed.add(job.key)
                self._working[self._submit(job)] = job
                self._collect(0 if alone else self._run.in_flight - 1)

    def _is_over_limit(self, key: str) -> bool:
        limit, computed = self._run.limit, self._run.computed
        return limit is not None and key not in computed and len(computed) >= limit

    def _collect(self, at_most: int) -> None:
        while len(self._working) > at_most:
            done, _ = wait(self._working, timeout=0.25, return_when=FIRST_COMPLETED)
            for future in done:
                job, outcome = self._working.pop(future), future.result()
                self._tokens += outcome.prompt_tokens
                if outcome.reason == CLAIMED:
                    self._elsewhere.append(job)
                else:
                    self._observer.finished(outcome)
            self._observer.waiting(self._run.requests.answered)
            if self._run.signal:
                self._run.stop()

    def _wait_for_others(self) -> None:
        """Takes the results of other processes, or their documents once they are gone."""
        time.sleep(_LOOK_AGAIN_SECONDS)
        self._observer.waiting(self._run.requests.answered)
        jobs, self._elsewhere = self._elsewhere, []
        for job in jobs:
            claim = self._run.store.claim(job.key)
            if claim == "mine":  # whoever computes it will claim it
                self._run.store.release(job.key)
                self._working[self._submit(job)] = job
            elif claim == "theirs":
                self._elsewhere.append(job)
            else:
                self._observer.finished(of_others(self._run, job, claim))
        self._collect(0)
