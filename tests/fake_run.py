"""A run without files formats and weights, for tests in this process and, as a script, in others.

A document is a text file; each of its lines is a page. The model answers a page with its text in
capitals and writes one line to `calls` for every page that it starts. Some pages are special:

    fail REASON   the parser raises InputError(REASON)
    boom          the subtask raises an error that quotes the page
    loop          the record is `failed`, reason `loop`
    review        the record is `review`
    change        the file grows while it is read
    vanish        the file is removed while it is read
    wait          the page takes for ever
    die           the model ends the process by a signal, as a lack of memory does
    fault         the same by a fault in native code

    python -m tests.fake_run INPUT OUTPUT CALLS SECONDS_PER_PAGE [OPTION=VALUE]
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from flows.account import Summary
from flows.discover import Entry, Version, walk
from flows.drive import run_folder
from flows.run import Procedure, Run, Size
from flows.signals import stoppable
from flows.store import Store
from model_onnx.errors import InputError, ScanscribeError
from model_onnx.prompt import Prompt
from model_onnx.sequence import Request, Result
from pipelines.records import Check, FieldValue, Grounding, ModelInfo, Record, Source, Timing
from pipelines.subtask import Model


class PageModel:
    """Answers in its own thread, one page after another, like an engine with one slot."""

    provider = "cpu"

    def __init__(self, calls: Path, seconds: float = 0.0) -> None:
        self.bundle: Any = SimpleNamespace(sha256="b" * 64)
        self.renderer: Any = None
        self.calls, self.seconds = calls, seconds
        self._waiting: deque[tuple[Request, Future[Result]]] = deque()
        self._wake = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, request: Request) -> Future[Result]:
        future: Future[Result] = Future()
        with self._wake:
            self._waiting.append((request, future))
            self._wake.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    self._wake.wait()
                request, future = self._waiting.popleft()
            page = bytes(request.prompt.ids.astype(np.uint8)).decode()
            if future.cancelled():
                continue
            with self.calls.open("a", encoding="utf-8") as file:
                file.write(page + "\n")
            time.sleep(self.seconds)
            if page.endswith(("die", "fault")):
                os.kill(os.getpid(), signal.SIGKILL if page.endswith("die") else signal.SIGSEGV)
                time.sleep(60)  # the signal may reach another thread first
            while page.endswith("wait") and not future.cancelled():
                time.sleep(0.01)
            if not future.cancelled():
                future.set_result(answer(page))


def answer(page: str) -> Result:
    text = page.upper()
    return Result(
        text=text,
        ids=tuple(range(len(text))),
        pieces=tuple(letter.encode() for letter in text),
        logprobs=np.linspace(-0.3, 0, len(text), dtype=np.float32),
        finish="stop",
        choice_probabilities=None,
        prompt_tokens=len(page),
        cached_tokens=0,
        forced_tokens=0,
        drafted_tokens=0,
        accepted_tokens=0,
        prefill_seconds=time.monotonic() % 1,
        decode_seconds=time.monotonic() % 1,
    )


@dataclass(frozen=True)
class Pages:
    source: Source
    lines: tuple[str, ...]


def parse(entry: Entry, version: Version) -> Pages:
    lines = entry.path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("fail "):
            raise InputError("the parser says no", reason=line.split()[1])
    if "change" in lines:
        entry.path.write_text("\n".join([*lines, "more"]), encoding="utf-8")
    if "vanish" in lines:
        entry.path.unlink()
    source = Source(path=entry.shown, sha256=version.sha256, kind="text", pages=len(lines))
    return Pages(source, tuple(lines))


def read_pages(model: Model, pages: Pages) -> Record:
    """One request after another, so that a killed run has some of a document's pages."""
    if "boom" in pages.lines:
        raise ValueError(f"secret: {pages.lines[0]}")
    results = [model.submit(_request(line)).result() for line in pages.lines]
    confidence = float(np.exp(np.mean([np.mean(result.logprobs) for result in results])))
    status: Any = next((word for word in ("review", "loop") if word in pages.lines), "ok")
    if status == "loop":
        status, output = "failed", None
    else:
        output = {"text": "\n".join(result.text for result in results)}
    value = FieldValue(value=None, confidence=confidence, grounding=Grounding(status="none"))
    return Record(
        id="",
        source=pages.source,
        subtask="upper",
        schema_name=None,
        output=output,
        fields={"text": value},
        checks=() if output else (Check(name="loop", passed=False, reason="it repeats itself"),),
        status=status,
        reason="" if output else "loop",
        model=ModelInfo(bundle="b" * 64, provider="cpu", prompt_version="upper-1"),
        timing=Timing(new_tokens=sum(len(result.ids) for result in results)),
    )


def _request(line: str) -> Request:
    return Request(prompt=Prompt(np.frombuffer(line.encode(), np.uint8).astype(np.int64), (), 0))


def procedure(**options: str) -> Procedure:
    return Procedure(
        subtask="upper",
        identity={"subtask": "upper", **options},
        parse=parse,
        run=read_pages,
        measure=lambda pages: Size(pages=len(pages.lines), prompt_tokens=10 * len(pages.lines)),
    )


def run(source: Path, output: Path, model: PageModel, **options: Any) -> Summary:
    """options: of Run, or `identity` for the procedure's."""
    observer, database = options.pop("observer", None), options.pop("store", None)
    made = procedure(**options.pop("identity", {}))
    with Store.open(output, database) as store:
        this = Run(store, made, model, **options)
        with stoppable(this):
            return run_folder(this, walk(source, skip=output), observer=observer)


def main() -> int:
    source, output, calls, seconds, *rest = sys.argv[1:]
    identity = dict(option.split("=", 1) for option in rest)
    store = identity.pop("store", None)
    model = PageModel(Path(calls), float(seconds))
    try:
        summary = run(
            Path(source),
            Path(output),
            model,
            in_flight=3,
            identity=identity,
            store=store,
        )
    except ScanscribeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(summary)
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
