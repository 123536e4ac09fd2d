"""clean: text with OCR errors becomes clean text, guarded so that it can only get better.

Worked example:

    system  Correct the OCR errors in this text. Change nothing else.
    user    Tbe meeting wi11 start at l0:30 on 12/03/2024.
    model   The meeting will start at 10:30 on 12/03/2024.
"""

from __future__ import annotations

PROMPT_VERSION = "clean-1"


def instruction() -> str:
    """The system turn."""
    return "Correct the OCR errors in this text. Change nothing else."
