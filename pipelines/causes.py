"""Why a value is wrong: it was misread, badly chosen, or made up.

    reading     what is expected does not stand in the words that were read. Where the model itself
                read the pixels or the sound, its words are not kept: there a value that is much
                like the expected one counts as misread
    grounding   the value that was given stands nowhere in what was read
    extraction  the words were there, and another value was taken, or none

Values are compared by their letters and digits, case aside; the parsed form counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from pipelines.items import Item
from pipelines.metrics import leaves, tight
from pipelines.records import FieldValue, Record

Cause = Literal["reading", "extraction", "grounding"]
CAUSES: tuple[Cause, ...] = ("reading", "extraction", "grounding")
_ALIKE = 0.5  # of the letters


def causes_of(expected: Mapping[str, Any], record: Record, item: Item) -> Iterator[Cause]:
    """One for each expected value that was not given, and for each value given beside them."""
    wrong: dict[str, list[FieldValue]] = {}
    wanted = leaves(expected)
    for path, value in record.fields.items():
        if value.value is None:
            continue
        plain = re.sub(r"\[\d+\]", "[]", path)
        forms = {tight(str(value.value)), tight(value.parsed or "")} - {""}
        hit = next((leaf for leaf in wanted if leaf[0] == plain and tight(leaf[1]) in forms), None)
        if hit:
            wanted.remove(hit)
        else:
            wrong.setdefault(plain, []).append(value)
    evidence = tight(_words(item))
    for path, text in wanted:
        given = wrong.get(path, [])
        yield _cause(text, given.pop(0) if given else None, evidence)
    for rest in wrong.values():
        for value in rest:
            yield "grounding" if value.grounding.status == "none" else "extraction"


def _cause(expected: str, given: FieldValue | None, evidence: str) -> Cause:
    if evidence and tight(expected) not in evidence:
        return "reading"
    if given is None:
        return "extraction"
    if not evidence and _alike(expected, str(given.value)):
        return "reading"
    return "grounding" if given.grounding.status == "none" else "extraction"


def _alike(one: str, two: str) -> bool:
    return Levenshtein.normalized_similarity(tight(one), tight(two)) >= _ALIKE


def _words(item: Item) -> str:
    """What was read before the model: its own lines, a text layer, character recognition."""
    pages = [page.text for page in item.pages]
    return " ".join([*(line.text for line in item.text_lines), *pages])
