"""clean: text with OCR errors becomes clean text, guarded so that it can only get better.

Worked example:

    system  Correct the OCR errors in this text. Change nothing else.
    user    Tbe meeting wi11 start at 10:30 on 12/03/2O24.
    model   The meeting will start at 10:30 on 12/03/2024.

The record's text is `The meeting will start at 10:30 on 12/03/2O24.` with the edit of the date
refused: numbers are flagged, never changed.
"""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

from pipelines.correction import Corrected, checks, correct
from pipelines.evidence import joined
from pipelines.guard import Policy, Refusal
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Subtask, Work
from pipelines.transcribe import read_evidence

PROMPT_VERSION = "clean-1"


def instruction() -> str:
    """The system turn."""
    return "Correct the OCR errors in this text. Change nothing else."


def _judge(before: list[str], after: list[str]) -> Refusal:
    """A correction changes some letters of a word; it neither adds nor drops words."""
    one, two = "".join(before), "".join(after)
    if not any(map(str.isalnum, two)):  # specks may go, words may not
        return "dropped" if any(map(str.isalnum, one)) else ""
    if not any(map(str.isalnum, one)):
        return "added"
    cap = max(2, 0.6 * len(one)) if len(before) == len(after) else 0.34 * len(one)
    return "edit_cap" if Levenshtein.distance(one, two) > cap else ""


POLICY = Policy(judge=_judge, may_lose=lambda words: False, total_cap=0.4, keep_lines=True)


def answer(work: Work, item: Item) -> Answer:
    """Pages and lines of text are corrected; pixels without words are read first."""
    reading = read_evidence(work, item)
    [done] = correct(work, [joined(reading.lines)], instruction(), POLICY)
    place = Grounding(status="fuzzy" if done.edits else "exact")
    return Answer(
        Corrected(text=done.text, edits=done.edits),
        {"text": FieldValue(value=done.text, confidence=done.confidence, grounding=place)},
        (*checks([done]), reading.check),
        done.truncated or reading.truncated,
    )


SUBTASK = Subtask("clean", PROMPT_VERSION, Corrected, answer)
