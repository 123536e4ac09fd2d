"""What a schema says about the values of a dataset: the shape of each column.

Knows no table format. A shape comes from the run's JSON Schema; where a run has none, or a record
holds more than its schema says, from the values themselves.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pipelines.pointing import resolve

Kind = Literal[
    "text", "number", "integer", "decimal", "truth", "date", "moment", "list", "struct", "json"
]
DIGITS, PLACES = 38, 10  # of a decimal, the places after the point among them
_DEEPEST = 8  # a recursive schema has no end: below it, values are JSON text


@dataclass(frozen=True)
class Shape:
    """inner: (name, shape) of a struct's fields; of a list one, whose name is ""."""

    kind: Kind
    inner: tuple[tuple[str, Shape], ...] = ()


def shapes_of(schema: Mapping[str, Any], outputs: Iterable[Any]) -> dict[str, Shape]:
    """Name -> shape of each top-level value: the schema's in its order, then others by name."""
    shapes = dict(shape_of(schema, schema.get("$defs", {})).inner)
    seen: dict[str, Shape] = {}
    for output in outputs:
        for name, value in output.items() if isinstance(output, dict) else ():
            if name not in shapes and value is not None:
                kind = _kind(value)
                seen[name] = Shape(kind if seen.get(name, Shape(kind)).kind == kind else "json")
    return {**shapes, **dict(sorted(seen.items()))}


def shape_of(node: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Shape:
    """One node of a JSON Schema. Pydantic writes a Decimal as number or patterned string."""
    bare = resolve(node, definitions)
    options = {option.get("type") for option in bare.get("anyOf", ())} - {"null"}
    if options == {"number", "string"}:
        return Shape("decimal")
    match bare.get("type"), bare.get("format"):
        case "string", "date":
            return Shape("date")
        case "string", "date-time":
            return Shape("moment")
        case "string", _:
            return Shape("text")
        case "number", _:
            return Shape("number")
        case "integer", _:
            return Shape("integer")
        case "boolean", _:
            return Shape("truth")
        case "array", _ if "items" in bare and depth < _DEEPEST:
            return Shape("list", (("", shape_of(bare["items"], definitions, depth + 1)),))
        case "object", _ if bare.get("properties") and depth < _DEEPEST:
            inner = bare["properties"].items()
            fields = ((name, shape_of(value, definitions, depth + 1)) for name, value in inner)
            return Shape("struct", tuple(fields))
    return Shape("json")


def _kind(value: object) -> Kind:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "json"


def fit(value: Any, shape: Shape) -> Any:
    """A value of JSON as its column's type; None where it is not one."""
    if value is None:
        return None
    match shape.kind:
        case "list":
            [(_, inner)] = shape.inner
            return [fit(item, inner) for item in value] if isinstance(value, list) else None
        case "struct":
            fields = value if isinstance(value, dict) else {}
            made = {name: fit(fields.get(name), inner) for name, inner in shape.inner}
            return made if isinstance(value, dict) else None
        case "json":
            return json.dumps(value, ensure_ascii=False)
        case "text":
            return value if isinstance(value, str) else None
        case "truth":
            return value if isinstance(value, bool) else None
    return _fit_parsed(value, shape.kind)


def _fit_parsed(value: object, kind: Kind) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        match kind:
            case "number":
                return None if isinstance(value, str) else float(value)
            case "integer":
                whole = isinstance(value, int) and -(2**63) <= value < 2**63
                return value if whole else None
            case "date":
                return datetime.date.fromisoformat(str(value))
            case "moment":
                moment = datetime.datetime.fromisoformat(str(value))
                aware = moment.tzinfo is not None
                return moment.astimezone(datetime.UTC).replace(tzinfo=None) if aware else moment
        return _decimal(str(value))
    except (ValueError, OverflowError, InvalidOperation):
        return None


def _decimal(text: str) -> Decimal | None:
    """None for what the column cannot hold exactly."""
    value = Decimal(text)
    if not value.is_finite():
        return None
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    fits = exponent >= -PLACES and len(digits) + max(exponent, 0) - min(exponent, 0) <= DIGITS
    return value if fits and abs(value) < Decimal(10) ** (DIGITS - PLACES) else None
