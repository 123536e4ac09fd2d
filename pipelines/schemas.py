"""What to extract: built-in models, and models and JSON Schemas of the user's own.

    load_schema("receipt")                  a built-in, see BUILT_IN
    load_schema("shop.models:Order")        a pydantic model of an importable module
    load_schema("order.py")                 the one model of a file; `order.py:Order` of several
    load_schema("order.json")               a JSON Schema of an object

Knows no model that runs and no file format. Every built-in field may be null, so the model can
abstain. `json_schema_extra={"verbatim": False}` lets a field hold what the document does not say;
`json_schema_extra={"format": "amount"}` says that a number is money (`Amount`).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from model_onnx.errors import ConfigError
from pipelines.modules import import_module, run_file, unreadable
from pipelines.pointing import pointing

Amount = Annotated[Decimal, Field(json_schema_extra={"format": "amount"})]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Receipt(_Document):
    company: str | None
    date: datetime.date | None
    address: str | None
    total: Amount | None


class Invoice(_Document):
    number: str | None
    date: datetime.date | None
    due_date: datetime.date | None
    seller: str | None
    buyer: str | None
    total: Amount | None
    currency: str | None


class Letter(_Document):
    sender: str | None
    recipient: str | None
    date: datetime.date | None
    subject: str | None
    reference: str | None


class Memo(_Document):
    author: str | None
    date: datetime.date | None
    subject: str | None
    amount: Amount | None


BUILT_IN: dict[str, type[BaseModel]] = {
    "receipt": Receipt,
    "invoice": Invoice,
    "letter": Letter,
    "memo": Memo,
}


def load_schema(name: str) -> type[BaseModel] | dict[str, Any]:
    """A pydantic model, or a JSON Schema as a dict. Raises ConfigError when there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.endswith(".json"):
        return _from_json(Path(name))
    place, _, attribute = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if place.endswith(".py"):
        schema = _model_of(run_file(Path(place), "schema"), attribute, name)
    elif place and attribute:
        schema = _model_of(import_module(place, name, "schema"), attribute, name)
    else:
        raise ConfigError(
            f"got schema {name!r}, expected {', '.join(BUILT_IN)}, MODULE:CLASS, FILE.py, "
            "FILE.py:CLASS or FILE.json"
        )
    pointing(schema.model_json_schema())
    return schema


def _from_json(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error, "schema") from None
    except ValueError as error:
        raise ConfigError(
            f"got {path} that is not JSON ({error}), expected a JSON Schema; correct it"
        ) from None
    if not isinstance(schema, Mapping):
        raise ConfigError(
            f"got {path} with a {type(schema).__name__}, expected the JSON Schema of an object"
        )
    pointing(schema)
    return dict(schema)


def _model_of(module: ModuleType, attribute: str, name: str) -> type[BaseModel]:
    """The class of that name; without a name, the one model that the module defines."""
    models = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel)
    }
    own = [key for key in models if models[key].__module__ == module.__name__]
    key = attribute or (own[0] if len(own) == 1 else "")
    if key not in models:
        raise ConfigError(
            f"got schema {name!r}, expected the name of a pydantic model behind a colon; "
            f"there {'is ' + ', '.join(own) if own else 'is none'}"
        )
    return models[key]
