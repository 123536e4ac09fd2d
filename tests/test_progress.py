"""flows/progress.py: what a person sees of a run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.account import Outcome
from flows.progress import LiveProgress, PlainProgress, Tally, show_progress, steps

OUTCOMES = (
    Outcome("a.pdf", "ok", pages=2, new_tokens=30),
    Outcome("b\n[red].wav", "failed", "timeout"),
    Outcome("c.pdf", "ok", unchanged=True),
    Outcome("d.wav", "review", audio_seconds=61.0, new_tokens=5),
)


def test_a_tally_counts_what_was_done() -> None:
    tally = Tally(4)
    for outcome in OUTCOMES:
        tally.add(outcome)
    assert (tally.done, tally.computed, tally.failed, tally.pages, tally.tokens) == (4, 2, 1, 2, 35)
    assert "2 pages, 61 s of audio, 0 answers" in str(tally) and "1 failed" in str(tally)


def test_without_a_terminal_there_are_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.progress._LINE_SECONDS", 0.0)
    with show_progress() as observer:
        assert isinstance(observer, PlainProgress)
        observer.started(4)
        observer.waiting(31)  # of one long document
        for outcome in OUTCOMES:
            observer.finished(outcome)
        observer.waiting(33)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "4 inputs"
    assert "0 of 4 files, 0 pages, 31 answers" in lines[1] and "unknown time to go" in lines[1]
    assert lines[2] == "failed: b\\n[red].wav: timeout"
    assert lines[3].startswith("4 of 4 files, 2 pages") and "about 0 s to go" in lines[3]


def test_on_a_terminal_there_is_a_bar() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    with steps(console) as progress:
        observer = LiveProgress(progress)
        observer.started(4)
        for outcome in OUTCOMES:
            observer.finished(outcome)
        observer.waiting(33)
    text = screen.getvalue()
    assert "4/4" in text and "33 answers" in text and "failed: b\\n[red].wav: timeout" in text
