"""extract: a document or a recording becomes the JSON of a schema.

Worked example, schema `{"company": str | None, "total": Decimal | None}`:

    system  Extract these fields as JSON, null where absent:
            company
            total: amount to pay
    user    ACME TRADING\\n12 HIGH STREET\\nTOTAL 12.50
    model   {"company":"ACME TRADING","total":"12.50"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PROMPT_VERSION = "extract-1"


def instruction(fields: Mapping[str, str]) -> str:
    """The system turn. fields: path -> description ("" for none), in the schema's order.

    A path is `name`, or `items[]` for a list of objects followed by its `items[].name`.
    """
    lines = [f"{path}: {about}" if about else path for path, about in fields.items()]
    return "\n".join(["Extract these fields as JSON, null where absent:", *lines])


def describe(schema: Mapping[str, Any]) -> dict[str, str]:
    """JSON Schema of an object -> the `fields` of `instruction`, references followed."""
    return dict(_walk(schema, schema.get("$defs", {}), ""))


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    for name, raw in schema.get("properties", {}).items():
        node = resolve(raw, definitions)
        path, about = f"{prefix}{name}", " ".join(str(raw.get("description", "")).split())
        if node.get("type") == "array":
            path, node = f"{path}[]", resolve(node.get("items", {}), definitions)
        yield path, about
        if node.get("type") == "object" and path.count(".") < 4:  # a recursive schema has no end
            yield from _walk(node, definitions, f"{path}.")


def resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows `$ref` and takes the non-null side of `X | None`."""
    for _ in range(8):
        if "$ref" in node:
            node = definitions[str(node["$ref"]).rsplit("/", 1)[-1]]
        elif options := [o for o in node.get("anyOf", ()) if o.get("type") != "null"]:
            node = options[0]
        else:
            break
    return node
