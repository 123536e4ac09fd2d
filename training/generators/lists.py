"""The lists of `lists.txt`, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _all() -> dict[str, tuple[str, ...]]:
    found: dict[str, str] = {}
    name = ""
    for line in Path(__file__).with_suffix(".txt").read_text("ascii").split("\n"):
        if line.startswith("["):
            name = line.strip("[]")
            found[name] = ""
        elif name:
            found[name] += line
    return {name: tuple(text.split("|")) for name, text in found.items()}


def load(name: str) -> tuple[str, ...]:
    """Raises KeyError for a list that is not there."""
    return _all()[name]
