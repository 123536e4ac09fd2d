"""Instructions as the pipelines send them, and answers in the form that their grammar allows.

The strings are repeated here, and a test holds them equal: a training process should not have to
load parsers, schemas and an inference engine to know five sentences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

CLEAN = "Correct the OCR errors in this text. Change nothing else."
PAGE = "Write the text of this page, line by line."
SPEECH = (
    "Transcribe the following speech segment. Only output the transcription, with no newlines. "
    "Write digits for numbers."
)
REPAIR = (
    "Rewrite this dictation as punctuated text. Apply spoken commands, drop fillers. "
    "Change nothing else."
)


def extract(fields: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """`fields` are paths (`name`, `items[]`, `items[].name`), in the order of the answer."""
    lines = [f"{name}: {descriptions[name]}" if descriptions.get(name) else name for name in fields]
    return "\n".join(["Extract these fields as JSON, null where absent:", *lines])


def tag(labels: Sequence[str]) -> str:
    return "\n".join(["Choose the label that fits:", *labels])


def answer(values: Mapping[str, object]) -> str:
    """Compact JSON."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
