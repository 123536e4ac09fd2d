"""A run's review page as files, and the way of its corrections back into the run."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.corrections import Correction, Corrections, read_corrections
from flows.files import replacing
from flows.review import entries, entry_id
from flows.review_html import Page, data_url, render
from flows.review_media import Media
from flows.review_summary import expected_of, summary
from flows.show import find_run
from flows.store import Row, Store
from flows.videos import video_options
from flows.views import write_views
from model_onnx.errors import OutputError
from pipelines.previews import WORKERS

PAGE = "review.html"
PART = 5_000  # entries of one page: 15 MB of text, a second to load
EMBEDDED_BYTES = 24 << 20  # of pictures and sound inside the page; more lie beside it


@dataclass(frozen=True)
class _Made:
    """One entry's media. files: name -> media type, in the folder beside the page."""

    entry: str
    plain: dict[str, Any]
    files: dict[str, str]


def write_review(run: Path, output: Path | None = None, root: Path | None = None) -> Path:
    """Writes the page, and a folder beside it where the pictures are many.

    root: where the run's input files are now. Raises UsageError, OutputError.
    """
    directory = find_run(run)
    output = output or directory / PAGE
    folder = output.with_name(f"{output.stem}-files")
    with Store.read(directory) as store:
        found = _corrections(directory)
        all_entries = list(entries(store, found))
        inputs = input_folder(store, root)
        videos = video_options(store.about().get("video", ""))
        with contextlib.closing(Media(inputs, videos=videos)) as media:
            made = _make_media(store, media, folder)
        about: dict[str, Any] = {
            "title": directory.resolve().name,
            "subtask": store.about().get("subtask", ""),
            "summary": summary(all_entries, expected_of(inputs)),
            "served": False,
        }
    linked = _size(folder) > EMBEDDED_BYTES
    starts = range(0, max(1, len(all_entries)), PART)
    for part, start in enumerate(starts):
        rows = all_entries[start : start + PART]
        page = Page(
            title=about["title"],
            data={**about, "entries": rows},
            media=_blocks(rows, made, folder, linked),
            parts=tuple(_parts(starts, output)) if len(starts) > 1 else (),
            part=part,
            linked=linked,
        )
        with replacing(_part_path(output, part)) as file:
            for piece in render(page):
                file.write(piece.encode("utf-8"))
    if not linked:
        shutil.rmtree(folder, ignore_errors=True)
    return output


def input_folder(store: Store, root: Path | None) -> Path | None:
    """Where the input files are: as said, or as the run noted it."""
    noted = store.about().get("input")
    found = root or (Path(noted) if noted else None)
    if found is None:
        return None
    return found.parent if found.is_file() else found


def _corrections(directory: Path) -> dict[str, list[Correction]]:
    with contextlib.closing(Corrections.of_run(directory)) as corrections:
        return corrections.all()


def _make_media(store: Store, media: Media, folder: Path) -> dict[str, _Made]:
    """Files are written as they are made: a run's pictures may be more than memory."""

    def make(row: Row) -> _Made | None:
        record, _ = store.result(row.key) if row.key else (None, {})
        if record is None:
            return None
        name = entry_id(row)
        shown = media.shown(name, row, record)
        for file in shown.files:
            (folder / file.name).write_bytes(file.content)
        return _Made(name, shown.plain, {file.name: file.kind for file in shown.files})

    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(WORKERS) as threads:
            return {made.entry: made for made in threads.map(make, store.rows()) if made}
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror}; free disk space or say --output FILE on "
            "another disk"
        ) from error


def _blocks(
    rows: list[dict[str, Any]], made: Mapping[str, _Made], folder: Path, linked: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows:
        if found := made.get(row["id"]):
            yield row["id"], _with_sources(found, folder, linked)


def _with_sources(made: _Made, folder: Path, linked: bool) -> dict[str, Any]:
    """The names of files become addresses."""

    def address(item: dict[str, Any]) -> dict[str, Any]:
        name = item["src"]
        if linked:
            return item | {"src": f"{folder.name}/{name}"}
        return item | {"src": data_url(made.files[name], (folder / name).read_bytes())}

    plain = dict(made.plain)
    if "pages" in plain:
        plain["pages"] = [address(page) for page in plain["pages"]]
    if "sound" in plain:
        plain["sound"] = address(plain["sound"])
    return plain


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _part_path(output: Path, part: int) -> Path:
    return output if part == 0 else output.with_name(f"{output.stem}-{part + 1}{output.suffix}")


def _parts(starts: range, output: Path) -> Iterator[tuple[str, str]]:
    for part, start in enumerate(starts):
        yield f"from {start + 1}", _part_path(output, part).name


def import_corrections(run: Path, path: Path) -> int:
    """Takes a corrections.jsonl into the run. Returns how many were newer than what was there."""
    directory = find_run(run)
    made = read_corrections(path)
    with contextlib.closing(Corrections.of_run(directory)) as corrections:
        taken = corrections.save(made)
    refresh_views(directory)
    return taken


def refresh_views(directory: Path) -> None:
    """records.jsonl with the corrections; a run that is under way writes it itself at its end."""
    try:
        with Store.open(directory) as store:
            write_views(store, directory)
    except OutputError as error:
        print(f"flows: records.jsonl is not refreshed: {error}", file=sys.stderr)
