from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from model_onnx.constrain import Grammar, JsonSchema
from model_onnx.errors import ConfigError
from model_onnx.grammar import json_grammar
from pipelines.candidates import candidates
from pipelines.pointing import Parsed, kind_of, pointing, resolve
from pipelines.schemas import Invoice, Memo, Receipt
from pipelines.values import Locale
from tests.small_grammar import (
    QUICK,
    characters_tokenizer,
    grammar_of,
    merged_tokenizer,
    noisy,
    text_of,
)


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


def test_what_code_found_is_offered_where_it_belongs() -> None:
    found = {"date": ["1/2/2024"], "number": ["2", "3.50"], "integer": ["2"], "amount": ["3.50"]}
    made = pointing(SCHEMA, lambda kind: found[kind])
    properties = made["properties"]
    assert properties["date"]["anyOf"][0] == {"type": "string", "enum": ["1/2/2024"]}
    assert properties["total"]["anyOf"][0]["enum"] == ["2", "3.50"]
    assert properties["count"]["anyOf"][0]["enum"] == ["2"]
    assert properties["number"] == {**VERBATIM, "maxLength": 20}
    assert made["$defs"]["Item"]["properties"]["price"]["anyOf"][0]["enum"] == ["2", "3.50"]


@pytest.mark.parametrize(
    "price",
    [
        {"type": "number", "format": "amount"},
        {"type": ["number", "null"], "format": "amount"},
        {"anyOf": [{"type": "number"}, {"type": "null"}], "format": "amount"},
    ],
)
def test_an_amount_is_a_number_of_money(price: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"price": price}}
    offered = pointing(schema, lambda kind: ["3.50"] if kind == "amount" else [])
    assert "'enum': ['3.50']" in str(offered["properties"]["price"])
    free = {**schema, "properties": {"price": {**price, "verbatim": False}}}
    assert json_grammar(json.dumps(pointing(free)))
    assert Parsed(Locale(), exact=False).value({"price": "RM 3.50"}, schema) == {"price": 3.5}


def test_the_built_in_amounts_are_marked() -> None:
    for model, name in ((Receipt, "total"), (Invoice, "total"), (Memo, "amount")):
        schema = model.model_json_schema()
        assert kind_of(resolve(schema["properties"][name], {})) == "amount"


def test_the_grammar_takes_it() -> None:
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


@pytest.fixture(scope="module", params=[characters_tokenizer, merged_tokenizer])
def grammar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(request.param(), tmp_path_factory.mktemp("tokenizer"))


TEXTS = st.lists(
    st.sampled_from(["19/10/2018", "5 May 2024", "RM12.50", "$1,234.50", "7", '"},{', "<turn|>"]),
    min_size=1,
    max_size=6,
).map(" TOTAL ".join)


@QUICK
@given(text=TEXTS, seed=st.integers(0, 2**32), budget=st.integers(60, 200))
def test_no_value_outside_the_candidates_can_come_out(
    grammar: Grammar, text: str, seed: int, budget: int
) -> None:
    schema = pointing(Receipt.model_json_schema(), lambda kind: candidates(text, kind, Locale()))
    matcher = noisy(grammar, JsonSchema(json.dumps(schema), evidence=text), budget, seed)
    values = json.loads(text_of(grammar, matcher))
    for name, kind in (("date", "date"), ("total", "amount")):
        options = candidates(text, kind, Locale())
        assert values[name] is None or values[name] in (options or text)
