"""The options of `flows deploy` and `flows serve`; `flows/deploy.py` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.deploy import Nightly

_OPTIONS = 'extract --input inbox/ --output out/ --cron "0 2 * * *"'
DEPLOY_EXAMPLE = f"Example: flows deploy {_OPTIONS}"
SERVE_EXAMPLE = f"Example: flows serve {_OPTIONS}"

Subtask = Annotated[str, typer.Argument(help="As for `flows run`.")]
Input = Annotated[Path, typer.Option(help="A folder tree, as the machine that runs it sees it.")]
Output = Annotated[Path, typer.Option(help="The directory of the dataset.")]
Cron = Annotated[str | None, typer.Option(help='When, such as "0 2 * * *". Without: on demand.')]
Timezone = Annotated[str, typer.Option(help="Of the schedule, such as Europe/Berlin.")]
Name = Annotated[str | None, typer.Option(help="Of the deployment. Without: the input's.")]
Schema = Annotated[str | None, typer.Option(help="For extract.")]
Labels = Annotated[str, typer.Option(help="For tag: letter,invoice,memo")]
Several = Annotated[bool, typer.Option("--several", help="For tag: keep every label that fits.")]
Model = Annotated[Path | None, typer.Option(help="A bundle. Without: the embedded one.")]
SoftTokens = Annotated[int, typer.Option(help="Per image: 70, 140, 280, 560 or 1120.")]
Thinking = Annotated[int, typer.Option(min=0, help="Most tokens of a thought before each answer.")]
KeepThoughts = Annotated[
    bool, typer.Option("--keep-thoughts", help="Records have them, for the review.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Documents to compute at most.")]
Format = Annotated[
    list[str] | None, typer.Option(help="Also write parquet, txt, srt or vtt; may be repeated.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try what failed for good.")]
MaxFailures = Annotated[
    str, typer.Option(help="Fail when more of the documents tried failed: 3, or 5%.")
]
WorkPool = Annotated[str, typer.Option(help="Made as a process pool if there is none.")]


def deploy(
    subtask: Subtask,
    input: Input,
    output: Output,
    cron: Cron = None,
    timezone: Timezone = "UTC",
    work_pool: WorkPool = "scanscribe",
    name: Name = None,
    schema: Schema = None,
    labels: Labels = "",
    several: Several = False,
    model: Model = None,
    soft_tokens: SoftTokens = 560,
    thinking: Thinking = 0,
    keep_thoughts: KeepThoughts = False,
    limit: Limit = None,
    format: Format = None,
    retry_failed: RetryFailed = False,
    max_failures: MaxFailures = "50%",
) -> None:
    """Make a Prefect deployment for the workers of a work pool."""
    given = dict(locals())
    pool = given.pop("work_pool")
    from flows.deploy import deploy as deploy_it

    deploy_it(_nightly(**given), pool)


def serve(
    subtask: Subtask,
    input: Input,
    output: Output,
    cron: Cron = None,
    timezone: Timezone = "UTC",
    name: Name = None,
    schema: Schema = None,
    labels: Labels = "",
    several: Several = False,
    model: Model = None,
    soft_tokens: SoftTokens = 560,
    thinking: Thinking = 0,
    keep_thoughts: KeepThoughts = False,
    limit: Limit = None,
    format: Format = None,
    retry_failed: RetryFailed = False,
    max_failures: MaxFailures = "50%",
) -> None:
    """Make a Prefect deployment and run it from this process, without a work pool."""
    given = dict(locals())
    from flows.deploy import serve as serve_it

    serve_it(_nightly(**given))


def _nightly(
    *,
    labels: str,
    format: list[str] | None,
    cron: str | None,
    timezone: str,
    name: str | None,
    max_failures: str,
    **others: Any,
) -> Nightly:
    from flows.deploy import Nightly
    from flows.start import Settings

    settings = Settings(
        labels=tuple(label.strip() for label in labels.split(",") if label.strip()),
        formats=tuple(format or ()),
        **others,
    )
    return Nightly(settings, max_failures, cron, timezone, name)
