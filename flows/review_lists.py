"""The lists of a record's output: which values an item has, so that a person can add one.

Knows JSON and JSON Schema, no page and no store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST_REFERENCES = 10  # from one to the next: a schema may point in a circle
_DEEPEST = 4  # objects inside an item


def lists_of(output: Any, schema: Mapping[str, Any], name: str | None) -> dict[str, dict[str, Any]]:
    """Path -> {length, names} of each list. names: of an item's plain values, as in `fields`; empty
    where the items themselves are plain.

    schema: of the output, or of several outputs by name (`schemas`), of which `name` is this one's.
    """
    root = _part(_part(schema, "schemas"), name) or schema
    return dict(_walk(output, root, root, ""))


def _walk(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    schema = _resolved(schema, root)
    if isinstance(value, list) or (value is None and schema.get("type") == "array"):
        item = _resolved(_part(schema, "items"), root)
        items = value or []
        names = list(_names(item, root)) or _names_of(items)
        yield path, {"length": len(items), "names": names}
        for at, each in enumerate(items):
            yield from _walk(each, item, root, f"{path}[{at}]")
    elif isinstance(value, dict):
        properties = _part(schema, "properties")
        for name, each in value.items():
            inner = f"{path}.{name}" if path else name
            yield from _walk(each, _part(properties, name), root, inner)


def _names(
    schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[str]:
    for name, part in _part(schema, "properties").items():
        part = _resolved(part, root) if isinstance(part, Mapping) else {}
        if part.get("type") == "array" or depth > _DEEPEST:
            continue
        if part.get("properties"):
            yield from _names(part, root, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}"


def _names_of(items: list[Any]) -> list[str]:
    """Where no schema says it: those that the other items have."""
    first = next((item for item in items if isinstance(item, dict)), {})
    return [name for name, value in first.items() if not isinstance(value, dict | list)]


def _part(schema: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """{} where there is none: a JSON Schema may also say `true`."""
    found = schema.get(name) if name is not None else None
    return found if isinstance(found, Mapping) else {}


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Behind references, and the first choice that is not null."""
    for _ in range(_MOST_REFERENCES):
        choices = schema.get("anyOf") or schema.get("oneOf")
        if reference := schema.get("$ref"):
            schema = _part(_part(root, "$defs"), str(reference).rpartition("/")[2])
        elif isinstance(choices, list):
            named = [each for each in choices if each != {"type": "null"}]
            schema = named[0] if named and isinstance(named[0], Mapping) else {}
        else:
            kind = schema.get("type")
            if isinstance(kind, list):
                return {**schema, "type": next((each for each in kind if each != "null"), "null")}
            return schema
    return {}
