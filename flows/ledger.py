"""What a flow run shows in Prefect: one progress artifact, one table of failures, its counts.

Knows paths, statuses and reasons, never a document's text. The artifacts are a courtesy: they are
sent from a thread of their own, so a server that is slow does not hold up documents or a stop, and
one that does not answer costs a warning, not the run.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from flows.account import Outcome
from flows.progress import PlainProgress

_UPDATE_SECONDS = 5.0
_CLOSE_SECONDS = 60.0
_STOP_SECONDS = 5.0  # Prefect kills a run that it cancelled after 30 s
_ROWS = 1000  # of the table; the manifest has all


class Ledger(PlainProgress):
    """Observer of one flow run. `close` writes the table."""

    def __init__(self, subtask: str, output: Path) -> None:
        super().__init__()
        self._subtask, self._output = subtask, output
        self._inputs = self._done = 0
        self._progress: UUID | None = None
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="artifacts")
        self._sent: Future[None] = Future()
        self._next_update = 0.0
        self._failures: list[Outcome] = []
        self.tried: Counter[str] = Counter()  # status -> documents that this run tried

    @property
    def failed(self) -> int:
        return self.tried["failed"]

    @property
    def reasons(self) -> str:
        """Of the failures among what was tried: `3 encrypted, 1 timeout`."""
        counts = Counter(each.reason for each in self._failures if not each.unchanged)
        return ", ".join(f"{number} {reason}" for reason, number in counts.most_common())

    def started(self, inputs: int) -> None:
        super().started(inputs)
        self._inputs = inputs
        self._send(self._create_progress)

    def finished(self, outcome: Outcome) -> None:
        super().finished(outcome)
        self._done += 1
        if outcome.status == "failed":
            self._failures.append(outcome)
        if not outcome.unchanged and outcome.status not in ("pending", "unsupported"):
            self.tried[outcome.status] += 1

    def waiting(self, answers: int) -> None:
        super().waiting(answers)
        if self._sent.done() and time.monotonic() >= self._next_update:
            self._send(self._update_progress)

    def close(self, said: str, *, stopped: bool = False) -> None:
        """said: what became of the run, in a line; stopped: it was told to end."""
        self._send(lambda: self._update_progress(said))
        self._send(self._create_table)
        wait([self._sent], timeout=_STOP_SECONDS if stopped else _CLOSE_SECONDS)
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _create_progress(self) -> None:
        made = create_progress_artifact(
            progress=0.0, key=self._key("progress"), description=f"{self._inputs} inputs"
        )
        assert isinstance(made, UUID)  # a coroutine only inside an event loop
        self._progress = made

    def _update_progress(self, said: str = "") -> None:
        if self._progress:
            update_progress_artifact(
                self._progress,
                progress=100.0 * self._done / max(self._inputs, 1),
                description=said or f"{self._done} of {self._inputs} inputs, {self.failed} failed",
            )

    def _create_table(self) -> None:
        hidden = len(self._failures) - _ROWS
        more = f", {hidden} more than are listed" if hidden > 0 else ""
        create_table_artifact(
            key=self._key("failures"),
            description=f"{len(self._failures)} documents without a record{more}; the messages "
            f"stand in {self._output / 'manifest.jsonl'}",
            table=[
                {
                    "document": each.path,
                    "reason": each.reason,
                    "since": "an earlier run" if each.unchanged else "this run",
                }
                for each in self._failures[:_ROWS]
            ],
        )

    def _key(self, kind: str) -> str:
        """The same for every run into one output: the UI lists them as one history."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{self._subtask} {self._output.name}".lower())
        path = hashlib.sha256(str(self._output.absolute()).encode()).hexdigest()[:6]
        return f"{words.strip('-')}-{path}-{kind}"

    def _send(self, act: Callable[[], None]) -> None:
        self._next_update = time.monotonic() + _UPDATE_SECONDS
        context = copy_context()  # says which flow run it is
        self._sent = self._sender.submit(context.run, _quietly, act)


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        get_run_logger().warning("no artifact: %s from the server", type(error).__name__)
