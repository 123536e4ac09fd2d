"""From what a person asks for to a run: which subtask, which model, which inputs, which output.

`flows run` and the Prefect flow both call `execute`; all values of Settings are plain data. The
engine is opened while the first document is parsed, so a run with nothing to do starts at once.

SCANSCRIBE_MODEL_SERVER says whose engine it is: `auto` (the default) takes the model server that
runs with the same bundle, else one of this process; `always` starts a server when there is none;
`never` does not look for one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.account import Observer, Silent, Summary
from flows.discover import Entry, Version, default_output, show_name, walk
from flows.drive import Submit, run_folder
from flows.formats import check_format, write_formats
from flows.metrics import RunMetrics, metrics_port
from flows.model_place import Place
from flows.precisions import cache, drafts, precisions
from flows.procedure import bind, output_schema
from flows.run import Procedure, Run
from flows.scale import Scale, check_scale
from flows.signals import stoppable
from flows.store import Store
from model_onnx.bundle import Bundle
from model_onnx.engine import POCKET, Engine
from model_onnx.errors import RuntimeUnavailableError, UsageError
from model_onnx.prompt import PromptRenderer
from model_onnx.sequence import Request, Result

if TYPE_CHECKING:  # httpx, 0.3 s, for those who have a server
    from flows.model_client import ModelClient

SLOTS = 8  # documents that decode together
AHEAD = 2  # documents that are parsed meanwhile, each by one parser process


@dataclass(frozen=True)
class Settings:
    """One run. output: None for a directory named after the input; model: None for the embedded
    bundle; limit: documents to compute at most; thinking: tokens, see `pipelines.Options`;
    video: see `flows/videos.py`."""

    subtask: str
    input: Path
    output: Path | None = None
    schema: str | None = None
    labels: tuple[str, ...] = ()
    several: bool = False
    model: Path | None = None
    soft_tokens: int = 560
    limit: int | None = None
    retry_failed: bool = False
    formats: tuple[str, ...] = ()
    scale: Scale = field(default_factory=Scale)
    thinking: int = 0
    keep_thoughts: bool = False
    video: str = ""
    tools: str | None = None
    allow: tuple[str, ...] = ()

    @cached_property
    def directory(self) -> Path:
        return self.output or default_output(self.input, self.subtask)


class LazyEngine:
    """An engine that is opened by the first request. Raises then what `Engine.open` raises."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._lock = threading.Lock()
        self._engine: Engine | ModelClient | None = None
        self._opener: threading.Thread | None = None

    @cached_property
    def renderer(self) -> PromptRenderer:
        return PromptRenderer(self.bundle)

    @property
    def provider(self) -> str:
        return self._open().provider

    def submit(self, request: Request) -> Future[Result]:
        return self._open().submit(request)

    def begin(self) -> None:
        """Opens it beside the caller, who has something else to do first."""
        with self._lock:
            if self._opener is None:
                self._opener = threading.Thread(target=self._open_quietly, name="engine-opener")
                self._opener.start()

    def close(self) -> None:
        if self._opener:
            self._opener.join()
        with self._lock:
            if self._engine:
                self._engine.close()

    def _open_quietly(self) -> None:
        with contextlib.suppress(Exception):  # whoever needs it opens it again, and is told
            _ = self._open(), self.renderer

    def _open(self) -> Engine | ModelClient:
        with self._lock:
            self._engine = self._engine or open_engine(self.bundle)
            return self._engine


def server_mode() -> str:
    """Raises UsageError."""
    mode = os.environ.get("SCANSCRIBE_MODEL_SERVER") or "auto"
    if mode not in ("auto", "always", "never"):
        raise UsageError(f"got SCANSCRIBE_MODEL_SERVER={mode}, expected auto, always or never")
    return mode


def open_engine(bundle: Bundle) -> Engine | ModelClient:
    """The model server's or one of this process. Raises ModelError, UsageError."""
    mode = server_mode()
    try:
        if mode == "always" or (mode == "auto" and Place.of(bundle.sha256).address.exists()):
            from flows.model_client import ModelClient

            client = ModelClient.open(bundle) if mode == "always" else ModelClient.find(bundle)
            if client:
                return client
    except RuntimeUnavailableError:  # no place for a server on this machine
        if mode == "always":
            raise
    return Engine.open(bundle, drafts=drafts(), cache=cache(), **precisions())


def _opening(engine: LazyEngine, procedure: Procedure) -> Procedure:
    """The same, with the engine opened while the first document is parsed."""

    def parse(entry: Entry, version: Version) -> Any:
        engine.begin()
        return procedure.parse(entry, version)

    return replace(procedure, parse=parse)


def prepare(settings: Settings) -> tuple[Bundle, Procedure, list[Entry]]:
    """All that can be wrong with a request is found here. Raises UsageError, ModelError."""
    server_mode()
    for name in settings.formats:
        check_format(name, settings.subtask)
    check_scale(settings.scale)
    entries = walk(settings.input, skip=settings.directory)
    return *bound(settings), entries


def bound(settings: Settings) -> tuple[Bundle, Procedure]:
    """The model and the subtask. Raises ModelError, UsageError, ConfigError."""
    bundle = Bundle.open(settings.model or POCKET)
    procedure = bind(
        settings.subtask,
        bundle,
        schema=settings.schema,
        labels=settings.labels,
        several=settings.several,
        soft_tokens=settings.soft_tokens,
        thinking=settings.thinking,
        keep_thoughts=settings.keep_thoughts,
        video=settings.video,
        tools=settings.tools,
        allow=settings.allow,
        parsers=AHEAD,
    )
    return bundle, procedure


def noted(settings: Settings) -> dict[str, str]:
    """What looking at a run later needs: where its files are, and the schema as asked for."""
    made = output_schema(
        settings.subtask,
        schema=settings.schema,
        labels=settings.labels,
        several=settings.several,
        tools=settings.tools,
        allow=settings.allow,
    )
    about = {"input": show_name(os.fsencode(settings.input.resolve())), "output_schema": made}
    about["video"] = settings.video
    return about | ({"asked_schema": settings.schema} if settings.schema else {})


def execute(
    settings: Settings,
    *,
    observer: Observer | None = None,
    submitter: Callable[[Run], Submit] | None = None,
    port: int | None = None,
) -> Summary:
    """Runs from start to end, writes all formats and summary.json.

    submitter: how documents are started; port: where Prometheus can look meanwhile.
    """
    bundle, procedure, entries = prepare(settings)
    metrics = RunMetrics(observer or Silent())
    with contextlib.ExitStack() as stack:
        stack.enter_context(metrics_port(port, metrics))
        stack.callback(procedure.abandon)
        engine = stack.enter_context(contextlib.closing(LazyEngine(bundle)))
        store = stack.enter_context(Store.open(settings.directory, settings.scale.store))
        run = Run(
            store,
            _opening(engine, procedure),
            engine,
            retry_failed=settings.retry_failed,
            limit=settings.limit,
            in_flight=(SLOTS + AHEAD) * settings.scale.workers,
        )
        stack.enter_context(stoppable(run))
        submit = submitter(run) if submitter else None
        summary = run_folder(run, entries, observer=metrics, submit=submit, about=noted(settings))
        write_formats(settings.formats, store)
        metrics.write(settings.directory, summary, settings.subtask, bundle.sha256)
        return summary
