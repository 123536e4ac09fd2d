from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model_onnx.errors import InputError
from pipelines import parsing
from pipelines.pages import Page
from pipelines.parsing import Parser
from pipelines.records import Source
from tests.papers import pdf


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser(tesseract=False) as parser:
        yield parser


def source(kind: str) -> Source:
    return Source.model_validate({"path": "a", "sha256": "0" * 64, "kind": kind})


def test_a_document(parser: Parser, tmp_path: Path) -> None:
    item = parser.read(pdf(tmp_path / "a.pdf", "one", "two"), source("document"))
    assert [page.text for page in item.pages] == ["one", "two"]
    assert [word.page for page in item.pages for word in page.words] == [1, 2]
    assert item.source.pages == 2 and item.parse_seconds > 0 and item.source.turned is None


def test_the_source_says_how_its_pages_were_turned(parser: Parser, tmp_path: Path) -> None:
    item = parser.read(pdf(tmp_path / "a.pdf", "first second", turned=90), source("document"))
    assert item.source.turned == (90,)


def test_a_recording(parser: Parser, tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000) * 0.3) * 0.5
    wave = np.concatenate([tone, np.zeros(32000), tone])
    soundfile.write(tmp_path / "a.wav", wave, 8000)
    item = parser.read(tmp_path / "a.wav", source("recording"))
    assert [round(clip.span[0]) for clip in item.clips] == [0, 5]
    assert all(abs(len(clip.samples) - clip.seconds * 16_000) < 2 for clip in item.clips)
    assert item.clips[0].samples.dtype == np.float32


def test_a_transcript(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nHello\n")
    item = parser.read(tmp_path / "a.srt", source("text"))
    assert [(cue.text, cue.span) for cue in item.cues] == [("Hello", (1.0, 2.5))]


def fail(parser: Parser, numbers: set[int], reason: str, patch: pytest.MonkeyPatch) -> None:
    read = parser.read_page

    def read_or_fail(path: Path, number: int) -> object:
        if number in numbers:
            raise InputError("too slow", reason=reason)
        return read(path, number)

    patch.setattr(parser, "read_page", read_or_fail)


def test_a_page_that_cannot_be_read_does_not_lose_the_others(
    parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(parser, {2}, "timeout", monkeypatch)
    item = parser.read(pdf(tmp_path / "a.pdf", "one", "two", "three"), source("document"))
    assert [page.text for page in item.pages] == ["one", "", "three"]
    assert item.source.pages == 3 and item.pages[1].image is None
    [flaw] = item.flaws
    assert (flaw.name, flaw.passed, flaw.reason) == (
        *("unread_page", False, "page 2: could not be read"),
    )
    monkeypatch.undo()
    assert parser.read(tmp_path / "a.pdf", source("document")).flaws == ()


def test_a_page_that_fails_on_a_busy_machine_is_read_once_more(
    parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, tried = parser.read_page, Counter[int]()

    def fail_first(path: Path, number: int) -> Page:
        tried[number] += 1
        if tried[number] == 1 and number in (1, 3, 4, 5):
            reason = "damaged" if number == 1 else "timeout"
            raise InputError("busy", reason=reason)
        return read(path, number)

    monkeypatch.setattr(parser, "read_page", fail_first)
    item = parser.read(pdf(tmp_path / "a.pdf", *"abcdef"), source("document"))
    assert [page.text for page in item.pages] == ["", "b", "c", "d", "", "f"]
    assert tried == {1: 1, 2: 1, 3: 2, 4: 2, 5: 1, 6: 1}  # two retries for a whole file


@pytest.mark.parametrize(("numbers", "reason"), [({1, 2}, "timeout"), ({2}, "cancelled")])
def test_a_document_without_a_page_fails_and_a_stop_is_no_unread_page(
    parser: Parser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: set[int],
    reason: str,
) -> None:
    fail(parser, numbers, reason, monkeypatch)
    with pytest.raises(InputError, match="page 2: too slow") as caught:
        parser.read(pdf(tmp_path / "a.pdf", "one", "two"), source("document"))
    assert caught.value.reason == reason


def test_the_pages_of_a_long_document_do_not_stay_in_memory(
    parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pdf(tmp_path / "a.pdf", *(f"page {number}" for number in range(6)))
    whole = parser.read(path, source("document")).pages
    monkeypatch.setattr(parsing, "_KEPT_BYTES", 2_000_000)
    pages = parser.read(path, source("document")).pages
    mapped = [isinstance(_base(page.image), np.memmap) for page in pages]
    assert mapped == [False, False, True, True, True, True]
    for one, other in zip(whole, pages, strict=True):
        assert np.array_equal(one.rgb(), other.rgb())


def _base(array: np.ndarray | None) -> object:
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return base


def test_a_full_disk_is_the_machines_fault(
    tmp_path: Path, parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parsing, "_KEPT_BYTES", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match="make room") as caught:
        parser.read(pdf(tmp_path / "a.pdf", "one"), source("document"))
    assert caught.value.reason == "memory"
