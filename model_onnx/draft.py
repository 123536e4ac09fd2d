"""Where guesses of the next tokens come from, and how many are made.

Knows ids only. A guess changes the speed of an answer, never its tokens: the engine verifies
every id. Two sources share the rule for their number: `PromptLookup`, for an answer that mostly
copies a text, and the bundle's drafter (`drafter.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from model_onnx.costs import MOST, Costs

__all__ = ["LONGEST_MATCH", "MOST", "NEAR", "PROBE", "Acceptance", "PromptLookup"]

LONGEST_MATCH = 4  # ids compared to find where in the source the answer stands
NEAR = 48  # ids ahead of the last place in which a single matching id is believed
MEMORY = 0.9  # share of the old acceptance rate that one verified id leaves
PROBE = 16  # steps without a guess before a short one tests whether guesses are right again


class Acceptance:
    """How often guesses of one source are right, and how many follow from that.

    The rate of one id is a running mean over verified ids. When guessing would not pay, every
    PROBE-th call guesses two ids all the same, to measure again."""

    def __init__(self, rate: float = 0.8, whole: Acceptance | None = None) -> None:
        """whole: a rate over several answers, which learns from this one too."""
        self.rate = rate
        self.verified = self.right = 0  # ids, so far
        self._whole = whole
        self._idle = 0

    def count(self, costs: Costs) -> int:
        best = costs.best_count(self.rate)
        if best:
            self._idle = 0
            return best
        self._idle += 1
        return 2 if self._idle % PROBE == 0 else 0

    def feedback(self, proposed: int, accepted: int) -> None:
        """What became of the last guess: its first `accepted` of `proposed` ids were right."""
        for index in range(min(accepted + 1, proposed)):
            self.rate = MEMORY * self.rate + (1 - MEMORY) * (index < accepted)
            self.verified += 1
            self.right += index < accepted
        if self._whole is not None:
            self._whole.feedback(proposed, accepted)


class PromptLookup:
    """The source text's ids and where the answer stands in them.

    Where: directly behind the longest match (up to LONGEST_MATCH ids) of the answer's end in the
    source; among equal matches the first one at or behind the last place, since copies go forward.
    A single id counts only NEAR ids ahead. At the start of an answer it is the source's start.

    The cost of a guess is a fixed one, so that an answer is fed in the same pieces every time."""

    def __init__(self, source: Sequence[int]) -> None:
        self._source = list(source)
        self._places: dict[tuple[int, ...], list[int]] = {}  # stretch -> indices behind it
        for length in range(1, LONGEST_MATCH + 1):
            for end in range(length, len(self._source) + 1):
                key = tuple(self._source[end - length : end])
                self._places.setdefault(key, []).append(end)
        self._place = 0
        self._acceptance = Acceptance()

    def propose(self, answer: Sequence[int]) -> list[int]:
        """The ids that may follow the answer so far; [] when a guess would not pay."""
        place = self._locate(answer)
        if place is None:
            return []
        self._place = place
        return self._source[place : place + self._acceptance.count(Costs())]

    def feedback(self, proposed: int, accepted: int) -> None:
        self._acceptance.feedback(proposed, accepted)

    def _locate(self, answer: Sequence[int]) -> int | None:
        if not answer:
            return 0
        for length in range(min(LONGEST_MATCH, len(answer)), 0, -1):
            places = self._places.get(tuple(answer[-length:]), [])
            ahead = bisect_left(places, self._place)
            if length > 1 and places:
                return places[min(ahead, len(places) - 1)]
            if length == 1 and ahead < len(places) and places[ahead] <= self._place + NEAR:
                return places[ahead]
        return None
