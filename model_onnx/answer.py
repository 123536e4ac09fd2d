"""What a model writes around its answer: thoughts and tool calls. Knows text, no token ids.

A thought is `<|channel>thought ...<channel|>`. A call is
`<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>`: bare keys, strings between quote
tokens, everything else as in JSON.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from model_onnx.errors import InputError

CHANNEL_OPEN, CHANNEL_CLOSE = "<|channel>", "<channel|>"
CALL_OPEN, CALL_CLOSE = "<|tool_call>", "<tool_call|>"
QUOTE = '<|"|>'

_CALL = re.compile(r"\s*call:([^{}]+)(\{.*\})\s*", re.DOTALL)
_LEXEME = re.compile(
    r'\s*(?:<\|"\|>(?P<string>.*?)<\|"\|>|(?P<mark>[{}\[\],:])|(?P<bare>[^{}\[\],:]+))', re.DOTALL
)
_Item = TypeVar("_Item")
_Lexemes = deque[tuple[str, str]]  # (string | mark | bare, text)


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for. `arguments`: JSON values."""

    name: str
    arguments: Mapping[str, Any]


def strip_thinking(text: str) -> str:
    """The answer without its thoughts; an unfinished thought goes to the end of the text."""
    parts = text.split(CHANNEL_CLOSE)
    return "".join(part.split(CHANNEL_OPEN, 1)[0] for part in parts).strip()


def parse_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls in an answer decoded with its control tokens, in order.

    Raises InputError with reason `tool_call` when one is not well-formed.
    """
    return tuple(_parse_call(part) for part in text.split(CALL_OPEN)[1:])


def _parse_call(text: str) -> ToolCall:
    body, closed, _ = text.partition(CALL_CLOSE)
    found = _CALL.fullmatch(body)
    try:
        if not found or not closed:
            raise ValueError("it does not look like call:name{...}")
        lexemes = _lexemes(found[2])
        arguments = _value(lexemes)
        if lexemes:
            raise ValueError(f"text after the arguments: {lexemes[0][1]!r}")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"got the tool call {body[:80]!r} ({error}), expected "
            'call:name{key:<|"|>text<|"|>,number:1}; ask again or lower the temperature',
            reason="tool_call",
        ) from None
    return ToolCall(found[1].strip(), arguments)


def _lexemes(text: str) -> _Lexemes:
    found = ((lexeme.lastgroup or "", lexeme) for lexeme in _LEXEME.finditer(text))
    return deque((kind, lexeme[kind]) for kind, lexeme in found)


def _value(lexemes: _Lexemes) -> Any:
    kind, text = _take(lexemes)
    if kind == "string":
        return text
    if kind == "bare":
        return json.loads(text, parse_constant=_reject_constant)
    if text == "{":
        return dict(_items(lexemes, "}", _pair))
    if text == "[":
        return _items(lexemes, "]", _value)
    raise ValueError(f"{text!r} where a value belongs")


def _items(lexemes: _Lexemes, close: str, item: Callable[[_Lexemes], _Item]) -> list[_Item]:
    items: list[_Item] = []
    while lexemes and lexemes[0] != ("mark", close):
        if items:
            _expect(lexemes, ",")
        items.append(item(lexemes))
    _expect(lexemes, close)
    return items


def _pair(lexemes: _Lexemes) -> tuple[str, Any]:
    kind, key = _take(lexemes)
    if kind == "mark":
        raise ValueError(f"{key!r} where a key belongs")
    _expect(lexemes, ":")
    return key.strip() if kind == "bare" else key, _value(lexemes)


def _expect(lexemes: _Lexemes, mark: str) -> None:
    got = _take(lexemes)
    if got != ("mark", mark):
        raise ValueError(f"{got[1]!r} where {mark!r} belongs")


def _take(lexemes: _Lexemes) -> tuple[str, str]:
    if not lexemes:
        raise ValueError("it breaks off")
    return lexemes.popleft()


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


@dataclass(frozen=True)
class CallSpan:
    """Where a call stands in a text: its end, and (start, end) of each top argument's value."""

    end: int
    arguments: Mapping[str, tuple[int, int]]


def argument_spans(text: str, at: int = 0) -> CallSpan:
    """Of the first well-formed call at or behind `at`; quote tokens belong to a value."""
    start = text.index("{", text.index(CALL_OPEN, at))
    arguments: dict[str, tuple[int, int]] = {}
    key, depth, value_from = "", 0, 0
    for lexeme in _LEXEME.finditer(text, start):
        kind, mark = lexeme.lastgroup, lexeme["mark"]
        if depth == 1 and mark == ":" and not value_from:
            value_from = lexeme.end()
        elif kind != "mark" and depth == 1 and not value_from:
            key = lexeme[0].strip()
        depth += (mark in ("{", "[")) - (mark in ("}", "]")) if mark else 0
        if value_from and (depth == 0 or (depth == 1 and mark == ",")):
            arguments[key] = (value_from, lexeme.start())
            value_from = 0
        if depth == 0:
            return CallSpan(lexeme.end(), arguments)
    raise ValueError(f"no whole call behind {at}")
