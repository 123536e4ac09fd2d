from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import pipelines
from model_onnx.errors import ConfigError, UsageError
from pipelines.extract import subtask as extract_subtask
from pipelines.opening import Opener, source_of, suffix_of
from tests.fakes import Asked, FakeEngine

SCHEMA = {"title": "Bill", "type": "object", "properties": {"total": {"type": ["string", "null"]}}}


def respond(asked: Asked) -> str:
    if asked.instruction.startswith("Extract"):
        return json.dumps({"total": asked.text.split()[-1] if asked.text else None})
    return "TOTAL 12.50" if asked.media else asked.text


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine(respond)


@pytest.fixture(autouse=True, scope="module")
def _close() -> Iterator[None]:
    yield
    from pipelines import library

    library._shared.close()


def picture() -> Image.Image:
    sheet = Image.new("RGB", (400, 120), "white")
    font = ImageFont.load_default(36)
    ImageDraw.Draw(sheet).text((20, 40), "TOTAL 12.50", fill="black", font=font)
    return sheet


def test_the_public_names() -> None:
    assert sorted(pipelines.__all__) == [
        "Check", "FieldValue", "Grounding", "Locale", "Options", "Record", "Source", "Subtask",
        "Toolbox", "Verbatim", "Word", "call", "clean", "extract", "repair", "run_folder", "tag",
        "transcribe",
    ]  # fmt: skip
    for name in pipelines.__all__:
        assert getattr(pipelines, name).__doc__


@pytest.mark.parametrize(
    ("name", "positional", "keywords"),
    [
        ("extract", ["item", "schema"], {"rate", "model", "engine", "options"}),
        ("clean", ["item"], {"model", "engine", "options"}),
        ("call", ["item", "tools"], {"allowed", "rate", "model", "engine", "options"}),
        ("transcribe", ["item"], {"rate", "model", "engine", "options"}),
        ("repair", ["item"], {"rate", "model", "engine", "options"}),
        ("tag", ["item", "labels"], {"several", "rate", "model", "engine", "options"}),
        ("run_folder", ["folder", "subtask"],
         {"model", "engine", "options", "in_flight", "parsers"}),
    ],
)  # fmt: skip
def test_options_are_keyword_only(name: str, positional: list[str], keywords: set[str]) -> None:
    parameters = inspect.signature(getattr(pipelines, name)).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == keywords


def test_functions_and_modules_of_one_name_live_together() -> None:
    code = (
        "import pipelines.extract, pipelines.tag\n"
        "from pipelines.extract import instruction\n"
        "from pipelines import extract, tag, Record\n"
        "assert callable(extract) and callable(tag) and callable(instruction)\n"
        "import sys; sys.exit('onnxruntime' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="guess"):
        _ = pipelines.guess


def test_a_path(tmp_path: Path, engine: FakeEngine) -> None:
    path = tmp_path / "a.txt"
    path.write_text("TOTAL 12.50")
    record = pipelines.extract(path, SCHEMA, engine=engine)
    assert record.output == {"total": "12.50"}
    assert record.source.path == str(path)
    assert len(record.source.sha256) == 64
    assert pipelines.clean(str(path), engine=engine).output.text == "TOTAL 12.50"


def test_bytes_of_any_kind(tmp_path: Path, engine: FakeEngine) -> None:
    assert pipelines.repair(b"hello there", engine=engine).output.text == "hello there"
    picture().save(tmp_path / "a.png")
    record = pipelines.extract((tmp_path / "a.png").read_bytes(), SCHEMA, engine=engine)
    assert record.source.path == "<bytes>"
    assert record.output == {"total": "12.50"}


def test_a_picture_and_pixels(engine: FakeEngine) -> None:
    for item in (picture(), np.asarray(picture()), np.asarray(picture().convert("L"))):
        record = pipelines.transcribe(item, engine=engine)
        assert record.output.text == "TOTAL 12.50"
        assert record.fields["lines[0]"].grounding.box is not None
        assert record.source.path == "<picture>"


def test_a_waveform(engine: FakeEngine) -> None:
    seconds = np.linspace(0, 2, 16000, dtype=np.float32)
    wave = np.sin(seconds * 440) * (np.sin(seconds * 5) > 0) * np.float32(0.5)
    for samples in (wave, (wave * 30000).astype(np.int16)):
        record = pipelines.transcribe(samples, rate=8000, engine=engine)
        assert record.output.segments[0].end > record.output.segments[0].start >= 0
        assert record.source.kind == "recording"
    with pytest.raises(ValueError, match="rate"):
        pipelines.transcribe(wave, engine=engine)
    assert pipelines.transcribe(wave * np.nan, rate=8000, engine=engine).reason == "damaged"
    assert (
        pipelines.transcribe(np.zeros(0, np.float32), rate=8000, engine=engine).status == "failed"
    )


def test_labels(engine: FakeEngine) -> None:
    record = pipelines.tag(b"some text", ["a", "b"], several=True, engine=engine)
    assert set(record.output.probabilities) == {"a", "b"}


def test_what_cannot_be_read_is_a_failed_record(tmp_path: Path, engine: FakeEngine) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 nonsense")
    record = pipelines.extract(tmp_path / "a.pdf", SCHEMA, engine=engine)
    assert (record.status, record.reason) == ("failed", "damaged")
    assert pipelines.clean(tmp_path / "none.txt", engine=engine).status == "failed"


def test_what_cannot_be_asked_raises(engine: FakeEngine) -> None:
    with pytest.raises(ConfigError):
        pipelines.extract(b"x", "no such schema", engine=engine)
    with pytest.raises(ConfigError):
        pipelines.tag(b"x", ["one"], engine=engine)
    with pytest.raises(TypeError, match="uint8"):
        pipelines.clean(np.zeros((3, 3)), engine=engine)


def test_a_folder_gives_one_record_per_file(tmp_path: Path, engine: FakeEngine) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number in range(12):
        (tmp_path / "in" / "deep" / f"{number}.txt").write_text(f"TOTAL {number}")
    (tmp_path / "in" / "a.xyz").write_text("?")
    (tmp_path / "in" / "expected.jsonl").write_text("{}")
    (tmp_path / "secret.txt").write_text("TOTAL 0")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")
    records = list(pipelines.run_folder(tmp_path / "in", extract_subtask(SCHEMA), engine=engine))
    assert len(records) == 15
    totals = {r.output["total"] for r in records if r.output is not None}
    assert totals == {str(number) for number in range(12)}
    assert {r.reason for r in records if r.output is None} == {
        *("unsupported", "symlink_outside", "labels"),
    }
    with pytest.raises(UsageError, match="folder"):
        next(pipelines.run_folder(tmp_path / "none", extract_subtask(SCHEMA), engine=engine))


def test_sources_and_suffixes(tmp_path: Path) -> None:
    assert suffix_of(b"RIFF....WAVE") == ".wav"
    assert suffix_of(b"RIFF....WEBP") == ".webp"
    assert suffix_of(b"%PDF-1.4") == ".pdf"
    assert suffix_of(b"hello") == ".txt"
    assert source_of(tmp_path / "none.wav").kind == "recording"
    one, two = source_of(np.zeros(4, np.float32)), source_of(np.zeros((2, 2), np.float32))
    assert one.sha256 != two.sha256


def test_parse_seconds_are_kept(tmp_path: Path) -> None:
    with Opener() as opener:
        assert opener.open(b"hello").parse_seconds > 0
