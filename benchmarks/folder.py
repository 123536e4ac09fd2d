"""What a run costs: pages and audio seconds per second on samples/, memory over many files.

    python -m benchmarks.folder [--files 500] [--mixed 24] [--model BUNDLE]

Each run is `flows run` from start to end in a fresh process: imports and opening the model count.

1. samples/: documents and recordings, `transcribe` and `extract`.
2. `folder_`: a generated folder of four kinds in equal parts (see `benchmarks/mixed.py`): pages/s,
   busy cores, time by stage.
3. `memory_`: many light generated files, five of ten text. Parent and parser children are sampled
   at each file that ends and a few times a second. Files 100 to 199 are compared with the last 100;
   with fewer than 500 files it is the second fifth and the last.

Only pages and audio of files that got a record count as done; `..._failed_files` is the rest.
Stages: parse is the time that parsers are busy, several at once; preprocess makes prompts (patches
and frames) and grammars; prefill and decode are the engine's thread; write is the store. Shares are
of the sum of them, and overlap in wall time.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

from benchmarks.report import Value, print_table, write_report

SAMPLES = Path(__file__).parents[1] / "samples"
SUBTASKS = ("transcribe", "extract")
WINDOW = 100  # files whose median is one figure

T = TypeVar("T")


@dataclass(frozen=True)
class Memory:
    """Bytes at one moment. children: all together; child_peak: the most that one of them had."""

    parent_rss: int
    parent_pss: int
    children_pss: int = 0
    child_peak_rss: int = 0


@dataclass
class Measured:
    """One run. files: the memory when each file ended; between: at other moments."""

    inputs: int = 0
    failed: int = 0
    pages: int = 0
    audio_seconds: float = 0.0
    new_tokens: int = 0
    seconds: float = 0.0
    parent_cpu_seconds: float = 0.0
    parsers_cpu_seconds: float = 0.0
    parent_peak_rss: int = 0
    files: list[Memory] = field(default_factory=list)
    between: list[Memory] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Seconds by stage, without those of stages that are called inside; safe for threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def time(self, stage: str, owner: object, *names: str) -> None:
        """Replaces functions of a class or module by timed ones."""
        for name in names:
            setattr(owner, name, self.timed(stage, getattr(owner, name)))

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            before, self._thread.inside = getattr(self._thread, "inside", 0.0), 0.0
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                whole = time.perf_counter() - started
                with self._lock:
                    own = whole - self._thread.inside
                    self.seconds[stage] = self.seconds.get(stage, 0.0) + own
                self._thread.inside = before + whole

        return call


def time_stages(watch: Stopwatch) -> None:
    """Only in a process that ends after the measurement."""
    from flows import drive
    from flows.store import Store
    from model_onnx.batch import Batch
    from model_onnx.prefill import Prefill
    from model_onnx.prompt import PromptRenderer
    from model_onnx.sequence import Sequence as Request
    from pipelines.sandbox import _Child

    watch.time("parse", _Child, "call")
    watch.time("preprocess", PromptRenderer, "render")
    watch.time("preprocess", Request, "__post_init__")
    watch.time("prefill", Prefill, "start", "run_chunk")
    watch.time("decode", Batch, "enter", "step")
    watch.time("write", Store, "identify", "settle", "remember", "finish", "fail")
    watch.time("write", drive, "write_views")


def run_once(subtask: str, files: Path, output: Path, model: Path | None, memory: bool) -> Measured:
    """`flows run SUBTASK` in this process, which should be fresh."""
    started, measured, watch = time.perf_counter(), Measured(), Stopwatch()
    from flows.account import Outcome
    from flows.progress import PlainProgress
    from flows.start import Settings, execute

    class Watching(PlainProgress):
        def finished(self, outcome: Outcome) -> None:
            super().finished(outcome)
            measured.pages += outcome.pages
            measured.audio_seconds += outcome.audio_seconds
            measured.new_tokens += outcome.new_tokens
            if memory:
                measured.files.append(memory_now())

        def waiting(self, answers: int) -> None:
            super().waiting(answers)
            if memory:
                measured.between.append(memory_now())

    time_stages(watch)
    settings = Settings(subtask=subtask, input=files, output=output, model=model)
    summary = execute(settings, observer=Watching())
    measured.seconds = time.perf_counter() - started
    measured.inputs, measured.failed = summary.inputs, summary.failed
    measured.stages = watch.seconds
    measured.parent_cpu_seconds = _cpu_seconds(resource.RUSAGE_SELF)
    measured.parsers_cpu_seconds = _cpu_seconds(resource.RUSAGE_CHILDREN)  # all have ended
    measured.parent_peak_rss = peak_rss(os.getpid())
    return measured


def _cpu_seconds(whose: int) -> float:
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def memory_now() -> Memory:
    """Of this process and of all below it. A child that ends meanwhile counts nothing."""
    parent = psutil.Process()
    own = parent.memory_full_info()
    pss, peak = 0, 0
    for child in parent.children(recursive=True):
        try:
            pss += child.memory_full_info().pss
            peak = max(peak, peak_rss(child.pid))
        except (psutil.NoSuchProcess, OSError):
            continue
    return Memory(own.rss, own.pss, pss, peak)


def peak_rss(process: int) -> int:
    """Bytes, 0 for a process that has ended. getrusage would count what it was forked from."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib[0] << 10 if kib else 0


def flatness(values: Sequence[int]) -> tuple[float, float]:
    """Medians of an early and of the last window of the files, in the order they ended.

    Raises ValueError with fewer than 5 files.
    """
    width = min(WINDOW, len(values) // 5)
    if not width:
        raise ValueError(f"got {len(values)} files, expected at least 5 to tell whether it is flat")
    return statistics.median(values[width : 2 * width]), statistics.median(values[-width:])


def memory_figures(run: Measured) -> dict[str, Value]:
    early, late = flatness([sample.parent_rss for sample in run.files])
    children_early, children_late = flatness([sample.children_pss for sample in run.files])
    samples = run.files + run.between
    return {
        "memory_files": run.inputs,
        "memory_failed_files": run.failed,
        "memory_seconds": run.seconds,
        "parent_peak_rss_bytes": run.parent_peak_rss,
        "parent_peak_pss_bytes": max(sample.parent_pss for sample in samples),
        "children_peak_pss_bytes": max(sample.children_pss for sample in samples),
        "child_peak_rss_bytes": max(sample.child_peak_rss for sample in samples),
        "parent_early_median_rss_bytes": early,
        "parent_late_median_rss_bytes": late,
        "parent_rss_growth_ratio": late / early,
        "children_early_median_pss_bytes": children_early,
        "children_late_median_pss_bytes": children_late,
        "children_pss_growth_ratio": children_late / max(1.0, children_early),
    }


def folder_figures(run: Measured) -> dict[str, Value]:
    figures: dict[str, Value] = {
        "folder_files": run.inputs,
        "folder_failed_files": run.failed,
        "folder_seconds": run.seconds,
        "folder_files_per_second": run.inputs / run.seconds,
        "folder_pages_per_second": run.pages / run.seconds,
        "folder_new_tokens_per_second": run.new_tokens / run.seconds,
        "folder_parent_cpu_seconds": run.parent_cpu_seconds,
        "folder_parsers_cpu_seconds": run.parsers_cpu_seconds,
        "folder_busy_cores": (run.parent_cpu_seconds + run.parsers_cpu_seconds) / run.seconds,
    }
    total = sum(run.stages.values())
    for stage, seconds in sorted(run.stages.items()):
        figures |= {f"stage_{stage}_seconds": seconds, f"stage_{stage}_share": seconds / total}
    return figures


def sample_figures(subtask: str, documents: Measured, recordings: Measured) -> dict[str, Value]:
    """Documents and recordings are two runs, so that neither waits for the other."""
    name = f"samples_{subtask}"
    return {
        f"{name}_pages": documents.pages,
        f"{name}_pages_per_second": documents.pages / documents.seconds,
        f"{name}_documents_seconds": documents.seconds,
        f"{name}_audio_seconds": recordings.audio_seconds,
        f"{name}_audio_seconds_per_second": recordings.audio_seconds / recordings.seconds,
        f"{name}_recordings_seconds": recordings.seconds,
        f"{name}_failed_files": documents.failed + recordings.failed,
    }


def copy_samples(kind: Literal["document", "recording"], directory: Path) -> Path:
    from pipelines.opening import SUFFIXES

    directory.mkdir()
    for path in SAMPLES.iterdir():
        if SUFFIXES.get(path.suffix) == kind:
            shutil.copyfile(path, directory / path.name)
    return directory


def write_files(directory: Path, files: int, light: bool) -> Path:
    from benchmarks.mixed import write_folder

    write_folder(directory, files, light=light)
    return directory


def alone(function: Callable[..., T], *arguments: object) -> T:
    """Calls a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *arguments).result()


def measure(scratch: Path, files: int, mixed: int, model: Path | None) -> dict[str, Value]:
    from pipelines.ocr import find_tesseract

    os.environ["SCANSCRIBE_MODEL_SERVER"] = "never"
    figures: dict[str, Value] = {
        "bundle": model.name if model else "embedded",
        "tesseract": find_tesseract() is not None,
        "load_before": os.getloadavg()[0],
    }
    documents = copy_samples("document", scratch / "documents")
    recordings = copy_samples("recording", scratch / "recordings")
    for subtask in SUBTASKS:
        runs = [
            alone(run_once, subtask, path, scratch / f"{path.name}-{subtask}", model, False)
            for path in (documents, recordings)
        ]
        figures |= sample_figures(subtask, *runs)
    folder = alone(write_files, scratch / "folder", mixed, False)
    run = alone(run_once, "extract", folder, scratch / "folder-extract", model, False)
    figures |= folder_figures(run)
    many = alone(write_files, scratch / "many", files, True)
    run = alone(run_once, "extract", many, scratch / "many-extract", model, True)
    return figures | memory_figures(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", type=int, default=500, help="of the memory run; 5 or more")
    parser.add_argument("--mixed", type=int, default=24, help="of the run for pages/s; 4 or more")
    parser.add_argument("--model", type=Path, help="a bundle; default: the embedded one")
    arguments = parser.parse_args()
    if arguments.files < 5 or arguments.mixed < 4:
        parser.error("give --files 5 or more and --mixed 4 or more")
    with tempfile.TemporaryDirectory(prefix="folder-") as scratch:
        figures = measure(Path(scratch), arguments.files, arguments.mixed, arguments.model)
    print_table(figures)
    write_report("folder", figures)


if __name__ == "__main__":
    main()
