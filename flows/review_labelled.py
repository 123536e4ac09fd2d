"""Accepted and corrected records -> a labelled set, for `flows eval --set` and for training.

What the model wrote stands where nobody corrected it, in the document's own words: so a date is
`3 May 2024` as printed, not what code made of it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from flows.corrections import Correction, Corrections, Value, decision, removed, values
from flows.files import replacing, write_lines
from flows.review import TEXTS, entry_id
from flows.review_files import input_folder
from flows.review_media import locate
from flows.show import find_run
from flows.store import Row, Store
from flows.views import to_line
from model_onnx.errors import InputError, UsageError
from pipelines.labelled import EXPECTED
from pipelines.schemas import load_schema

_GONE = object()  # an item that is not there
_MOST_ADDED = 1000  # items of one list
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def write_labelled(run: Path, directory: Path, root: Path | None = None) -> int:
    """Copies the files and writes expected.jsonl; returns the number of records.

    root: where the run's files are now. Raises UsageError when nothing was decided, OutputError.
    """
    found = find_run(run)
    with contextlib.closing(Corrections.of_run(found)) as layer:
        corrections = layer.all()
    with Store.read(found) as store:
        chosen = list(_chosen(store, corrections))
        if not chosen:
            raise UsageError(
                f"got {run} without an accepted or corrected record, expected some; open "
                f"flows review {run} --serve and decide, or --import corrections.jsonl"
            )
        folder, about = input_folder(store, root), store.about()
        lines = []
        for row, record, made in chosen:
            name = PurePosixPath(os.fsdecode(row.raw)).as_posix()
            try:
                _copy(locate(folder, row), directory / name)
            except InputError as error:
                raise UsageError(f"{row.path}: {error}") from None
            lines.append(to_line(label(record, made, about, row.path)))
    write_lines(directory / EXPECTED, lines)
    return len(lines)


def _chosen(
    store: Store, corrections: Mapping[str, list[Correction]]
) -> Iterator[tuple[Row, dict[str, Any], list[Correction]]]:
    for row, record in store.records():
        made = corrections.get(entry_id(row), [])
        if decision(made) in ("accepted", "corrected"):
            yield row, record, made


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)


def label(
    record: Mapping[str, Any], made: list[Correction], about: Mapping[str, str], file: str
) -> dict[str, Any]:
    """One line of expected.jsonl. Raises UsageError for a subtask of the caller's own."""
    name, corrected = record["subtask"], values(made)
    row = {"file": file, "subtask": name}
    if name in TEXTS:
        return row | {"text": corrected.get("text", record["output"]["text"]) or ""}
    if name == "tag":
        labels = list(record["output"]["probabilities"])
        return row | {"labels": labels, "label": corrected.get("label", record["output"]["label"])}
    if name != "extract":
        raise UsageError(
            f"got records of {name}, expected one of the five subtasks, which `flows eval` measures"
        )
    schema = _schema(about, record["schema_name"])
    return row | {"schema": schema, "output": words_of(record, corrected, removed(made))}


def words_of(
    record: Mapping[str, Any], corrected: Mapping[str, Value], gone: Iterable[str] = ()
) -> dict[str, Any]:
    """The output with every value as the document writes it, or as a person corrected it.

    corrected: also the values of items behind a list's end, which are added; gone: items of lists.
    """
    output: dict[str, Any] = copy.deepcopy(record["output"])
    words = {path: field["value"] for path, field in record["fields"].items()}
    for path, value in {**words, **corrected}.items():
        _put(output, _steps(path), value)
    for path in gone:
        _put(output, _steps(path), _GONE)
    return _without_gone(output)  # type: ignore[no-any-return]


def _steps(path: str) -> list[str | int]:
    return [int(at) if at else name for name, at in _STEP.findall(path)]


def _put(tree: Any, steps: list[str | int], value: Any) -> None:
    """Where the path leads nowhere (the output was made otherwise), nothing is put."""
    for at, step in enumerate(steps, 1):
        if isinstance(tree, list) and isinstance(step, int):
            if not _make_room(tree, step):
                return
        elif isinstance(tree, _Added) and isinstance(step, str):
            tree.setdefault(step, _GONE)
        elif not (isinstance(tree, dict) and step in tree):
            return
        if at == len(steps):
            tree[step] = value
        elif tree[step] is _GONE:
            tree[step] = _Added() if isinstance(steps[at], str) else []
        elif tree[step] is None and isinstance(steps[at], int):
            tree[step] = []
        tree = tree[step]


def _make_room(items: list[Any], place: int) -> bool:
    """Lengthens a list to the place, within reason."""
    behind = place + 1 - len(items)
    if behind > _MOST_ADDED:
        return False
    items.extend([_GONE] * behind)
    return True


def _without_gone(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_gone(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_without_gone(value) for value in tree if value is not _GONE]
    return None if tree is _GONE else tree


class _Added(dict[str, Any]):
    """An item that a person added: it takes any name."""


def _schema(about: Mapping[str, str], name: str | None) -> Any:
    """A built-in's name, or the whole JSON Schema: the set must not depend on other files."""
    asked = about.get("asked_schema", "auto")
    if re.fullmatch(r"[a-z]+", asked):
        return asked if asked != "auto" else str(name).lower()
    schema = load_schema(asked)
    return dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
