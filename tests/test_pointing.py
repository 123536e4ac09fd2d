from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from model_onnx.errors import ConfigError
from model_onnx.grammar import json_grammar
from pipelines.pointing import Parsed, pointing
from pipelines.values import Locale


class Item(BaseModel):
    name: str
    price: Decimal | None


class Order(BaseModel):
    number: str = Field(max_length=20)
    date: datetime.date | None
    total: Decimal | None = Field(ge=0)
    count: int | None = None
    paid: bool | None
    currency: Literal["EUR", "USD"] | None
    code: str | None = Field(pattern="[A-Z]{3}")
    summary: str | None = Field(json_schema_extra={"verbatim": False})
    items: list[Item] = Field(max_length=5)
    buyer: Item | None


SCHEMA = Order.model_json_schema()
VERBATIM = {"type": "string", "verbatim": True, "maxLength": 300, "minLength": 1}
NULLABLE = {"anyOf": [VERBATIM, {"type": "null"}]}


def test_what_the_model_copies_and_what_it_writes_freely() -> None:
    made = pointing(SCHEMA)["properties"]
    assert made["number"] == {**VERBATIM, "maxLength": 20}
    assert made["date"] == made["total"] == made["count"] == NULLABLE
    assert not any("verbatim" in str(made[name]) for name in ("paid", "currency", "code"))
    assert "'verbatim': True" not in str(made["summary"])
    assert pointing(SCHEMA)["$defs"]["Item"]["properties"] == {"name": VERBATIM, "price": NULLABLE}


def test_the_grammar_takes_it() -> None:
    import json

    assert json_grammar(json.dumps(pointing(SCHEMA)), "some evidence 12.50")


def test_the_way_back_parses_by_the_users_schema() -> None:
    words: dict[str, Any] = {
        "number": "00012",
        "date": "5 March 2024",
        "total": "RM 1,234.50",
        "count": "three",
        "paid": None,
        "currency": "EUR",
        "code": "ABC",
        "summary": "x",
        "items": [{"name": "12", "price": "3.00"}, {"name": "b", "price": None}],
        "buyer": {"name": "B", "price": "free"},
    }
    parsed = Parsed(Locale())
    order = Order.model_validate(parsed.value(words, SCHEMA))
    assert (order.number, order.date, order.total) == (
        "00012",
        datetime.date(2024, 3, 5),
        Decimal("1234.50"),
    )
    assert order.items[0].price == Decimal("3.00")
    assert parsed.unparsed == ["count", "buyer.price"]
    assert parsed.parsed["items[0].price"] == "3.00"


def test_json_schema_outputs_get_numbers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["number", "null"]}}}
    assert Parsed(Locale(), exact=False).value({"a": "2.5"}, schema) == {"a": 2.5}
    assert Parsed(Locale(), exact=False).value({"a": "-2"}, schema) == {"a": -2}


def test_words_that_cannot_be_null_stay_for_validation() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    parsed = Parsed(Locale())
    assert parsed.value({"a": "none"}, schema) == {"a": "none"}
    assert parsed.unparsed == ["a"]


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "object"}, {}])
def test_only_objects_have_fields(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="object"):
        pointing(schema)
