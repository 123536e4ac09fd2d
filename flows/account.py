"""The account of a run: what became of each input, and sums that add up.

Knows the store and nothing of how a record is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flows.store import Store
from model_onnx.errors import ScanscribeError

STATUSES = ("ok", "review", "truncated", "failed", "unsupported")


@dataclass(frozen=True)
class Outcome:
    """What became of one input in this run. status: of the record, or failed, unsupported,
    pending (not reached). unchanged: it stood so before this run, which did not try it. stages:
    seconds by parse, prefill, decode (as the engine counts them) and checks (all the rest)."""

    path: str
    status: str
    reason: str = ""
    unchanged: bool = False
    pages: int = 0
    audio_seconds: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """The account of a run. failed and unsupported count what stands so, not only what was tried;
    unchanged counts the records that were there before."""

    inputs: int
    ok: int
    review: int
    truncated: int
    failed: int
    unsupported: int
    unchanged: int
    pending: int
    signal: int | None = None

    def __str__(self) -> str:
        names = [*STATUSES, "unchanged", *(["pending"] if self.pending else [])]
        return f"{self.inputs} inputs = " + " + ".join(f"{getattr(self, n)} {n}" for n in names)

    @property
    def exit_code(self) -> int:
        if self.signal:
            return 128 + self.signal
        if self.inputs == self.unsupported:
            return 4
        if self.failed:
            return 6 if self.inputs == self.unsupported + self.failed else 3
        return 0


class Observer(Protocol):
    """Is told what happens, in the thread that called `run_folder`.

    answers: what the model has answered in this run, of documents that are not done too: a page or
    clip each where they are asked for one by one.
    """

    def started(self, inputs: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def waiting(self, answers: int) -> None: ...  # a few times a second


class Silent:
    def started(self, inputs: int) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def waiting(self, answers: int) -> None: ...


def summarise(store: Store, inputs: int, signal: int | None = None) -> Summary:
    """Counts the manifest. Raises ScanscribeError when it does not account for every input."""
    counts = dict.fromkeys([*STATUSES, "unchanged", "pending"], 0)
    for (status, unchanged), number in store.counts().items():
        counts["unchanged" if unchanged else status] += number
    if sum(counts.values()) != inputs:
        raise ScanscribeError(
            f"got {sum(counts.values())} manifest rows for {inputs} inputs, expected as many; "
            "this is a fault of the program, please report it"
        )
    return Summary(inputs=inputs, **counts, signal=signal)
