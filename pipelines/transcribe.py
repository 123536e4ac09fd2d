"""transcribe: a page image becomes lines of text; a recording becomes text with segment times.

Worked example, page:

    system  Write the text of this page, line by line.
    user    <image>
    model   ACME TRADING
            TOTAL 12.50

Worked example, recording:

    system  Transcribe the following speech segment. Only output the transcription, ...
    user    <audio>
    model   seven three nine
"""

from __future__ import annotations

from typing import Literal

PROMPT_VERSION = "transcribe-1"

_INSTRUCTIONS = {
    "page": "Write the text of this page, line by line.",
    "speech": "Transcribe the following speech segment. Only output the transcription, "
    "with no newlines. Write digits for numbers.",
}


def instruction(kind: Literal["page", "speech"]) -> str:
    """The system turn. A line strip is a page with one line."""
    return _INSTRUCTIONS[kind]
