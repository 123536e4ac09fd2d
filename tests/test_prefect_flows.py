"""flows/prefect_flows.py against a real Prefect server that lives for this module's tests."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.discover import walk
from flows.start import Settings
from tests.fake_run import PageModel, procedure

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,  # the server takes 10-20 s to start
    pytest.mark.filterwarnings("ignore"),  # Prefect's own
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "in"
    directory.mkdir()
    for name in "abc":
        (directory / f"{name}.txt").write_text(f"secret {name}\npage")
    (directory / "d.txt").write_text("fail damaged")

    def prepare(settings: Settings) -> tuple[Any, Any, Any]:
        return None, procedure(), walk(settings.input, skip=settings.directory)

    class Engine(PageModel):
        def __init__(self, bundle: None) -> None:
            super().__init__(tmp_path / "calls")

        def close(self) -> None: ...

    monkeypatch.setattr("flows.start.prepare", prepare)
    monkeypatch.setattr("flows.start.LazyEngine", Engine)
    return directory


def test_one_task_per_document_and_no_text_anywhere(
    server: None, inbox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.client.orchestration import get_client

    from flows.prefect_flows import parameters, run_folder_flow

    settings = Settings("upper", inbox, output=tmp_path / "out")
    with caplog.at_level(logging.DEBUG):
        summary = run_folder_flow(**parameters(settings))
        again = run_folder_flow(**parameters(settings))
    assert (summary.ok, summary.failed, summary.exit_code) == (3, 1, 3)
    assert (again.unchanged, again.failed) == (3, 1)
    records = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"]["path"] for line in records] == ["a.txt", "b.txt", "c.txt"]
    with get_client(sync_client=True) as client:
        tasks = client.read_task_runs()
        runs = client.read_flow_runs()
    assert sorted(task.name for task in tasks) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    told = caplog.text + "".join(str(run.model_dump()) for run in [*tasks, *runs])
    assert "secret" not in told.lower() and f"upper {inbox}" in {run.name for run in runs}


def test_a_broken_model_fails_the_flow(
    server: None, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect_flows import parameters, run_folder_flow
    from model_onnx.errors import RuntimeUnavailableError

    def refuse(self: PageModel, request: object) -> None:
        raise RuntimeUnavailableError("no GPU")

    monkeypatch.setattr(PageModel, "submit", refuse)
    with pytest.raises(RuntimeUnavailableError):
        run_folder_flow(**parameters(Settings("upper", inbox, output=tmp_path / "out")))


def test_prefect_is_imported_nowhere_else() -> None:
    script = "import flows.run, flows.cli, flows.server, sys; print('prefect' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "False\n"
