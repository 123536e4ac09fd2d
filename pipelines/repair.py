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

from pipelines.correction import Correction, checks, correct
from pipelines.evidence import Line
from pipelines.guard import Edit, Policy, Refusal
from pipelines.items import Item
from pipelines.records import FieldValue, Grounding
from pipelines.subtask import Answer, Subtask, Work
from pipelines.transcribe import Segment, Transcript, read_evidence

PROMPT_VERSION = "repair-1"

_CORRECTIONS = re.compile(
    r"\b(no|sorry|correction|mean|make that|rather|actually|wait|(scratch|delete|strike) that)\b"
)
_COMMANDS = frozenset(
    [
        "comma",
        "period",
        "full",
        "stop",
        "question",
        "exclamation",
        "mark",
        "point",
        "colon",
        "semicolon",
        "new",
        "line",
        "newline",
        "next",
        "paragraph",
        "dash",
        "hyphen",
        "open",
        "close",
        "quote",
        "bracket",
    ]
)
_FILLERS = frozenset(
    [
        "um",
        "uh",
        "er",
        "erm",
        "ah",
        "hmm",
        "uhm",
        "eh",
        "mm",
        "you",
        "know",
        "well",
        "like",
        "i",
        "mean",
        "so",
    ]
)


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


def _takes_back(words: list[str]) -> bool:
    return bool(_CORRECTIONS.search(" ".join(_key(word) for word in words)))


def _judge(before: list[str], after: list[str]) -> Refusal:
    """Words stay, but for fillers, commands, stutters and what a spoken correction takes back."""
    old, new = Counter(map(_key, before)), Counter(map(_key, after))
    if added := (new - old) - Counter([""]):
        # One spelling may change: names and capitals inside words do, in the model's eyes.
        return "added" if added.total() > 1 or len(after) > len(before) else ""
    if _takes_back(before):
        return ""
    dropped = [w for w in (old - new).elements() if w not in _FILLERS | _COMMANDS and not new[w]]
    stutters = [w for w in dropped if any(other.startswith(w) for other in new)]
    fragments = [w for w in dropped if any(_key(b) == w and b.endswith("-") for b in before)]
    return "dropped" if len(dropped) > len(stutters) + len(fragments) else ""


POLICY = Policy(judge=_judge, may_lose=_takes_back, total_cap=0.9, keep_lines=False)


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
