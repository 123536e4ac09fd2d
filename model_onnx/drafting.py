"""When the drafter is asked, and for how many ids: as long as that is faster than plain steps.

Knows sequences, caches and costs; knows no graph. A text that the answer copies guesses first, see
`sequence.py`; the drafter where that text has nothing to say.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol

from model_onnx.cache import KVCache
from model_onnx.costs import Costs, CostSource, FixedCosts, MeasuredCosts
from model_onnx.draft import Acceptance
from model_onnx.sequence import Sequence
from model_onnx.session import Array

Drafts = Literal["auto", "on", "off"]

_LEAST = 2  # ids of a guess that is made at any price


class Guesser(Protocol):
    """`Drafter`, or a fake of a few lines."""

    def draft(
        self, cache: KVCache, slot: int, state: Array, tokens: list[int], count: int
    ) -> list[int]: ...

    def forget(self, cache: KVCache) -> None: ...


class Drafting:
    """Guesses for the sequences of one engine.

    drafts: `auto` stops below the break-even rate, `on` guesses at any price. costs: by default
    measured with `auto`."""

    def __init__(
        self, drafter: Guesser, drafts: Drafts = "auto", costs: CostSource | None = None
    ) -> None:
        self.drafter = drafter
        self._least = _LEAST if drafts == "on" else 0
        default = FixedCosts(Costs(draft=0.1)) if drafts == "on" else MeasuredCosts()
        self.costs = costs or default
        self.overall = Acceptance()  # where a new sequence begins

    def propose(self, cache: KVCache, slot: int, sequence: Sequence, together: int) -> None:
        """Gives a sequence that is decoded with `together - 1` others its guesses, if they pay."""
        room, costs = sequence.room, self.costs.costs(together)
        if not room or costs is None or sequence.state is None:
            return
        if sequence.acceptance is None:
            sequence.acceptance = Acceptance(self.overall.rate, self.overall)
        count = min(max(sequence.acceptance.count(costs), self._least), room)
        if not count:
            return
        started = time.perf_counter()
        ids = self.drafter.draft(cache, slot, sequence.state, sequence.pending, count)
        waiting = len(sequence.pending) - 1
        sequence.guess(ids, sequence.acceptance)  # asks the grammar about each of them
        self.costs.add_draft(waiting + count, time.perf_counter() - started)
