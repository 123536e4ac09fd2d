from __future__ import annotations

from benchmarks.accuracy import (
    BENCHES,
    Measured,
    own_lines,
    rules_score,
    table,
)
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.labelled import Row
from pipelines.metrics import Interval
from pipelines.records import Source
from tests.fakes import FakeEngine

LINES = "ACME SDN BHD\nLOT 1, JALAN 2\nDATE 19/10/2018\nTOTAL 12.50"


def test_rules_are_scored_as_a_record_is() -> None:
    item = Item(Source(path="a.txt", sha256="", kind="text"), cues=(Cue(LINES),))
    output = {"company": "Acme Sdn Bhd", "date": "19/10/2018", "address": None, "total": "12.50"}
    row = Row("a.txt", "extract", schema="receipt", output=output, unseen=("total",))
    ratios = rules_score(row, item, own_lines(FakeEngine(lambda asked: ""), item)).ratios
    names = ("normalised.all", "normalised.unseen", "exact.company")
    assert [ratios[f"extract.{name}"] for name in names] == [(3, 4), (1, 1), (0, 1)]


def test_figures_have_distinct_keys_and_stand_in_the_table() -> None:
    value = Interval(0.5, 0.4, 0.6, 7)
    rows = [Measured(b, f, value, value if b.rules else None) for b in BENCHES for f in b.figures]
    assert len({row.key for row in rows}) == len(rows)
    text = table(rows)
    assert text.count("\n") == len(rows) + 1
    assert "| 0.500 | 0.400 - 0.600 | 0.500 | 7 | >= 0.82 |" in text
