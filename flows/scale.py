"""How far a run is spread: which store keeps it, and which processes compute its documents.

One rule: what several processes write has to be in PostgreSQL. `run.sqlite` is written by the one
process that holds its directory, so worker processes are refused without `--store postgresql://`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flows.server import configured_server
from flows.shared import keep_password, parse_store, without_password
from model_onnx.errors import RuntimeUnavailableError, UsageError

Runner = Literal["threads", "dask", "ray"]
_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}


@dataclass(frozen=True)
class Scale:
    """store: a PostgreSQL URL, None for run.sqlite in the output directory; workers: processes that
    are started here, or that the cluster at `address` has."""

    store: str | None = None
    runner: Runner = "threads"
    workers: int = 1
    address: str | None = None

    @property
    def spread(self) -> bool:
        """Whether other processes compute the documents."""
        return self.runner != "threads"


def check_scale(scale: Scale) -> None:
    """Raises UsageError and RuntimeUnavailableError before anything is computed."""
    if scale.runner not in ("threads", *_PACKAGES):
        raise UsageError(f"got --runner {scale.runner}, expected threads, dask or ray")
    if scale.spread and not scale.store:
        raise UsageError(
            f"got --runner {scale.runner} with run.sqlite, which only one process can write; say "
            "--store postgresql://USER@HOST/DATABASE, or --runner threads"
        )
    if not scale.spread and (scale.workers != 1 or scale.address):
        raise UsageError(
            "got --workers or --address without worker processes; say --runner dask or ray"
        )
    if scale.spread and importlib.util.find_spec(_PACKAGES[scale.runner]) is None:
        raise RuntimeUnavailableError(
            f"got --runner {scale.runner} without {_PACKAGES[scale.runner]}; install it: "
            f"pip install 'scanscribe[{scale.runner}]'"
        )
    if scale.spread and not configured_server():
        raise UsageError(
            f"got --runner {scale.runner} without a Prefect server, to which its workers report; "
            "start one (prefect server start) and say PREFECT_API_URL"
        )


def without_secrets(scale: Scale) -> Scale:
    """For parameters, tasks and logs: the password waits in PGPASSWORD. Raises UsageError."""
    return replace(scale, store=keep_password(scale.store)) if scale.store else scale


def with_run(scale: Scale, directory: Path) -> Scale:
    """The same for processes that do not know the output directory: the run is named."""
    if not scale.store:
        return scale
    return replace(scale, store=without_password(parse_store(scale.store, directory)))
