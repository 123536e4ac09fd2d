"""The parameters of the flows as the Prefect UI shows and checks them: a title, a sentence, limits.

All are plain JSON values. A title has to stand in `json_schema_extra`: Prefect overwrites the one
of a pydantic Field with the parameter's name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from flows.scale import Scale
from model_onnx.errors import ConfigError


def _shown(title: str, description: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"title": title, "description": description}, **limits)


Subtask = Annotated[
    str,
    _shown("Subtask", "extract, clean, transcribe, repair, tag, call, or MODULE:NAME of your own."),
]
Input = Annotated[
    str,
    _shown("Input", "A file or folder tree, seen from the machine that runs it.", min_length=1),
]
Output = Annotated[
    str, _shown("Output", "Directory of the dataset. What is in it is kept.", min_length=1)
]
Schema = Annotated[
    str | None,
    _shown("Schema", "receipt, invoice, letter, memo, MODULE:CLASS, FILE.py or FILE.json."),
]
Labels = Annotated[list[str], _shown("Labels", "The set to choose from: two or more.")]
Several = Annotated[bool, _shown("Several labels", "Keep every label that fits.")]
Tools = Annotated[
    str | None, _shown("Tools", "For call: MODULE:NAME of a Toolbox, FILE.py or FILE.json.")
]
Allow = Annotated[
    list[str], _shown("Allowed tools", "Those that run; calls of the others are proposals.")
]
Model = Annotated[
    str | None, _shown("Model", "Directory of an exported bundle. Empty: the embedded model.")
]
SoftTokens = Annotated[
    Literal[70, 140, 280, 560, 1120], _shown("Soft tokens", "Detail of an image; more is slower.")
]
Thinking = Annotated[
    int, _shown("Thinking", "Most tokens of a thought before each answer; 0: none.", ge=0)
]
KeepThoughts = Annotated[bool, _shown("Keep thoughts", "Records have them, for the review.")]
Video = Annotated[
    str,
    _shown(
        "Videos", "What differs from rate=1,sound=yes,seconds=900,frames=300: names and values."
    ),
]
Limit = Annotated[
    int | None, _shown("Limit", "Documents to compute at most; the rest stays pending.", ge=1)
]
RetryFailed = Annotated[
    bool, _shown("Retry failed", "Also try again what failed for good, such as damaged files.")
]
Formats = Annotated[
    list[Literal["jsonl", "csv", "parquet", "markdown", "pdf", "txt", "srt", "vtt"]],
    _shown("Formats", "Files to write as well."),
]
MaxFailures = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?%?$")],
    _shown(
        "Maximum of failures",
        "A number, or a share such as 5%, of the documents that this run tried. With more of them "
        "failed the flow run is Failed; with fewer it is Completed and a table names them.",
    ),
]
MAX_FAILURES = "50%"
Spread = Annotated[
    Scale,
    _shown(
        "Scale",
        "One process and run.sqlite, unless said otherwise. store: postgresql://USER@HOST/DATABASE "
        "without its password, which PGPASSWORD or ~/.pgpass has on every machine; runner: "
        "threads, dask or ray; workers: their processes; address: of a cluster that runs.",
    ),
]


def allowed_failures(max_failures: int | str, tried: int) -> float:
    """How many of `tried` documents may fail. max_failures: `3` or `5%`. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(max_failures))
    if not found:
        raise ConfigError(
            f"got --max-failures {max_failures!r}, expected a number or a share, such as 3 or 5%"
        )
    number, percent = float(found[1]), bool(found[2])
    return number / 100 * tried if percent else number
