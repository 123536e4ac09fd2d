"""flows/model_place.py: a place for one server, closed to everybody else."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.model_place import LOCK_VARIABLE, Place, is_same_user, places, runtime_directory
from model_onnx.errors import RuntimeUnavailableError


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ss-"))  # a socket's path must be short
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


def test_only_one_has_the_lock_and_its_end_frees_it() -> None:
    place = Place.of("a" * 64)
    lock = place.lock()
    assert lock is not None and place.lock() is None
    assert Place.of("b" * 64).lock_file != place.lock_file
    os.close(lock)
    again = place.lock()
    assert again is not None
    os.close(again)
    assert list(places()) == [place]


def test_a_lock_is_inherited_and_nothing_else_is_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = Place.of("a" * 64)
    lock = place.lock()
    assert lock is not None
    with (tmp_path / "other").open("w") as other:
        for value in ("", "x", "-1", "99999", str(other.fileno())):
            monkeypatch.setenv(LOCK_VARIABLE, value)
            assert place.inherited_lock() is None
    monkeypatch.setenv(LOCK_VARIABLE, str(lock))
    assert place.inherited_lock() == lock and LOCK_VARIABLE not in os.environ
    os.close(lock)


def test_a_socket_left_behind_is_replaced_by_one_for_the_owner() -> None:
    place = Place.of("a" * 64)
    before = os.umask(0)
    try:
        for _ in range(2):
            place.listen().close()
            assert stat.S_IMODE(place.address.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700
        assert os.umask(0) == 0  # put back
    finally:
        os.umask(before)


def test_a_directory_that_others_may_use_is_refused(parent: Path) -> None:
    runtime_directory().chmod(0o755)
    with pytest.raises(RuntimeUnavailableError, match="not a directory of yours alone"):
        runtime_directory()


def test_a_link_to_a_directory_is_refused(parent: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (parent / "scanscribe").symlink_to(tmp_path)
    with pytest.raises(RuntimeUnavailableError, match="not a directory of yours alone"):
        runtime_directory()


@pytest.mark.parametrize(("name", "message"), [("gone", "cannot make"), ("x" * 90, "too long")])
def test_directories_that_cannot_be_used(
    parent: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    if name != "gone":
        (parent / name).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(parent / name))
    with pytest.raises(RuntimeUnavailableError, match=message):
        runtime_directory()


def test_without_a_runtime_directory_there_is_one_for_each_user(
    monkeypatch: pytest.MonkeyPatch, parent: Path
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(parent))
    assert runtime_directory() == parent / f"scanscribe-{os.getuid()}"


def test_who_is_at_the_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert is_same_user(one)
        if hasattr(socket, "SO_PEERCRED"):
            monkeypatch.setattr("os.getuid", lambda: os.geteuid() + 1)
            assert not is_same_user(one)
