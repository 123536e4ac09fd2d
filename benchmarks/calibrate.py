"""Fits the calibration of field confidences and writes it into a checkpoint.

    python -m benchmarks.calibrate --checkpoint DIR --model BUNDLE [--limit 300]

BUNDLE is the checkpoint's export. The points go to "pipeline" in DIR/generation_config.json; export
once more and the bundle has them. They are fitted on fresh samples of the training split, never
on what `benchmarks.accuracy` measures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import sets
from model_onnx.engine import Engine
from model_onnx.errors import UsageError
from pipelines.evaluate import score_rows, subtask_for
from pipelines.labelled import read_set
from pipelines.metrics import calibration_error, fit_calibration
from pipelines.opening import Opener
from pipelines.options import Habits, Options
from training.samples import TASKS

# Seeds that no training run reaches: a feeder starts at 10 million times its stream's number.
FIRST_SEED = 5_000_000
KINDS = ("extract_text", "extract_real", "extract_page")
SLOTS = 8


def judged_values(engine: Engine, task: str, limit: int) -> list[tuple[float, bool]]:
    """(raw confidence, right) of every value given for `limit` fresh training samples."""
    with tempfile.TemporaryDirectory() as scratch, Opener(workers=2, tesseract=False) as files:
        directory = sets.generated(
            task, Path(scratch) / task, limit, start=FIRST_SEED, split="train"
        )
        scores = score_rows(
            engine,
            directory,
            read_set(directory),
            files.open,
            subtask_for,
            Options(time_limit=None),
            SLOTS,
        )
    return [pair for score in scores for pair in score.judged]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="its bundle, without points")
    parser.add_argument("--limit", type=int, default=300, help="samples of each kind")
    options = parser.parse_args()
    pairs: list[tuple[float, bool]] = []
    with Engine.open(options.model, slots=SLOTS) as engine:
        if Habits.of(engine.bundle).calibration:
            raise UsageError(
                f"{options.model} is calibrated already; expected a bundle without points; empty "
                '"calibration" in its generation_config.json\'s "pipeline" and export again'
            )
        for task in KINDS:
            if task in TASKS:
                found = judged_values(engine, task, options.limit)
                error = calibration_error([c for c, _ in found], [right for _, right in found])
                print(f"{task}: {len(found)} values, calibration error {error:.3f}", flush=True)
                pairs += found
    points = fit_calibration([c for c, _ in pairs], [right for _, right in pairs])
    path = options.checkpoint / "generation_config.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    stated["pipeline"]["calibration"] = points
    path.write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    print(f"{len(points)} points from {len(pairs)} values in {path}")


if __name__ == "__main__":
    main()
