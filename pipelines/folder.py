"""A folder -> its records, as they finish. No store and no resume: `flows run` has these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from model_onnx.errors import InputError, UsageError
from pipelines.items import Item
from pipelines.labelled import EXPECTED
from pipelines.library import shared_engine
from pipelines.opening import Opener, source_of
from pipelines.options import Options
from pipelines.records import Record
from pipelines.subtask import Model, Subtask, run, unread


def run_folder(
    folder: str | Path,
    subtask: Subtask,
    *,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
    in_flight: int = 8,
    parsers: int = 2,
) -> Iterator[Record]:
    """Yields one record per file of a folder tree, in the order in which they finish.

    subtask: e.g. `pipelines.extract.subtask(MyModel)`; in_flight: items under way at once, which
    the engine decodes as a batch; parsers: child processes. Links that leave the folder, kinds of
    files that are not read and the labels of `flows eval` give `failed` records. Memory holds
    `in_flight` items.
    Raises UsageError when the folder is not there, and what `extract` raises.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise UsageError(f"got {folder}, expected a folder; for one file call the subtask itself")
    chosen = engine or shared_engine(model)
    with Opener(workers=parsers) as opener, ThreadPoolExecutor(in_flight) as threads:

        def one(path: Path) -> Record:
            try:
                _check_input(path, root)
                item: Item = opener.open(path)
            except InputError as error:
                return unread(chosen, subtask, source_of(path), error)
            return run(chosen, subtask, item, options=options)

        yield from as_finished(threads, one, files_of(root), in_flight)


def files_of(root: Path) -> list[Path]:
    """Every file below a folder, in one fixed order; links to folders are not followed."""
    return sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def _check_input(path: Path, root: Path) -> None:
    if path.name == EXPECTED:
        raise InputError(
            f"got {EXPECTED}, which holds what is expected of the files beside it; expected a "
            "document or recording",
            reason="labels",
        )
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise InputError(
            "got a link that leaves the folder, expected a file in it; copy it",
            reason="symlink_outside",
        )


def as_finished(
    threads: ThreadPoolExecutor,
    work: Callable[[Path], Record],
    paths: Iterable[Path],
    in_flight: int,
) -> Iterator[Record]:
    """The results of `work`, at most `in_flight` at a time, the rest not started yet."""
    running: set[Future[Record]] = set()
    for path in paths:
        running.add(threads.submit(work, path))
        if len(running) >= in_flight:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)
