"""flows/prefect_flows.py against a real Prefect server, with a model and parser that are fakes."""

from __future__ import annotations

import errno
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from benchmarks.prefect_server import Server
from flows import parameters
from flows.discover import Entry, Version, walk
from flows.formats import FORMATS
from flows.run import Procedure
from flows.start import Settings
from flows.store import Store
from model_onnx.errors import OutputError, RuntimeUnavailableError
from tests.fake_run import PageModel, parse, procedure

ROOT = Path(__file__).parents[1]
MARKER = "xylophone"  # stands in every document

pytestmark = [
    pytest.mark.slow,  # the server takes 20 s to start
    pytest.mark.filterwarnings("ignore"),  # Prefect's own
]


@pytest.fixture
def inbox(connected: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three documents and a damaged one; the parser is `inbox.parse` if that is set."""
    directory = tmp_path / "in"
    directory.mkdir()
    for name in "abc":
        (directory / f"{name}.txt").write_text(f"{MARKER} {name}\npage")
    (directory / "d.txt").write_text(f"fail damaged {MARKER}")
    use(monkeypatch, tmp_path, procedure())
    return directory


def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: Procedure) -> None:
    def prepare(settings: Settings) -> tuple[Any, Any, Any]:
        bundle = SimpleNamespace(sha256="b" * 64)
        return bundle, made, walk(settings.input, skip=settings.directory)

    class Engine(PageModel):
        def __init__(self, bundle: object) -> None:
            super().__init__(tmp_path / "calls")

        def begin(self) -> None: ...
        def close(self) -> None: ...

    monkeypatch.setattr("flows.start.prepare", prepare)
    monkeypatch.setattr("flows.start.noted", lambda settings: {})
    monkeypatch.setattr("flows.start.LazyEngine", Engine)


def flow_runs(**filters: Any) -> list[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [run for run in client.read_flow_runs() if filters.items() <= vars(run).items()]


def run_named(name: str) -> Any:
    return max(flow_runs(name=name), key=lambda run: run.start_time)


def task_runs(flow_run: Any, number: int) -> dict[str, Any]:
    """Name -> task run. The server learns of them a little later than the flow's process."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    last = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while True:
            found = {run.name: run for run in client.read_task_runs(flow_run_filter=chosen)}
            told = len(found) >= number and all(run.state.is_final() for run in found.values())
            if told or time.monotonic() > last:
                return found
            time.sleep(0.5)


def artifacts(flow_run: Any) -> dict[str, Any]:
    """Type -> artifact; fails when there are two of one type."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=chosen)
    assert len({each.type for each in found}) == len(found)
    return {each.type: each for each in found}


def test_one_task_per_document_one_progress_one_table_and_no_text_anywhere(
    inbox: Path, tmp_path: Path, connected: Server, caplog: pytest.LogCaptureFixture
) -> None:
    from flows.prefect_flows import run_with_prefect

    settings = Settings("upper", inbox, output=tmp_path / "out")
    with caplog.at_level(logging.DEBUG):
        summary = run_with_prefect(settings)
    assert (summary.ok, summary.failed, summary.exit_code) == (3, 1, 3)
    records = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"]["path"] for line in records] == ["a.txt", "b.txt", "c.txt"]
    assert MARKER.upper() in records[0]

    run = run_named(f"upper {inbox}")
    assert run.state.is_completed() and str(summary) == run.state.message
    assert set(run.tags) == {"scanscribe", "upper"}
    tasks = task_runs(run, 4)
    assert {name: task.state.type.value for name, task in tasks.items()} == {
        "a.txt": "COMPLETED",
        "b.txt": "COMPLETED",
        "c.txt": "COMPLETED",
        "d.txt": "FAILED",
    }
    assert tasks["d.txt"].state.message == "damaged" and tasks["d.txt"].run_count == 1
    shown = artifacts(run)
    assert shown["progress"].data == 100 and shown["progress"].description == str(summary)
    assert json.loads(shown["table"].data) == [
        {"document": "d.txt", "reason": "damaged", "since": "this run"}
    ]
    assert MARKER not in caplog.text.lower()
    with closing(sqlite3.connect(connected.home / "prefect.db")) as database:
        told = "\n".join(database.iterdump())
    assert "d.txt" in told and MARKER not in told.lower()


def test_the_next_run_does_only_what_is_new_and_a_deleted_output_is_made_again(
    inbox: Path, tmp_path: Path
) -> None:
    from flows.prefect_flows import run_with_prefect

    settings = Settings("upper", inbox, output=tmp_path / "out")
    run_with_prefect(settings)
    (inbox / "e.txt").write_text("new")
    second = run_with_prefect(settings)
    assert (second.ok, second.unchanged, second.failed) == (1, 3, 1)
    run = run_named(f"upper {inbox}")
    assert list(task_runs(run, 1)) == ["e.txt"]
    assert "an earlier run" in artifacts(run)["table"].data
    assert run.state.is_completed()  # the old failure was not tried, so it does not count

    for file in (tmp_path / "out").iterdir():
        file.unlink()
    assert run_with_prefect(settings).ok == 4


def test_more_failures_than_allowed_fail_the_flow(inbox: Path, tmp_path: Path) -> None:
    from flows.prefect_flows import run_with_prefect

    for number, (allowed, completed) in enumerate(
        [("1", True), ("0", False), ("25%", True), ("24%", False)]
    ):
        settings = Settings("upper", inbox, output=tmp_path / f"out{number}")
        assert run_with_prefect(settings, allowed).failed == 1
        state = run_named(f"upper {inbox}").state
        assert state.is_completed() is completed, state
        assert completed or "1 of 4 documents failed (1 damaged)" in state.message


def test_input_and_output_errors_that_pass_are_tried_again_and_no_others(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect_flows import run_with_prefect

    attempts: dict[str, int] = dict.fromkeys("abcd", 0)

    def hiccup(entry: Entry, version: Version) -> Any:
        attempts[entry.path.stem] += 1
        if entry.path.name == "a.txt" and attempts["a"] == 1:
            raise OSError(errno.EIO, "the network drive hiccups")
        if entry.path.name == "b.txt":
            raise OSError(errno.ESTALE, "it never comes back")
        if entry.path.name == "c.txt":
            raise PermissionError(errno.EACCES, "not yours")
        return parse(entry, version)

    use(monkeypatch, tmp_path, replace(procedure(), parse=hiccup))
    monkeypatch.setattr("flows.prefect_flows.document.retry_delay_seconds", [0.1])
    summary = run_with_prefect(Settings("upper", inbox, output=tmp_path / "out"), "100%")
    assert (summary.ok, summary.failed) == (1, 3)
    assert attempts == {"a": 2, "b": 3, "c": 1, "d": 1}
    tasks = task_runs(run_named(f"upper {inbox}"), 4)
    assert {name: task.run_count for name, task in tasks.items()} == {
        "a.txt": 2,
        "b.txt": 3,
        "c.txt": 1,
        "d.txt": 1,
    }


def test_a_broken_model_fails_the_flow_and_says_why(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect_flows import run_with_prefect

    def refuse(self: PageModel, request: object) -> None:
        raise RuntimeUnavailableError("no GPU")

    monkeypatch.setattr(PageModel, "submit", refuse)
    with pytest.raises(RuntimeUnavailableError, match="no GPU"):
        run_with_prefect(Settings("upper", inbox, output=tmp_path / "out"))
    state = run_named(f"upper {inbox}").state
    assert state.is_failed() and state.message == "no GPU"


def test_an_unexpected_error_does_not_quote_a_document(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect_flows import run_folder

    def explode(*_: object, **__: object) -> None:
        raise ValueError(MARKER)

    monkeypatch.setattr("flows.prefect_flows.execute", explode)
    state = run_folder("upper", str(inbox), str(tmp_path / "out"), return_state=True)
    assert state.is_failed() and "unexpected ValueError, trace" in state.message
    assert MARKER not in state.message


def test_a_run_into_an_output_that_is_in_use_fails_with_a_line(inbox: Path, tmp_path: Path) -> None:
    from flows.prefect_flows import run_with_prefect

    with Store.open(tmp_path / "out"), pytest.raises(OutputError, match="in use by another run"):
        run_with_prefect(Settings("upper", inbox, output=tmp_path / "out"))
    state = run_named(f"upper {inbox}").state
    assert state.is_failed() and "in use by another run" in state.message


def test_a_run_that_is_told_to_stop_is_cancelled_and_goes_on(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect_flows import run_with_prefect

    for number in range(30):
        (inbox / f"slow{number:02}.txt").write_text(f"{number} wait")

    def stop(entry: Entry, version: Version) -> Any:
        if entry.path.name == "slow05.txt":
            signal.raise_signal(signal.SIGTERM)
        return parse(entry, version)

    use(monkeypatch, tmp_path, replace(procedure(), parse=stop))
    settings = Settings("upper", inbox, output=tmp_path / "out")
    first = run_with_prefect(settings)
    assert first.signal == signal.SIGTERM and first.pending
    state = run_named(f"upper {inbox}").state
    assert state.is_cancelled() and "the next run goes on" in state.message
    for path in inbox.glob("slow*"):
        path.unlink()
    assert run_with_prefect(settings).exit_code == 3  # nothing pending, d.txt failed


def test_the_parameters_show_well_and_are_checked(tmp_path: Path) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.prefect_flows import FLOWS, extract, run_folder, tag

    assert sorted(FLOWS) == ["call", "clean", "extract", "repair", "tag", "transcribe"]
    for flow in [*FLOWS.values(), run_folder]:
        for name, shown in flow.parameters.properties.items():
            group = flow.parameters.definitions.get(shown.get("$ref", "").rpartition("/")[2], {})
            assert shown.get("title", group.get("title", name)) != name, name
            assert shown["description"]
        assert flow.description
    assert extract.parameters.required == ["input", "output"]
    assert tag.parameters.required == ["input", "output", "labels"]
    assert extract.parameters.properties["soft_tokens"]["enum"] == [70, 140, 280, 560, 1120]
    good = {"input": "in", "output": "out"}
    assert extract.validate_parameters({**good, "max_failures": "5%", "limit": 3})
    for wrong in (
        {"max_failures": "many"},
        {"soft_tokens": 100},
        {"limit": 0},
        {"formats": ["docx"]},
        {"input": ""},
        {"unknown": 1},
    ):
        with pytest.raises((ParameterTypeError, TypeError)):
            extract.validate_parameters({**good, **wrong})


def test_prefect_is_imported_only_when_it_is_used() -> None:
    script = "import flows.run, flows.cli, flows.server, sys; print('prefect' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "False\n"


def test_the_formats_of_a_flow_are_those_of_the_code() -> None:
    (listed,) = get_args(get_args(parameters.Formats)[0])
    assert get_args(listed) == FORMATS
