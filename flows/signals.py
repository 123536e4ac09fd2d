"""SIGINT and SIGTERM stop a run in good order; a second one ends the process at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.run import Run

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(run: Run) -> Iterator[None]:
    """Tells the run about a signal. Only in the main thread; elsewhere it does nothing."""

    def note(number: int, _: FrameType | None) -> None:
        run.signal = number  # the run looks at it a few times a second
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    try:
        before = {number: signal.signal(number, note) for number in _SIGNALS}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
