"""flows/watch.py: who is blamed for a death. Real deaths are in test_run.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flows import watch
from flows.watch import _HOPELESS, _goes_on, _listen, is_guilty, is_suspect, under_way

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> watch.Watch:
    fresh = watch.Watch()
    monkeypatch.setattr(watch, "_watch", fresh)
    return fresh


def listen(text: str) -> set[str]:
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    return _listen(read)


def test_what_was_under_way_is_what_began_and_did_not_end(known: watch.Watch) -> None:
    known.barren = 3
    assert listen("+a\n+b\n-a\n+c\n") == {"b", "c"}
    assert known.barren == 0  # a document was finished
    assert listen("+a\n") == {"a"} and listen("") == set()
    assert watch.ended_before() == {"a"}  # in the first child; what took its place goes on from it


def test_two_deaths_make_a_suspect_guilty(known: watch.Watch) -> None:
    assert _goes_on(signal.SIGKILL, {"a", "b"})
    assert is_suspect("a") and is_suspect("b") and not is_guilty("a") and not is_suspect("c")
    assert _goes_on(signal.SIGSEGV, {"a"})
    assert is_guilty("a") and not is_guilty("b")
    assert known.deaths == Counter(a=2, b=1)


def test_without_a_document_or_without_hope_it_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not _goes_on(signal.SIGSEGV, set())
    assert "SIGSEGV with 0 documents" in capsys.readouterr().err
    went_on = [_goes_on(signal.SIGKILL, {str(number)}) for number in range(_HOPELESS)]
    assert went_on == [True] * (_HOPELESS - 2) + [False, False]
    said = capsys.readouterr().err.splitlines()
    assert "with 1 document under way; going on" in said[0] and "more memory" in said[-1]


def test_a_document_is_told_of_also_when_it_raises(known: watch.Watch) -> None:
    read, known.report = os.pipe()
    with pytest.raises(ValueError), under_way("a"):
        raise ValueError
    os.close(read)
    with under_way("b"):  # nobody listens any more
        pass
    os.close(known.report)
    known.report = None
    with under_way("c"):
        pass


@pytest.mark.parametrize(
    ("work", "code"),
    [("sys.exit(3)", 3), ("", 0), ("os.kill(os.getpid(), 9)", 137), ("raise SystemExit(143)", 143)],
)
def test_it_exits_as_the_child_did(work: str, code: int) -> None:
    script = f"import os, sys; from flows.watch import watched; watched(); print('child'); {work}"
    done = subprocess.run(
        [sys.executable, "-u", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (code, "child\n")
    assert ("SIGKILL" in done.stderr) == (code == 137)


def test_a_signal_reaches_the_child_once() -> None:
    script = (
        "import signal, sys, time; from flows.watch import watched; watched(); n = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: n.append(1)); print('ready', flush=True)\n"
        "while not n: time.sleep(0.01)\n"
        "time.sleep(0.2); print(len(n)); sys.exit(143)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("1\n", 143)
