"""The functions of a run as a Prefect flow: one task per document.

The only module that imports Prefect. Take the decorators away and the code still runs. Tasks take a
run's name and a document's key and give counts and states, so no text of a document reaches logs,
parameters or results. Documents run in threads of this process, which share its engine and store.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.account import Outcome, Summary
from flows.progress import PlainProgress
from flows.run import Job, Run, Submit, compute
from flows.start import AHEAD, SLOTS, Settings, execute

_RUNS: dict[str, tuple[Run, dict[str, Job]]] = {}  # directory -> its run, and its jobs by key


# The store is the cache: its key holds the file's hash, subtask, schema, bundle, prompt version and
# options. Prefect's own cache would hand out "done" for a document whose record is not there, when
# the output directory was deleted or the run interrupted.
@task(name="document", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def document(directory: str, key: str, name: str) -> Outcome:
    """Computes one document. key: of its record; name: its path, for people."""
    run, jobs = _RUNS[directory]
    return compute(run, jobs.pop(key))


def submit_to_prefect(run: Run) -> Submit:
    """Starts documents as tasks of the flow run that is going on."""
    directory = str(run.store.directory)
    jobs: dict[str, Job] = {}
    _RUNS[directory] = run, jobs

    def submit(job: Job) -> Future[Outcome]:
        jobs[job.key] = job
        outcome: Future[Outcome] = Future()
        task_run = document.submit(directory, job.key, job.entry.shown)
        task_run.add_done_callback(lambda done: _hand_over(done, outcome))
        return outcome

    return submit


def _hand_over(done: PrefectFuture[Outcome], outcome: Future[Outcome]) -> None:
    try:
        outcome.set_result(done.result())
    except Exception as error:
        outcome.set_exception(error)


@flow(
    name="run-folder",
    flow_run_name="{subtask} {input}",
    task_runner=ThreadPoolTaskRunner(max_workers=SLOTS + AHEAD),  # type: ignore[arg-type]
    persist_result=False,
)
def run_folder_flow(
    subtask: str,
    input: str,
    output: str | None = None,
    schema: str | None = None,
    labels: list[str] | None = None,
    several: bool = False,
    model: str | None = None,
    soft_tokens: int = 560,
    limit: int | None = None,
    retry_failed: bool = False,
    formats: list[str] | None = None,
) -> Summary:
    """Turns a folder into a dataset. The parameters are those of `flows run`."""
    settings = Settings(
        subtask=subtask,
        input=Path(input),
        output=Path(output) if output else None,
        schema=schema,
        labels=tuple(labels or ()),
        several=several,
        model=Path(model) if model else None,
        soft_tokens=soft_tokens,
        limit=limit,
        retry_failed=retry_failed,
        formats=tuple(formats or ()),
    )
    try:
        return execute(settings, observer=PlainProgress(), submitter=submit_to_prefect)
    finally:
        _RUNS.pop(str(settings.directory), None)


def parameters(settings: Settings) -> dict[str, Any]:
    """Settings as the flow's parameters."""
    return {
        "subtask": settings.subtask,
        "input": str(settings.input),
        "output": str(settings.directory),
        "schema": settings.schema,
        "labels": list(settings.labels),
        "several": settings.several,
        "model": str(settings.model) if settings.model else None,
        "soft_tokens": settings.soft_tokens,
        "limit": settings.limit,
        "retry_failed": settings.retry_failed,
        "formats": list(settings.formats),
    }
