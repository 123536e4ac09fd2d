"""Where each value of a JSON text stands, and how probable its tokens were.

Knows no schema. Offsets are characters; the pieces of a result are bytes, so both are converted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class ValueSpan:
    """A leaf (string, number, boolean, null, empty list) at text[start:end], with its quotes."""

    value: Any
    start: int
    end: int


def value_spans(text: str) -> dict[str, ValueSpan]:
    """Leaves of a JSON text by path (`items[0].name`; "" for a bare value). Raises ValueError."""
    spans: dict[str, ValueSpan] = {}
    end = _walk(text, _skip(text, 0), "", spans)
    if _skip(text, end) != len(text):
        raise ValueError("text after the JSON value")
    return spans


def join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _walk(text: str, at: int, path: str, spans: dict[str, ValueSpan]) -> int:
    """Records the leaves of the value at `at`; returns where it ends."""
    mark, start = text[at : at + 1], at
    close = {"{": "}", "[": "]"}.get(mark)
    if close is None:
        value, end = _DECODER.raw_decode(text, at)
        spans[path] = ValueSpan(value, at, end)
        return end
    at, count = _skip(text, at + 1), 0
    if text[at : at + 1] == close:
        spans[path] = ValueSpan({} if mark == "{" else [], start, at + 1)
        return at + 1
    while True:
        inner = f"{path}[{count}]"
        if mark == "{":
            if text[at : at + 1] != '"':
                raise ValueError(f"expected a key at {at}")
            key, at = scanstring(text, at + 1)
            at = _expect(text, at, ":")
            inner = join_path(path, key)
        at, count = _skip(text, _walk(text, at, inner, spans)), count + 1
        if text[at : at + 1] == close:
            return at + 1
        at = _expect(text, at, ",")


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark!r} at {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\t", "\r") and at < len(text):
        at += 1
    return at


@dataclass(frozen=True, eq=False)
class TokenMap:
    """Token log-probabilities laid over the characters of their text."""

    text: str
    ends: NDArray[np.int64]  # byte offset behind each token
    logprobs: NDArray[np.float32]

    @classmethod
    def of(cls, text: str, pieces: Sequence[bytes], logprobs: NDArray[np.float32]) -> TokenMap:
        """pieces: the bytes of each token, joined the UTF-8 of `text`; logprobs: float32 [n]."""
        ends = np.array(list(accumulate(map(len, pieces))), np.int64)
        return cls(text, ends, logprobs)

    def between(self, start: int, end: int) -> NDArray[np.float32]:
        """Log-probabilities of the tokens that overlap characters start..end."""
        first, last = (len(self.text[:offset].encode()) for offset in (start, end))
        left = int(np.searchsorted(self.ends, first, side="right"))
        right = int(np.searchsorted(self.ends, last, side="left"))
        return self.logprobs[left : right + 1]

    def probability(self, start: int, end: int) -> float:
        """The product over the tokens: the probability of exactly this value, given what stands
        before it. Forced tokens have log-probability 0 and do not count."""
        return float(np.exp(min(0.0, float(self.between(start, end).sum()))))

    def mean(self, start: int, end: int) -> float:
        """The geometric mean per token: for text that is too long to be wholly right."""
        part = self.between(start, end)
        return float(np.exp(min(0.0, float(part.mean())))) if part.size else 0.0
