"""A document that ends the whole process must not end the run, nor every run after it.

A lack of memory or a fault in native code kills a process without a word. So the work is done in a
child, which tells the process that the user started which documents are under way. When the child
dies, another takes its place: the documents that were under way are tried again one at a time, and
one that was under way at two deaths has failed, reason `crash`. Those beside it at the first death
lose nothing but time.

When the watching process itself is killed (kill -9, power, a container's end), the child goes with
it and no document is blamed: the next run resumes. That is why a run's own death is not counted.

Knows no store and no parser; keys are texts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

CRASH = "crash"
CRASH_MESSAGE = (
    "the process ended twice while it was under way, for lack of memory or by a fault in native "
    "code; split or convert the file, give the machine more memory, then run with --retry-failed"
)
_DEATHS = 2  # of a process, at which a document was under way
_HOPELESS = 6  # deaths in a row between which no document was finished
_FORWARDED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Watch:
    """What the watching process knows; the child has a copy. deaths: at how many a key was under
    way; ended: keys that earlier children were done with; barren: deaths since there was one."""

    deaths: Counter[str] = field(default_factory=Counter)
    ended: set[str] = field(default_factory=set)
    barren: int = 0
    report: int | None = None  # the child's end of the pipe


_watch = Watch()


def is_suspect(key: str) -> bool:
    """Whether to work on this document alone."""
    return _watch.deaths[key] > 0


def ended_before() -> set[str]:
    """Keys that this command was done with in children that have died: part of this very run."""
    return set(_watch.ended)


def is_guilty(key: str) -> bool:
    return _watch.deaths[key] >= _DEATHS


@contextmanager
def under_way(key: str) -> Iterator[None]:
    """Tells the watching process, if there is one, that a document is worked on."""
    _tell(f"+{key}\n")
    try:
        yield
    finally:
        _tell(f"-{key}\n")


def _tell(line: str) -> None:
    if _watch.report is not None:
        with suppress(OSError):  # the parent is gone, and this process will be in a moment
            os.write(_watch.report, line.encode())  # short enough to be written as a whole


def watched() -> None:
    """Returns in a child process that is to do the work. The caller stays behind, starts others
    when a child dies, and exits as the last one did."""
    while True:
        report, lifeline = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(report[0])
            os.close(lifeline[1])
            _live(report[1], lifeline[0])
            return
        os.close(report[1])
        os.close(lifeline[0])
        with _forwarding(child) as sent:
            under_way = _listen(report[0])
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(lifeline[1])
        if status >= 0 or -status in sent or not _goes_on(-status, under_way):
            sys.exit(status if status >= 0 else 128 - status)


def _live(report: int, lifeline: int) -> None:
    """The child: in a group of its own, or the terminal would send it every signal twice."""
    os.setpgid(0, 0)
    _watch.report = report

    def end_with_the_parent() -> None:
        os.read(lifeline, 1)  # returns when the other end is closed
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_the_parent, daemon=True).start()


def _listen(report: int) -> set[str]:
    """Reads until the child has ended; the keys that were under way then."""
    now: set[str] = set()
    with os.fdopen(report, encoding="ascii") as lines:
        for line in lines:
            mark, key = line[0], line[1:].rstrip("\n")
            if mark == "+":
                now.add(key)
            else:
                now.discard(key)
                _watch.ended.add(key)
                _watch.barren = 0
    return now


def _goes_on(number: int, under_way: set[str]) -> bool:
    """Blames what was under way. False when there is nothing to blame, or no hope."""
    _watch.deaths.update(under_way)
    _watch.barren += 1
    name, count = signal.Signals(number).name, len(under_way)
    documents = "1 document" if count == 1 else f"{count} documents"
    said = f"flows: the process was ended by {name} with {documents} under way"
    goes_on = count > 0 and _watch.barren < _HOPELESS
    then = (
        "going on, one at a time with what was under way"
        if goes_on
        else "give the machine more memory or take a smaller model, then run again: what is "
        "finished is kept"
    )
    print(f"{said}; {then}", file=sys.stderr, flush=True)
    return goes_on


@contextmanager
def _forwarding(child: int) -> Iterator[set[int]]:
    """Hands signals on to the child; yields those that were handed on."""
    sent: set[int] = set()

    def hand_on(number: int, _: FrameType | None) -> None:
        sent.add(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, hand_on) for number in _FORWARDED}
    try:
        yield sent
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
