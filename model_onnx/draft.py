"""Guesses the next tokens of an answer that mostly copies a text: prompt lookup.

Knows ids only. A guess changes the speed of an answer, never its tokens: the engine verifies
every id. How many to guess follows from how many were right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

LONGEST_MATCH = 4  # ids compared to find where in the source the answer stands
NEAR = 48  # ids ahead of the last place in which a single matching id is believed
MOST = 16  # ids in one guess
# One step that verifies k guesses costs 1 + 0.2 k plain steps (8 guesses measured at 2.4-2.6).
STEP_COST = 0.2
MEMORY = 0.9  # share of the old acceptance rate that one verified id leaves
PROBE = 16  # steps without a guess before a short one tests whether copying has begun again


class PromptLookup:
    """The source text's ids, where the answer stands in them, and how often guesses were right.

    Where: directly behind the longest match (up to LONGEST_MATCH ids) of the answer's end in the
    source; among equal matches the first one at or behind the last place, since copies go forward.
    A single id counts only NEAR ids ahead. At the start of an answer it is the source's start.

    How many: with the acceptance rate r of one id, a guess of k ids yields (1 - r^(k+1)) / (1 - r)
    tokens for 1 + STEP_COST * k steps; k is the best of 0 .. MOST. r starts at 0.8 and is a running
    mean over verified ids. When k is 0, every PROBE-th call guesses two ids to measure again."""

    def __init__(self, source: Sequence[int]) -> None:
        self._source = list(source)
        self._places: dict[tuple[int, ...], list[int]] = {}  # stretch -> indices behind it
        for length in range(1, LONGEST_MATCH + 1):
            for end in range(length, len(self._source) + 1):
                key = tuple(self._source[end - length : end])
                self._places.setdefault(key, []).append(end)
        self._place = 0
        self._rate = 0.8
        self._idle = 0

    def propose(self, answer: Sequence[int]) -> list[int]:
        """The ids that may follow the answer so far; [] when a guess would not pay."""
        place = self._locate(answer)
        if place is None:
            return []
        self._place = place
        return self._source[place : place + self._count()]

    def feedback(self, proposed: int, accepted: int) -> None:
        """What became of the last guess: its first `accepted` of `proposed` ids were right."""
        for index in range(min(accepted + 1, proposed)):
            self._rate = MEMORY * self._rate + (1 - MEMORY) * (index < accepted)

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

    def _count(self) -> int:
        best, most_tokens = 0, 1.0  # tokens for the price of one plain step
        tokens = likelihood = 1.0
        for count in range(1, MOST + 1):
            likelihood *= self._rate
            tokens += likelihood
            if tokens / (1 + STEP_COST * count) > most_tokens:
                best, most_tokens = count, tokens / (1 + STEP_COST * count)
        if best:
            self._idle = 0
            return best
        self._idle += 1
        return 2 if self._idle % PROBE == 0 else 0
