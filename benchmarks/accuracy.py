"""What the embedded model gets right: the table in README.md and results/accuracy.json.

    python -m benchmarks.accuracy [--limit 20] [--model BUNDLE] [--data SHARED_DATA] [--only TEXT]

Every set is held out from training (see `benchmarks/sets.py`). On real receipts a few rules (see
`benchmarks/baseline.py`) read the same evidence and stand beside the model. Sets that need the
shared data or Tesseract are left out where these are not there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import baseline, sets
from benchmarks.report import write_report, write_table
from model_onnx.engine import Engine
from pipelines.evaluate import Report, Score, evaluate, report, score
from pipelines.items import Item
from pipelines.labelled import Row, read_set
from pipelines.metrics import Interval
from pipelines.opening import Opener
from pipelines.options import Options
from pipelines.records import FieldValue, Grounding, ModelInfo, Record, Source
from pipelines.subtask import Model, run
from pipelines.transcribe import SUBTASK as TRANSCRIBE

SLOTS = 8

Make = Callable[[Path, Path, int | None], Path]  # (data, out, limit) -> the set
Lines = Callable[[Model, Item], list[str]]  # the evidence that the rules read


@dataclass(frozen=True)
class Figure:
    """One line of the table. higher: whether more is better; must: the bar."""

    label: str
    metric: str
    must: float | None = None
    higher: bool = True


@dataclass(frozen=True)
class Bench:
    """One set with its figures. rules: what the baseline reads, where there is one; limit: of its
    items, where reading each takes seconds (None: all that the set has)."""

    name: str
    make: Make
    figures: tuple[Figure, ...]
    rules: Lines | None = None
    tesseract: bool = False
    real: bool = False
    limit: int | None = None


def _generated(task: str) -> Make:
    return lambda data, out, limit: sets.generated(task, out, limit or 200)


def own_lines(engine: Model, item: Item) -> list[str]:
    """The words that came with the item."""
    lines = [line.text for line in item.text_lines]
    return lines + [line for page in item.pages for line in page.text.split("\n") if line.strip()]


def read_lines(engine: Model, item: Item) -> list[str]:
    """What the model itself reads."""
    record = run(engine, TRANSCRIBE, item, options=Options(time_limit=None))
    return record.output.text.split("\n") if record.output is not None else []


_FIELDS = tuple(Figure(f"- {name}", f"extract.normalised.{name}") for name in sets.FIELDS)

BENCHES = (
    Bench(
        "generated pages, pixels only",
        _generated("extract_page"),
        (
            Figure("field F1", "extract.f1.normalised", 0.90),
            Figure("calibration error", "extract.ece", 0.08, False),
        ),
        limit=100,
    ),
    Bench(
        "generated text",
        _generated("extract_text"),
        (
            Figure("field F1", "extract.f1.normalised", 0.97),
            Figure("calibration error", "extract.ece", 0.08, False),
        ),
    ),
    Bench(
        "generated receipts, text",
        lambda data, out, limit: sets.generated_receipts(out, limit or 200, pixels=False),
        (Figure("field F1", "extract.f1.normalised", 0.97), *_FIELDS),
        rules=own_lines,
    ),
    Bench(
        "generated receipts, pixels only",
        lambda data, out, limit: sets.generated_receipts(out, limit or 200, pixels=True),
        (Figure("field F1", "extract.f1.normalised", 0.90), *_FIELDS),
        rules=read_lines,
        limit=60,
    ),
    Bench(
        "generated dictation",
        _generated("repair"),
        (
            Figure("CER", "repair.cer", 0.05, False),
            Figure("CER before", "repair.cer_before", None, False),
        ),
    ),
    Bench(
        "generated OCR noise",
        _generated("clean"),
        (
            Figure("CER cut", "clean.cut", 0.40),
            Figure("lines made worse", "clean.worse", 0.03, False),
        ),
    ),
    Bench(
        "generated speech", _generated("speech"), (Figure("WER", "transcribe.wer", 0.05, False),)
    ),
    Bench(
        "generated lines, pixels only",
        _generated("read_line"),
        (Figure("CER", "transcribe.cer", None, False),),
    ),
    Bench("generated labels", _generated("tag"), (Figure("right", "tag.accuracy"),)),
    Bench(
        "real receipts, transcript",
        sets.transcript_receipts,
        (
            Figure("exact match, mean of the fields", "extract.normalised.all", 0.82),
            *_FIELDS,
            Figure("- values never seen in training", "extract.normalised.unseen", 0.72),
            Figure("- spaces and punctuation aside", "extract.tight.all"),
            Figure("calibration error", "extract.ece", 0.08, False),
        ),
        rules=own_lines,
        real=True,
    ),
    Bench(
        "real receipts, lines from pixels",
        lambda data, out, limit: sets.receipt_line_images(data, out, limit and 6 * limit),
        (
            Figure("CER", "transcribe.cer", None, False),
            Figure("CER, lines never seen in training", "transcribe.cer.unseen", 0.25, False),
        ),
        real=True,
        limit=100,
    ),
    Bench(
        "real receipts, pixels only",
        sets.scanned_receipts,
        (Figure("field F1", "extract.f1.normalised", 0.40), *_FIELDS),
        rules=read_lines,
        real=True,
        limit=40,
    ),
    Bench(
        "real receipts, Tesseract and pixels",
        sets.scanned_receipts,
        (Figure("field F1", "extract.f1.normalised", 0.55), *_FIELDS),
        rules=own_lines,
        tesseract=True,
        real=True,
        limit=80,
    ),
    Bench(
        "real digits, known speakers",
        lambda data, out, limit: sets.spoken_digits(data, out, known=True, limit=limit),
        (Figure("right", "transcribe.exact", 0.95),),
        real=True,
    ),
    Bench(
        "real digits, unseen speaker",
        lambda data, out, limit: sets.spoken_digits(data, out, known=False, limit=limit),
        (Figure("right", "transcribe.exact", 0.65),),
        real=True,
    ),
)


@dataclass(frozen=True)
class Measured:
    """A figure's values; rules: the baseline's."""

    bench: Bench
    figure: Figure
    model: Interval
    rules: Interval | None

    @property
    def key(self) -> str:
        return key_of(self.bench, self.figure)


def key_of(bench: Bench, figure: Figure) -> str:
    """Of a figure in the result file."""
    words = f"{bench.name} {figure.label}".replace("-", " ").replace(",", " ")
    return "_".join(words.lower().split())


def measure(engine: Engine, bench: Bench, directory: Path, opener: Opener) -> list[Measured]:
    """Runs one set and, where there are rules, the rules on the same evidence."""
    options = Options(time_limit=None)
    ours = evaluate(engine, directory, read=opener.open, options=options, threads=SLOTS)
    theirs = _rules_report(engine, bench, directory, opener.open) if bench.rules else None
    return [
        Measured(bench, figure, ours.metrics[figure.metric], _baseline(theirs, figure))
        for figure in bench.figures
        if figure.metric in ours.metrics
    ]


def _baseline(rules: Report | None, figure: Figure) -> Interval | None:
    return (
        rules.metrics.get(figure.metric) if rules and figure.label != "calibration error" else None
    )


def _rules_report(
    engine: Engine, bench: Bench, directory: Path, read: Callable[[Path], Item]
) -> Report:
    assert bench.rules
    scores = []
    for row in read_set(directory):
        item = read(directory / row.file)
        scores.append(rules_score(row, item, bench.rules(engine, item)))
    return report(scores, directory.name, engine)


def rules_score(row: Row, item: Item, lines: list[str]) -> Score:
    """The rules' answer, scored as a record is."""
    fields = {
        name: FieldValue(value=value, confidence=1.0, grounding=Grounding(status="exact"))
        for name, value in baseline.receipt(lines).items()
    }
    record = Record(
        id=row.file,
        source=Source(path=row.file, sha256="", kind="document"),
        subtask="extract",
        schema_name="receipt",
        output={},
        fields=fields,
        status="ok",
        model=ModelInfo(bundle="rules", provider="cpu", prompt_version="rules"),
    )
    return score(row, record, item)


def table(measured: Iterable[Measured]) -> str:
    """Markdown."""
    lines = [
        "| held out from training | metric | model | 95 % interval | rules | n | bar |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured:
        sign = ">=" if row.figure.higher else "<="
        bar = "" if row.figure.must is None else f"{sign} {row.figure.must:g}"
        interval = f"{_number(row.model.low)} - {_number(row.model.high)}"
        rules = _number(row.rules.value) if row.rules else ""
        cells = (row.bench.name, row.figure.label, _number(row.model.value), interval, rules)
        lines.append(f"| {' | '.join(cells)} | {row.model.n} | {bar} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="items per set, for a quick look; no README")
    parser.add_argument("--model", type=Path, help="a bundle; default: the embedded one")
    parser.add_argument("--data", type=Path, default=sets.DATA)
    parser.add_argument("--only", default="", help="sets whose name has this text; no README")
    options = parser.parse_args()
    chosen = [b for b in BENCHES if options.only in b.name and _possible(b, options.data)]
    measured: list[Measured] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        Engine.open(options.model, slots=SLOTS) as engine,
    ):
        for at, bench in enumerate(chosen):
            limit = options.limit or bench.limit
            directory = bench.make(options.data, Path(scratch) / f"{at}", limit)
            with Opener(workers=2, tesseract=bench.tesseract) as files:
                measured += measure(engine, bench, directory, files)
            print(table([row for row in measured if row.bench is bench]), flush=True)
    if options.limit or options.only:
        return
    write_report("accuracy", {row.key: row.model.value for row in measured} | _intervals(measured))
    write_table("accuracy", table(measured))


def _possible(bench: Bench, data: Path) -> bool:
    return data.is_dir() or not bench.real


def _intervals(measured: list[Measured]) -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for row in measured:
        flat |= {f"{row.key}_low": row.model.low, f"{row.key}_high": row.model.high}
        flat |= {f"{row.key}_n": row.model.n}
        if row.rules:
            flat[f"{row.key}_rules"] = row.rules.value
    return flat


if __name__ == "__main__":
    main()
