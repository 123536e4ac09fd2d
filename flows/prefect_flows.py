"""Runs as Prefect flows: one per subtask and `run-folder` for any, one task per document.

Take the decorators away and the code still runs. A task takes a flow run's id and a document's
key and name, and gives a status, so no text of a document reaches logs, parameters, results or
artifacts. Documents run in threads of the flow's process, which share its engine and store.

    Completed   every input has its row; at most `max_failures` of those tried failed
    Failed      more failed; or the model, the output directory or a parameter is not usable
    Cancelled   stopped by Prefect or a signal: the next run goes on where it was
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import Flow, Task, flow, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run, task_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import parameters as ui
from flows.account import Outcome, Summary
from flows.drive import Submit
from flows.faults import passes_by_itself
from flows.ledger import Ledger
from flows.run import Job, Run, compute, log_unexpected
from flows.scale import Scale, check_scale, without_secrets
from flows.start import AHEAD, SLOTS, Settings, execute
from model_onnx.errors import ScanscribeError

# Prefect makes a pydantic model of the parameters, and `schema` is also a method of such models.
warnings.filterwarnings("ignore", message='Field name "schema" in .* shadows')

TAG = "scanscribe"
RETRY_SECONDS = [1.0, 5.0]

P = ParamSpec("P")

_RUNS: dict[str, tuple[Run, dict[str, Job]]] = {}  # flow run -> its run, and its jobs by key


def _may_pass(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and passes_by_itself(error)


# The cache is the store, and the key of a document there is explicit: the file's hash, subtask,
# schema, bundle, prompt version and options. Only documents whose key the store lacks become tasks,
# so a cache of Prefect's own, under the same key, could only ever be wrong: it would say "done" of
# a record that is not there, after the output directory was deleted, or lost in a power cut.
# No tags: Prefect asks the server about the limit of each tag before every task.
@task(
    name="document",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_may_pass,
)
def document(flow_run_id: str, key: str, name: str) -> Outcome | State[Outcome]:
    """Computes one document. key: of its record; name: its path, for people.

    A document without a record is a Failed task whose message is the reason; only errors of input
    and output that may pass by themselves are tried again.
    """
    run, jobs = _RUNS[flow_run_id]
    outcome = compute(run, jobs[key], again=task_run.run_count <= len(RETRY_SECONDS))
    if outcome.status == "failed":
        return Failed(message=outcome.reason, data=outcome)
    return outcome


def submit_to_prefect(run: Run) -> Submit:
    """Starts documents as tasks of the flow run that is going on."""
    _say_less_of_tasks()
    jobs: dict[str, Job] = {}
    _RUNS[flow_run.id] = run, jobs

    def submit(job: Job) -> Future[Outcome]:
        jobs[job.key] = job
        outcome: Future[Outcome] = Future()

        def hand_over(done: PrefectFuture[Any]) -> None:
            jobs.pop(job.key, None)
            _hand_over(done, outcome)

        started = document.submit(flow_run.id, job.key, job.entry.shown)
        started.add_done_callback(hand_over)
        return outcome

    return submit


def _say_less_of_tasks() -> None:
    """A log line for each document that went well costs time and says what its state says; those
    that failed are still logged, and everything is where a person asked for more."""
    logger = logging.getLogger("prefect.task_runs")
    if logger.getEffectiveLevel() == logging.INFO:
        logger.setLevel(logging.WARNING)


def _submitter(settings: Settings) -> AbstractContextManager[Callable[[Run], Submit]]:
    if not settings.scale.spread:
        return nullcontext(submit_to_prefect)
    from flows import runners  # with a cluster

    check_scale(settings.scale)
    return runners.submitter(settings)


def _hand_over(done: PrefectFuture[Any], outcome: Future[Outcome]) -> None:
    try:
        result: Any = done.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            raise result
        outcome.set_result(result)
    except BaseException as error:
        outcome.set_exception(error)


def _subtask_flow(function: Callable[P, State[Any]]) -> Flow[P, State[Any]]:
    name = function.__name__.replace("_", "-")
    return flow(
        name=name,
        flow_run_name="{subtask} {input}" if name == "run-folder" else f"{name} {{input}}",
        task_runner=ThreadPoolTaskRunner(max_workers=SLOTS + AHEAD),  # type: ignore[arg-type]
        persist_result=False,
    )(function)


@_subtask_flow
def extract(
    input: ui.Input,
    output: ui.Output,
    schema: ui.Schema = "receipt",
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Pages and recordings become JSON of a schema, with the place of every value."""
    return _run("extract", **locals())


@_subtask_flow
def clean(
    input: ui.Input,
    output: ui.Output,
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Errors of OCR are corrected; numbers and identifiers are protected."""
    return _run("clean", **locals())


@_subtask_flow
def transcribe(
    input: ui.Input,
    output: ui.Output,
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Pages and recordings become text, line by line or with times."""
    return _run("transcribe", **locals())


@_subtask_flow
def repair(
    input: ui.Input,
    output: ui.Output,
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Dictation becomes punctuated text: spoken commands applied, fillers dropped."""
    return _run("repair", **locals())


@_subtask_flow
def tag(
    input: ui.Input,
    output: ui.Output,
    labels: ui.Labels,
    several: ui.Several = False,
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Documents get one or several labels of a set, with probabilities."""
    return _run("tag", **locals())


@_subtask_flow
def call(
    input: ui.Input,
    output: ui.Output,
    tools: ui.Tools,
    allow: ui.Allow = [],  # noqa: B006
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Tools are called for documents: those that are allowed run, the others are proposed."""
    return _run("call", **locals())


@_subtask_flow
def run_folder(
    subtask: ui.Subtask,
    input: ui.Input,
    output: ui.Output,
    schema: ui.Schema = None,
    labels: ui.Labels = [],  # noqa: B006
    several: ui.Several = False,
    tools: ui.Tools = None,
    allow: ui.Allow = [],  # noqa: B006
    model: ui.Model = None,
    soft_tokens: ui.SoftTokens = 560,
    thinking: ui.Thinking = 0,
    keep_thoughts: ui.KeepThoughts = False,
    video: ui.Video = "",
    limit: ui.Limit = None,
    retry_failed: ui.RetryFailed = False,
    formats: ui.Formats = [],  # noqa: B006
    max_failures: ui.MaxFailures = ui.MAX_FAILURES,
    scale: ui.Spread = Scale(),  # noqa: B008
) -> State[Any]:
    """Any subtask, also one of your own as MODULE:NAME, over a folder."""
    return _run(**locals())


FLOWS: dict[str, Flow[..., State[Any]]] = {
    each.name: each for each in (extract, clean, transcribe, repair, tag, call)
}


def flow_of(settings: Settings) -> tuple[Flow[..., State[Any]], dict[str, Any]]:
    """The flow of a subtask, and its parameters."""
    chosen = FLOWS.get(settings.subtask, run_folder)
    given = {
        "subtask": settings.subtask,
        "input": str(settings.input),
        "output": str(settings.directory),
        "schema": settings.schema,
        "labels": list(settings.labels),
        "several": settings.several,
        "tools": settings.tools,
        "allow": list(settings.allow),
        "model": str(settings.model) if settings.model else None,
        "soft_tokens": settings.soft_tokens,
        "thinking": settings.thinking,
        "keep_thoughts": settings.keep_thoughts,
        "video": settings.video,
        "limit": settings.limit,
        "retry_failed": settings.retry_failed,
        "formats": list(settings.formats),
        "scale": asdict(without_secrets(settings.scale)),
    }
    if settings.schema is None:
        del given["schema"]  # the flow's own default
    taken = chosen.parameters.properties
    return chosen, {name: value for name, value in given.items() if name in taken}


def run_with_prefect(settings: Settings, max_failures: int | str = ui.MAX_FAILURES) -> Summary:
    """Runs the flow in this process. Raises what made it fail, unless that are the documents."""
    chosen, given = flow_of(settings)
    state = chosen(**given, max_failures=max_failures, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, Summary):
        return result
    raise result


def _run(
    subtask: str,
    input: str,
    output: str,
    max_failures: int | str,
    model: str | None = None,
    labels: list[str] | None = None,
    formats: list[str] | None = None,
    allow: list[str] | None = None,
    **others: Any,
) -> State[Any]:
    settings = Settings(
        subtask=subtask,
        input=Path(input),
        output=Path(output),
        model=Path(model) if model else None,
        labels=tuple(labels or ()),
        formats=tuple(formats or ()),
        allow=tuple(allow or ()),
        **others,
    )
    ledger = Ledger(subtask, settings.directory)
    state = _execute(settings, ledger, max_failures)
    ledger.close(state.message or "", stopped=state.is_cancelled())
    return state


def _execute(settings: Settings, ledger: Ledger, max_failures: int | str) -> State[Any]:
    try:
        ui.allowed_failures(max_failures, 0)
        _tag_flow_run(settings.subtask)
        with _submitter(settings) as submitter:
            summary = execute(settings, observer=ledger, submitter=submitter)
    except ScanscribeError as error:
        return Failed(message=str(error), data=error)
    except Exception as error:
        unexpected = ScanscribeError(log_unexpected(error))
        return Failed(message=str(unexpected), data=unexpected)
    finally:
        _RUNS.pop(flow_run.id, None)
    return _judge(summary, ledger, max_failures)


def _judge(summary: Summary, ledger: Ledger, max_failures: int | str) -> State[Any]:
    if summary.signal:
        message = f"stopped by signal {summary.signal}; the next run goes on where it was: "
        return Cancelled(message=f"{message}{summary}", data=summary)
    tried = ledger.tried.total()
    if ledger.failed > ui.allowed_failures(max_failures, tried):
        message = f"{ledger.failed} of {tried} documents failed ({ledger.reasons}), "
        message += f"more than --max-failures {max_failures}: {summary}"
        return Failed(message=message, data=summary)
    return Completed(message=str(summary), data=summary)


def _tag_flow_run(subtask: str) -> None:
    """After the run was made: tags around a flow would become tags of its tasks."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, TAG, subtask})
