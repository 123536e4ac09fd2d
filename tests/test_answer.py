"""Thoughts and tool calls in answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_onnx.answer import ToolCall, parse_tool_calls, strip_thinking
from model_onnx.errors import InputError

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=20)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def written(value: Any) -> str:
    """A value as the model writes it."""
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4.20", "4.20"),
        ("<|channel>thought\n2 + 2<channel|>4\n", "4"),
        ("<|channel>thought\n<channel|>4", "4"),
        ("a<|channel>x<channel|>b<|channel>y<channel|>c", "abc"),
        ("4<|channel>thought\nnever closed", "4"),
        ("4<channel|>2", "42"),
    ],
)
def test_thoughts_are_removed(text: str, answer: str) -> None:
    assert strip_thinking(text) == answer


@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES, max_size=4)), max_size=3))
def test_calls_come_back_as_they_were_written(calls: list[tuple[str, dict[str, Any]]]) -> None:
    text = "".join(f"<|tool_call>call:{n}{written(a)}<tool_call|>" for n, a in calls)
    assert parse_tool_calls(text) == tuple(ToolCall(n, a) for n, a in calls)


def test_calls_stand_beside_text() -> None:
    call = '<|tool_call>call:find{q:<|"|>a{b}, [c]:<|"|>, n: 2 }<tool_call|>'
    assert parse_tool_calls(f"Let me look. {call}<|tool_response>") == (
        ToolCall("find", {"q": "a{b}, [c]:", "n": 2}),
    )
    assert parse_tool_calls("no call") == ()


@pytest.mark.parametrize(
    "call",
    [
        "call:f{a:1}",
        "call:f{a:1<tool_call|>",
        "call:f{a:[1}<tool_call|>",
        "call:f{a:word}<tool_call|>",
        "call:f{a:NaN}<tool_call|>",
        "call:f{a}<tool_call|>",
        "call:f{a:1 b:2}<tool_call|>",
        "call:f{a:1}}<tool_call|>",
        "call:f{[:1}<tool_call|>",
        "call:f{,}<tool_call|>",
        "call:f{a:}<tool_call|>",
        "call:{}<tool_call|>",
        "f(1)<tool_call|>",
        "call:f{a:" + "[" * 100_000 + "}<tool_call|>",
    ],
)
def test_damaged_calls_are_refused(call: str) -> None:
    with pytest.raises(InputError, match="expected call:name") as refused:
        parse_tool_calls("<|tool_call>" + call)
    assert refused.value.reason == "tool_call"
