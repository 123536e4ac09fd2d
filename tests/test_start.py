"""flows/start.py: a whole run with real parsers and a tiny random model."""

from __future__ import annotations

import json
import tempfile
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.start import LazyEngine, Settings, execute, open_engine
from flows.store import MANIFEST, RECORDS
from model_onnx.bundle import Bundle
from model_onnx.errors import BundleError, ConfigError, RuntimeUnavailableError, UsageError
from tests.model_serving import serving
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("start") / "bundle")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "note.txt").write_text("ACME TRADING\nTOTAL 12.50\n")
    Image.new("L", (96, 48), 255).save(directory / "page.png")
    (directory / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    with wave.open(str(directory / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        tone = np.sin(np.arange(16_000) / 9) * 9000
        file.writeframes(tone.astype("<i2").tobytes())
    return directory


def settings(inbox: Path, bundle: Path, subtask: str = "tag", **more: object) -> Settings:
    labels = ("letter", "receipt") if subtask == "tag" else ()
    output = inbox.parent / "out"
    return Settings(subtask, inbox, output=output, model=bundle, labels=labels, **more)  # type: ignore[arg-type]


def test_everything_ends_in_a_row_and_a_second_run_opens_no_model(
    inbox: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = execute(settings(inbox, bundle))
    assert summary.inputs == 4 and summary.failed >= 1 and summary.ok + summary.review >= 1
    output = inbox.parent / "out"
    rows = [json.loads(line) for line in (output / MANIFEST).read_text().splitlines()]
    assert [row["path"] for row in rows] == ["broken.pdf", "note.txt", "page.png", "tone.wav"]
    assert rows[0]["status"] == "failed" and rows[0]["reason"] == "damaged"
    assert all(row["message"] for row in rows if row["status"] == "failed")
    records = {
        record["source"]["path"]: record
        for record in map(json.loads, (output / RECORDS).read_text().splitlines())
    }
    probabilities = records["note.txt"]["output"]["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1.0)
    assert records["note.txt"]["model"]["provider"] == "cpu"
    before = (output / RECORDS).read_bytes()

    def refuse(self: LazyEngine) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(LazyEngine, "_open", refuse)
    again = execute(settings(inbox, bundle))
    assert again.unchanged == len(records) and (output / RECORDS).read_bytes() == before


def test_the_same_run_elsewhere_gives_the_same_bytes(inbox: Path, bundle: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        execute(Settings("extract", inbox, output=inbox.parent / name, model=bundle))
        outputs.append([(inbox.parent / name / file).read_bytes() for file in (RECORDS, MANIFEST)])
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"input": Path("nothing")}, UsageError),
        ({"model": Path("nothing")}, BundleError),
        ({"schema": "receipt"}, ConfigError),
        ({"formats": ("srt",)}, UsageError),
    ],
)
def test_wrong_requests_leave_no_output(
    inbox: Path, bundle: Path, wrong: dict[str, object], error: type[Exception]
) -> None:
    import dataclasses

    request = dataclasses.replace(settings(inbox, bundle), **wrong)  # type: ignore[arg-type]
    with pytest.raises(error):
        execute(request)
    assert not (inbox.parent / "out").exists()


@pytest.mark.parametrize(("mode", "served"), [("auto", True), ("never", False)])
def test_a_run_uses_the_model_server_that_runs(
    inbox: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, mode: str, served: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="ss-") as directory:  # a socket's path must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("SCANSCRIBE_MODEL_SERVER", mode)
        with serving(Bundle.open(bundle)) as s:
            summary = execute(settings(inbox, bundle))
            assert summary.ok + summary.review + summary.failed >= 1
            assert (s.engine.load.steps + sum(s.server.metrics.outcomes.values()) > 0) is served
    content = json.loads((inbox.parent / "out" / "summary.json").read_text())
    assert content["account"]["inputs"] == 4 and set(content["stage_seconds"]) == {
        "parse",
        "prefill",
        "decode",
        "checks",
    }


def test_a_place_that_is_not_ours_is_no_reason_to_fail(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("SCANSCRIBE_MODEL_SERVER", "auto")
    open_engine(Bundle.open(bundle)).close()
    monkeypatch.setenv("SCANSCRIBE_MODEL_SERVER", "always")
    with pytest.raises(RuntimeUnavailableError):
        open_engine(Bundle.open(bundle))
    monkeypatch.setenv("SCANSCRIBE_MODEL_SERVER", "sometimes")
    with pytest.raises(UsageError, match="expected auto, always or never"):
        open_engine(Bundle.open(bundle))
