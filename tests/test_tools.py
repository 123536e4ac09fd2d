"""Tools: what the model is told of a function, what a call gives, and what cannot be a tool."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from model_onnx.bundle import Bundle
from model_onnx.constrain import Grammar, ToolCalls
from model_onnx.errors import ConfigError
from model_onnx.prompt import Tool
from pipelines.tools import (
    DeclaredTool,
    Limits,
    Toolbox,
    ToolError,
    Verbatim,
    check_allowed,
    declare,
    load_toolbox,
)
from tests.tiny import tiny_bundle

QUICK = Limits(seconds=5)


class Line(BaseModel):
    text: str
    price: Decimal


def book(
    number: Annotated[str, Verbatim],
    day: datetime.date,
    total: Decimal,
    kind: Literal["invoice", "credit"] = "invoice",
    lines: list[Line] = [],  # noqa: B006
    note: Annotated[str | None, Field(max_length=40)] = None,
) -> dict[str, Any]:
    """Books an invoice
    in the ledger.

    number: as printed
    total: with tax
    """
    return {"booked": [number, day, total, kind, len(lines), note]}


def test_a_function_is_declared() -> None:
    tool = declare(book).declaration
    assert (tool.name, tool.description) == ("book", "Books an invoice in the ledger.")
    parameters = dict(tool.parameters)
    assert parameters["required"] == ["number", "day", "total"]
    assert parameters["properties"] == {
        "number": {"type": "string", "description": "as printed", "verbatim": True},
        "day": {"type": "string", "format": "date"},
        "total": {"type": "number", "description": "with tax"},
        "kind": {"type": "string", "enum": ["invoice", "credit"]},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "price": {"type": "number"}},
                "required": ["text", "price"],
            },
        },
        "note": {"type": "string", "maxLength": 40, "nullable": True},
    }


def test_every_declaration_can_be_enforced(tmp_path: Path) -> None:
    parameters = declare(book).declaration.parameters
    grammar = Grammar(Bundle.open(tiny_bundle(tmp_path / "bundle")))
    grammar.check(ToolCalls((("book", json.dumps(parameters)),), evidence="4711"))


def test_a_call_runs_with_values_of_its_types() -> None:
    arguments = {"number": "4711", "day": "2024-02-01", "total": 12.5, "lines": []}
    result = declare(book).run(arguments, QUICK)
    assert result == {"booked": ["4711", "2024-02-01", "12.5", "invoice", 0, None]}


def broken() -> None:
    """Fails."""
    raise KeyError("no such table")


def leaving() -> None:
    """Ends the program."""
    sys.exit(3)


def slow() -> None:
    """Takes its time."""
    time.sleep(60)


def late() -> None:
    """Has a time limit of its own."""
    raise TimeoutError("the server")


def long() -> str:
    """Says much."""
    return "x" * 5000


def odd() -> object:
    """Gives what JSON has not."""
    return object()


def endless() -> float:
    """Gives no number."""
    return float("nan")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (broken, "KeyError: 'no such table'"),
        (leaving, "SystemExit"),
        (slow, "no result within 0.2 s"),
        (late, "TimeoutError: the server"),
        (long, "5002 characters"),
        (odd, "nothing that JSON holds"),
        (endless, "nothing that JSON holds"),
    ],
)
def test_whatever_a_tool_does_is_an_error_of_the_call(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        declare(function).run({}, Limits(seconds=0.2 if function is slow else 5))


def test_arguments_are_checked_again() -> None:
    with pytest.raises(ToolError, match="day: "):
        declare(book).run({"number": "1", "day": "2024-02-31", "total": 1}, QUICK)


def untyped(name) -> None:  # type: ignore[no-untyped-def]
    """Something."""


def silent(name: str) -> None: ...


def starred(*names: str) -> None:
    """Something."""


def united(name: str | int) -> None:
    """Something."""


def free(values: dict[str, str]) -> None:
    """Something."""


def opaque(value: Callable[[], None]) -> None:
    """Something."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (untyped, "without a type"),
        (silent, "a docstring"),
        (lambda: None, "a name and a docstring"),
        (starred, "arguments with names"),
        (united, "no single type"),
        (free, "free keys"),
        (opaque, "cannot be declared"),
    ],
)
def test_what_cannot_be_declared(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare(function)


def test_a_toolbox_has_different_tools() -> None:
    assert list(Toolbox((book, long)).declared()) == ["book", "long"]
    for tools in ((), (book, book)):
        with pytest.raises(ConfigError, match="at least one, no name twice"):
            Toolbox(tools).declared()
    with pytest.raises(ConfigError, match="limits above 0"):
        Limits(rounds=0)


def test_only_tools_with_code_can_be_allowed() -> None:
    said = DeclaredTool(Tool("said", "Says.", {"type": "object", "properties": {}}))
    tools = Toolbox((book, said)).declared()
    check_allowed(tools, ["book"])
    with pytest.raises(ConfigError, match="expected one of book, said"):
        check_allowed(tools, ["books"])
    with pytest.raises(ConfigError, match="has no code"):
        check_allowed(tools, ["said"])


CODE = '''
from pipelines.tools import Toolbox

def echo(text: str) -> str:
    """Says it again."""
    return text

TOOLS = Toolbox((echo,), task="Echo.")
'''


def test_tools_of_files(tmp_path: Path) -> None:
    path = tmp_path / "echo.py"
    path.write_text(CODE)
    toolbox = load_toolbox(str(path))
    assert toolbox.task == "Echo." and list(toolbox.declared()) == ["echo"]
    assert load_toolbox(f"{path}:TOOLS") is toolbox
    declared = tmp_path / "tools.json"
    tool = {"name": "mail", "description": "Sends.", "parameters": {"type": "object"}}
    declared.write_text(json.dumps({"tools": [tool]}))
    [mail] = load_toolbox(str(declared)).declared().values()
    assert mail.function is None and mail.declaration.parameters["type"] == "object"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", "x = 1", "there is none"),
        ("b.py", "1 / 0", "ZeroDivisionError"),
        ("c.py:TOOLS", "x = 1", "there is none"),
        ("d.py", CODE + "MORE = Toolbox((echo,))", "there is TOOLS, MORE"),
        ("e.json", "{", "expected {"),
        ("f.json", '{"tools": [{"name": "a"}]}', "KeyError"),
        ("g.json", "[]", "expected {"),
        ("h.json", None, "No such file"),
        ("i.py", None, "No such file"),
        ("tools", None, "MODULE:NAME"),
        ("no_such_module:TOOLS", None, "cannot import"),
    ],
)
def test_tools_that_are_not_there(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = name if "." not in name else str(tmp_path / name)
    if content is not None:
        Path(path.removesuffix(":TOOLS")).write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_toolbox(path)
