"""A labelled folder and a model -> a report: metrics with bootstrap intervals.

Every item gives ratios (`metrics.Ratio`) by metric name; the report holds them, so that two reports
can be compared item by item. Values are compared as the evidence writes them: words first, and the
parsed form counts as well. `exact`: as written, white space folded; `normalised`: case aside;
`tight`: letters and digits only.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from model_onnx.errors import InputError
from pipelines import metrics as m
from pipelines.causes import causes_of
from pipelines.clean import SUBTASK as CLEAN
from pipelines.extract import subtask as extract_subtask
from pipelines.items import Item
from pipelines.labelled import Row, read_set
from pipelines.options import Options
from pipelines.records import Record, Source
from pipelines.repair import SUBTASK as REPAIR
from pipelines.schemas import load_schema
from pipelines.subtask import Model, Subtask, run, unread
from pipelines.tag import subtask as tag_subtask
from pipelines.transcribe import SUBTASK as TRANSCRIBE

KEYS: dict[str, Callable[[str], str]] = {
    "exact": lambda text: " ".join(text.split()),
    "normalised": m.fold,
    "tight": m.tight,
}
# Metrics where less is better; everything else is a share of what is right.
LOWER = ("cer", "wer", "hallucinated", "ece", "worse", "looped", "truncated", "failed", "seconds",
         "tokens")  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One item. judged: (confidence, right) of each value that the model gave; causes: of the
    values that are wrong, see `causes.py`."""

    file: str
    ratios: dict[str, m.Ratio]
    judged: tuple[tuple[float, bool], ...] = ()
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """metrics: `extract.f1.exact` ... -> Interval; reliability: subtask -> bins; items: file ->
    metric -> ratio; judged: subtask -> (confidence, right) of every value; causes: of wrong values
    -> how many; thinking: most tokens of a thought before each answer."""

    set: str
    bundle: str
    provider: str
    items: dict[str, dict[str, m.Ratio]]
    metrics: dict[str, m.Interval]
    reliability: dict[str, list[m.Bin]] = field(default_factory=dict)
    judged: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    thinking: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Report:
        made = {name: m.Interval(**value) for name, value in raw["metrics"].items()}
        bins = {name: [m.Bin(**row) for row in rows] for name, rows in raw["reliability"].items()}
        items = {
            file: {name: (float(a), float(b)) for name, (a, b) in ratios.items()}
            for file, ratios in raw["items"].items()
        }
        judged = {
            name: [(float(sure), bool(right)) for sure, right in pairs]
            for name, pairs in raw.get("judged", {}).items()
        }
        read = {"metrics": made, "reliability": bins, "items": items, "judged": judged}
        return cls(**raw | read)

    def table(self) -> str:
        """Plain text, one metric a line."""
        rows = [("metric", "value", "95 % interval", "n")]
        for name, interval in self.metrics.items():
            if interval.value is not None:
                bounds = f"{interval.low:.3f} .. {interval.high:.3f}"
                rows.append((name, f"{interval.value:.3f}", bounds, str(interval.n)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def evaluate(
    model: Model,
    directory: Path,
    *,
    read: Callable[[Path], Item],
    subtask_of: Callable[[Row], Subtask] | None = None,
    options: Options | None = None,
    threads: int = 8,
    limit: int | None = None,
    seed: int = 0,
) -> Report:
    """Runs every row of a labelled folder and scores it.

    read: parses a file (raises InputError); threads: items under way at once, which the engine
    batches; limit: only the first rows; seed: of the bootstrap. Raises ConfigError.
    """
    rows = read_set(directory)[:limit]
    make = subtask_of or subtask_for
    scores = score_rows(model, directory, rows, read, make, options, threads)
    made = report(scores, directory.name, model, seed=seed)
    return replace(made, thinking=options.thinking if options else 0)


def score_rows(
    model: Model,
    directory: Path,
    rows: Sequence[Row],
    read: Callable[[Path], Item],
    make: Callable[[Row], Subtask],
    options: Options | None,
    threads: int,
) -> list[Score]:
    """The scores of rows, in their order; a file that cannot be read scores as a failed record."""

    def one(row: Row) -> Score:
        started = time.monotonic()
        try:
            item = read(directory / row.file)
            record = run(model, make(row), item, options=options)
        except InputError as error:
            item = Item(Source(path=row.file, sha256="", kind="document"))
            record = unread(model, make(row), item.source, error)
        return score(row, record, item, time.monotonic() - started)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, rows))


def subtask_for(row: Row) -> Subtask:
    """The subtask that a row asks for."""
    match row.subtask:
        case "extract":
            assert row.schema is not None
            schema = row.schema
            return extract_subtask(load_schema(schema) if isinstance(schema, str) else schema)
        case "tag":
            return tag_subtask(row.labels)
    return {s.name: s for s in (CLEAN, REPAIR, TRANSCRIBE)}[row.subtask]


def report(scores: Sequence[Score], name: str, model: Model, *, seed: int = 0) -> Report:
    """Pools the scores of a set's items."""
    gathered: dict[str, list[m.Ratio]] = defaultdict(list)
    judged: dict[str, list[tuple[tuple[float, bool], ...]]] = defaultdict(list)
    for row in scores:
        for metric, ratio in row.ratios.items():
            gathered[metric].append(ratio)
        if row.judged:
            judged[next(iter(row.ratios)).split(".")[0]].append(row.judged)
    metrics = {metric: m.pooled(gathered[metric], seed=seed) for metric in sorted(gathered)}
    for subtask, items in judged.items():
        metrics[f"{subtask}.ece"] = m.calibration_interval(items, seed=seed)
    bins = {name: m.reliability(*_columns(items)) for name, items in judged.items()}
    pairs = {name: [pair for item in items for pair in item] for name, items in judged.items()}
    return Report(
        set=name,
        bundle=model.bundle.sha256,
        provider=model.provider,
        items={row.file: row.ratios for row in scores},
        metrics=dict(sorted(metrics.items())),
        reliability=bins,
        judged=pairs,
        causes=dict(sorted(Counter(cause for row in scores for cause in row.causes).items())),
    )


def _columns(items: Iterable[Sequence[tuple[float, bool]]]) -> tuple[list[float], list[bool]]:
    pairs = [pair for item in items for pair in item]
    return [confidence for confidence, _ in pairs], [right for _, right in pairs]


def score(row: Row, record: Record, item: Item, seconds: float = 0.0) -> Score:
    """One record against one row."""
    causes: tuple[str, ...] = ()
    match row.subtask:
        case "extract":
            ratios, judged = _score_fields(row, record)
            causes = tuple(causes_of(row.output or {}, record, item))
        case "tag":
            right = record.output is not None and record.output.label == row.label
            ratios = {"accuracy": (float(right), 1.0)}
            judged = tuple((f.confidence, right) for f in record.fields.values())
        case _:
            ratios, judged = dict(_score_text(row, record, item)), ()
    names = [check.name for check in record.checks if not check.passed]
    timing = record.timing
    tokens = timing.prompt_tokens + timing.thought_tokens + timing.new_tokens
    ratios |= {
        "failed": (float(record.status == "failed"), 1.0),
        "truncated": (float(record.status == "truncated"), 1.0),
        "looped": (float("loop" in names), 1.0),
        "seconds": (seconds, 1.0),
        "tokens": (float(tokens), 1.0),
    }
    return Score(
        row.file, {f"{row.subtask}.{name}": r for name, r in ratios.items()}, judged, causes
    )


def _score_fields(
    row: Row, record: Record
) -> tuple[dict[str, m.Ratio], tuple[tuple[float, bool], ...]]:
    expected = row.output or {}
    given = {path: value for path, value in record.fields.items() if value.value is not None}
    ratios: dict[str, m.Ratio] = {}
    for name, key in KEYS.items():
        right = _right(expected, record, key)
        counts = m.FieldCounts(sum(right.values()), len(given), len(m.leaves(expected)))
        ratios[f"precision.{name}"] = counts.precision
        ratios[f"recall.{name}"] = counts.recall
        ratios[f"f1.{name}"] = counts.f1
        for top, value in expected.items():
            good = _top_right(top, value, right, given)
            ratios[f"{name}.{top}"] = (float(good), 1.0)
            ratios[f"{name}.all"] = _add(ratios.get(f"{name}.all"), good)
            if top in row.unseen:
                ratios[f"{name}.unseen"] = _add(ratios.get(f"{name}.unseen"), good)
            if name == "normalised":
                inside = [path for path in given if _top(path) == top]
                correct = sum(right[path] for path in inside)
                ratios[f"field_f1.{top}"] = 2 * correct, len(inside) + len(m.leaves(value))
    got = {top: [f.value for p, f in given.items() if _top(p) == top] for top in expected}
    words = [(path, str(field.value)) for path, field in given.items()]
    ratios["anls"] = m.anls_of(m.leaves(expected), [(_plain(path), text) for path, text in words])
    ratios["abstained"] = m.abstention(expected, got)
    loose = sum(f.grounding.status == "none" for f in given.values())
    ratios["hallucinated"] = (loose, len(given))
    right = _right(expected, record, m.fold)
    return ratios, tuple((field.confidence, right[path]) for path, field in given.items())


def _right(expected: Any, record: Record, key: Callable[[str], str]) -> dict[str, bool]:
    """Path -> whether the value there is one that is expected, each expected value used once."""
    wanted: dict[tuple[str, str], int] = defaultdict(int)
    for path, text in m.leaves(expected):
        wanted[path, key(text)] += 1
    right = {}
    for path, value in record.fields.items():
        if value.value is None:
            continue
        forms = {key(str(value.value)), *([key(value.parsed)] if value.parsed else [])}
        hit = next((form for form in forms if wanted[_plain(path), form] > 0), None)
        if hit is not None:
            wanted[_plain(path), hit] -= 1
        right[path] = hit is not None
    return right


def _top_right(top: str, expected: Any, right: dict[str, bool], given: dict[str, Any]) -> bool:
    """Whether a top-level field is wholly right, null with null included."""
    inside = [path for path in given if _top(path) == top]
    return all(right[path] for path in inside) and len(inside) == len(m.leaves(expected))


def _plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "[]", path)


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _add(ratio: m.Ratio | None, good: bool) -> m.Ratio:
    top, bottom = ratio or (0.0, 0.0)
    return top + good, bottom + 1


def _score_text(row: Row, record: Record, item: Item) -> Iterator[tuple[str, m.Ratio]]:
    """A failed record is an empty text: every character is an error."""
    got = record.output.text if record.output is not None else ""
    errors = m.character_errors(row.text, got)
    yield "cer", errors
    yield "wer", m.word_errors(row.text, got)
    yield "exact", (float(m.words(row.text) == m.words(got)), 1.0)
    if row.unseen:
        yield "cer.unseen", errors
    if row.subtask in ("clean", "repair"):
        dirty = "\n".join(line.text for line in item.text_lines)
        before = m.character_errors(row.text, dirty)
        yield "cer_before", before
        yield "cut", (before[0] - errors[0], before[0])
        if row.subtask == "clean":
            worse, better, lines = m.line_changes(dirty, row.text, got)
            yield "worse", (worse, lines)
            yield "improved", (better, lines)
