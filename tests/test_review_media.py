"""flows/review_media.py: what stands beside a record, and what to say when the file is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.review_media import Media, Shown, page_numbers, turn_of
from flows.store import Store
from tests.review_run import (
    HOSTILE,
    Document,
    Run,
    Value,
    cleaned,
    make_run,
    receipt,
    record,
    recording,
    text_document,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    documents = [
        receipt("a.png"),
        text_document("b.txt", HOSTILE.replace("\u2028", "")),
        recording("c.wav"),
        cleaned("d.txt"),
        receipt("gone.png", "13.00"),
        receipt("other.png", "14.00"),
    ]
    made = make_run(tmp_path_factory.mktemp("run"), documents)
    (made.inputs / "gone.png").unlink()
    (made.inputs / "other.png").write_bytes(b"other")
    return made


@pytest.fixture(scope="module")
def media(run: Run) -> Iterator[Media]:
    made = Media(run.inputs)
    yield made
    made.close()


def shown(run: Run, media: Media, name: str) -> Shown:
    with Store.read(run.directory) as store:
        row, found = next((row, found) for row, found in store.records() if row.path == name)
        return media.shown(run.ids[name], row, found)


def test_a_page_is_a_picture_with_its_size(run: Run, media: Media) -> None:
    made = shown(run, media, "a.png")
    (page,) = made.plain["pages"]
    assert page == {"number": 1, "src": made.files[0].name, "width": 400, "height": 300}
    assert made.files[0].content[8:12] == b"WEBP" and made.plain["left_out"] == 0


def test_a_text_is_shown_as_it_is(run: Run, media: Media) -> None:
    made = shown(run, media, "b.txt")
    assert made.plain["text"].startswith("</script><script>") and not made.files


def test_a_recording_has_sound_and_loudness(run: Run, media: Media) -> None:
    made = shown(run, media, "c.wav")
    assert made.plain["sound"]["src"] == made.files[0].name == f"{run.ids['c.wav']}.mp3"
    assert made.files[0].kind == "audio/mpeg"


def test_a_correction_shows_its_differences(run: Run, media: Media) -> None:
    pieces = shown(run, media, "d.txt").plain["pieces"]
    assert [piece["kind"] for piece in pieces[:4]] == ["out", "in", "same", "kept"]


@pytest.mark.parametrize(
    ("name", "says"), [("gone.png", "say --input"), ("other.png", "changed since the run")]
)
def test_a_file_that_is_not_what_the_run_read_gives_a_problem(
    run: Run, media: Media, name: str, says: str
) -> None:
    made = shown(run, media, name)
    assert says in made.plain["problem"] and not made.files


def test_without_a_known_folder_the_person_is_told(run: Run) -> None:
    media = Media(None)
    assert "--input" in shown(run, media, "a.png").plain["problem"]
    media.close()


def test_a_path_that_leaves_the_folder_is_refused(run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    document = Document("../secret.txt", b"secret", record("clean", {"text": ""}, kind="text"))
    made = make_run(tmp_path / "run", [])
    with Store.open(made.directory) as store:
        from flows.discover import Entry, Version

        store.begin([Entry(outside, b"../../secret.txt")], {})
        store.identify(b"../../secret.txt", Version("0" * 64, 6, ()), "key", unchanged=False)
        (row,) = store.rows()
        media = Media(made.inputs)
        assert document.record is not None
        assert "outside" in media.shown("0" * 16, row, document.record).plain["problem"]
        media.close()


def test_pages_with_values_are_never_left_out() -> None:
    values = {"a": Value("x", page=9), "b": Value("y", page=2), "c": Value("z", page=99)}
    assert page_numbers(record("extract", {}, values, pages=12)) == [1, 2, 3, 9]
    assert page_numbers(record("extract", {}, {}, pages=None)) == [1]


def test_the_turn_of_a_page_comes_from_the_record() -> None:
    turned = record("extract", {}, {}, turned=[0, 270])
    assert [turn_of(turned, number) for number in (1, 2, 3)] == [0, 270, 0]
    assert turn_of(record("extract", {}), 1) == 0
