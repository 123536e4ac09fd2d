"""`flows deploy` and `flows serve` as commands; `flows/deploy.py` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import run_options as ask

if TYPE_CHECKING:
    from flows.deploy import Nightly

_OPTIONS = 'extract --input inbox/ --output out/ --cron "0 2 * * *"'
DEPLOY_EXAMPLE = f"Example: flows deploy {_OPTIONS}"
SERVE_EXAMPLE = f"Example: flows serve {_OPTIONS}"

Input = Annotated[Path, typer.Option(help="A folder tree, as the machine that runs it sees it.")]
Output = Annotated[Path, typer.Option(help="The directory of the dataset.")]
Cron = Annotated[str | None, typer.Option(help='When, such as "0 2 * * *". Without: on demand.')]
Timezone = Annotated[str, typer.Option(help="Of the schedule, such as Europe/Berlin.")]
Name = Annotated[str | None, typer.Option(help="Of the deployment. Without: the input's.")]
WorkPool = Annotated[str, typer.Option(help="Made as a process pool if there is none.")]


def deploy(
    subtask: ask.Subtask,
    input: Input,
    output: Output,
    cron: Cron = None,
    timezone: Timezone = "UTC",
    work_pool: WorkPool = "scanscribe",
    name: Name = None,
    schema: ask.Schema = None,
    labels: ask.Labels = "",
    several: ask.Several = False,
    tools: ask.Tools = None,
    allow: ask.Allow = None,
    model: ask.Model = None,
    soft_tokens: ask.SoftTokens = 560,
    thinking: ask.Thinking = 0,
    keep_thoughts: ask.KeepThoughts = False,
    video: ask.Video = "",
    limit: ask.Limit = None,
    format: ask.Format = None,
    retry_failed: ask.RetryFailed = False,
    max_failures: ask.MaxFailures = "50%",
    store: ask.Store = None,
    runner: ask.Runner = "threads",
    workers: ask.Workers = 1,
    address: ask.Address = None,
) -> None:
    """Make a Prefect deployment for the workers of a work pool."""
    given = dict(locals())
    pool = given.pop("work_pool")
    from flows.deploy import deploy as deploy_it

    deploy_it(_nightly(**given), pool)


def serve(
    subtask: ask.Subtask,
    input: Input,
    output: Output,
    cron: Cron = None,
    timezone: Timezone = "UTC",
    name: Name = None,
    schema: ask.Schema = None,
    labels: ask.Labels = "",
    several: ask.Several = False,
    tools: ask.Tools = None,
    allow: ask.Allow = None,
    model: ask.Model = None,
    soft_tokens: ask.SoftTokens = 560,
    thinking: ask.Thinking = 0,
    keep_thoughts: ask.KeepThoughts = False,
    video: ask.Video = "",
    limit: ask.Limit = None,
    format: ask.Format = None,
    retry_failed: ask.RetryFailed = False,
    max_failures: ask.MaxFailures = "50%",
    store: ask.Store = None,
    runner: ask.Runner = "threads",
    workers: ask.Workers = 1,
    address: ask.Address = None,
) -> None:
    """Make a Prefect deployment and run it from this process, without a work pool."""
    given = dict(locals())
    from flows.deploy import serve as serve_it

    serve_it(_nightly(**given))


def _nightly(
    *, cron: str | None, timezone: str, name: str | None, max_failures: str, **others: Any
) -> Nightly:
    from flows.deploy import Nightly

    return Nightly(ask.settings_of(**others), max_failures, cron, timezone, name)
