"""`flows deploy` and `flows serve`: a subtask over a folder as a scheduled Prefect deployment.

    deploy   for workers of a work pool, on this machine or others that see the same folders
    serve    for this machine alone: this process starts the runs, no work pool

Runs of a deployment never overlap: it has one slot, and a run that finds it taken is cancelled
(the next one does the rest). Runs of two deployments into one output meet at the lock of the
output directory, where the second fails with a line that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from prefect import serve as serve_deployments
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.formats import check_format
from flows.parameters import allowed_failures
from flows.prefect_flows import TAG, flow_of
from flows.procedure import SOFT_TOKENS, make_subtask
from flows.server import configured_server, unreachable, wait_for_server
from flows.start import Settings
from flows.videos import video_options
from model_onnx.errors import ConfigError, UsageError

# A run's process starts so long before it is due and waits. Prefect's 10 s are less than the 13 s
# that may lie between two looks, so that a process would start up to 3 s late, and need 3 s more.
PREFETCH_SECONDS = 30


@dataclass(frozen=True)
class Nightly:
    """What is to be run, and when. cron: None for on demand; name: None for the input's name."""

    settings: Settings
    max_failures: str
    cron: str | None = None
    timezone: str = "UTC"
    name: str | None = None


def deploy(nightly: Nightly, work_pool: str) -> str:
    """Creates or updates a deployment, and the work pool if there is none. -> its full name.

    Raises UsageError: an option that is wrong, or no server.
    """
    deployment = _deployment(nightly, work_pool)
    with _server() as url:
        print(f"Prefect server {url}")
        if _make_work_pool(work_pool):
            print(f"made the work pool {work_pool} (type process)")
        deployment.apply()
    name = f"{deployment.flow_name}/{deployment.name}"
    print(f"deployed {name}, {_when(nightly)}")
    worker = f"prefect worker start --pool {work_pool} --type process"
    print(f"start a worker:  {worker} --prefetch-seconds {PREFETCH_SECONDS}")
    print(f"run it now:      prefect deployment run {name}")
    return name


def serve(nightly: Nightly) -> None:
    """Serves a deployment until it is interrupted; its schedule is paused then."""
    deployment = _deployment(nightly, None)
    with _server() as url:
        print(f"Prefect server {url}")
        print(f"serving {deployment.flow_name}/{deployment.name}, {_when(nightly)}", flush=True)
        serve_deployments(
            deployment, limit=1, print_starting_message=False, prefetch_seconds=PREFETCH_SECONDS
        )


def _deployment(nightly: Nightly, work_pool: str | None) -> RunnerDeployment:
    settings = _placed(nightly.settings)
    _check(settings)
    allowed_failures(nightly.max_failures, 0)
    flow, parameters = flow_of(settings)
    parameters["max_failures"] = nightly.max_failures
    try:
        schedule = Cron(nightly.cron, timezone=nightly.timezone) if nightly.cron else None
        made = flow.to_deployment(
            name=nightly.name or settings.input.name,
            schedule=schedule,
            parameters=parameters,
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            tags=[TAG, settings.subtask],
            work_pool_name=work_pool,
            entrypoint_type=EntrypointType.MODULE_PATH,  # of the package installed with the worker
        )
    except ValueError as error:
        raise UsageError(
            f"got --cron {nightly.cron!r} --timezone {nightly.timezone!r} --name {nightly.name!r}, "
            f"expected five fields, a name such as Europe/Berlin, a name without slashes: {error}"
        ) from None
    assert isinstance(made, RunnerDeployment)  # a coroutine only inside an event loop
    return made


def _placed(settings: Settings) -> Settings:
    """With absolute paths: a worker runs somewhere else."""
    schema = settings.schema
    if schema and Path(schema).suffix in (".json", ".py"):
        schema = str(Path(schema).absolute())
    tools = settings.tools
    if tools and tools.partition(":")[0].endswith((".json", ".py")):
        tools = str(Path(tools).absolute())
    return replace(
        settings,
        tools=tools,
        input=settings.input.absolute(),
        output=settings.directory.absolute(),
        schema=schema,
        model=settings.model.absolute() if settings.model else None,
    )


def _check(settings: Settings) -> None:
    """What can be known now. Whether folders and bundles are there is known where it runs."""
    make_subtask(
        settings.subtask,
        schema=settings.schema,
        labels=settings.labels,
        several=settings.several,
        tools=settings.tools,
        allow=settings.allow,
    )
    for name in settings.formats:
        check_format(name, settings.subtask)
    video_options(settings.video)
    if settings.soft_tokens not in SOFT_TOKENS:
        raise ConfigError(
            f"got --soft-tokens {settings.soft_tokens}, expected one of {SOFT_TOKENS}"
        )


def _make_work_pool(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
            return False
        except ObjectNotFound:
            template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
            pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
            client.create_work_pool(pool)
            return True


@contextmanager
def _server() -> Iterator[str]:
    url = configured_server()
    if not url:
        raise UsageError(
            "no Prefect server is configured; start one with `prefect server start` and say "
            "`prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    try:
        wait_for_server(url)
        yield url
    except httpx.TransportError as error:
        raise unreachable(url, error) from None


def _when(nightly: Nightly) -> str:
    return f'"{nightly.cron}" {nightly.timezone}' if nightly.cron else "on demand"
