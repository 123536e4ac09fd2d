"""Where the values of a call come from: the document, a result of an earlier call, or the model.

Knows no tool. A text stands in the document as a run of its words, a number or an ISO date also in
the form in which the document writes it (1234.5 as `1,234.50`). True, false and null are choices
and come from nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from pipelines.candidates import candidates
from pipelines.records import Grounding
from pipelines.values import Locale, parse_date, parse_number
from pipelines.windows import Window

Leaf = str | Decimal


@dataclass
class Origins:
    """Of one document. results: what calls have given back so far."""

    window: Window
    locale: Locale
    results: set[Leaf] = field(default_factory=set)

    def add(self, result: Any) -> None:
        self.results.update(leaves(result))

    def in_results(self, value: Any) -> bool:
        return self._all(value, lambda leaf: leaf in self.results)

    def in_document(self, value: Any) -> bool:
        return self._all(value, lambda leaf: self._find(leaf) is not None)

    def place(self, value: Any) -> Grounding:
        """Of a value with one text or number in it."""
        found = [self._find(leaf) for leaf in leaves(value)]
        return (found[0] if len(found) == 1 else None) or Grounding(status="none")

    def _all(self, value: Any, stands: Any) -> bool:
        parts = list(leaves(value))
        return bool(parts) and all(map(stands, parts))

    def _find(self, leaf: Leaf) -> Grounding | None:
        if isinstance(leaf, Decimal):
            form = self._numbers.get(leaf)
        else:
            form = leaf if self.window.index.find(leaf) else self._dates.get(leaf)
        place = self.window.index.find(form) if form else None
        return place.grounding if place else None

    @cached_property
    def _numbers(self) -> dict[Decimal | None, str]:
        forms = candidates(self.window.text, "number", self.locale)
        return {parse_number(form, self.locale): form for form in forms}

    @cached_property
    def _dates(self) -> dict[str, str]:
        forms = candidates(self.window.text, "date", self.locale)
        return {str(parse_date(form, self.locale)): form for form in forms}


def leaves(value: Any) -> Iterator[Leaf]:
    """The texts and numbers in a JSON value."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Decimal(str(value))
