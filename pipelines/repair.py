"""repair: a dictation becomes punctuated text, spoken commands applied and fillers dropped.

Worked example:

    system  Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. ...
    user    um dear john comma new line the uh the parts arrived on monday period
    model   Dear John,
            The parts arrived on Monday.
"""

from __future__ import annotations

PROMPT_VERSION = "repair-1"


def instruction() -> str:
    """The system turn."""
    return (
        "Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. "
        "Change nothing else."
    )
