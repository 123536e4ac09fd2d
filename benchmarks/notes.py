"""A kind of document that no training generator knows: delivery notes, with fields of their own, in
a layout of abbreviations and marks instead of labels.

    DN 48-2210 / 14.03.2024
    Alder Works >> Brook Ltd
    TRK KX 2231 M. Osei
    12 PLT 348.5 KGS
    LOT 8841 12.03.2024
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from pipelines.labelled import Row, write_set
from training.generators import words
from training.generators.forms import plate
from training.generators.words import Source, Split

FIELDS: Mapping[str, str] = {
    "note": "number of the note",
    "shipped_on": "day of dispatch",
    "consignor": "who sends the goods",
    "consignee": "who gets the goods",
    "truck": "plate",
    "gross": "weight with packing",
}
SCHEMA = {
    "title": "DeliveryNote",
    "type": "object",
    "properties": {
        name: {"type": ["string", "null"], "description": about} for name, about in FIELDS.items()
    },
}


def note(source: Source) -> tuple[str, dict[str, str | None]]:
    """The text and its fields; every tenth line is missing, and its fields with it."""
    values = {
        "note": f"{source.between(10, 99)}-{words.digits(source, 4)}",
        "shipped_on": words.date(source),
        "consignor": words.company(source),
        "consignee": words.company(source),
        "truck": plate(source),
        "gross": f"{source.between(20, 2400)}.{source.between(0, 9)}",
    }
    lines = [
        (f"DN {values['note']} / {values['shipped_on']}", ("note", "shipped_on")),
        (f"{values['consignor']} >> {values['consignee']}", ("consignor", "consignee")),
        (f"TRK {values['truck']} {words.person(source)}", ("truck",)),
        (f"{source.between(1, 40)} PLT {values['gross']} KGS", ("gross",)),
    ]
    kept = [line for line in lines if not source.chance(0.1)] or lines
    shown: dict[str, str | None] = dict.fromkeys(FIELDS)
    shown |= {name: values[name] for _, names in kept for name in names}
    others = [
        f"LOT {words.digits(source, 4)} {words.date(source)}",
        f"CC {words.company(source)}",
        f"{source.between(1, 99)} x {words.product(source)} {source.between(1, 90)}.5",
    ]
    text = [kept[0][0], *(line for line, _ in kept[1:])]
    for other in source.some(others, 1, 3):
        text.insert(source.between(1, len(text)), other)
    return "\n".join(text), shown


def labelled(out: Path, count: int, split: Split) -> Path:
    """A labelled folder of `count` notes; the splits share no names and no seeds."""
    texts: dict[str, str] = {}
    rows = []
    for seed in range(count):
        source = Source(random.Random(f"delivery notes:{split}:{seed}"), split)
        text, output = note(source)
        row = Row(f"note-{seed:04}.txt", "extract", schema=SCHEMA, output=output)
        texts[row.file] = text
        rows.append(row)
    return write_set(out, rows, lambda path, row: path.write_text(texts[row.file], "utf-8"))
