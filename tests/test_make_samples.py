"""The sample files: complete, labelled as `flows eval` expects, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_onnx.errors import InputError
from pipelines.documents import open_document, read_page
from pipelines.labelled import read_set
from pipelines.schemas import BUILT_IN
from training import make_samples
from training.generators import espeak
from training.generators.documents import text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples")
    make_samples.main([str(out)])
    return out


def test_every_document_holds_its_values_and_those_of_its_schema() -> None:
    for document in make_samples.documents().values():
        assert document.fields == tuple(BUILT_IN[document.kind].model_fields)
        written = " ".join(text(document).split())
        assert all(value in written for value in document.values().values() if value)


def test_the_folder_is_a_labelled_set_with_one_broken_file(folder: Path) -> None:
    rows = read_set(folder)
    labelled = {row.file for row in rows} | {"expected.jsonl"}
    assert {path.name for path in folder.iterdir()} - labelled == {"broken.png"}
    assert {row.subtask for row in rows} >= {"extract", "clean", "repair"}
    assert espeak.available() == ("transcribe" in {row.subtask for row in rows})
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


def test_the_broken_file_cannot_be_opened(folder: Path) -> None:
    with pytest.raises(InputError):
        read_page(str(folder / "broken.png"), 1)


def test_the_documents_open(folder: Path) -> None:
    pages = {row.file: open_document(str(folder / row.file)).pages for row in read_set(folder)[:7]}
    assert pages.pop("letter-two-pages.pdf") == 2
    assert set(pages.values()) == {1}
    born_digital = read_page(str(folder / "invoice-garden.pdf"), 1)
    assert born_digital.text_source == "layer" and "856.00" in born_digital.text


def test_the_files_are_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    make_samples.main([str(tmp_path)])
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_committed_labels_are_those_of_the_generator(folder: Path) -> None:
    committed = Path(__file__).parents[1] / "samples" / "expected.jsonl"

    def rows(path: Path) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in lines if row["subtask"] != "transcribe"]

    assert rows(committed) == rows(folder / "expected.jsonl")
