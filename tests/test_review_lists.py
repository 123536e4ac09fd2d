"""flows/review_lists.py: which lists a record has, and what an item of each is made of."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.review_lists import lists_of
from pipelines.schemas import load_schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


class Price(BaseModel):
    amount: str
    currency: str | None


class Line(BaseModel):
    name: str
    price: Price
    taxes: list[str]


class Bill(BaseModel):
    seller: str
    lines: list[Line] | None
    phones: list[str] = []


def test_names_come_from_the_schema_and_reach_into_objects() -> None:
    line = {"name": "tea", "price": {"amount": "1", "currency": None}, "taxes": ["7 %"]}
    output = {"seller": "A", "lines": [line], "phones": []}
    assert lists_of(output, Bill.model_json_schema(), None) == {
        "lines": {"length": 1, "names": ["name", "price.amount", "price.currency"]},
        "lines[0].taxes": {"length": 1, "names": []},
        "phones": {"length": 0, "names": []},
    }
    empty = lists_of({"lines": None}, Bill.model_json_schema(), None)
    assert empty["lines"] == {"length": 0, "names": ["name", "price.amount", "price.currency"]}


def test_one_schema_of_several_is_chosen_by_name() -> None:
    schemas = {"schemas": {"Bill": Bill.model_json_schema(), "Other": {}}}
    assert lists_of({"phones": []}, schemas, "Bill") == {"phones": {"length": 0, "names": []}}
    plain = {"type": ["array", "null"], "items": {"properties": {"x": {}}}}
    assert lists_of({"a": None}, {"properties": {"a": plain}}, "Bill") == {
        "a": {"length": 0, "names": ["x"]}
    }


def test_without_a_schema_the_items_say_it() -> None:
    output = {"items": [{"name": "a", "more": []}, {"other": 1}]}
    assert lists_of(output, {}, None)["items"] == {"length": 2, "names": ["name"]}


def test_a_schema_that_points_in_a_circle_ends() -> None:
    loop: dict[str, Any] = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert lists_of({"x": [1]}, loop, None) == {"x": {"length": 1, "names": []}}
    tree = {"properties": {"part": {"$ref": "#/$defs/p"}}}
    deep = {"properties": {"x": {"type": "array", "items": tree}}, "$defs": {"p": tree}}
    assert lists_of({"x": []}, deep, None)["x"]["names"] == []


def test_built_in_schemas_have_the_lists_that_they_show() -> None:
    for name in ("receipt", "invoice", "letter", "memo"):
        schema = load_schema(name)
        assert not isinstance(schema, dict)
        assert isinstance(lists_of({}, schema.model_json_schema(), None), dict)  # type: ignore[union-attr]


@given(JSON, JSON)
def test_no_output_and_no_schema_raises(output: Any, schema: Any) -> None:
    found = lists_of(output, schema if isinstance(schema, dict) else {"properties": schema}, "x")
    json.dumps(found)
