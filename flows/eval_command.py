"""`flows eval`: measures a model on a labelled folder, compares two reports."""

from __future__ import annotations

import json
from pathlib import Path

from flows.files import write_lines
from flows.plots import evaluation, load_matplotlib, write_plots
from flows.start import AHEAD, SLOTS, LazyEngine
from model_onnx.bundle import Bundle
from model_onnx.engine import POCKET
from model_onnx.errors import ConfigError
from pipelines.evaluate import Report
from pipelines.options import Options


def read_report(path: Path) -> Report:
    """Raises ConfigError."""
    try:
        return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot read {path} as a report ({type(error).__name__}); expected a file of "
            "`flows eval --set ... --out`"
        ) from None


def compare_reports(before: Path, after: Path) -> bool:
    """Prints the comparison. True when a metric got worse beyond chance."""
    from pipelines.comparison import compare

    comparison = compare(read_report(before), read_report(after))
    print(comparison.table())
    print("worse" if comparison.regressed else "no metric got worse beyond chance")
    return comparison.regressed


def evaluate_set(
    directory: Path,
    *,
    model: Path | None,
    out: Path | None,
    limit: int | None,
    thinking: int = 0,
    plots: Path | None = None,
) -> None:
    """Prints the table; writes the report as JSON and its pictures. thinking: tokens."""
    from contextlib import closing

    from pipelines.evaluate import evaluate
    from pipelines.opening import Opener

    if plots:
        load_matplotlib()  # it is missed before the work, not after it
    bundle = Bundle.open(model or POCKET)
    with closing(LazyEngine(bundle)) as engine, Opener(workers=AHEAD) as opener:
        report = evaluate(
            engine,
            directory,
            read=opener.open,
            options=Options(thinking=thinking),
            threads=SLOTS,
            limit=limit,
        )
    print(report.table())
    if out:
        write_lines(out, [json.dumps(report.to_json(), ensure_ascii=False, indent=1)])
    if plots:
        for path in write_plots(plots, evaluation(report)):
            print(path)
