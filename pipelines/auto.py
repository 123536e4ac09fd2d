"""A document that nobody sorted: its kind is chosen first, then its values are extracted.

    schema="auto": tag chooses among receipt, invoice, letter, memo; extract takes that schema

The record is as if that schema had been asked for: `schema_name` and the type of `output` are the
chosen one's. `fields["schema"]` holds the choice and its probability among the four, and where that
is below `Options.minimum_confidence` the record is `review` like that of any unsure value. A choice
under which nothing was found is doubtful too: reason `empty`.

A recording that comes without a schema gives its transcript (`output.text`, `output.segments`):
people expect to read what was said, and a meeting is none of the four kinds of paper. To get values
from speech, name a schema.

This is the default of `flows run extract` and of the library, because every other default is a
guess about the folder, made without looking: under one fixed schema an invoice becomes a receipt
whose values all stand in the evidence, and nothing tells. Here the guess is a value with a
probability. It costs one short request for each document, on words that are read once for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, RootModel

from model_onnx.errors import InputError
from pipelines.extract import PROMPT_VERSION, answer_from
from pipelines.extract import subtask as extract_subtask
from pipelines.items import Item
from pipelines.records import Check, FieldValue, Grounding
from pipelines.schemas import BUILT_IN, Invoice, Letter, Memo, Receipt, load_schema
from pipelines.subtask import Answer, Subtask, Work
from pipelines.tag import PROMPT_VERSION as CHOICE_VERSION
from pipelines.tag import choose
from pipelines.transcribe import Transcript
from pipelines.transcribe import answer as transcribed
from pipelines.windows import evidence

AUTO = "auto"
_Output = RootModel[Receipt | Invoice | Letter | Memo | Transcript]


def named(schema: str | type[BaseModel] | Mapping[str, Any]) -> Subtask:
    """Extraction by a schema or its name, `auto` among them. Raises ConfigError."""
    if schema == AUTO:
        return SUBTASK
    return extract_subtask(load_schema(schema) if isinstance(schema, str) else schema)


def outputs() -> dict[str, Any]:
    """A JSON Schema with the properties of all that may come out, and each schema by itself."""
    models: list[type[BaseModel]] = [*BUILT_IN.values(), Transcript]
    schemas = {model.__name__: model.model_json_schema() for model in models}
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for schema in schemas.values():
        properties |= schema["properties"]
        definitions |= schema.get("$defs", {})
    return {"type": "object", "properties": properties, "$defs": definitions, "schemas": schemas}


def _answer(work: Work, item: Item) -> Answer:
    if item.clips:
        made = transcribed(work, item)
        return Answer(made.output, made.fields, made.checks, made.truncated, Transcript.__name__)
    reading = evidence(work, item)
    shares = choose(work, tuple(BUILT_IN), item, reading)
    if shares is None:
        raise InputError(
            "the time limit ended the choice of a schema; raise it or name a schema",
            reason="time_limit",
        )
    name = max(shares, key=lambda label: shares[label])
    model = BUILT_IN[name]
    found = answer_from(model.model_json_schema(), True, work, item, reading)
    values = found.fields.values()
    empty = Check(
        name="empty",
        passed=any(field.value is not None for field in values),
        reason=f"nothing of a {name} was found; name the schema that fits",
    )
    choice = FieldValue(value=name, confidence=shares[name], grounding=Grounding(status="none"))
    return Answer(
        model.model_validate(found.output),
        {"schema": choice, **found.fields},
        (*found.checks, empty),
        found.truncated,
        model.__name__,
    )


SUBTASK = Subtask("extract", f"{PROMPT_VERSION}+{CHOICE_VERSION}", _Output, _answer, (), AUTO)
