"""The options that `flows run`, `flows deploy` and `flows serve` share, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.start import Settings

Subtask = Annotated[
    str, typer.Argument(help="extract, clean, transcribe, repair, tag, call, or MODULE:NAME")
]
Schema = Annotated[
    str | None,
    typer.Option(
        help="For extract: auto (the default: chosen for each document), receipt, invoice, "
        "letter, memo, MODULE:CLASS, FILE.py, FILE.json."
    ),
]
Labels = Annotated[str, typer.Option(help="For tag: letter,invoice,memo")]
Several = Annotated[bool, typer.Option("--several", help="For tag: keep every label that fits.")]
Tools = Annotated[str | None, typer.Option(help="For call: MODULE:NAME, FILE.py, FILE.json.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="For call: a tool that runs; calls of others are proposed; may be repeated."),
]
Model = Annotated[
    Path | None, typer.Option(help="A bundle's directory.", show_default="the embedded one")
]
SoftTokens = Annotated[int, typer.Option(help="Per image: 70, 140, 280, 560 or 1120.")]
Thinking = Annotated[int, typer.Option(min=0, help="Most tokens of a thought before each answer.")]
KeepThoughts = Annotated[
    bool, typer.Option("--keep-thoughts", help="Records have them, for the review.")
]
Video = Annotated[
    str,
    typer.Option(
        help="Of videos: rate=1 (frames looked at in a second), sound=yes, seconds=900, "
        "frames=300, bytes=2147483648, pixels=2000000; what differs, with commas."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Documents to compute at most.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        help="Also write csv, parquet, markdown, pdf (searchable), txt, srt or vtt; may be "
        "repeated."
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed for good.")
]
MaxFailures = Annotated[
    str, typer.Option(help="With Prefect: the flow fails when more failed, such as 3 or 5%.")
]
Store = Annotated[
    str | None,
    typer.Option(
        envvar="SCANSCRIBE_STORE",
        help="postgresql://USER@HOST/DATABASE: several processes share the run; password from "
        "PGPASSWORD or ~/.pgpass.",
        show_default="run.sqlite in the output",
    ),
]
Runner = Annotated[
    str, typer.Option(help="Who computes: threads, dask or ray; the two need --store.")
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes of dask or ray: started here, or at --address.")
]
Address = Annotated[str | None, typer.Option(help="Of a Dask or Ray cluster that runs.")]


def settings_of(
    *,
    labels: str,
    format: list[str] | None,
    allow: list[str] | None,
    store: str | None,
    runner: str,
    workers: int,
    address: str | None,
    **others: Any,
) -> Settings:
    """Raises UsageError and RuntimeUnavailableError."""
    from flows.scale import Scale, check_scale, without_secrets
    from flows.start import Settings

    scale = Scale(store, runner, workers, address)  # type: ignore[arg-type]
    check_scale(scale)
    return Settings(
        labels=tuple(label.strip() for label in labels.split(",") if label.strip()),
        formats=tuple(format or ()),
        allow=tuple(allow or ()),
        scale=without_secrets(scale),
        **others,
    )
