"""What a guess costs on this machine, in plain steps: decides how many ids are worth guessing.

Knows no model and no text, and takes no time itself: the engine tells it what steps took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

MOST = 16  # ids in one guess
_KEPT = 32  # latest timings of a kind
_ENOUGH = 4  # timings of a kind before it counts


@dataclass(frozen=True)
class Costs:
    """In plain steps of one sequence alone. row: each further id that a step verifies. draft: each
    id that is guessed. plain: one id of a plain step, less than 1 where sequences share steps."""

    row: float = 0.2  # 8 guesses at the 12B's shape were measured at 2.4-2.6 plain steps
    draft: float = 0.0
    plain: float = 1.0

    def best_count(self, rate: float) -> int:
        """How many ids to guess when each is right with probability `rate` if those before it are:
        k ids yield 1 + r + ... + r^k tokens for 1 + (row + draft) * k plain steps; 0 when no
        number of them yields more than plain steps for the same time."""
        best, most = 0, 1 / self.plain
        tokens = likelihood = 1.0
        for count in range(1, MOST + 1):
            likelihood *= rate
            tokens += likelihood
            if tokens / (1 + (self.row + self.draft) * count) > most:
                best, most = count, tokens / (1 + (self.row + self.draft) * count)
        return best

    def break_even(self) -> float:
        """The least rate at which guessing pays; 1.0 when it never does."""
        if not self.best_count(1.0):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if self.best_count(middle) else (middle, high)
        return high


class CostSource(Protocol):
    """Where the engine learns what a guess of the drafter costs; None when guesses must not be
    made now, for instance because a plain step is to be timed."""

    def costs(self, together: int) -> Costs | None: ...

    def add_step(self, sequences: int, rows: int, seconds: float) -> None: ...

    def add_draft(self, ids: int, seconds: float) -> None: ...


class FixedCosts:
    """Always the same, whatever was measured: for tests, and to have guesses at any price."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def costs(self, together: int) -> Costs | None:
        return self._costs

    def add_step(self, sequences: int, rows: int, seconds: float) -> None:
        pass

    def add_draft(self, ids: int, seconds: float) -> None:
        pass


class MeasuredCosts:
    """Medians of what the latest steps took. Plain steps come first, and one is made now and then
    later, so that a machine that becomes busy is noticed."""

    PLAIN_EVERY = 32  # guesses

    def __init__(self) -> None:
        self._plain: dict[int, deque[float]] = {}  # sequences -> seconds of a step
        self._rows: deque[float] = deque(maxlen=_KEPT)  # seconds of each further row
        self._draft: deque[float] = deque(maxlen=_KEPT)  # seconds of a guessed id
        self._asked = 0

    def costs(self, together: int) -> Costs | None:
        self._asked += 1
        alone = self._median(self._plain.get(1, ()))
        if alone is None or self._asked % self.PLAIN_EVERY == 0:
            return None
        row, draft = self._median(self._rows), self._median(self._draft)
        return Costs(
            row=Costs.row if row is None else max(row, 0.0) / alone,
            draft=0.1 if draft is None else draft / alone,
            plain=self._share(together, alone),
        )

    def add_step(self, sequences: int, rows: int, seconds: float) -> None:
        """A step of `sequences` with one row each, or of one with several rows."""
        if rows == 1:
            self._plain.setdefault(sequences, deque(maxlen=_KEPT)).append(seconds)
            return
        alone = self._median(self._plain.get(1, ()))
        if alone is not None:
            self._rows.append((seconds - alone) / (rows - 1))

    def add_draft(self, ids: int, seconds: float) -> None:
        self._draft.append(seconds / ids)

    def _share(self, together: int, alone: float) -> float:
        """Plain steps that one token costs when `together` sequences share a step."""
        timed = {n: self._median(steps) for n, steps in self._plain.items() if n > 1}
        known = {n: seconds for n, seconds in timed.items() if seconds is not None}
        if together == 1 or not known:
            return 1 / together  # not timed yet: then no guess pays in company
        nearest = min(known, key=lambda n: abs(n - together))
        return min(1.0, known[nearest] / nearest / alone)

    @staticmethod
    def _median(timings: Iterable[float]) -> float | None:
        kept = list(timings)
        return median(kept) if len(kept) >= _ENOUGH else None
