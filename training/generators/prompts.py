"""Instructions exactly as the pipelines send them, and answers in the form that their grammar allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pipelines.clean
import pipelines.extract
import pipelines.repair
import pipelines.tag
import pipelines.transcribe

CLEAN = pipelines.clean.instruction()
PAGE = pipelines.transcribe.instruction("page")
SPEECH = pipelines.transcribe.instruction("speech")
REPAIR = pipelines.repair.instruction()


def extract(fields: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """`fields` are paths (`name`, `items[]`, `items[].name`), in the order of the answer."""
    return pipelines.extract.instruction({name: descriptions.get(name, "") for name in fields})


def tag(labels: Sequence[str]) -> str:
    return pipelines.tag.instruction(labels)


def answer(values: Mapping[str, object]) -> str:
    """Compact JSON."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
