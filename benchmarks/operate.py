"""What Prefect costs: milliseconds per document, seconds to the first record, one and two workers.

    python -m benchmarks.operate [--documents 200] [--model BUNDLE]

A real server with SQLite runs beside, set as README.md says. The documents are one line of text
each and the subtask is `tag`, one short request, so that what is measured is not the model.

overhead_ms_per_document    the same folder as `flows run` and as a flow, each opening the model, in
                            one process that has imported both; medians of three rounds of each,
                            taken in turn. untuned_overhead_...: with a server without README's
                            setting
cold_first_record_seconds   from the time for which a run is scheduled to its first record; median
                            of three. The worker starts the run's process up to 30 s before, as
                            README says, so what is left is the start of the run in a process that
                            stands ready, and Prefect's rounding to half a second. The run opens
                            the model
warm_first_record_seconds   the same with a `flows model serve` that has the model open
throughput_N_workers        two flow runs over half of the documents each, due at once, by N workers
                            that run one at a time; from that moment to the last record
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.prefect_server import Server, prefect_server
from benchmarks.report import Value, print_table, write_report

LABELS = ("letter", "invoice", "memo")
POOL = "benchmark"
ROUNDS = 3
TUNED = {"PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100"}  # as README.md says
PREFETCH_SECONDS = 30
AHEAD_SECONDS = PREFETCH_SECONDS + 15.0  # a run is made so long before it is due
_WAIT_SECONDS = 900.0


def write_documents(directory: Path, documents: int) -> Path:
    directory.mkdir()
    for number in range(documents):
        text = f"Dear Sir, thank you for your letter number {number}. Yours faithfully, A. Smith"
        (directory / f"{number:05}.txt").write_text(text, encoding="utf-8")
    return directory


def time_plain_and_prefect(
    source: Path, scratch: Path, model: Path | None, environment: Mapping[str, str]
) -> list[tuple[float, float]]:
    """Seconds of (plain, Prefect) for each round. In a process that has not imported Prefect."""
    os.environ.update(environment, SCANSCRIBE_MODEL_SERVER="never")
    from flows.prefect_flows import run_with_prefect
    from flows.start import Settings, execute

    def timed(run: Callable[[Settings], object], output: str) -> float:
        settings = Settings("tag", source, output=scratch / output, labels=LABELS, model=model)
        started = time.perf_counter()
        run(settings)
        return time.perf_counter() - started

    timed(execute, "warm-up")  # the first run reads the model's files from the disk
    return [
        (timed(execute, f"plain{each}"), timed(run_with_prefect, f"prefect{each}"))
        for each in range(ROUNDS)
    ]


def overhead(server: Server, scratch: Path, documents: int, model: Path | None) -> dict[str, Value]:
    scratch.mkdir()
    source = write_documents(scratch / "documents", documents)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        work = process.submit(time_plain_and_prefect, source, scratch, model, server.environment)
        rounds = work.result()
    plain, prefect = (statistics.median(each) for each in zip(*rounds, strict=True))
    return {
        "documents": documents,
        "plain_seconds": plain,
        "prefect_seconds": prefect,
        "plain_documents_per_second": documents / plain,
        "prefect_documents_per_second": documents / prefect,
        "overhead_ms_per_document": 1000 * (prefect - plain) / documents,
    }


def deploy(server: Server, name: str, source: Path, output: Path, model: Path | None) -> None:
    place = ["--input", str(source), "--output", str(output), "--work-pool", POOL, "--name", name]
    options = ["--labels", ",".join(LABELS), *(["--model", str(model)] if model else [])]
    done = server.run(server.flows("deploy", "tag", *place, *options))
    if done.returncode:
        raise RuntimeError(done.stderr)


@contextmanager
def workers(server: Server, number: int, **environment: str) -> Iterator[None]:
    """Workers that run one flow at a time."""
    options = ["--limit", "1", "--prefetch-seconds", str(PREFETCH_SECONDS)]
    command = server.prefect("worker", "start", "--pool", POOL, "--type", "process", *options)
    with ExitStack() as stack:
        logs = [server.home / f"worker{each}.log" for each in range(number)]
        for log in logs:
            log.unlink(missing_ok=True)
            stack.enter_context(server.process(command, log, **environment))
        for log in logs:
            _until(lambda log=log: b"started" in log.read_bytes())  # type: ignore[misc]
        yield


def schedule(name: str, seconds: float) -> float:
    """A run of a deployment that is due in so many seconds. -> when, in seconds of time.time()."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    due = time.time() + seconds
    moment = datetime.datetime.fromtimestamp(due, datetime.UTC)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"tag/{name}")
        client.create_flow_run_from_deployment(
            deployment.id, state=Scheduled(scheduled_time=moment)
        )
    return due


def records(output: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{output}/run.sqlite?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def _until(true: Callable[[], bool]) -> float:
    """-> when it became true."""
    last = time.time() + _WAIT_SECONDS
    while not true():
        if time.time() > last:
            raise RuntimeError(f"waited {_WAIT_SECONDS:.0f} s in vain; see the worker's log")
        time.sleep(0.02)
    return time.time()


def first_record(server: Server, scratch: Path, name: str, model: Path | None) -> float:
    """Seconds from the time a run is scheduled for to its first record."""
    source, output = write_documents(scratch / name, 3), scratch / f"{name}-out"
    deploy(server, name, source, output, model)
    due = schedule(name, AHEAD_SECONDS)
    seconds = _until(lambda: records(output) > 0) - due
    _until(lambda: (output / "summary.json").exists())  # the worker is free again
    return seconds


def first_records(server: Server, scratch: Path, model: Path | None) -> dict[str, Value]:
    def rounds(name: str) -> list[float]:
        """Without the first, which reads files from the disk and starts what it needs."""
        return [first_record(server, scratch, f"{name}{n}", model) for n in range(1 + ROUNDS)][1:]

    with workers(server, 1, SCANSCRIBE_MODEL_SERVER="never"):
        cold = rounds("cold")
    serve = server.flows("model", "serve", *(["--model", str(model)] if model else []))
    with server.process(serve, server.home / "model.log"), workers(server, 1):
        _until(lambda: b"ready" in (server.home / "model.log").read_bytes())
        warm = rounds("warm")
        said = server.run(server.flows("model", "status", "--json")).stdout
        if not sum(json.loads(said)["requests"].values()):
            raise RuntimeError("no run used the warm model")
    return {
        "cold_first_record_seconds": statistics.median(cold),
        "cold_first_record_seconds_most": max(cold),
        "warm_first_record_seconds": statistics.median(warm),
        "warm_first_record_seconds_most": max(warm),
    }


def throughput(
    server: Server, scratch: Path, number: int, documents: int, model: Path | None
) -> dict[str, Value]:
    halves = [f"half{number}{side}" for side in "ab"]
    for name in halves:
        source = write_documents(scratch / name, documents // 2)
        deploy(server, name, source, scratch / f"{name}-out", model)
    with workers(server, number, SCANSCRIBE_MODEL_SERVER="never"):
        due = [schedule(name, AHEAD_SECONDS) for name in halves]
        whole = documents // 2 * 2
        done = _until(lambda: sum(records(scratch / f"{name}-out") for name in halves) == whole)
    return {f"documents_per_second_{number}_workers": whole / (done - max(due))}


def measure(scratch: Path, documents: int, model: Path | None) -> dict[str, Value]:
    figures: dict[str, Value] = {
        "bundle": model.name if model else "embedded",
        "load_before": os.getloadavg()[0],
    }
    runtime, homes = scratch / "runtime", [scratch / "untuned", scratch / "prefect"]
    for directory in (runtime, *homes):
        directory.mkdir(mode=0o700)
    os.environ.update(XDG_RUNTIME_DIR=str(runtime), DO_NOT_TRACK="1")
    with prefect_server(homes[0]) as server:
        untuned = overhead(server, scratch / "before", documents, model)
    with prefect_server(homes[1], **TUNED) as server:
        os.environ.update(server.environment)
        figures |= overhead(server, scratch / "tuned", documents, model)
        key = "overhead_ms_per_document"
        figures[f"untuned_{key}"] = untuned[key]
        figures |= first_records(server, scratch, model)
        for number in (1, 2):
            figures |= throughput(server, scratch, number, documents, model)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=200, help="2 or more")
    parser.add_argument("--model", type=Path, help="a bundle; default: the embedded one")
    arguments = parser.parse_args()
    model = arguments.model.absolute() if arguments.model else None
    with tempfile.TemporaryDirectory(prefix="operate-") as scratch:
        figures = measure(Path(scratch), arguments.documents, model)
    print_table(figures)
    write_report("operate", figures)


if __name__ == "__main__":
    main()
