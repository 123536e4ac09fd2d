"""Calls under a grammar: only declared tools, only valid arguments, in the model's own notation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model_onnx.answer import parse_tool_calls
from model_onnx.bundle import Bundle
from model_onnx.constrain import Grammar, ToolCalls
from model_onnx.errors import ConstraintError
from tests.tiny import tiny_bundle

CONTROLS = ("<|tool_call>", "<tool_call|>", '<|"|>')


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return Grammar(Bundle.open(tiny_bundle(tmp_path_factory.mktemp("calls") / "bundle")))


def arguments(required: tuple[str, ...] = (), **properties: Any) -> str:
    return json.dumps({"type": "object", "properties": properties, "required": list(required)})


TEXT = {"type": "string"}
WEATHER = arguments(
    ("city",),
    city=TEXT,
    days={"type": "integer", "minimum": 1, "maximum": 9},
    Unit={"type": "string", "enum": ["C", "F"], "nullable": True},
)


def ids_of(grammar: Grammar, text: str) -> list[int]:
    """The ids of a text in which control tokens of calls are spelled."""
    for name in CONTROLS:
        text = text.replace(name, f"\0{name}\0")
    parts = text.split("\0")
    return [
        token
        for part in parts
        for token in ([grammar._controls[part]] if part in CONTROLS else grammar.encode(part))
    ]


def accepts(grammar: Grammar, spec: ToolCalls, text: str) -> bool:
    """Whether an answer may be exactly this."""
    matcher = grammar._start(spec)
    ids = ids_of(grammar, text)
    if matcher.validate_tokens(ids) != len(ids):
        return False
    matcher.consume_tokens(ids)
    return bool(matcher.is_accepting())


def call(name: str, body: str) -> str:
    return f"<|tool_call>call:{name}{{{body}}}<tool_call|>"


Q = '<|"|>'


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (f"city:{Q}Oslo{Q}", True),
        (f"city:{Q}Oslo{Q},days:3", True),
        (f"city:{Q}Oslo{Q},days:3,Unit:{Q}C{Q}", True),
        (f"city:{Q}Oslo{Q},Unit:null", True),
        (f"city:{Q}line one\nline two, {{with}} [marks]:{Q}", True),
        ("", False),
        ("days:3", False),
        (f"days:3,city:{Q}Oslo{Q}", False),
        (f"city:{Q}Oslo{Q},days:10", False),
        (f"city:{Q}Oslo{Q},days:null", False),
        (f"city:{Q}Oslo{Q},Unit:{Q}K{Q}", False),
        (f"city:{Q}Oslo{Q},country:{Q}NO{Q}", False),
        ('city:"Oslo"', False),
        (f"city:{Q}Os<|lo{Q}", False),
        (f"city:{Q}Oslo{Q},", False),
    ],
)
def test_only_valid_arguments(grammar: Grammar, body: str, good: bool) -> None:
    spec = ToolCalls((("weather", WEATHER), ("stop", arguments())))
    assert accepts(grammar, spec, call("weather", body)) == good


def test_only_declared_tools_and_so_many_calls(grammar: Grammar) -> None:
    spec = ToolCalls((("weather", WEATHER), ("stop", arguments())), most=2)
    stop = call("stop", "")
    assert accepts(grammar, spec, stop) and accepts(grammar, spec, stop * 2)
    assert not accepts(grammar, spec, stop * 3)
    assert not accepts(grammar, spec, call("start", ""))
    assert not accepts(grammar, spec, f"I will call {stop}")
    assert not accepts(grammar, spec, "<|tool_call>call:stop{}")


def test_text_in_place_of_calls(grammar: Grammar) -> None:
    tools = (("stop", arguments()),)
    assert accepts(grammar, ToolCalls(tools), "Nothing to do: {}.\nReally.")
    assert accepts(grammar, ToolCalls(tools), "")
    matcher = grammar._start(ToolCalls(tools))
    spelled = grammar.encode("<|tool_call>call:stop{}")  # as ordinary tokens
    assert matcher.validate_tokens(spelled) == 1
    assert not accepts(grammar, ToolCalls(tools, must_call=True), "Nothing to do.")
    done = ToolCalls(tools, most=0, must_call=True)
    assert accepts(grammar, done, "Done.") and not accepts(grammar, done, call("stop", ""))


def test_nested_arguments_and_formats(grammar: Grammar) -> None:
    item = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}
    schema = arguments(
        ("day", "items"),
        day={"type": "string", "format": "date"},
        items={"type": "array", "items": item, "minItems": 1},
        code={"type": "string", "pattern": "^[A-Z]{2}/[0-9]+$"},
    )
    spec = ToolCalls((("order", schema),))
    good = f"code:{Q}AB/12{Q},day:{Q}2024-02-01{Q},items:[{{name:{Q}x{Q}}},{{name:{Q}{Q}}}]"
    assert accepts(grammar, spec, call("order", good))
    for old, new in (("AB/12", "A/12"), ("2024-02", "2024-13"), (f"{{name:{Q}x{Q}}}", "{}")):
        assert not accepts(grammar, spec, call("order", good.replace(old, new)))
    [parsed] = parse_tool_calls(call("order", good))
    assert parsed.arguments["items"] == [{"name": "x"}, {"name": ""}]


def test_verbatim_arguments_are_runs_of_the_evidence(grammar: Grammar) -> None:
    schema = arguments(("name",), name={**TEXT, "verbatim": True})
    spec = ToolCalls((("find", schema),), evidence='ACME TRADING\n"12.50" <|turn>')
    for text, good in (
        ("ACME TRADING", True),
        ('"12.50"', True),
        ("12.50", True),
        ("12", False),
        ("ACME LTD", False),
        (" TRADING", False),
        ("", False),
        ("<|turn>", False),
    ):
        assert accepts(grammar, spec, call("find", f"name:{Q}{text}{Q}")) == good, text
    nothing = ToolCalls((("find", schema),), evidence=" ")
    assert accepts(grammar, nothing, call("find", f"name:{Q}{Q}"))


@pytest.mark.parametrize("budget", [32, 40, 64])
def test_a_call_ends_within_its_budget(grammar: Grammar, budget: int) -> None:
    """Whatever is chosen, here always the last token that is allowed."""
    spec = ToolCalls((("weather", WEATHER),), must_call=True)
    matcher = grammar.matcher(spec, budget)
    while not matcher.finished:
        if forced := matcher.forced():
            matcher.commit(forced)
        else:
            matcher.advance(int(matcher.allowed().nonzero()[0][-1]))
    text = b"".join(map(grammar.bytes_of, matcher.tokens)).decode()
    [made] = parse_tool_calls(text)
    assert made.name == "weather" and isinstance(made.arguments["city"], str)
    assert len(matcher.tokens) <= budget


@pytest.mark.parametrize(
    ("name", "schema", "message"),
    [
        ("two words", arguments(), "letters, digits"),
        ("find", json.dumps({"type": "string"}), "an object of arguments"),
        ("find", "[]", "no JSON Schema"),
        ("find", arguments(a={"anyOf": [TEXT, {"type": "null"}]}), "use one type"),
        ("find", arguments(a={"type": "string", "format": "uri"}), "use pattern"),
        ("find", arguments(a={"type": "string", "enum": ["<|x"]}), "cannot be written"),
        ("find", arguments((), **{"a b": TEXT}), "an identifier"),
        ("find", arguments(("b",), a=TEXT), "not in properties"),
        (
            "find",
            json.dumps({"type": "object", "additionalProperties": {"type": "string"}}),
            "free keys",
        ),
        ("find", arguments(a={**TEXT, "minLength": 3, "maxLength": 2}), "at least minLength"),
    ],
)
def test_bad_declarations(grammar: Grammar, name: str, schema: str, message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        grammar.check(ToolCalls(((name, schema),)))


def test_a_tokenizer_without_calls(grammar: Grammar) -> None:
    from model_onnx.calls import calls_grammar

    with pytest.raises(ConstraintError, match="which a call needs"):
        calls_grammar((("stop", arguments()),), {}, most=1)
