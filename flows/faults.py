"""Which errors pass by themselves within seconds: a network drive that hiccups, a busy database.

Knows no document: a damaged file, a missing one or a full disk is the same a minute later.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator

from model_onnx.errors import InputError

_PASSING = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOLCK,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
_PASSING_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR})


def passes_by_itself(error: BaseException) -> bool:
    """Looks through our own errors at what they were made from."""
    if isinstance(error, InputError) and error.reason != "unreadable":
        return False  # a parser that was killed leaves a broken pipe: that is the document's fault
    return any(map(_passes, _chain(error)))


def _passes(error: BaseException) -> bool:
    match error:
        case ConnectionError() | TimeoutError():
            return True
        case OSError():
            return error.errno in _PASSING
        case sqlite3.Error():
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING_SQLITE
        case _:
            return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
