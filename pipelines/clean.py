"""clean: text with OCR errors becomes clean text, guarded so that it can only get better.

Worked example:

    system  Correct the OCR errors in this text. Change nothing else.
    user    Tbe meeting wi11 start at 10:30 on 12/03/2O24.
    model   The meeting will start at 10:30 on 12/03/2024.

The record's text is `The meeting will start at 10:30 on 12/03/2O24.` with the edit of the date
refused: numbers are flagged, never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rapidfuzz.distance import Levenshtein

from pipelines.correction import Corrected, Correction, checks, correct
from pipelines.evidence import Line, joined
from pipelines.guard import Edit, Piece, Policy, Refusal
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Subtask, Work
from pipelines.transcribe import PAGE_BREAK, read_evidence

PROMPT_VERSION = "clean-1"


def instruction() -> str:
    """The system turn."""
    return "Correct the OCR errors in this text. Change nothing else."


def _judge(piece: Piece) -> Refusal:
    """A correction changes some letters of a word; it neither adds nor drops words."""
    before = [word for word in piece.before if any(map(str.isalnum, word))]  # specks may go
    after = [word for word in piece.after if any(map(str.isalnum, word))]
    if not after or not before:
        return "dropped" if before else "added" if after else ""
    one, two = "".join(before), "".join(after)
    cap = max(2, 0.6 * len(one)) if len(before) == len(after) else 0.34 * len(one)
    return "edit_cap" if Levenshtein.distance(one, two) > cap else ""


POLICY = Policy(judge=_judge, may_lose=lambda piece: False, total_cap=0.4, keep_lines=True)


def answer(work: Work, item: Item) -> Answer:
    """Pages and lines of text are corrected; pixels without words are read first."""
    reading = read_evidence(work, item)
    parts = [(number, joined(part)) for number, part in groupby(reading.lines, _page)]
    shown = {page.number: page for page in item.pages if page.words and page.image is not None}
    pictures = [shown.get(n) if n and work.habits.images_with_text else None for n, _ in parts]
    done = correct(work, [text for _, text in parts], instruction(), lambda text: POLICY, pictures)
    return Answer(
        Corrected(text=PAGE_BREAK.join(fix.text for fix in done), edits=tuple(_edits(done))),
        {
            f"pages[{at}]": FieldValue(
                value=fix.text,
                confidence=fix.confidence,
                grounding=Grounding(status="fuzzy" if fix.edits else "exact", page=number),
            )
            for at, (fix, (number, _)) in enumerate(zip(done, parts, strict=True))
        },
        (*checks(done), reading.check),
        reading.truncated or any(fix.truncated for fix in done),
    )


def _page(line: Line) -> int | None:
    return line.page


def _edits(done: Sequence[Correction]) -> Iterator[Edit]:
    """Lines are counted through the whole text."""
    line = 0
    for fix in done:
        yield from (edit.model_copy(update={"line": edit.line + line}) for edit in fix.edits)
        line += fix.text.count("\n") + PAGE_BREAK.count("\n")


SUBTASK = Subtask("clean", PROMPT_VERSION, Corrected, answer)
