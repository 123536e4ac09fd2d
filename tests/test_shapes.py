"""flows/shapes.py: schema -> shapes, values -> what a typed column holds."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.shapes import Shape, fit, shape_of, shapes_of


class Item(BaseModel):
    name: str
    price: Decimal | None
    again: list[Item] = []


class Order(BaseModel):
    number: str | None
    day: datetime.date | None
    moment: datetime.datetime
    paid: bool
    count: int | None
    weight: float
    kind: Literal["a", "b"]
    items: list[Item] | None
    marks: list[str]
    shares: dict[str, float]


def test_each_kind_of_field_has_its_shape() -> None:
    shapes = shapes_of(Order.model_json_schema(), [])
    assert list(shapes) == list(Order.model_fields)
    assert {name: shape.kind for name, shape in shapes.items()} == {
        "number": "text",
        "day": "date",
        "moment": "moment",
        "paid": "truth",
        "count": "integer",
        "weight": "number",
        "kind": "text",
        "items": "list",
        "marks": "list",
        "shares": "json",
    }
    [(_, item)] = shapes["items"].inner
    assert item.kind == "struct" and item.inner[:2] == (
        ("name", Shape("text")),
        ("price", Shape("decimal")),
    )


def test_a_schema_that_holds_itself_ends_in_json() -> None:
    shape = shape_of(Item.model_json_schema(), Item.model_json_schema()["$defs"])
    for _ in range(8):
        if shape.kind == "list":
            shape = shape.inner[0][1]
        elif shape.kind == "struct":
            shape = shape.inner[-1][1]
    assert shape.kind == "json"


def test_without_a_schema_the_values_tell() -> None:
    outputs = [{"b": 1, "a": None, "c": [1]}, {"b": "x", "a": "y"}, {"d": True}, "text", None]
    kinds = {name: shape.kind for name, shape in shapes_of({}, outputs).items()}
    assert kinds == {"a": "text", "b": "json", "c": "json", "d": "truth"}


@pytest.mark.parametrize(
    ("kind", "value", "fitted"),
    [
        ("date", "2024-05-12", datetime.date(2024, 5, 12)),
        ("date", "12 May", None),
        ("moment", "2024-05-12T10:00:00", datetime.datetime(2024, 5, 12, 10)),
        ("moment", "2024-05-12T10:00:00+02:00", datetime.datetime(2024, 5, 12, 8)),
        ("decimal", "12.50", Decimal("12.50")),
        ("decimal", 3, Decimal(3)),
        ("decimal", "0.00000000001", None),
        ("decimal", "1" * 29, None),
        ("decimal", "1" * 28, Decimal("1" * 28)),
        ("decimal", "NaN", None),
        ("integer", 2**63, None),
        ("integer", 1.5, None),
        ("integer", True, None),
        ("number", 3, 3.0),
        ("number", "3", None),
        ("truth", 1, None),
        ("text", 1, None),
        ("json", {"a": [1]}, '{"a": [1]}'),
        ("list", "x", None),
    ],
)
def test_values_fit_or_are_null(kind: Any, value: Any, fitted: Any) -> None:
    inner = (("", Shape("text")),) if kind == "list" else ()
    assert fit(value, Shape(kind, inner)) == fitted


def test_nested_values_keep_their_places() -> None:
    shape = shapes_of(Order.model_json_schema(), [])["items"]
    fitted = fit([{"name": "a", "price": "1.5"}, {"name": 7}, None], shape)
    assert fitted == [
        {"name": "a", "price": Decimal("1.5"), "again": None},
        {"name": None, "price": None, "again": None},
        None,
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(values)
def test_no_value_is_too_odd(value: Any) -> None:
    for name, shape in shapes_of(Order.model_json_schema(), []).items():
        fitted = fit(value, shape)
        if shape.kind == "json" and value is not None:
            assert json.loads(fitted) == value, name
