"""flows/run.py and drive.py with a fake model: nothing lost, nothing twice, all accounted for."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.account import Outcome, Summary, summarise
from flows.run import ATTEMPTS
from flows.store import MANIFEST, RECORDS, Store
from flows.watch import Watch
from model_onnx.errors import OutputError, RuntimeUnavailableError, ScanscribeError
from tests.fake_run import PageModel, run

ROOT = Path(__file__).parents[1]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    directory = tmp_path / "in"
    directory.mkdir()
    return directory


@pytest.fixture
def model(tmp_path: Path) -> PageModel:
    return PageModel(tmp_path / "calls")


def write(inbox: Path, **documents: str) -> None:
    for name, text in documents.items():
        (inbox / f"{name}.txt").write_text(text)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def manifest(output: Path) -> dict[str, str]:
    """path -> reason, or the status where there is none."""
    return {row["path"]: row["reason"] or row["status"] for row in lines(output / MANIFEST)}


def calls(source: PageModel | Path) -> list[str]:
    """The pages that a model was asked for, by its log."""
    log = source if isinstance(source, Path) else source.calls
    return log.read_text().splitlines() if log.exists() else []


def test_a_folder_becomes_records_and_an_account(
    inbox: Path, model: PageModel, tmp_path: Path
) -> None:
    write(inbox, a="one\ntwo", b="three\nreview", c="fail encrypted", d="loop", e="boom")
    (inbox / "f.zip").write_bytes(b"x")
    (inbox / "g.txt").symlink_to("/etc/hostname")
    (inbox / "expected.jsonl").write_text("{}")
    output = tmp_path / "out"
    summary = run(inbox, output, model)
    assert str(summary) == (
        "8 inputs = 1 ok + 1 review + 0 truncated + 4 failed + 2 unsupported + 0 unchanged"
    )
    assert summary.exit_code == 3
    assert manifest(output) == {
        "a.txt": "ok",
        "b.txt": "review",
        "c.txt": "encrypted",
        "d.txt": "loop",
        "e.txt": "internal",
        "expected.jsonl": "labels",
        "f.zip": "unsupported",
        "g.txt": "symlink_outside",
    }
    first, second = lines(output / RECORDS)
    assert first["output"] == {"text": "ONE\nTWO"} and first["source"]["path"] == "a.txt"
    assert second["status"] == "review" and first["id"] != second["id"]
    rows = {row["path"]: row for row in lines(output / MANIFEST)}
    assert rows["a.txt"]["id"] == first["id"] and rows["a.txt"]["bytes"] == 7
    assert all(
        row["message"] for row in rows.values() if row["status"] in ("failed", "unsupported")
    )


def test_a_second_run_does_nothing_and_says_so(
    inbox: Path, model: PageModel, tmp_path: Path
) -> None:
    write(inbox, a="one", b="two", c="fail damaged")
    run(inbox, tmp_path / "out", model)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in (RECORDS, MANIFEST)}
    summary = run(inbox, tmp_path / "out", model)
    assert (summary.unchanged, summary.failed, summary.exit_code) == (2, 1, 3)
    assert sorted(calls(model)) == ["one", "two"]
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in before}


def test_only_what_changed_is_computed(inbox: Path, model: PageModel, tmp_path: Path) -> None:
    write(inbox, a="one", b="two")
    run(inbox, tmp_path / "out", model)
    write(inbox, b="new", c="three")
    summary = run(inbox, tmp_path / "out", model)
    assert (summary.ok, summary.unchanged) == (2, 1)
    assert sorted(calls(model)) == ["new", "one", "three", "two"]
    assert run(inbox, tmp_path / "out", model, identity={"schema": "other"}).ok == 3
    assert run(inbox, tmp_path / "out", model).unchanged == 3  # the first results are still there


def test_the_same_bytes_are_computed_once_and_each_file_has_its_record(
    inbox: Path, model: PageModel, tmp_path: Path
) -> None:
    write(inbox, a="same", b="same", c="same", d="other")
    summary = run(inbox, tmp_path / "out", model)
    assert summary.ok == 4 and sorted(calls(model)) == ["other", "same"]
    records = lines(tmp_path / "out" / RECORDS)
    assert [record["source"]["path"] for record in records] == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert len({record["id"] for record in records}) == 4


@pytest.mark.parametrize(("reason", "tries"), [("timeout", ATTEMPTS), ("encrypted", 1)])
def test_failures_that_may_pass_are_tried_again(
    inbox: Path, model: PageModel, tmp_path: Path, reason: str, tries: int
) -> None:
    write(inbox, a=f"fail {reason}", b="fine")
    for _ in range(ATTEMPTS + 2):
        summary = run(inbox, tmp_path / "out", model)
        assert (summary.failed, summary.exit_code) == (1, 3)
    assert attempts(tmp_path / "out") == tries
    run(inbox, tmp_path / "out", model, retry_failed=True)
    assert attempts(tmp_path / "out") == tries + 1


def attempts(output: Path) -> int:
    with sqlite3.connect(output / "run.sqlite") as connection:
        (number,) = connection.execute("SELECT attempts FROM failures").fetchone()
    connection.close()
    return int(number)


@pytest.mark.parametrize(("page", "reason"), [("change", "changed"), ("vanish", "vanished")])
def test_a_file_that_changes_or_vanishes_is_a_row_and_nothing_is_kept_of_it(
    inbox: Path, model: PageModel, tmp_path: Path, page: str, reason: str
) -> None:
    write(inbox, a=page, b="fine")
    summary = run(inbox, tmp_path / "out", model)
    assert manifest(tmp_path / "out") == {"a.txt": reason, "b.txt": "ok"}
    assert summary.failed == 1 and calls(model) == ["fine"]
    write(inbox, a="settled")
    assert run(inbox, tmp_path / "out", model).exit_code == 0


def test_a_limit_leaves_the_rest_pending(inbox: Path, model: PageModel, tmp_path: Path) -> None:
    write(inbox, a="one", b="two", c="three", d="four")
    first = run(inbox, tmp_path / "out", model, limit=2)
    assert (first.ok, first.pending, first.exit_code) == (2, 2, 0)
    assert str(first).endswith("+ 2 pending")
    second = run(inbox, tmp_path / "out", model, limit=1)
    assert (second.ok, second.unchanged, second.pending) == (1, 2, 1)
    assert sorted(calls(model)) == ["one", "three", "two"]


def test_what_an_earlier_child_finished_counts_as_of_this_run(
    inbox: Path, model: PageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(inbox, a="one", b="two", c="three", d="fail timeout")
    before = run(inbox, tmp_path / "out", model, limit=1)
    assert (before.ok, before.pending) == (1, 3)
    (key,) = record_keys(tmp_path / "out")
    monkeypatch.setattr("flows.watch._watch", Watch(ended={key}))
    after = run(inbox, tmp_path / "out", model, limit=2)  # of which one is done
    assert (after.ok, after.unchanged, after.pending) == (2, 0, 2)
    assert calls(model) == ["one", "two"]


def record_keys(output: Path) -> list[str]:
    with closing(sqlite3.connect(output / "run.sqlite")) as database:
        return [key for (key,) in database.execute("SELECT key FROM records")]


@pytest.mark.parametrize(
    ("documents", "code"),
    [
        ({}, 4),
        ({"a": "one"}, 0),
        ({"a": "fail damaged"}, 6),
        ({"a": "fail unsupported"}, 4),
        ({"a": "fail damaged", "b": "fail unsupported"}, 6),
        ({"a": "one", "b": "fail unsupported"}, 0),
    ],
)
def test_exit_codes(
    inbox: Path, model: PageModel, tmp_path: Path, documents: dict[str, str], code: int
) -> None:
    write(inbox, **documents)
    assert run(inbox, tmp_path / "out", model).exit_code == code


def test_an_unexpected_error_is_logged_without_the_document(
    inbox: Path, model: PageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(inbox, a="my salary\nboom")
    with caplog.at_level(logging.INFO):
        run(inbox, tmp_path / "out", model)
    (row,) = lines(tmp_path / "out" / MANIFEST)
    assert "unexpected ValueError, trace " in row["message"] and "read_pages" in caplog.text
    assert "salary" not in caplog.text + row["message"]


class Recorder:
    def __init__(self) -> None:
        self.inputs, self.outcomes = 0, list[Outcome]()

    def started(self, inputs: int) -> None:
        self.inputs = inputs

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def waiting(self, answers: int) -> None: ...


def test_an_observer_hears_of_every_input_once(
    inbox: Path, model: PageModel, tmp_path: Path
) -> None:
    write(inbox, a="one\ntwo", b="same", c="same", d="fail damaged")
    (inbox / "e.zip").write_bytes(b"")
    observer = Recorder()
    run(inbox, tmp_path / "out", model, observer=observer)
    assert observer.inputs == 5
    assert sorted(outcome.path for outcome in observer.outcomes) == [
        *("a.txt", "b.txt", "c.txt", "d.txt", "e.zip"),
    ]
    assert sum(outcome.pages for outcome in observer.outcomes) == 3


def test_a_model_that_is_not_there_ends_the_run_and_keeps_what_was_finished(
    inbox: Path, model: PageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(inbox, a="one", b="two")
    submit = model.submit

    def fail_on_two(request: Any) -> Any:
        if len(calls(model)):
            raise RuntimeUnavailableError("no GPU")
        return submit(request)

    monkeypatch.setattr(model, "submit", fail_on_two)
    with pytest.raises(RuntimeUnavailableError):
        run(inbox, tmp_path / "out", model, in_flight=1)
    assert manifest(tmp_path / "out") == {"a.txt": "ok", "b.txt": "pending"}


def test_rows_that_do_not_add_up_are_an_error(tmp_path: Path) -> None:

    with (
        Store.open(tmp_path) as store,
        pytest.raises(ScanscribeError, match="0 manifest rows for 3"),
    ):
        summarise(store, 3)


def test_signals_decide_the_exit_code() -> None:
    summary = Summary(2, 2, 0, 0, 0, 0, 0, 0, signal=15)
    assert summary.exit_code == 143


# Other processes: killed, interrupted, out of space.


# As `flows run`: the work is done in a child that is watched, before anything heavy is imported.
WATCHED = (
    "import runpy; from flows.watch import watched; watched(); "
    "runpy.run_module('tests.fake_run', run_name='__main__')"
)


def start(inbox: Path, output: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WATCHED, inbox, output, log, str(seconds)]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_in_good_order(inbox: Path, tmp_path: Path, number: int) -> None:
    write(inbox, a="one", b="two\nwait", c="three")
    output, log = tmp_path / "out", tmp_path / "calls"
    process = start(inbox, output, log, 0.0)
    wait_for(lambda: log.exists() and "wait" in log.read_text(), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert "pending" in out
    assert manifest(output)["b.txt"] == "pending"
    assert manifest(output)["a.txt"] == "ok" and lines(output / RECORDS)
    write(inbox, b="two")  # its first page is another document's answer now, and asked again
    assert run(inbox, output, PageModel(tmp_path / "more")).exit_code == 0


def test_a_finished_page_of_an_unfinished_document_is_kept(inbox: Path, tmp_path: Path) -> None:
    write(inbox, a="one\ntwo\nwait")
    process = start(inbox, tmp_path / "out", tmp_path / "calls", 0.0)
    wait_for(lambda: "wait" in "".join(calls(tmp_path / "calls")), process)
    process.kill()
    process.communicate()
    process = start(inbox, tmp_path / "out", tmp_path / "calls", 0.0)
    wait_for(lambda: calls(tmp_path / "calls").count("wait") == 2, process)
    process.kill()
    process.communicate()
    assert calls(tmp_path / "calls") == ["one", "two", "wait", "wait"]


def test_a_document_that_ends_the_process_fails_and_the_run_goes_on(
    inbox: Path, tmp_path: Path
) -> None:
    write(inbox, a="one\ndie", b="two\nthree", c="four", d="five", e="six\nfault", f="seven")
    output, log = tmp_path / "out", tmp_path / "calls"
    process = start(inbox, output, log, 0.02)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 3 and "ended by SIGKILL with" in err and "SIGSEGV" in err
    assert "+ 2 failed + 0 unsupported" in out
    good = dict.fromkeys(("b.txt", "c.txt", "d.txt", "f.txt"), "ok")
    assert manifest(output) == {"a.txt": "crash", "e.txt": "crash", **good}
    assert calls(log).count("die") == 2 == calls(log).count("fault")  # together, then alone
    assert all(calls(log).count(page) <= 3 for page in ("one", "three", "four", "five", "seven"))
    messages = {row["path"]: row["message"] for row in lines(output / MANIFEST)}
    assert "--retry-failed" in messages["a.txt"]
    before = len(calls(log))
    again = start(inbox, output, log, 0.0)
    again.communicate(timeout=600)
    assert again.returncode == 3
    assert len(calls(log)) == before  # nothing is tried again by itself
    write(inbox, a="one\nfine", e="six")
    assert run(inbox, output, PageModel(log), retry_failed=True).exit_code == 0


def test_a_killed_run_blames_no_document(inbox: Path, tmp_path: Path) -> None:
    """However often: kill -9 of the run is nobody's fault but the killer's."""
    write(inbox, a="one\nwait")
    output, log = tmp_path / "out", tmp_path / "calls"
    for number in range(1, 5):
        process = start(inbox, output, log, 0.0)
        wait_for(lambda number=number: calls(log).count("wait") == number, process)
        process.kill()
        _, err = process.communicate(timeout=600)  # the child has ended as well
        assert err == ""
    with Store.open(output) as store:
        assert store.counts() == {("pending", False): 1}


def finished_pages(output: Path, inbox: Path) -> set[str]:
    """Pages whose answer or document is in the database."""
    pages = set()
    with Store.open(output) as store:
        for row, record in store.records():
            assert row.status == "ok"
            pages |= set(record["output"]["text"].lower().split("\n"))
        with sqlite3.connect(output / "run.sqlite") as connection:
            for (text,) in connection.execute("SELECT result FROM answers"):
                pages.add(json.loads(text)["text"].lower())
        connection.close()
    return pages


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it starts 31 processes
def test_killed_at_random_moments_the_dataset_is_the_same(inbox: Path, tmp_path: Path) -> None:
    """Kills the run again and again; no page is asked for again once its answer was stored."""
    chance = random.Random(20)
    for number in range(60):
        pages = [f"document {number} page {page}" for page in range(chance.randint(1, 6))]
        write(inbox, **{f"d{number:02}": "\n".join(pages)})
    write(inbox, twin=(inbox / "d07.txt").read_text(), bad="fail damaged", slow="fail timeout")
    undisturbed = tmp_path / "undisturbed"
    run(inbox, undisturbed, PageModel(tmp_path / "other calls"))

    output, log, kills = tmp_path / "out", tmp_path / "calls", 0
    finished: set[str] = set()
    while True:
        seen = len(calls(log))
        process = start(inbox, output, log, 0.02)
        if kills < 30:
            pages_more = chance.randint(0, 7)
            while process.poll() is None and len(calls(log)) < seen + pages_more:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.05))
            kills += process.poll() is None
            process.kill()
        _, err = process.communicate()
        asked = calls(log)[seen:]
        assert not finished & set(asked) and err == ""
        assert len(set(asked)) == len(asked)
        if process.returncode != -signal.SIGKILL:
            break
        finished = finished_pages(output, inbox)
    assert process.returncode == 3
    for name in (RECORDS, MANIFEST):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()
    assert kills >= 20


def test_a_full_disk_ends_the_run_with_a_message(inbox: Path, tmp_path: Path) -> None:
    for number in range(40):
        write(inbox, **{f"d{number}": f"{number} " + "long " * 400})
    command = [sys.executable, "-m", "tests.fake_run", inbox, tmp_path / "out", tmp_path / "calls"]
    limited = f"ulimit -f 512; exec {' '.join(map(str, command))} 0"  # blocks of 1 KiB
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == OutputError.exit_code and "Traceback" not in done.stderr
    assert "free disk space" in done.stderr
    computed = len(calls(tmp_path / "calls"))
    assert computed < 40
    before = finished_pages(tmp_path / "out", inbox)
    model = PageModel(tmp_path / "more")
    assert run(inbox, tmp_path / "out", model).exit_code == 0
    assert before and not before & set(calls(model))


def test_two_runs_in_one_directory(inbox: Path, tmp_path: Path) -> None:
    write(inbox, a="wait")
    process = start(inbox, tmp_path / "out", tmp_path / "calls", 0.0)
    wait_for((tmp_path / "calls").exists, process)
    with pytest.raises(OutputError, match="in use by another run"):
        run(inbox, tmp_path / "out", PageModel(tmp_path / "more"))
    process.kill()
    process.communicate()


def test_names_with_newlines_and_other_bytes(inbox: Path, model: PageModel, tmp_path: Path) -> None:
    for name in (b"a\nb.txt", b"\xff\xfe.txt", "\u2028é.txt".encode()):
        Path(os.fsdecode(bytes(inbox) + b"/" + name)).write_text("text")
    assert run(inbox, tmp_path / "out", model).ok == 3
    text = (tmp_path / "out" / MANIFEST).read_text(encoding="utf-8")
    assert len(text.splitlines()) == 3
    assert sorted(manifest(tmp_path / "out")) == ["\\xff\\xfe.txt", "a\nb.txt", "\u2028é.txt"]
