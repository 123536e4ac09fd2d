from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_onnx.errors import InputError
from pipelines.sandbox import Limits, ParserPool

PARSERS = {
    "documents": "open_document_plain",
    "clips": "open_recording_plain",
    "cues": "read_cues_plain",
}
SMALL = Limits(memory_bytes=1 << 30, file_bytes=1 << 20, result_bytes=1 << 20, jobs=1000)


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(limits=SMALL) as pool:
        yield pool


def reason(
    pool: ParserPool, function: str, path: str = "x", seconds: float = 20, **options: object
) -> str:
    with pytest.raises(InputError) as caught:
        pool.run(f"tests.fake_parsers:{function}", path, seconds=seconds, **options)
    assert "secret" not in str(caught.value)
    return caught.value.reason


def pid(pool: ParserPool) -> int:
    value: int = pool.run("tests.fake_parsers:echo", "x", seconds=20)["pid"]
    return value


def gone(process: int) -> bool:
    for _ in range(100):
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state == "Z":  # dead; a container without an init never buries it
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_passes_paths_options_and_arrays(pool: ParserPool) -> None:
    path = b"/tmp/a\n\xff'\"".decode("utf-8", "surrogateescape")
    echoed = pool.run("tests.fake_parsers:echo", path, seconds=20, page=3, name="ü")
    assert (echoed["path"], echoed["options"]) == (path, {"page": 3, "name": "ü"})
    first, second = pool.run("tests.fake_parsers:arrays", "x", seconds=20, rows=3)
    assert first["a"].dtype == np.int16 and first["a"].tolist() == [[0], [1], [2]]
    assert second.shape == (0, 4)


def test_the_child_is_lean_and_alone(pool: ParserPool) -> None:
    for module in ("documents", "clips", "cues"):
        with pytest.raises(InputError):  # the parsers are imported; there is no such file
            pool.run(f"pipelines.{module}:{PARSERS[module]}", "none", seconds=20)
    found = pool.run("tests.fake_parsers:surroundings", "x", seconds=20)
    allowed = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_THREAD_LIMIT", "LC_CTYPE"}
    assert set(found["environment"]) <= allowed
    assert Path(found["directory"]).name.startswith("scanscribe-")
    assert found["session"]
    heavy = {"prefect", "onnxruntime", "torch", "llguidance", "tokenizers", "dateparser"}
    assert not heavy & set(found["modules"])


def test_a_warm_child_serves_the_next_job(pool: ParserPool) -> None:
    assert pid(pool) == pid(pool)


def test_a_hang_is_killed_with_its_whole_group(pool: ParserPool, tmp_path: Path) -> None:
    before = pid(pool)
    assert reason(pool, "hang", seconds=0.3) == "timeout"
    assert gone(before)
    note = tmp_path / "pid"
    assert reason(pool, "hang_with_a_child", str(note), seconds=3) == "timeout"
    assert gone(int(note.read_text()))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("spin", "timeout"),
        ("eat_memory", "memory"),
        ("segfault", "parser_crashed"),
        ("killed", "memory"),
        ("close_pipes", "parser_crashed"),
        ("wrong", "parser_crashed"),
        ("bad_value", "parser_crashed"),
        ("no_such_function", "parser_crashed"),
        ("refuse", "encrypted"),
    ],
)
def test_each_fault_has_a_reason_and_the_pool_goes_on(
    pool: ParserPool, function: str, expected: str
) -> None:
    assert reason(pool, function, seconds=1 if function == "spin" else 20) == expected
    assert pid(pool) > 0


def test_sizes_are_limited(pool: ParserPool) -> None:
    assert reason(pool, "huge_result", size=(1 << 20) + 1) == "too_large"
    assert reason(pool, "huge_text", size=33 << 20) == "too_large"
    assert reason(pool, "huge_file", size=(1 << 20) + 1) == "too_large"
    assert (
        pool.run("tests.fake_parsers:huge_result", "x", seconds=20, size=1 << 20).nbytes == 1 << 20
    )


def test_file_errors_have_their_own_reasons(pool: ParserPool, tmp_path: Path) -> None:
    assert reason(pool, "read", str(tmp_path / "none")) == "vanished"
    if os.geteuid():
        locked = tmp_path / "locked"
        locked.touch(mode=0)
        assert reason(pool, "read", str(locked)) == "unreadable"


def test_what_a_parser_prints_does_not_reach_the_pipe(pool: ParserPool) -> None:
    assert pool.run("tests.fake_parsers:chatter", "x", seconds=20) == "quiet"


def test_a_fault_of_an_earlier_file_is_not_blamed_on_the_next() -> None:
    with ParserPool(limits=SMALL) as pool:
        first = pool.run("tests.fake_parsers:segfault_when_used", "x", seconds=20)
        second = pool.run("tests.fake_parsers:segfault_when_used", "x", seconds=20)
    assert first != second


def test_children_are_recycled_by_jobs_and_by_memory() -> None:
    with ParserPool(limits=Limits(jobs=2)) as pool:
        pids = [pid(pool) for _ in range(4)]
        assert pids[0] == pids[1] and pids[2] == pids[3] and pids[1] != pids[2]
    with ParserPool(limits=Limits(resident_bytes=128 << 20)) as pool:
        leaky = pool.run("tests.fake_parsers:leak", "x", seconds=20, size=128 << 20)
        assert pid(pool) != leaky


def test_scratch_directories_go_with_their_children(tmp_path: Path) -> None:
    with ParserPool(scratch=tmp_path) as pool:
        pid(pool)
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_threads_share_the_workers(pool: ParserPool) -> None:
    with ParserPool(workers=2) as pool:
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(pid(pool))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 6 and len(set(results)) <= 2


def test_closing_ends_running_and_waiting_jobs() -> None:
    pool = ParserPool()
    process = pid(pool)
    reasons: list[str] = []
    threads = [
        threading.Thread(target=lambda: reasons.append(reason(pool, "hang", seconds=60)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    pool.close()
    for thread in threads:
        thread.join(20)
    assert reasons == ["cancelled"] * 3
    assert gone(process)
    assert reason(pool, "echo") == "cancelled"
    pool.close()
