"""What a whole run comes to, as plain data for the review page: outcomes, sureness, truth, cost.

    results      status -> inputs           problems   what failed, how often and what to do
    checks       why records are for review  confidence  values in each twentieth of 0 to 1
    places       state -> values            cost       pages, tokens, seconds by stage, the dearest
    truth        only where the true values are known: see `_truth`

True values are those of `expected.jsonl` in the input folder; for other records what a person
accepted or corrected. Knows no HTML and no store.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.corrections import Correction, decision, removed, values
from model_onnx.errors import ConfigError
from pipelines import metrics as m
from pipelines.confidence import TARGET, share_interval, suggested_threshold, threshold_rows
from pipelines.labelled import EXPECTED, Row, read_set

Entry = Mapping[str, Any]  # as `flows.review.entry` makes it
Pair = tuple[float, bool]  # (confidence, right)

_BINS = 20
_SHOWN = 10  # documents, problems
_POINTS = 60  # of a curve
_STAGES = ("parse", "prefill", "decode")


def summary(entries: Sequence[Entry], truth: Mapping[str, Row]) -> dict[str, Any]:
    """truth: path -> what is expected of it."""
    given = [each for entry in entries for each in _values(entry)]
    failed = [entry for entry in entries if entry["status"] not in ("ok", "review", "truncated")]
    problems = Counter((e["status"], e["reason"], e["advice"]) for e in failed)
    bad = [c["title"] for e in entries for c in e.get("checks", ()) if not c["passed"]]
    return {
        "results": Counter(entry["status"] for entry in entries),
        "problems": [[*what, count] for what, count in problems.most_common(_SHOWN)],
        "checks": Counter(bad).most_common(_SHOWN),
        "confidence": _histogram(each["sure"] for each in given),
        "places": Counter(each["state"] for each in given),
        "cost": _cost(entries),
        "truth": _truth(entries, truth),
    }


def expected_of(folder: Path | None) -> dict[str, Row]:
    """Path -> row of the folder's expected.jsonl; {} where there is none that can be used."""
    if folder is None or not (folder / EXPECTED).is_file():
        return {}
    try:
        return {row.file: row for row in read_set(folder)}
    except ConfigError:  # a label file for something else, or its files are gone
        return {}


def _values(entry: Entry) -> list[Mapping[str, Any]]:
    return [each for each in entry.get("fields", ()) if each["value"] is not None]


def _histogram(shares: Iterable[float]) -> list[int]:
    counts = Counter(min(int(share * _BINS), _BINS - 1) for share in shares)
    return [counts[place] for place in range(_BINS)]


def _cost(entries: Sequence[Entry]) -> dict[str, Any]:
    timed = [(entry, entry["timing"]) for entry in entries if entry.get("timing")]
    costs = sorted(((_seconds(t), _tokens(t), e["id"], e["path"]) for e, t in timed), reverse=True)
    return {
        "documents": len(costs),
        "pages": sum(entry.get("pages") or 0 for entry, _ in timed),
        "seconds": {name: sum(t.get(f"{name}_seconds", 0.0) for _, t in timed) for name in _STAGES},
        "read": sum(t.get("prompt_tokens", 0) for _, t in timed),
        "written": sum(t.get("new_tokens", 0) for _, t in timed),
        "median": statistics.median(c[0] for c in costs) if costs else None,
        "curve": _thinned([cost[:2] for cost in costs]),
        "dearest": costs[:_SHOWN],
    }


def _seconds(timing: Mapping[str, Any]) -> float:
    return round(sum(float(timing.get(f"{name}_seconds", 0.0)) for name in _STAGES), 3)


def _tokens(timing: Mapping[str, Any]) -> int:
    return int(timing.get("prompt_tokens", 0) + timing.get("new_tokens", 0))


def _thinned(rows: Sequence[Any]) -> list[Any]:
    """At most _POINTS of them, evenly, the first and the last among them."""
    last = len(rows) - 1
    if last < _POINTS:
        return list(rows)
    return [rows[round(at * last / (_POINTS - 1))] for at in range(_POINTS)]


@dataclass
class _Judged:
    """Sums over the records whose true values are known. ratios: field -> F1 of each record."""

    records: int = 0
    labelled: int = 0  # of these by expected.jsonl
    pairs: list[Pair] = field(default_factory=list)
    ratios: dict[str, list[m.Ratio]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    characters: list[m.Ratio] = field(default_factory=list)


def _truth(entries: Sequence[Entry], truth: Mapping[str, Row]) -> dict[str, Any] | None:
    """records, labelled: how many, and how many by expected.jsonl; values, right; bins: the
    reliability curve; fields: F1 with its interval; errors: kind -> values; threshold: rows of
    (threshold, precision, coverage) and the suggested one; characters: error rate of texts."""
    judged = _Judged()
    for entry in entries:
        row = truth.get(entry["path"])
        if entry.get("edit") and row and _comparable(entry, row):
            judged.records, judged.labelled = judged.records + 1, judged.labelled + 1
            wanted = [("label", row.label)] if row.subtask == "tag" else m.leaves(row.output)
            _judge(judged, entry, wanted, row.text)
        elif entry.get("edit") and (made := _decided(entry)) is not None:
            judged.records += 1
            text = str(values(made).get("text", entry.get("text", "")) or "")
            _judge(judged, entry, list(_wanted(entry, made)), text)
    if not judged.records:
        return None
    pairs = judged.pairs
    characters = m.pooled(judged.characters, rounds=200)
    return {
        "records": judged.records,
        "labelled": judged.labelled,
        "values": len(pairs),
        "right": sum(right for _, right in pairs),
        "bins": _bins(pairs),
        "fields": _fields(judged.ratios),
        "errors": judged.errors.most_common(),
        "threshold": _thinned(threshold_rows(pairs)),
        "suggested": suggested_threshold(pairs),
        "target": TARGET,
        "characters": asdict(characters) if characters.n else None,
    }


def _comparable(entry: Entry, row: Row) -> bool:
    """Whether the run did what the row is about."""
    asked = row.schema.lower() if isinstance(row.schema, str) else None
    same = asked in (None, str(entry.get("schema")).lower()) or not asked.isidentifier()
    return row.subtask == entry["subtask"] and (row.subtask != "extract" or same)


def _decided(entry: Entry) -> list[Correction] | None:
    """What a person decided about a record, once it was looked at."""
    made = [Correction(**each) for each in entry["corrections"]]
    return made if decision(made) in ("accepted", "corrected") else None


def _wanted(entry: Entry, made: Sequence[Correction]) -> Iterator[tuple[str, str]]:
    """(path without places in lists, value) of what should have come out."""
    gone = tuple(f"{item}." for item in removed(made))
    truth = {each["path"]: each["value"] for each in entry["fields"]} | dict(values(made))
    for path, value in truth.items():
        if value is not None and not f"{path}.".startswith(gone):
            yield _plain(path), str(value)


def _judge(judged: _Judged, entry: Entry, wanted: list[tuple[str, str]], text: str) -> None:
    if entry["edit"] == "text":
        judged.characters.append(m.character_errors(text, entry["text"]))
        return
    left = Counter((path, m.fold(value)) for path, value in wanted)
    counts = {name: [0, 0, 0] for name, _ in wanted}  # right, given, expected
    for name, _ in wanted:
        counts[name][2] += 1
    for each in _values(entry):
        name = _plain(each["path"])
        if name == "schema" and name not in counts:  # chosen by the run, no value of the document
            continue
        forms = {m.fold(str(each["value"])), m.fold(each["parsed"] or "")} - {""}
        hit = next(((name, form) for form in forms if left[name, form] > 0), None)
        if hit:
            left[hit] -= 1
        row = counts.setdefault(name, [0, 0, 0])
        row[0] += hit is not None
        row[1] += 1
        judged.pairs.append((each["sure"], hit is not None))
        if hit is None:
            judged.errors[_kind(each, row)] += 1
    for name, (right, given, expected) in counts.items():
        judged.errors["missed"] += max(expected - given, 0)
        judged.ratios.setdefault(name, []).append((2.0 * right, float(given + expected)))
    judged.errors += Counter()  # drops those that are none


def _kind(value: Mapping[str, Any], counts: Sequence[int]) -> str:
    """invented: it stands nowhere; extra: the document has no such value, or no more of them."""
    if value["state"] == "none":
        return "invented"
    return "extra" if counts[1] > counts[2] else "another"


def _bins(pairs: Sequence[Pair]) -> list[dict[str, float]]:
    rows = m.reliability([sure for sure, _ in pairs], [right for _, right in pairs])
    spans = [share_interval(row.accuracy, row.n) for row in rows]
    return [
        {"sure": row.confidence, "right": row.accuracy, "n": row.n, "low": low, "high": high}
        for row, (low, high) in zip(rows, spans, strict=True)
    ]


def _fields(ratios: Mapping[str, Sequence[m.Ratio]]) -> list[list[Any]]:
    """[name, F1, low, high, records], the worst first."""
    found = {name: m.pooled(rows, rounds=200) for name, rows in ratios.items()}
    rows = [[name, i.value, i.low, i.high, i.n] for name, i in found.items() if i.value is not None]
    return sorted(rows, key=lambda row: row[1])


def _plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "[]", path)
