"""Documents in the worker processes of Dask or Ray, through Prefect's task runners.

A task takes settings and a document's key, path and version, and gives a status: workers read the
inputs under the same paths, and write to PostgreSQL. A worker that dies takes nothing with it: its
claims return and the cluster starts its documents again; a document whose workers die again and
again has failed, reason `crash`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.runtime import task_run
from prefect.states import Failed
from prefect.task_runners import TaskRunner

from flows.account import Outcome
from flows.drive import Submit
from flows.faults import passes_by_itself
from flows.run import Job, Run
from flows.scale import Scale
from flows.start import AHEAD, SLOTS, Settings
from flows.watch import CRASH, CRASH_MESSAGE
from flows.worker import compute_here, for_workers
from model_onnx.errors import OutputError, RuntimeUnavailableError

RETRY_SECONDS = [1.0, 5.0]

_POLL_SECONDS = 1.0
_DEATHS = ("KilledWorker", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError")


def _may_pass(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if isinstance(error, OutputError):  # a worker's output is the database, which may come back
        return True
    return isinstance(error, BaseException) and passes_by_itself(error)


@task(
    name="document",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_may_pass,
)
def document(settings: Settings, job: Job, name: str) -> Outcome | State[Outcome]:
    """Computes one document where the task runner says. name: its path, for people."""
    outcome = compute_here(settings, job, again=task_run.run_count <= len(RETRY_SECONDS))
    if outcome.status == "failed":
        return Failed(message=outcome.reason, data=outcome)
    return outcome


@contextlib.contextmanager
def submitter(settings: Settings) -> Iterator[Callable[[Run], Submit]]:
    """Starts or finds the cluster; to be entered within a flow run."""
    elsewhere = for_workers(settings)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(task_runner(settings.scale))
        threads = stack.enter_context(ThreadPoolExecutor(in_flight(settings.scale)))

        def bind(run: Run) -> Submit:
            def submit(job: Job) -> Future[Outcome]:
                parameters = {"settings": elsewhere, "job": job, "name": job.entry.shown}
                started: PrefectFuture[Any] = runner.submit(document, parameters)
                return threads.submit(copy_context().run, _result, run, job, started)

            return submit

        yield bind


def in_flight(scale: Scale) -> int:
    """Documents that are given to all workers together."""
    return (SLOTS + AHEAD) * scale.workers


def task_runner(scale: Scale) -> TaskRunner[Any]:
    """A cluster of its own without an address: `workers` processes on this machine."""
    chosen: TaskRunner[Any] = _dask(scale) if scale.runner == "dask" else _ray(scale)
    return chosen


def _dask(scale: Scale) -> Any:
    from prefect_dask.task_runners import DaskTaskRunner

    if scale.address:
        return DaskTaskRunner(address=scale.address)
    local = {
        "n_workers": scale.workers,
        "threads_per_worker": SLOTS + AHEAD,
        "memory_limit": 0,  # it would count the mapped weights
        "dashboard_address": None,
    }
    return DaskTaskRunner(cluster_kwargs=local)


def _ray(scale: Scale) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray.task_runners import RayTaskRunner

    if scale.address:
        return RayTaskRunner(address=scale.address)
    local = {
        "num_cpus": scale.workers,  # one process each
        "include_dashboard": False,
        "log_to_driver": False,
        "object_store_memory": 100 << 20,  # statuses only; Ray would take 30 % of the memory
    }
    return RayTaskRunner(init_kwargs=local)


def _result(run: Run, job: Job, started: PrefectFuture[Any]) -> Outcome:
    # Neither cluster can wait for a while and then be asked again without harm.
    done = threading.Event()
    started.add_done_callback(lambda _: done.set())
    while not done.wait(_POLL_SECONDS):
        if run.requests.stopped:
            return Outcome(job.entry.shown, "pending", "interrupted")
    try:
        result = started.result(raise_on_failure=False)
    except Exception as error:
        if type(error).__name__ not in _DEATHS:
            raise RuntimeUnavailableError(
                f"the cluster was lost ({type(error).__name__}); check its scheduler, then run "
                "again: what was finished is kept"
            ) from error
        run.store.fail(job.key, CRASH, CRASH_MESSAGE)
        return Outcome(job.entry.shown, "failed", CRASH)
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[no-any-return]
