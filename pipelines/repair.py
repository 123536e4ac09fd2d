"""repair: a dictation becomes punctuated text, spoken commands applied and fillers dropped.

Worked example:

    system  Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. ...
    user    um dear john comma new line the uh the 12 no sorry 14 parts arrived on monday period
    model   Dear John,
            The 14 parts arrived on Monday.

Cues keep their times; each is repaired by itself. The answer follows the dictation word by word
(`dictation.pattern`); the guard checks it once more.
"""

from __future__ import annotations

from collections import Counter

from model_onnx.constrain import Constraint, FreeText, Regex
from pipelines.correction import Correction, checks, correct
from pipelines.dictation import key, pattern, units
from pipelines.evidence import Line
from pipelines.guard import Edit, Piece, Policy, Refusal, protected_words
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Subtask, Work
from pipelines.transcribe import Segment, Transcript, read_evidence

PROMPT_VERSION = "repair-2"


class Repaired(Transcript):
    """text: all cues; segments: the cues with times; edits: the diff, lines counted per cue."""

    edits: tuple[Edit, ...] = ()


def instruction() -> str:
    """The system turn."""
    return (
        "Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. "
        "Change nothing else."
    )


def policy(text: str) -> Policy:
    """Content stays, one spelling of it may change; what else is in the text may vanish."""
    free = Counter(key(word) for unit in units(text) if unit.may_vanish for word in unit.words)

    def judge(piece: Piece) -> Refusal:
        old, new = Counter(map(key, piece.before)), Counter(map(key, piece.after))
        if added := (new - old) - Counter([""]):
            # Names and capitals inside words change, in the model's eyes.
            return "added" if added.total() > 1 or len(piece.after) > len(piece.before) else ""
        return "dropped" if old - new - free else ""

    def may_lose(piece: Piece) -> bool:
        old, new = (Counter(protected_words(words)) for words in (piece.before, piece.after))
        return not Counter(map(key, (old - new).elements())) - free

    return Policy(judge=judge, may_lose=may_lose, total_cap=0.9, keep_lines=False, key=key)


def constraint(text: str) -> Constraint:
    """The repairs of a text, as `dictation.pattern` has them."""
    repairs = pattern(text)
    return FreeText() if repairs is None else Regex(repairs, may_break_off=True)


def answer(work: Work, item: Item) -> Answer:
    """Transcripts and texts are repaired; a recording is transcribed first."""
    reading = read_evidence(work, item)
    parts = _parts(reading.lines)
    done = correct(work, [text for text, _ in parts], instruction(), policy, constraint=constraint)
    timed = [(fix, span) for fix, (_, span) in zip(done, parts, strict=True)]
    segments = tuple(Segment(start=s[0], end=s[1], text=fix.text) for fix, s in timed if s)
    text = (" " if segments else "\n").join(fix.text for fix in done)
    edits = tuple(edit for fix in done for edit in fix.edits)
    return Answer(
        Repaired(text=text, segments=segments, edits=edits),
        {f"parts[{at}]": _field(fix, span) for at, (fix, span) in enumerate(timed)},
        (*checks(done), reading.check),
        reading.truncated or any(fix.truncated for fix in done),
    )


def _parts(lines: tuple[Line, ...]) -> list[tuple[str, tuple[float, float] | None]]:
    """Cues one by one; lines without times are one dictation."""
    if all(line.words[0].span is None for line in lines):
        return [("\n".join(line.text for line in lines), None)]
    return [(line.text, line.words[0].span) for line in lines]


def _field(fix: Correction, span: tuple[float, float] | None) -> FieldValue:
    place = Grounding(status="fuzzy" if fix.edits else "exact", span=span)
    return FieldValue(value=fix.text, confidence=fix.confidence, grounding=place)


SUBTASK = Subtask("repair", PROMPT_VERSION, Repaired, answer)
