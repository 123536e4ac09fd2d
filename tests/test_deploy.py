"""flows/deploy.py: deployments on a real Prefect server, run by real workers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.prefect_server import ROOT, Server
from flows.start import Settings
from flows.store import Store
from model_onnx.errors import ConfigError, OutputError, UsageError
from tests.tiny import tiny_bundle

MARKER = "xylophone"  # stands in every document
POOL = "tests"
WAIT_SECONDS = 400  # 30 on a quiet machine

pytestmark = pytest.mark.filterwarnings("ignore")  # Prefect's own
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@contextmanager
def working(server: Server, directory: Path, pool: str = POOL) -> Iterator[Any]:
    """A worker process."""
    start = server.prefect("worker", "start", "--pool", pool, "--type", "process")
    with server.process(start, directory / "worker.log") as process:
        yield process


@pytest.fixture(scope="module")
def worker(prefect_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """-> the worker's log."""
    directory = tmp_path_factory.mktemp("worker")
    with working(prefect_server, directory):
        yield directory / "worker.log"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    directory = tmp_path / "in"
    directory.mkdir()
    for number in range(3):
        (directory / f"{number}.txt").write_text(f"Dear {MARKER} {number}")
    return directory


def deploy(
    server: Server,
    name: str,
    subtask: str,
    inbox: Path,
    output: Path,
    *options: str,
    pool: str = POOL,
) -> str:
    """-> what it printed."""
    place = ("--input", str(inbox), "--output", str(output), "--work-pool", pool, "--name", name)
    done = server.run(server.flows("deploy", subtask, *place, *options))
    assert done.returncode == 0, done.stderr
    assert f"prefect worker start --pool {pool} --type process --prefetch" in done.stdout
    return done.stdout


@contextmanager
def api() -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def start(full_name: str, **parameters: Any) -> Any:
    """Starts a run of a deployment -> its id."""
    with api() as client:
        deployment = client.read_deployment_by_name(full_name)
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        return run.id


def until(true: Callable[[], Any]) -> Any:
    """Asks twice a second -> the first value that is true."""
    last = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < last:
        if value := true():
            return value
        time.sleep(0.5)
    pytest.fail(f"waited {WAIT_SECONDS} s in vain")


def ended(run: Any) -> Any:
    """The final state of a run."""

    def final() -> Any:
        with api() as client:
            state = client.read_flow_run(run).state
        return state if state and state.is_final() else None

    return until(final)


def records(output: Path) -> int:
    """Records that are finished, also while the run goes on."""
    try:
        with closing(sqlite3.connect(f"file:{output}/run.sqlite?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def told(server: Server) -> str:
    """All that the server knows."""
    with closing(sqlite3.connect(server.home / "prefect.db")) as database:
        return "\n".join(database.iterdump())


@slow
def test_a_scheduled_run_is_picked_up_and_the_next_does_only_what_is_new(
    connected: Server, worker: Path, inbox: Path, bundle: Path, tmp_path: Path
) -> None:
    options = ("--labels", "letter,invoice", "--model", str(bundle), "--max-failures", "5%")
    when = ("--cron", "* * * * *", "--timezone", "Europe/Berlin")
    output = tmp_path / "out"
    said = deploy(connected, "minutely", "tag", inbox, output, *options, *when)
    assert 'tag/minutely, "* * * * *" Europe/Berlin' in said

    with api() as client:
        made = client.read_deployment_by_name("tag/minutely")
    [schedule] = made.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("* * * * *", "Europe/Berlin")
    assert made.global_concurrency_limit.limit == 1
    assert made.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    assert made.parameters["input"] == str(inbox) and made.parameters["max_failures"] == "5%"
    assert set(made.tags) == {"scanscribe", "tag"} and made.enforce_parameter_schema

    def scheduled() -> Any:
        with api() as client:
            runs = client.read_flow_runs()
        ours = [run for run in runs if run.deployment_id == made.id and run.auto_scheduled]
        return [run for run in ours if run.state.is_completed()]

    [run, *_] = until(scheduled)
    with api() as client:
        client.pause_deployment(made.id)
    assert run.name == f"tag {inbox}" and "3 ok" in run.state.message
    assert len((output / "records.jsonl").read_text().splitlines()) == 3

    (inbox / "new.txt").write_text(f"Dear {MARKER}")
    until(lambda: not running(made.id))
    state = ended(start("tag/minutely"))
    assert state.is_completed() and "1 ok" in state.message and "3 unchanged" in state.message
    assert len((output / "records.jsonl").read_text().splitlines()) == 4
    assert "new.txt" in told(connected)
    assert MARKER not in told(connected) and MARKER not in worker.read_text()


def running(deployment: Any) -> bool:
    with api() as client:
        runs = client.read_flow_runs()
    ours = [run for run in runs if run.deployment_id == deployment]
    return any(run.state.is_running() or run.state.is_pending() for run in ours)


@slow
def test_parameters_are_validated_before_a_run_exists(
    connected: Server, inbox: Path, tmp_path: Path
) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    deploy(connected, "checked", "extract", inbox, tmp_path / "out")
    for wrong in ({"soft_tokens": 100}, {"limit": 0}, {"max_failures": "many"}, {"schema": 3}):
        with pytest.raises(PrefectHTTPStatusError, match=r"4\d\d"):
            start("extract/checked", **wrong)


OPEN, GATED = 3, 5


def gated(tmp_path: Path) -> tuple[Path, Path]:
    """An inbox of which five documents wait until the second path exists."""
    inbox, gate = tmp_path / "in", tmp_path / "open"
    inbox.mkdir()
    for number in range(OPEN + GATED):
        (inbox / f"{number}.txt").write_text(f"{number} {gate if number >= OPEN else ''}")
    return inbox, gate


@slow
def test_overlapping_runs_end_clearly_and_a_cancelled_run_is_resumed(
    connected: Server, worker: Path, bundle: Path, tmp_path: Path
) -> None:
    inbox, gate = gated(tmp_path)
    output = tmp_path / "out"
    for name in ("first", "second"):
        subtask = "tests.gate_subtask:GATED"
        deploy(connected, name, subtask, inbox, output, "--model", str(bundle))
    first = start("run-folder/first")
    until(lambda: records(output) == OPEN)

    same = ended(start("run-folder/first"))
    assert same.is_cancelled() and "concurrency limit" in same.message
    other = ended(start("run-folder/second"))
    assert other.is_failed() and "in use by another run" in other.message

    cancel(first)
    assert ended(first).is_cancelled()
    until(lambda: not in_use(output))
    assert records(output) == OPEN

    gate.touch()
    again = ended(start("run-folder/second"))
    assert again.is_completed() and f"{GATED} ok" in again.message
    assert f"{OPEN} unchanged" in again.message and records(output) == OPEN + GATED


def cancel(run: Any) -> None:
    """As the button of the UI does."""
    from prefect.states import Cancelling

    with api() as client:
        client.set_flow_run_state(run, Cancelling())


def in_use(output: Path) -> bool:
    try:
        Store.open(output).close()
    except OutputError:
        return True
    return False


@slow
def test_a_worker_is_killed_and_the_next_run_does_the_rest(
    connected: Server, bundle: Path, tmp_path: Path
) -> None:
    from prefect.states import Crashed

    inbox, gate = gated(tmp_path)
    output = tmp_path / "out"
    subtask = "tests.gate_subtask:GATED"
    deploy(connected, "killed", subtask, inbox, output, "--model", str(bundle), pool="killed")
    with working(connected, tmp_path, "killed") as worker:
        run = start("run-folder/killed")
        until(lambda: records(output) == OPEN)
        everything = psutil.Process(worker.pid).children(recursive=True)
        worker.kill()
        for process in everything:
            process.kill()
        psutil.wait_procs(everything, 10)
    assert records(output) == OPEN
    gate.touch()

    with api() as client:  # or its slot would be free only when its lease ends, after 5 minutes
        client.set_flow_run_state(run, Crashed())
    with working(connected, tmp_path, "killed"):
        state = ended(start("run-folder/killed"))
    assert state.is_completed() and f"{GATED} ok" in state.message
    assert f"{OPEN} unchanged" in state.message and records(output) == OPEN + GATED


@slow
def test_serve_needs_no_work_pool(
    connected: Server, inbox: Path, bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = ["--labels", "letter,invoice", "--model", str(bundle), "--name", "served"]
    place = ["--input", str(inbox), "--output", str(output), "--cron", "0 2 * * *"]
    command = connected.flows("serve", "tag", *place, *options)
    log = tmp_path / "serve.log"
    with connected.process(command, log):
        until(lambda: "serving tag/served" in log.read_text())
        until(lambda: deployed("tag/served"))
        state = ended(start("tag/served"))
        assert state.is_completed() and "3 ok" in state.message, log.read_text()
    assert MARKER not in log.read_text() and MARKER not in told(connected)


def deployed(full_name: str) -> Any:
    from prefect.exceptions import ObjectNotFound

    with api() as client:
        try:
            return client.read_deployment_by_name(full_name)
        except ObjectNotFound:
            return None


@slow
def test_the_yaml_file_makes_the_deployments(connected: Server, tmp_path: Path) -> None:
    file = str(ROOT / "flows" / "prefect.yaml")
    places = {"SCANSCRIBE_INPUT": str(tmp_path), "SCANSCRIBE_OUTPUT": str(tmp_path / "out")}
    for command in (
        connected.prefect("work-pool", "create", "scanscribe", "--type", "process", "--overwrite"),
        connected.prefect("--no-prompt", "deploy", "--prefect-file", file, "--all"),
    ):
        done = connected.run(command, **places)
        assert done.returncode == 0, done.stdout + done.stderr
    for flow in ("extract", "transcribe"):
        made = deployed(f"{flow}/nightly")
        assert (
            made.parameters["input"] == str(tmp_path) and made.global_concurrency_limit.limit == 1
        )
        assert made.concurrency_options.collision_strategy.value == "CANCEL_NEW"
        assert made.entrypoint == f"flows.prefect_flows.{flow}" and made.work_pool_name
        assert [each.schedule.timezone for each in made.schedules] == ["Europe/Berlin"]


@pytest.mark.parametrize(
    "options",
    [
        {"cron": "every night"},
        {"cron": "0 2 * * *", "timezone": "Mars/Olympus"},
        {"name": "a/b"},
        {"max_failures": "a few"},
    ],
)
def test_a_wrong_schedule_is_a_usage_error(tmp_path: Path, options: dict[str, str]) -> None:
    from flows.deploy import Nightly
    from flows.deploy import deploy as deploy_it

    settings = Settings("clean", tmp_path, output=tmp_path / "out")
    with pytest.raises(UsageError, match="expected"):
        deploy_it(Nightly(settings, **{"max_failures": "5%", **options}), POOL)


@pytest.mark.parametrize(
    "options",
    [{"subtask": "extrakt"}, {"schema": "receit"}, {"soft_tokens": 100}, {"formats": ("srt",)}],
)
def test_a_wrong_option_is_found_before_the_night(tmp_path: Path, options: dict[str, Any]) -> None:
    from flows.deploy import Nightly
    from flows.deploy import deploy as deploy_it

    given = {"subtask": "extract", "input": tmp_path, "output": tmp_path / "out", **options}
    with pytest.raises((ConfigError, UsageError)):
        deploy_it(Nightly(Settings(**given), "5%"), POOL)


def test_without_a_server_it_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.deploy import Nightly
    from flows.deploy import deploy as deploy_it

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    settings = Settings("clean", tmp_path, output=tmp_path / "out")
    with pytest.raises(UsageError, match="prefect server start"):
        deploy_it(Nightly(settings, "5%"), POOL)


def test_served_runs_start_their_process_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import deploy as deploying

    served: list[dict[str, Any]] = []
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(deploying, "wait_for_server", lambda url: None)
    monkeypatch.setattr(
        deploying, "serve_deployments", lambda made, **options: served.append(options)
    )
    settings = Settings("clean", tmp_path, output=tmp_path / "out")
    deploying.serve(deploying.Nightly(settings, "5%"))
    assert served[0]["prefetch_seconds"] == deploying.PREFETCH_SECONDS and served[0]["limit"] == 1
