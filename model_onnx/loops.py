"""Detects an answer that has got stuck: the same tokens over and over. Knows ids only."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PERIOD = 128  # tokens of a repeated stretch: a line, or an item of a JSON list
LEAST_COPIES = 8
LEAST_TOKENS = 160  # of all copies together: 20 table rows of 8 tokens, or a rule of dashes


class LoopDetector:
    """Add the ids of an answer one by one; `found` turns true when it loops, and stays so.

    A loop is a stretch of p <= LONGEST_PERIOD ids that stands at least LEAST_COPIES times in a row
    and fills at least LEAST_TOKENS ids. A text that the answer copies (`source` ids) may have such
    stretches itself, such as a column of zeros: an answer may repeat with a period half as long
    again as the source does before it counts as a loop."""

    def __init__(self, source: Sequence[int] = ()) -> None:
        self._limits: dict[int, int] = {}  # period -> matches that make a loop
        self.found = False
        self._reset()
        longest: dict[int, int] = {}
        for token in source:
            self._push(token)
            for period, matches in self._matches.items():
                longest[period] = max(matches, longest.get(period, 0))
        for period in range(1, LONGEST_PERIOD + 1):
            least = max(LEAST_TOKENS, LEAST_COPIES * period) - period
            self._limits[period] = max(least, longest.get(period, 0) * 3 // 2)
        self._reset()

    def add(self, token: int) -> None:
        self._push(token)
        if any(matches >= self._limits[period] for period, matches in self._matches.items()):
            self.found = True

    def _reset(self) -> None:
        self._length = 0
        self._places: dict[int, list[int]] = {}  # id -> where it stood, lately
        self._matches: dict[int, int] = {}  # period p -> ids in a row equal to the one p before

    def _push(self, token: int) -> None:
        nearest = self._length - LONGEST_PERIOD
        places = [place for place in self._places.get(token, ()) if place >= nearest]
        before = self._matches
        self._matches = {p: before.get(p, 0) + 1 for p in (self._length - i for i in places)}
        self._places[token] = [*places, self._length]
        self._length += 1
