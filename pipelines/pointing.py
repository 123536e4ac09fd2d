"""The schema as the model sees it, and the way back.

Knows no engine. Strings, dates, numbers and amounts become verbatim strings: the model copies the
words, `values.py` parses them. Where code has found the dates and numbers of the evidence, the
model chooses between them, and the choice's probability is its share among them and null.
`"verbatim": false` in a field's extra leaves it free, as enumerations, booleans and strings with a
pattern are anyway; `"format": "amount"` says that a number is one of money. Everything is written,
null included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from model_onnx.errors import ConfigError
from pipelines.spans import join_path
from pipelines.values import Locale, parse_date, parse_datetime, parse_number

Schema = Mapping[str, Any]
Kind = Literal["text", "date", "date-time", "number", "integer", "amount", "free"]
Choices = Callable[[Kind], Sequence[str]]  # what code found for a kind; empty: nothing, or no limit

_DROPPED = ("title", "description", "default", "examples", "additionalProperties", "$defs")
_LONGEST = 300  # characters of a value without maxLength


def resolve(node: Schema, definitions: Schema) -> Schema:
    """Follows `$ref` and takes the non-null side of `X | None`."""
    for _ in range(8):
        options = [o for o in node.get("anyOf", ()) if o.get("type") != "null"]
        if "$ref" in node:
            target = definitions[str(node["$ref"]).rsplit("/", 1)[-1]]
            node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
        elif len(options) == 1:
            node = {**options[0], **{k: v for k, v in node.items() if k != "anyOf"}}
        elif isinstance(kinds := node.get("type"), list):
            rest = [kind for kind in kinds if kind != "null"]
            node = {**node, "type": rest[0] if len(rest) == 1 else "mixed"}
        else:
            break
    return node


def nullable(node: Schema) -> bool:
    kinds = node.get("type")
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or any(nullable(option) for option in node.get("anyOf", ()))
    )


def kind_of(node: Schema) -> Kind:
    """node: resolved. Pydantic writes a Decimal as number or patterned string."""
    stated = node.get("verbatim")
    options = {option.get("type") for option in node.get("anyOf", ())} - {"null"}
    if stated is False or "enum" in node or "const" in node:
        return "free"
    if "number" in options and options <= {"number", "integer", "string"}:
        return "amount" if node.get("format") == "amount" else "number"
    match node.get("type"), node.get("format"):
        case "number", "amount":
            return "amount"
        case "number", _:
            return "number"
        case "integer", _:
            return "integer"
        case "string", "date":
            return "date"
        case "string", "date-time":
            return "date-time"
        case "string", form:
            return "free" if (form or "pattern" in node) and not stated else "text"
    return "free"


def pointing(schema: Schema, choices: Choices = lambda kind: ()) -> dict[str, Any]:
    """The JSON Schema of what the model writes. Raises ConfigError when it is not an object."""
    if resolve(schema, {}).get("type") != "object" or not schema.get("properties"):
        raise ConfigError(
            f"got a schema of type {schema.get('type')!r}, expected an object with properties; "
            "wrap the value in a model with one field"
        )
    definitions = schema.get("$defs", {})
    made = _point(schema, definitions, choices)
    if definitions:
        made["$defs"] = {
            name: _point(node, definitions, choices) for name, node in definitions.items()
        }
    return made


def _point(node: Schema, definitions: Schema, choices: Choices) -> dict[str, Any]:
    bare = resolve(node, definitions)
    if bare.get("verbatim") is False:
        return _without_annotations(node)
    kind = kind_of(bare)
    if kind == "free":
        return _descend(node, definitions, choices)
    limits = {"maxLength": _LONGEST, "minLength": 1}
    if kind == "text":
        limits |= {key: bare[key] for key in ("maxLength", "minLength") if key in bare}
    leaf: dict[str, Any] = {"type": "string", "verbatim": True, **limits}
    if kind != "text" and (options := choices(kind)):
        leaf = {"type": "string", "enum": list(options)}
    return {"anyOf": [leaf, {"type": "null"}]} if nullable(node) else leaf


def _without_annotations(node: Schema) -> dict[str, Any]:
    made = {key: value for key, value in node.items() if key not in _DROPPED}
    if made.get("format") == "amount":  # ours, and no format of strings
        del made["format"]
    return made


def _descend(node: Schema, definitions: Schema, choices: Choices) -> dict[str, Any]:
    """A node whose own form stays; inner nodes may change."""
    made = _without_annotations(node)
    if "properties" in made:
        inner = made["properties"].items()
        made["properties"] = {name: _point(value, definitions, choices) for name, value in inner}
        made["required"] = list(made["properties"])
        made["additionalProperties"] = False
    if "items" in made:
        made["items"] = _point(made["items"], definitions, choices)
    if "anyOf" in made:
        made["anyOf"] = [_point(option, definitions, choices) for option in made["anyOf"]]
    return made


@dataclass
class Parsed:
    """The way back. parsed: path -> text of what code made of the words; unparsed: paths of words
    that are no date or number; exact: numbers stay text, which pydantic makes a Decimal of."""

    locale: Locale
    exact: bool = True
    parsed: dict[str, str] = field(default_factory=dict)
    unparsed: list[str] = field(default_factory=list)

    def value(self, words: Any, schema: Schema) -> Any:
        """What the model wrote -> what the user's model validates. schema: the user's own."""
        return self._value(words, schema, schema.get("$defs", {}), "")

    def _value(self, words: Any, node: Schema, definitions: Schema, path: str) -> Any:
        bare = resolve(node, definitions)
        if isinstance(words, dict):
            properties = bare.get("properties", {})
            return {
                name: self._value(
                    inner, properties.get(name, {}), definitions, join_path(path, name)
                )
                for name, inner in words.items()
            }
        if isinstance(words, list):
            items = bare.get("items", {})
            return [
                self._value(inner, items, definitions, f"{path}[{at}]")
                for at, inner in enumerate(words)
            ]
        parse = _PARSERS.get(kind_of(bare))
        if parse is None or not isinstance(words, str):
            return words
        value = parse(words, self.locale)
        if value is None:
            self.unparsed.append(path)
            return None if nullable(node) else words
        self.parsed[path] = value
        if self.exact or kind_of(bare) not in ("number", "integer", "amount"):
            return value
        return int(value) if value.lstrip("-").isdigit() else float(value)


def _iso_date(words: str, locale: Locale) -> str | None:
    found = parse_date(words, locale)
    return found.isoformat() if found else None


def _iso_moment(words: str, locale: Locale) -> str | None:
    found = parse_datetime(words, locale)
    return found.isoformat() if found else None


def _number(words: str, locale: Locale) -> str | None:
    found = parse_number(words, locale)
    return None if found is None else format(found, "f")


_PARSERS: dict[Kind, Callable[[str, Locale], str | None]] = {
    "date": _iso_date,
    "date-time": _iso_moment,
    "number": _number,
    "integer": _number,
    "amount": _number,
}
