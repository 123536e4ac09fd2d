"""pipelines/auto.py: the kind of a document is a value with a probability."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from model_onnx.errors import ConfigError
from pipelines.auto import AUTO, SUBTASK, named, outputs
from pipelines.clips import Clip
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.options import Options
from pipelines.pages import Page
from pipelines.records import Record, Source
from pipelines.schemas import BUILT_IN, Letter, Memo, Receipt
from pipelines.subtask import run
from pipelines.transcribe import Transcript
from tests.fakes import Answered, Asked, FakeEngine, field_names

SOURCE = Source(path="a.txt", sha256="0" * 64, kind="text")
TEXT = "ACME TRADING\n19/10/2018\nTOTAL RM12.50"
SHARES = {"receipt": 0.85, "invoice": 0.1, "letter": 0.03, "memo": 0.02}


def respond(asked: Asked, shares: dict[str, float] = SHARES, **values: Any) -> Any:
    if asked.instruction.startswith("Choose"):
        return Answered("", probabilities=shares)
    if asked.instruction.startswith("Extract"):
        return json.dumps({name: values.get(name) for name in field_names(asked)})
    return "12.50 said" if asked.instruction.startswith("Trans") else TEXT.split("\n")[0]


def answered(item: Item, options: Options | None = None, **said: Any) -> tuple[Record, FakeEngine]:
    engine = FakeEngine(lambda asked: respond(asked, **said))
    return run(engine, SUBTASK, item, options=options), engine


def text_item() -> Item:
    return Item(SOURCE, cues=(Cue(TEXT),))


def test_the_kind_is_chosen_then_its_values() -> None:
    record, engine = answered(text_item(), company="ACME TRADING", total="12.50")
    assert engine.asked[0].instruction.split("\n")[1:] == list(BUILT_IN)
    assert field_names(engine.asked[1]) == list(Receipt.model_fields)
    assert record.output == Receipt(
        company="ACME TRADING", date=None, address=None, total=Decimal("12.50")
    )
    assert (record.schema_name, record.status) == ("Receipt", "ok")
    choice = record.fields["schema"]
    assert (choice.value, choice.confidence) == ("receipt", 0.85)
    assert list(record.fields) == ["schema", *Receipt.model_fields]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_kind_can_be_chosen_and_stays_itself(name: str) -> None:
    shares = dict.fromkeys(BUILT_IN, 0.1) | {name: 0.7}
    record, _ = answered(text_item(), shares=shares, date="19/10/2018")
    assert type(record.output) is BUILT_IN[name]
    assert record.output.date.isoformat() == "2018-10-19"
    assert record.status == "ok"


def test_an_unsure_choice_is_reviewed() -> None:
    shares = {"receipt": 0.4, "invoice": 0.3, "letter": 0.2, "memo": 0.1}
    record, _ = answered(text_item(), shares=shares, total="12.50")
    assert (record.status, record.reason) == ("review", "low_confidence")
    [reason] = [check.reason for check in record.checks if not check.passed]
    assert reason == "schema below 0.5"


def test_a_choice_under_which_nothing_is_found_is_reviewed() -> None:
    record, _ = answered(text_item())
    assert (record.status, record.reason) == ("review", "empty")


def test_a_recording_gives_its_transcript() -> None:
    clips = tuple(Clip(np.zeros(16_000, np.float32), (at, at + 1.0)) for at in (0.0, 5.0))
    record, engine = answered(Item(SOURCE, clips=clips))
    assert all(asked.instruction.startswith("Transcribe") for asked in engine.asked)
    assert isinstance(record.output, Transcript) and record.schema_name == "Transcript"
    assert record.output.text == "12.50 said 12.50 said"
    assert record.output.segments[1].start == 5.0


def test_pixels_are_read_once_for_both_steps() -> None:
    page = Page(1, np.full((96, 96), 255, np.uint8), (), "", "none")
    page.image[30:60, 20:70] = 0  # type: ignore[index]
    record, engine = answered(Item(SOURCE, pages=(page,)), company="ACME TRADING")
    kinds = [asked.instruction.split()[0] for asked in engine.asked]
    assert kinds == ["Write", "Choose", "Extract"] and record.status == "ok"


def test_a_model_that_looks_at_pages_chooses_by_the_first_one() -> None:
    page = Page(1, np.full((96, 96), 255, np.uint8), (), "", "none")
    item = Item(SOURCE, pages=(page, Page(2, page.image, (), "", "none")))
    record, engine = answered(item, Options(reading="page"), company="ACME")
    assert [len(asked.media) for asked in engine.asked] == [1, 2]
    assert (record.status, record.reason) == ("review", "ungrounded")


def test_without_time_there_is_no_choice() -> None:
    engine = FakeEngine(lambda asked: Answered("", finish="cancelled", probabilities={}))
    record = run(engine, SUBTASK, text_item())
    assert (record.status, record.reason) == ("failed", "time_limit")


def test_schemas_by_name() -> None:
    assert named(AUTO) is SUBTASK
    assert named("letter").output is Letter and named(Memo).output is Memo
    assert named({"title": "T", "type": "object", "properties": {"a": {"type": "string"}}})
    with pytest.raises(ConfigError):
        named("automatic")


def test_the_schema_of_all_outputs_names_every_field() -> None:
    assert set(outputs()["properties"]) == {
        *(field for model in BUILT_IN.values() for field in model.model_fields),
        *Transcript.model_fields,
    }
    assert "Segment" in outputs()["$defs"]
