from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from model_onnx.errors import ConfigError
from pipelines.pointing import pointing
from pipelines.schemas import BUILT_IN, Receipt, load_schema

ORDER = """
from __future__ import annotations
import datetime
from pydantic import BaseModel

class Line(BaseModel):
    name: str

class Order(BaseModel):
    date: datetime.date | None
    lines: list[Line]
"""


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models_let_the_model_abstain_and_take_nothing_else(name: str) -> None:
    model = load_schema(name)
    assert isinstance(model, type)
    empty = dict.fromkeys(model.model_fields)
    assert model.model_validate(empty).model_dump() == empty
    with pytest.raises(ValidationError):
        model.model_validate(empty | {"other": 1})
    leaves = pointing(model.model_json_schema())["properties"].values()
    assert all(leaf["anyOf"][0]["verbatim"] for leaf in leaves)


def test_the_fields_are_those_of_the_training() -> None:
    assert {name: tuple(model.model_fields) for name, model in BUILT_IN.items()} == {
        "receipt": ("company", "date", "address", "total"),
        "invoice": ("number", "date", "due_date", "seller", "buyer", "total", "currency"),
        "letter": ("sender", "recipient", "date", "subject", "reference"),
        "memo": ("author", "date", "subject", "amount"),
    }


def test_a_models_error_does_not_quote_the_document() -> None:
    with pytest.raises(ValidationError) as caught:
        Receipt.model_validate({"company": "a", "date": "secret", "address": None, "total": None})
    assert "secret" not in str(caught.value)


def test_models_of_files_and_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "order.py"
    path.write_text(ORDER)
    model = load_schema(f"{path}:Order")
    assert isinstance(model, type) and issubclass(model, BaseModel)
    made = model.model_validate({"date": "2024-01-02", "lines": [{"name": "a"}]})
    assert made.model_dump(mode="json") == {"date": "2024-01-02", "lines": [{"name": "a"}]}
    path.write_text("from pydantic import BaseModel\nclass Other(BaseModel):\n    a: int\n")
    assert getattr(load_schema(str(path)), "__name__", "") == "Other"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert getattr(load_schema("order:Other"), "__name__", "") == "Other"
    assert load_schema("pipelines.schemas:Receipt") is Receipt


def test_json_schema_files(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    path.write_text(json.dumps(schema))
    assert load_schema(str(path)) == schema


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("reciept", "", "expected receipt, invoice"),
        ("none.py", None, "cannot read"),
        ("none.json", None, "cannot read"),
        ("no_module_here:Order", "", "cannot import"),
        ("pipelines.schemas:Nothing", "", "expected the name of a pydantic model"),
        ("a.py", ORDER, "there is Line, Order"),
        ("a.py", "x = 1", "there is none"),
        ("a.py:x", "x = 1", "there is none"),
        ("a.py", "1 / 0", "ZeroDivisionError"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "expected the JSON Schema of an object"),
        ("a.json", '{"type": "string"}', "expected an object with properties"),
    ],
)
def test_errors_say_what_to_do(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    place = name
    if "." in name.split(":")[0] and not name.startswith("pipelines"):
        place = str(tmp_path / name)
        if text is not None:
            Path(place.split(".py")[0] + ".py" if ".py" in place else place).write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_schema(place)
