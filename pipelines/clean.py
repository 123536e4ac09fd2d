"""clean: text with OCR errors becomes clean text, guarded so that it can only get better.

Worked example:

    system  Correct the OCR errors in this text. Change nothing else.
    user    Tbe meeting wi11 start at l0:30 on 12/03/2024.
    model   The meeting will start at 10:30 on 12/03/2024.
"""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

from pipelines.guard import Policy, Refusal

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
    share = 0.6 if len(before) == len(after) else 0.34
    return "edit_cap" if Levenshtein.distance(one, two) > max(2, share * len(one)) else ""


POLICY = Policy(judge=_judge, may_lose=lambda words: False, total_cap=0.4, keep_lines=True)
