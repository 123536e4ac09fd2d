from __future__ import annotations

import pytest

from model_onnx.errors import ConfigError
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.options import Options
from pipelines.records import Record, Source
from pipelines.subtask import Subtask, run
from pipelines.tag import subtask as tag_subtask
from tests.fakes import Answered, Asked, FakeEngine

SOURCE = Source(path="a.txt", sha256="0" * 64, kind="text")
LABELS = ("invoice", "letter", "memo")


def tagged(subtask: Subtask, shares: dict[str, float], text: str = "some text") -> Record:
    engine = FakeEngine(
        lambda asked: Answered(max(shares, key=lambda k: shares[k]), 0.0, "stop", shares)
    )
    return run(engine, subtask, Item(SOURCE, cues=(Cue(text),)))


def test_one_label_and_its_probabilities() -> None:
    shares = {"invoice": 0.2, "letter": 0.7, "memo": 0.1}
    record = tagged(tag_subtask(LABELS), shares)
    assert (record.output.label, record.output.labels) == ("letter", ("letter",))
    assert record.output.probabilities == shares
    assert sum(record.output.probabilities.values()) == pytest.approx(1.0)
    assert record.fields["label"].confidence == 0.7
    assert record.status == "ok"


def test_several_labels_are_those_half_as_probable_as_the_best() -> None:
    subtask = tag_subtask(LABELS, several=True)
    assert tagged(subtask, {"invoice": 0.3, "letter": 0.55, "memo": 0.15}).output.labels == (
        "letter",
        "invoice",
    )
    assert tagged(subtask, {"invoice": 0.1, "letter": 0.8, "memo": 0.1}).output.labels == (
        "letter",
    )


def test_an_unsure_label_is_reviewed() -> None:
    record = tagged(tag_subtask(LABELS), {"invoice": 0.3, "letter": 0.4, "memo": 0.3})
    assert (record.status, record.reason) == ("review", "low_confidence")


def test_a_time_limit_leaves_no_label() -> None:
    def respond(asked: Asked) -> Answered:
        return Answered("", finish="cancelled", probabilities={})

    record = run(FakeEngine(respond), tag_subtask(LABELS), Item(SOURCE, cues=(Cue("text"),)))
    assert (record.status, record.reason) == ("truncated", "truncated")
    assert (record.output.label, record.output.labels) == (None, ())
    assert record.output.probabilities == {} == record.fields


def test_the_instruction_and_the_text() -> None:
    engine = FakeEngine(lambda asked: "memo", habits={"tag_characters": 4})
    run(engine, tag_subtask(LABELS), Item(SOURCE, cues=(Cue("long text"),)))
    assert engine.asked[0].instruction == "Choose the label that fits:\ninvoice\nletter\nmemo"
    assert engine.asked[0].text == "long"


def test_a_text_that_is_too_long_is_cut() -> None:
    engine = FakeEngine(lambda asked: "memo")
    item = Item(SOURCE, cues=(Cue("x" * 5000),))
    record = run(engine, tag_subtask(LABELS), item, options=Options(context_tokens=500))
    assert record.output.label == "memo"
    assert 100 < len(engine.asked[0].text) < 500


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "a"), ("a", " ")])
def test_labels_must_differ(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="different"):
        tag_subtask(labels)


def test_other_labels_are_another_schema() -> None:
    names = {tag_subtask(LABELS).schema_name, tag_subtask(("a", "b")).schema_name,
             tag_subtask(LABELS, several=True).schema_name}  # fmt: skip
    assert len(names) == 3
