"""`flows export-run`: a finished run in another format. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: flows export-run out/ --format csv"


def export_run(
    run: Annotated[Path, typer.Argument(help="The output directory of `flows run`.")],
    format: Annotated[
        list[str],
        typer.Option(
            help="jsonl, csv, parquet, markdown, pdf (searchable), txt, srt or vtt; may be "
            "repeated."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The directory to write into.", show_default="RUN")
    ] = None,
    input: Annotated[
        Path | None, typer.Option(help="For pdf: where the run's files are now, if moved.")
    ] = None,
) -> None:
    """Convert the records of a finished run; nothing is computed again.

    Tables are one file, records.csv; the other formats one file per input in a directory of their
    name. Searchable PDFs need the input files as they were in the run.
    """
    from flows.formats import check_format, write_format
    from flows.show import find_run
    from flows.store import Store

    directory = find_run(run)
    with Store.read(directory) as store:
        for name in format:
            check_format(name, store.about().get("subtask", ""))
        for name in format:
            count = write_format(name, store, output or directory, input)
            print(f"{name}: {count} records in {output or directory}")
