"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere.

Both are Observers; they show names, counts and times, never text of a document. They write to
standard error, so that the account on standard output can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.account import Observer, Outcome
from flows.discover import printable

_LINE_SECONDS = 10.0


@dataclass
class Tally:
    """Sums of the outcomes so far. A file that need not be computed counts as done."""

    inputs: int = 0
    done: int = 0
    computed: int = 0
    failed: int = 0
    pages: int = 0
    answers: int = 0
    audio_seconds: float = 0.0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.done += 1
        self.computed += outcome.status in ("ok", "review", "truncated") and not outcome.unchanged
        self.failed += outcome.status == "failed"
        self.pages += outcome.pages
        self.audio_seconds += outcome.audio_seconds
        self.tokens += outcome.new_tokens

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-3)
        heard = f", {self.audio_seconds:.0f} s of audio" if self.audio_seconds else ""
        return (
            f"{self.pages} pages{heard}, {self.answers} answers, "
            f"{self.tokens / seconds:.0f} tokens/s, {self.failed} failed"
        )


class PlainProgress:
    """One line per failure, and one every ten seconds."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._next = time.monotonic() + _LINE_SECONDS

    def started(self, inputs: int) -> None:
        self._tally.inputs = inputs
        _say(f"{inputs} inputs")

    def finished(self, outcome: Outcome) -> None:
        self._tally.add(outcome)
        if outcome.status == "failed":
            _say(failure_line(outcome))

    def waiting(self, answers: int) -> None:
        self._tally.answers = answers
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_SECONDS
            tally = self._tally
            _say(f"{tally.done} of {tally.inputs} files, {tally}, {self._remaining(now)} to go")

    def _remaining(self, now: float) -> str:
        tally = self._tally
        if not tally.computed:
            return "unknown time"
        seconds = (now - tally.started) / tally.done * (tally.inputs - tally.done)
        return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {seconds:.0f} s"


class LiveProgress:
    """A bar with files, pages, tokens per second, time to go and failures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tally = Tally()
        self._task = progress.add_task("", total=None, about="")

    def started(self, inputs: int) -> None:
        self._tally.inputs = inputs
        self._progress.update(self._task, total=inputs)

    def finished(self, outcome: Outcome) -> None:
        self._tally.add(outcome)
        self._progress.update(self._task, advance=1, about=str(self._tally))
        if outcome.status == "failed":
            self._progress.console.print(failure_line(outcome), markup=False, highlight=False)

    def waiting(self, answers: int) -> None:
        self._tally.answers = answers
        self._progress.update(self._task, about=str(self._tally))


def failure_line(outcome: Outcome) -> str:
    return f"failed: {printable(outcome.path)}: {outcome.reason}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def show_progress() -> Iterator[Observer]:
    """The observer that fits standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress()
        return
    with steps(console) as progress:
        yield LiveProgress(progress)


def steps(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[about]}", markup=False),
        console=console,
    )
