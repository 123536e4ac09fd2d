"""Tools that the model may call: typed Python functions, or declarations without code.

    def find_supplier(name: Annotated[str, Verbatim], country: str = "") -> dict[str, Any] | None:
        \"\"\"The supplier whose name is nearest.

        name: as the invoice writes it
        country: two letters
        \"\"\"

    TOOLS = Toolbox((find_supplier, file_invoice), task="Find the supplier, file the invoice.")

The first paragraph of the docstring says what the tool does; a line `name: ...` says it of an
argument, as does pydantic's Field. A `Verbatim` text can only be a run of the document's words.
Knows no engine. What the model's declarations cannot say (unions, free keys) is a ConfigError.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from model_onnx.calls import NAME
from model_onnx.errors import ConfigError
from model_onnx.prompt import Tool
from pipelines.modules import import_module, run_file, unreadable
from pipelines.pointing import nullable, resolve

Verbatim = Field(json_schema_extra={"verbatim": True})
TASK = "Call the tools that this document asks for. Say in one sentence what was done."
_KEPT = (
    "type", "description", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "pattern", "format", "verbatim",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """rounds: answers in which the model may call; calls: of one document; seconds: of one call;
    characters: of a result as JSON."""

    rounds: int = 4
    calls: int = 8
    seconds: float = 30.0
    characters: int = 4000

    def __post_init__(self) -> None:
        if min(self.rounds, self.calls, self.seconds, self.characters) <= 0:
            raise ConfigError(f"got {self}, expected limits above 0")


@dataclass(frozen=True)
class DeclaredTool:
    """declaration: what the model is told and held to; function: takes what `arguments`, a pydantic
    model, has made of a call; None where there is only a declaration."""

    declaration: Tool
    function: Callable[..., Any] | None = None
    arguments: type[BaseModel] | None = None

    @property
    def name(self) -> str:
        return self.declaration.name

    def run(self, arguments: Mapping[str, Any], limits: Limits) -> Any:
        """What the tool gives back, as JSON values. It runs in a thread of its own; one that takes
        too long is not waited for, and what it does later is not known.

        Raises ToolError, with a message for the model and for people."""
        outcome: Future[Any] = Future()

        def work() -> None:
            try:
                outcome.set_result(self._call(arguments))
            except Exception as error:
                outcome.set_exception(error)
            except BaseException as error:  # sys.exit of a tool ends nothing else
                outcome.set_exception(RuntimeError(type(error).__name__))

        threading.Thread(target=work, name=f"tool-{self.name}", daemon=True).start()
        try:
            result = outcome.result(limits.seconds)
        except ValidationError as error:
            raise ToolError(f"the arguments are not valid: {_brief(error)}") from error
        except Exception as error:
            if not outcome.done():
                raise ToolError(f"no result within {limits.seconds:g} s") from error
            raise ToolError(f"{type(error).__name__}: {error}"[:500]) from error
        return _json_value(result, limits.characters)

    def _call(self, arguments: Mapping[str, Any]) -> Any:
        assert self.function is not None and self.arguments is not None
        made = self.arguments.model_validate(arguments)
        return self.function(**{name: getattr(made, name) for name in made.model_fields_set})


class ToolError(Exception):
    """A call that gave no result; it becomes the call's error in the record."""


def _json_value(result: Any, most: int) -> Any:
    try:
        value = to_jsonable_python(result)
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (PydanticSerializationError, RecursionError, ValueError) as error:
        raise ToolError(f"the result is nothing that JSON holds: {type(error).__name__}") from error
    if size > most:
        raise ToolError(f"the result has {size} characters, expected at most {most}")
    return value


@dataclass(frozen=True)
class Toolbox:
    """What `call` works with. tools: functions or declarations; task: the instruction, what is to
    be done with a document; must_call: the first answer has to be a call."""

    tools: Sequence[Callable[..., Any] | DeclaredTool]
    task: str = TASK
    must_call: bool = False
    limits: Limits = field(default_factory=Limits)

    def declared(self) -> dict[str, DeclaredTool]:
        """By name. Raises ConfigError."""
        made = [t if isinstance(t, DeclaredTool) else declare(t) for t in self.tools]
        names = [tool.name for tool in made]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"got tools named {names}, expected at least one, no name twice")
        return dict(zip(names, made, strict=True))


def declare(function: Callable[..., Any]) -> DeclaredTool:
    """A tool of a typed function. Raises ConfigError."""
    name = getattr(function, "__name__", "")
    about, of_arguments = _described(inspect.getdoc(function) or "")
    if not NAME.fullmatch(name) or not about:
        raise ConfigError(
            f"got the tool {function!r}, expected a function with a name and a docstring that "
            "tells the model what it does"
        )
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {
            parameter.name: _field(name, parameter, hints, of_arguments)
            for parameter in inspect.signature(function).parameters.values()
        }
        made = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = made.model_json_schema()
    except (NameError, TypeError, ValueError, PydanticUserError) as error:
        raise ConfigError(
            f"the arguments of the tool {name} cannot be declared: {error}; use types that JSON "
            "has, or pydantic models"
        ) from error
    return DeclaredTool(Tool(name, about, _plain(schema, schema, name)), function, made)


def _field(
    tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any], about: Mapping[str, str]
) -> tuple[Any, Any]:
    """Type and default as `create_model` takes them."""
    name = parameter.name
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigError(f"got *{name} in the tool {tool}, expected arguments with names")
    if name not in hints:
        raise ConfigError(f"got {name} without a type in the tool {tool}; annotate it")
    default = ... if parameter.default is parameter.empty else parameter.default
    if name in about:
        return typing.Annotated[hints[name], Field(description=about[name])], default
    return hints[name], default


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """(what the tool does, argument -> about it)"""
    lines = re.findall(r"^\s*(\w+):\s+(\S.*)$", docstring, re.MULTILINE)
    return " ".join(docstring.split("\n\n")[0].split()), dict(lines)


def _plain(node: Mapping[str, Any], root: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A JSON Schema as the model's declarations can say it: one type each, `nullable`, no
    references. Raises ConfigError."""
    try:
        made = resolve(node, root.get("$defs", {}))
    except KeyError as error:
        raise ConfigError(f"{where}: the reference to {error} leads nowhere") from None
    branches = [branch for branch in made.get("anyOf", ()) if branch.get("type") != "null"]
    kinds = {branch.get("type") for branch in branches}
    if "number" in kinds and kinds <= {"number", "string"}:  # pydantic's Decimal
        made = {**made, "type": "number"}
    kind = made.get("type") or ("string" if _texts(made.get("enum")) else None)
    if not isinstance(kind, str) or kind == "mixed":
        raise ConfigError(
            f"{where} has no single type, which a tool's declaration cannot say; use one type"
        )
    plain = {key: made[key] for key in _KEPT if key in made} | {"type": kind}
    if "const" in made:
        plain["enum"] = [made["const"]]
    if kind == "array":
        plain["items"] = _plain(made.get("items", {}), root, f"{where}[]")
    if kind == "object":
        plain["properties"] = {
            name: _plain(inner, root, f"{where}.{name}")
            for name, inner in made.get("properties", {}).items()
        }
        plain["required"] = list(made.get("required", ()))
        if isinstance(made.get("additionalProperties"), Mapping):
            raise ConfigError(f"{where} has free keys, which cannot be declared; name them")
    return plain | ({"nullable": True} if nullable(node) else {})


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _brief(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])


def load_toolbox(name: str) -> Toolbox:
    """FILE.py, FILE.py:NAME, MODULE:NAME (a Toolbox), or FILE.json (declarations, none of which can
    run). Raises ConfigError."""
    if name.endswith(".json"):
        return _from_json(Path(name))
    place, _, attribute = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if place.endswith(".py"):
        module = run_file(Path(place), "tools")
    elif place and attribute:
        module = import_module(place, name, "tools")
    else:
        raise ConfigError(
            f"got --tools {name!r}, expected MODULE:NAME, FILE.py, FILE.py:NAME or FILE.json"
        )
    boxes = {key: value for key, value in vars(module).items() if isinstance(value, Toolbox)}
    key = attribute or (next(iter(boxes)) if len(boxes) == 1 else "")
    if key not in boxes:
        raise ConfigError(
            f"got tools {name!r}, expected the name of a Toolbox behind a colon; there "
            f"{'is ' + ', '.join(boxes) if boxes else 'is none'}"
        )
    return boxes[key]


def _from_json(path: Path) -> Toolbox:
    """`{"task": ..., "tools": [{"name": ..., "description": ..., "parameters": JSON Schema}]}`"""
    try:
        said = json.loads(path.read_text("utf-8"))
        tools = tuple(_declaration(tool) for tool in said["tools"])
        return Toolbox(tools, task=str(said.get("task") or TASK))
    except OSError as error:
        raise unreadable(path, error, "tools") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'got {path} ({type(error).__name__}: {error}), expected {{"tools": [{{"name": ..., '
            '"description": ..., "parameters": ...}]}; correct it'
        ) from None


def _declaration(raw: Mapping[str, Any]) -> DeclaredTool:
    name, about, schema = str(raw["name"]), str(raw["description"]), raw["parameters"]
    plain = _plain(schema, schema, name)
    if not NAME.fullmatch(name) or plain["type"] != "object":
        raise ConfigError(
            f"got the tool {name!r} with arguments of type {plain['type']}, expected a name of "
            "letters, digits and underscores, and an object"
        )
    return DeclaredTool(Tool(name, about, plain))


def check_allowed(tools: Mapping[str, DeclaredTool], allowed: Iterable[str]) -> None:
    """Raises ConfigError for a tool that is not there or cannot run."""
    for name in allowed:
        if name not in tools:
            raise ConfigError(f"got --allow {name}, expected one of {', '.join(tools)}")
        if tools[name].function is None:
            raise ConfigError(f"got --allow {name}, which has no code; declare it as a function")
