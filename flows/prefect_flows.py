"""The functions of a run as a Prefect flow: one task per document.

The only module that imports Prefect. Take the decorators away and the code still runs. Tasks get a
key and a name, never a document; their results are counts and states, never text. The run itself
(store, engine, parsers) lives in this process, so the flow's tasks are threads of it.
"""

from __future__ import annotations

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import task

from flows.account import Outcome
from flows.run import Job, Run, compute

_RUNS: dict[str, tuple[Run, dict[str, Job]]] = {}  # run name -> the run and its jobs by key


def document_key(run_name: str, key: str) -> str:
    """The cache key of a document's task: the run's own key, which holds the file's hash, subtask,
    schema, bundle, prompt version and options. Whether it is finished is asked of the store."""
    return key


@task(name="document", task_run_name="{name}", persist_result=False, log_prints=False)
def document(run_name: str, key: str, name: str) -> Outcome:
    """Computes one document. name: for people."""
    run, jobs = _RUNS[run_name]
    return compute(run, jobs.pop(key))
