"""`flows model serve|status|stop`: one warm model for all processes of a user."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_onnx.errors import UsageError

if TYPE_CHECKING:
    from flows.model_place import Place
    from flows.model_protocol import Status

app = typer.Typer(no_args_is_help=True, help="Keep a model warm for all runs on this machine.")

_STOP_SECONDS = 150.0  # more than a server takes to finish what it has

Model = Annotated[
    Path | None, typer.Option(help="A bundle's directory.", show_default="the embedded one")
]


@app.command()
def serve(
    model: Model = None,
    idle_minutes: Annotated[
        float, typer.Option(min=0, help="Ends after so long without a request; 0: never.")
    ] = 30.0,
    slots: Annotated[
        int | None,
        typer.Option(
            min=1, help="Requests that decode together.", show_default="what fits the memory"
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="Requests taken at once; others are told to come again.")
    ] = 256,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Prometheus, on the loopback interface.")
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Return as soon as it answers.")
    ] = False,
) -> None:
    """Keep a model loaded; runs on this machine use it by themselves.

    Example: flows model serve --model bundles/gemma-4-12b --background
    """
    words = ["--idle-minutes", str(idle_minutes), "--queue", str(queue)]
    if slots:
        words += ["--slots", str(slots)]
    if metrics_port:
        words += ["--metrics-port", str(metrics_port)]
    if background:
        _serve_in_background(model, words)
    else:
        _serve_here(model, slots, queue, idle_minutes, metrics_port)


def _serve_in_background(model: Path | None, words: list[str]) -> None:
    from flows.model_place import Place
    from flows.model_start import apart, command, ensure
    from model_onnx.bundle import Bundle
    from model_onnx.engine import POCKET

    bundle = Bundle.open(model or POCKET)
    place = Place.of(bundle.sha256)
    print(_line(apart(ensure(place, [*command(bundle.directory), *words]))))


def _serve_here(
    model: Path | None, slots: int | None, queue: int, idle_minutes: float, port: int | None
) -> None:
    from flows.metrics import metrics_port
    from flows.model_place import Place
    from flows.model_server import Limits, ModelServer
    from flows.precisions import cache, drafts, precisions
    from model_onnx.bundle import Bundle
    from model_onnx.engine import POCKET, Engine

    bundle = Bundle.open(model or POCKET)
    place = Place.of(bundle.sha256)
    lock = place.inherited_lock() or place.lock()
    if lock is None:
        raise UsageError(
            f"a model server with this bundle runs already at {place.address}; use it, or end it "
            "with `flows model stop`"
        )
    with Engine.open(bundle, slots=slots, drafts=drafts(), cache=cache(), **precisions()) as engine:
        server = ModelServer(engine, Limits(engine.slots, queue, idle_minutes))
        with metrics_port(port, server):
            print(f"{place.address}: ready; Ctrl-C ends it", file=sys.stderr, flush=True)
            server.run(place)
    os.close(lock)


@app.command()
def status(
    json_lines: Annotated[
        bool, typer.Option("--json", help="One JSON object for each server.")
    ] = False,
) -> None:
    """Show the model servers of this user; exit code 5 when there is none.

    Example: flows model status
    """
    found = [status for _, status in asyncio.run(_running())]
    for each in found:
        print(json.dumps(each.to_json()) if json_lines else _line(each))
    if not found:
        print("no model server runs; start one with `flows model serve`", file=sys.stderr)
        raise typer.Exit(5)


@app.command()
def stop(
    model: Annotated[
        Path | None, typer.Option(help="Only the server of this bundle.", show_default="all")
    ] = None,
) -> None:
    """End model servers after they have finished the requests that they have.

    Example: flows model stop
    """
    from model_onnx.bundle import Bundle

    only = Bundle.open(model).sha256 if model else None
    if not asyncio.run(_stop_all(only)):
        print("no model server runs", file=sys.stderr)


async def _running() -> list[tuple[Place, Status]]:
    from flows.model_place import places
    from flows.model_start import ask_status

    found = [(place, await ask_status(place)) for place in places()]
    return [(place, status) for place, status in found if status]


async def _stop_all(bundle: str | None) -> int:
    """How many were told to stop; returns when they are gone."""
    from flows.model_place import Place, places
    from flows.model_start import ask_stop

    chosen = [Place.of(bundle)] if bundle else list(places())
    told = [place for place in chosen if await ask_stop(place)]
    end = time.monotonic() + _STOP_SECONDS
    for place in told:
        while (lock := place.lock()) is None:
            if time.monotonic() > end:
                raise UsageError(f"the server at {place.address} does not end; kill it")
            await asyncio.sleep(0.1)
        os.close(lock)
        print(f"{place.address}: ended")
    return len(told)


def _line(status: Status) -> str:
    answered = sum(status.requests.values())
    return (
        f"{status.directory} ({status.bundle[:12]}, {status.provider}): process {status.pid}, "
        f"up {status.uptime_seconds / 60:.0f} min, {status.active} active in {status.slots} slots, "
        f"{status.waiting} waiting of {status.queue}, {answered} ended, "
        f"{status.tokens_per_second:.1f} tokens/s, {status.memory >> 20} MiB"
    )
