"""From what a person asks for to a run: which subtask, which model, which inputs, which output.

`flows run` and the Prefect flow both call `execute`; all values of Settings are plain data. The
engine is opened when the first document needs it, so a run with nothing to do starts at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.account import Observer, Summary
from flows.discover import Entry, default_output, show_name, walk
from flows.formats import check_format, write_formats
from flows.procedure import bind, output_schema
from flows.run import Procedure, Run, Submit, run_folder
from flows.signals import stoppable
from flows.store import Store
from model_onnx.bundle import Bundle
from model_onnx.engine import POCKET, Engine
from model_onnx.prompt import PromptRenderer
from model_onnx.sequence import Request, Result

SLOTS = 8  # documents that decode together
AHEAD = 2  # documents that are parsed meanwhile, each by one parser process


@dataclass(frozen=True)
class Settings:
    """One run. output: None for a directory named after the input; model: None for the embedded
    bundle; limit: documents to compute at most."""

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

    @cached_property
    def directory(self) -> Path:
        return self.output or default_output(self.input, self.subtask)


class LazyEngine:
    """An engine that is opened by the first request. Raises then what `Engine.open` raises."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @cached_property
    def renderer(self) -> PromptRenderer:
        return PromptRenderer(self.bundle)

    @property
    def provider(self) -> str:
        return self._open().provider

    def submit(self, request: Request) -> Future[Result]:
        return self._open().submit(request)

    def close(self) -> None:
        with self._lock:
            if self._engine:
                self._engine.close()

    def _open(self) -> Engine:
        with self._lock:
            self._engine = self._engine or Engine.open(self.bundle, slots=SLOTS)
            return self._engine


def prepare(settings: Settings) -> tuple[Bundle, Procedure, list[Entry]]:
    """All that can be wrong with a request is found here. Raises UsageError, ModelError."""
    for name in settings.formats:
        check_format(name, settings.subtask)
    entries = walk(settings.input, skip=settings.directory)
    bundle = Bundle.open(settings.model or POCKET)
    procedure = bind(
        settings.subtask,
        bundle,
        schema=settings.schema,
        labels=settings.labels,
        several=settings.several,
        soft_tokens=settings.soft_tokens,
        parsers=AHEAD,
    )
    return bundle, procedure, entries


def noted(settings: Settings) -> dict[str, str]:
    """What looking at a run later needs: where its files are, and the schema as it was asked for."""
    made = output_schema(
        settings.subtask,
        schema=settings.schema,
        labels=settings.labels,
        several=settings.several,
    )
    about = {"input": show_name(os.fsencode(settings.input.resolve())), "output_schema": made}
    return about | ({"asked_schema": settings.schema} if settings.schema else {})


def execute(
    settings: Settings,
    *,
    observer: Observer | None = None,
    submitter: Callable[[Run], Submit] | None = None,
) -> Summary:
    """Runs from start to end and writes all formats. submitter: how documents are started."""
    bundle, procedure, entries = prepare(settings)
    with contextlib.ExitStack() as stack:
        stack.callback(procedure.abandon)
        engine = stack.enter_context(contextlib.closing(LazyEngine(bundle)))
        store = stack.enter_context(Store.open(settings.directory))
        run = Run(
            store,
            procedure,
            engine,
            retry_failed=settings.retry_failed,
            limit=settings.limit,
            in_flight=SLOTS + AHEAD,
        )
        stack.enter_context(stoppable(run))
        submit = submitter(run) if submitter else None
        summary = run_folder(run, entries, observer=observer, submit=submit, about=noted(settings))
        write_formats(settings.formats, store)
        return summary
