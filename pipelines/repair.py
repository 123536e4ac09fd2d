"""repair: a dictation becomes punctuated text, spoken commands applied and fillers dropped.

Worked example:

    system  Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. ...
    user    um dear john comma new line the uh the 12 no sorry 14 parts arrived on monday period
    model   Dear John,
            The 14 parts arrived on Monday.

Cues keep their times; each is repaired by itself. A number may vanish only together with a spoken
correction, and never change.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import pairwise

from pipelines.correction import Correction, checks, correct
from pipelines.evidence import Line
from pipelines.guard import Edit, Piece, Policy, Refusal, protected_words
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Subtask, Work
from pipelines.transcribe import Segment, Transcript, read_evidence

PROMPT_VERSION = "repair-1"

_CORRECTIONS = re.compile(
    r"\b(no|sorry|correction|mean|make that|rather|actually|wait|(scratch|delete|strike) that)\b"
)
_COMMANDS = {
    "comma", "period", "full", "stop", "question", "exclamation", "mark", "point", "colon",
    "semicolon", "new", "line", "newline", "next", "paragraph", "dash", "hyphen", "open", "close",
    "quote", "unquote", "bracket", "parenthesis",
}  # fmt: skip
_FILLERS = {
    "um", "uh", "er", "erm", "ah", "hmm", "uhm", "eh", "mm", "you", "know", "well", "like", "i",
    "mean", "so",
}  # fmt: skip


class Repaired(Transcript):
    """text: all cues; segments: the cues with times; edits: the diff, lines counted per cue."""

    edits: tuple[Edit, ...] = ()


def instruction() -> str:
    """The system turn."""
    return (
        "Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. "
        "Change nothing else."
    )


def _key(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum())


def _takes_back(piece: Piece) -> bool:
    return bool(_CORRECTIONS.search(" ".join(map(_key, piece.before))))


def _repeated(piece: Piece) -> set[str]:
    """Words that stand beside themselves, as in a stutter."""
    words = [_key(word) for word in (piece.around[0], *piece.before, piece.around[1])]
    return {one for one, two in pairwise(words) if one == two}


def _may_lose(piece: Piece) -> bool:
    repeated = _repeated(piece)
    return _takes_back(piece) or all(_key(w) in repeated for w in protected_words(piece.before))


def _judge(piece: Piece) -> Refusal:
    """Words stay, but for fillers, commands, stutters and what a spoken correction takes back."""
    old, new = Counter(map(_key, piece.before)), Counter(map(_key, piece.after))
    if added := (new - old) - Counter([""]):
        # One spelling may change: names and capitals inside words do, in the model's eyes.
        return "added" if added.total() > 1 or len(piece.after) > len(piece.before) else ""
    if _takes_back(piece):
        return ""
    fragments = {_key(word) for word in piece.before if word.endswith("-")}
    free = _FILLERS | _COMMANDS | _repeated(piece) | fragments
    return "" if all(word in free for word in old - new) else "dropped"


POLICY = Policy(judge=_judge, may_lose=_may_lose, total_cap=0.9, keep_lines=False, key=_key)


def answer(work: Work, item: Item) -> Answer:
    """Transcripts and texts are repaired; a recording is transcribed first."""
    reading = read_evidence(work, item)
    parts = _parts(reading.lines)
    done = correct(work, [text for text, _ in parts], instruction(), POLICY)
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
