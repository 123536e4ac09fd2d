"""tag: an item gets one or several labels of a given set, with probabilities over the set.

Worked example, labels invoice, letter, receipt:

    system  Choose the label that fits:
            invoice
            letter
            receipt
    user    ACME TRADING\\nTOTAL 12.50\\nTHANK YOU
    model   receipt
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict

from model_onnx.constrain import Choices
from model_onnx.errors import ConfigError
from model_onnx.prompt import Part
from pipelines.evidence import joined
from pipelines.films import films
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Ask, Subtask, Work
from pipelines.transcribe import Reading, page_image
from pipelines.windows import evidence, is_shown

PROMPT_VERSION = "tag-1"
_INSTRUCTION_TOKENS = 512  # left for the labels and the answer


def instruction(labels: Sequence[str]) -> str:
    """The system turn."""
    return "\n".join(["Choose the label that fits:", *labels])


class Tags(BaseModel):
    """labels: the chosen ones, the most probable first; probabilities: of every label, sum 1.

    Of a choice that a time limit ended there is none: label None, the others empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str | None
    labels: tuple[str, ...]
    probabilities: dict[str, float]


def subtask(labels: Sequence[str], *, several: bool = False) -> Subtask:
    """several: all labels at least half as probable as the best one. Raises ConfigError."""
    names = tuple(labels)
    if len(set(names)) < 2 or len(set(names)) != len(names) or not all(n.strip() for n in names):
        raise ConfigError(f"got labels {list(names)}, expected two or more different ones")
    key = f"{','.join(names)}{'+' if several else ''}"
    return Subtask("tag", PROMPT_VERSION, Tags, partial(_answer, names, several), schema_name=key)


def _answer(labels: tuple[str, ...], several: bool, work: Work, item: Item) -> Answer:
    reading = evidence(work, item)
    checks, truncated = ((reading.check,), reading.truncated) if reading else ((), False)
    shares = choose(work, labels, item, reading)
    if shares is None:
        return Answer(Tags(label=None, labels=(), probabilities={}), {}, checks, truncated=True)
    ranked = sorted(labels, key=lambda label: -shares[label])
    best = shares[ranked[0]]
    chosen = [name for name in ranked if several and shares[name] >= best / 2]
    tags = Tags(label=ranked[0], labels=tuple(chosen or ranked[:1]), probabilities=shares)
    field = FieldValue(value=tags.label, confidence=best, grounding=Grounding(status="none"))
    return Answer(tags, {"label": field}, checks, truncated)


def choose(
    work: Work, labels: Sequence[str], item: Item, reading: Reading | None
) -> dict[str, float] | None:
    """The probability of each label, sum 1; None when a time limit ended the choice.

    reading: of `windows.evidence`. The beginning of a text decides, or the first page's picture.
    """
    if reading is None:
        ask = Ask(instruction(labels), _shown(work, item), Choices(tuple(labels)), new_tokens=64)
    else:
        ask = _fitting(work, labels, joined(reading.lines)[: work.habits.tag_characters])
    [reply] = work.ask([ask])
    shares = reply.result.choice_probabilities
    if reply.truncated or not shares:
        return None
    return {label: shares[label] for label in labels}


def _shown(work: Work, item: Item) -> tuple[Part, ...]:
    """The first page, or as much of a video as a context takes."""
    room = work.context_tokens - _INSTRUCTION_TOKENS
    if is_shown(item):
        return films(work, item.pages, item.clips, room)[0].parts(work.options.frame_tokens)
    page = next(page for page in item.pages if page.image is not None)
    return (page_image(work, page),)


def _fitting(work: Work, labels: Sequence[str], text: str) -> Ask:
    """A text that is too long for the context is cut."""
    while True:
        ask = Ask(instruction(labels), (text,), Choices(tuple(labels)), new_tokens=64)
        if work.room(ask) >= 0 or len(text) <= 1:
            return ask
        text = text[: len(text) * 3 // 4]
