"""`flows review`: what a person says on the command line; the work is done in files beside this."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: flows review out/"


def review(
    run: Annotated[Path, typer.Argument(help="The output directory of `flows run`.")],
    output: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default="RUN/review.html")
    ] = None,
    input: Annotated[
        Path | None, typer.Option(help="Where the run's files are now, if they were moved.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on this machine; save corrections at once.")
    ] = False,
    take: Annotated[
        Path | None,
        typer.Option("--import", help="Take the corrections.jsonl that a page saved."),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="Write what was accepted or corrected there, for `flows eval --set`."),
    ] = None,
) -> None:
    """See every value where it stands, and accept, correct or reject it.

    Writes one page that opens without a network. Corrections stand beside the model's output, never
    over it, and go into records.jsonl.
    """
    if take:
        from flows.review_files import import_corrections

        print(f"{import_corrections(run, take)} corrections taken into {run}")
    if labelled:
        from flows.review_labelled import write_labelled

        print(f"{write_labelled(run, labelled, input)} records for flows eval --set {labelled}")
    if serve:
        from flows.review_server import serve_review

        serve_review(run, input)
    elif not take and not labelled:
        from flows.review_files import write_review

        print(write_review(run, output, input))
