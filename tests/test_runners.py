"""flows/runners.py and flows/worker.py on a real Dask cluster, a real Ray and a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prefect_server import Server
from flows.account import Summary
from flows.scale import Scale
from flows.start import Settings, execute
from flows.store import MANIFEST, RECORDS, Store
from tests.postgres import server
from tests.tiny import tiny_bundle

pytestmark = [
    pytest.mark.slow,  # a server and a cluster start
    pytest.mark.filterwarnings("ignore"),  # those of Prefect, Dask and Ray
]
WORDS = ("acme", "trading", "invoice", "letter", "total", "paid", "due", "thanks", "number")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def environment(database: str, connected: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Prefect server and a database; -> its URL. Worker processes inherit the password."""
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return database.replace(":s3cret", "")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A finished run of 30 documents in one process, for comparison."""
    directory = tmp_path_factory.mktemp("runners")
    inbox = directory / "in"
    inbox.mkdir()
    for number in range(30):
        words = [WORDS[(number * step) % len(WORDS)] for step in range(1, 12)]
        (inbox / f"d{number:02}.txt").write_text(f"document {number}\n{' '.join(words)}\n")
    (inbox / "twin.txt").write_bytes((inbox / "d07.txt").read_bytes())
    (inbox / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    settings = Settings(
        "extract",
        inbox,
        output=directory / "plain",
        schema="receipt",
        model=tiny_bundle(directory / "bundle"),
    )
    summary = execute(settings)
    assert summary.failed >= 1 and summary.inputs > summary.failed
    return settings


def spread(plain: Settings, output: Path, scale: Scale) -> Summary:
    from dataclasses import replace

    from flows.prefect_flows import run_with_prefect

    return run_with_prefect(replace(plain, output=output, scale=scale))


def dataset(directory: Path) -> list[str]:
    return [line for name in (RECORDS, MANIFEST) for line in (directory / name).open()]


def opened_runs() -> tuple[int, int]:
    """(process, runs that it has open)."""
    from flows import worker

    return os.getpid(), len(worker._RUNS)


@pytest.fixture
def dask(environment: str) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs scanscribe[dask]")
    pytest.importorskip("prefect_dask", reason="needs scanscribe[dask]")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=3, dashboard_address=None, memory_limit=0
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_dask_workers_compute_one_run_and_one_is_killed(
    dask: Any, environment: str, plain: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = f"{environment}&run=dask"
    scale = Scale(store, "dask", workers=2, address=dask.scheduler.address)
    killed: list[int] = []

    def kill() -> None:
        with Store.join(tmp_path, store) as reader:
            while sum(status == "pending" for status, _ in reader.counts()) and not killed:
                done = sum(n for (status, _), n in reader.counts().items() if status != "pending")
                if done >= 3:
                    process, _ = next(iter(dask.run(opened_runs).values()))
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
                time.sleep(0.02)

    with Store.join(tmp_path, store) as first:
        from flows.discover import walk

        first.begin(walk(plain.input), {})  # pending: the killer waits for records
        killer = threading.Thread(target=kill)
        killer.start()
        summary = spread(plain, tmp_path / "out", scale)
        killer.join()
    assert killed and summary.pending == 0
    assert dataset(tmp_path / "out") == dataset(plain.directory)
    again = spread(plain, tmp_path / "out", scale)
    assert again.unchanged + again.failed == 32 and again.failed == summary.failed
    assert "s3cret" not in caplog.text and "s3cret" not in str(scale).replace(store, "")


def test_dask_starts_its_own_workers(environment: str, plain: Settings, tmp_path: Path) -> None:
    pytest.importorskip("prefect_dask", reason="needs scanscribe[dask]")
    scale = Scale(f"{environment}&run=own", "dask", workers=2)
    assert spread(plain, tmp_path / "out", scale).pending == 0
    assert dataset(tmp_path / "out") == dataset(plain.directory)


def test_each_worker_opens_a_run_once(
    dask: Any, environment: str, plain: Settings, tmp_path: Path
) -> None:
    scale = Scale(f"{environment}&run=once", "dask", workers=2, address=dask.scheduler.address)
    spread(plain, tmp_path / "out", scale)
    assert sorted(number for _, number in dask.run(opened_runs).values()) == [1, 1]


@pytest.mark.skipif(
    not importlib.util.find_spec("prefect_ray") or not importlib.util.find_spec("ray"),
    reason="needs scanscribe[ray]",
)
def test_ray_computes_the_same_dataset(environment: str, plain: Settings, tmp_path: Path) -> None:
    scale = Scale(f"{environment}&run=ray", "ray", workers=2)
    assert spread(plain, tmp_path / "out", scale).pending == 0
    assert dataset(tmp_path / "out") == dataset(plain.directory)
