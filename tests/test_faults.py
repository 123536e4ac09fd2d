"""flows/faults.py: which errors a second attempt may get past."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from flows.discover import Version, check_same
from flows.faults import passes_by_itself
from model_onnx.errors import InputError, OutputError


def made_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise cause
    except Exception:
        try:
            raise error from None  # as ours are: a person reads one line
        except Exception as raised:
            return raised


def busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "i/o error"),
        OSError(errno.ESTALE, "stale file handle"),
        ConnectionResetError("the model server went away"),
        TimeoutError(),
        made_from(InputError("cannot be read", reason="unreadable"), OSError(errno.EIO, "")),
        made_from(OutputError("cannot write"), busy()),
    ],
)
def test_a_network_drive_or_a_busy_database_passes(error: Exception) -> None:
    assert passes_by_itself(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        PermissionError(errno.EACCES, "not yours"),
        OSError(errno.ENOSPC, "disk full"),
        ValueError("a bad document"),
        InputError("damaged", reason="damaged"),
        made_from(InputError("it crashed", reason="parser_crashed"), BrokenPipeError()),
        made_from(OutputError("cannot write"), sqlite3.DatabaseError("malformed")),
        made_from(InputError("no", reason="unreadable"), PermissionError(errno.EACCES, "")),
    ],
)
def test_a_bad_document_or_a_full_disk_does_not(error: Exception) -> None:
    assert not passes_by_itself(error)


def test_what_our_own_reading_raises_is_seen_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: Path) -> None:
        raise OSError(errno.EIO, "i/o error")

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(InputError) as raised:
        check_same(tmp_path, Version("", 0, ()))
    assert passes_by_itself(raised.value)
