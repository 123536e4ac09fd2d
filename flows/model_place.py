"""Where the model servers of one user live: a directory that is theirs alone, a socket per bundle.

SOCKET   NAME.sock, mode 0600; left behind by a server that was killed
LOCK     NAME.lock, locked for as long as a server of the bundle lives: the kernel frees it, so
         there is never more than one server and none is believed alive that is not
LOG      NAME.log, of a server in the background; it never holds a document's text
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_onnx.errors import RuntimeUnavailableError

LOCK_VARIABLE = "SCANSCRIBE_MODEL_LOCK"  # names the locked descriptor that a server inherits

_NAME = 24  # characters of the bundle's hash; a socket's path has room for about 100
_PATH_BYTES = 103  # of macOS, the shortest; Linux has 107
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True)
class Place:
    """The files of one bundle's server."""

    directory: Path
    name: str

    @classmethod
    def of(cls, bundle: str) -> Place:
        """bundle: its sha256. Raises RuntimeUnavailableError."""
        return cls(runtime_directory(), bundle[:_NAME])

    @property
    def address(self) -> Path:
        return self.directory / f"{self.name}.sock"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def lock_file(self) -> Path:
        return self.directory / f"{self.name}.lock"

    def lock(self) -> int | None:
        """Takes the lock; None when somebody has it. It is free again when all that share the
        descriptor, child processes too, have closed it or ended."""
        import fcntl

        path = self.lock_file
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def inherited_lock(self) -> int | None:
        """The lock as handed on by the process that started this one."""
        value = os.environ.pop(LOCK_VARIABLE, "")
        if not value.isascii() or not value.isdigit():
            return None
        try:
            if os.path.samestat(os.fstat(int(value)), self.lock_file.stat()):
                os.set_inheritable(int(value), False)
                return int(value)
        except OSError:
            pass
        return None

    def listen(self) -> socket.socket:
        """A listening socket for the owner alone. Only for who has the lock."""
        self.address.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # the socket is created with its mode: there is no moment between
        try:
            listener.bind(str(self.address))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
        listener.listen(128)
        return listener


def runtime_directory() -> Path:
    """XDG_RUNTIME_DIR/scanscribe, or one in the directory for temporary files; made when missing.

    Raises RuntimeUnavailableError where there are no Unix sockets, and when the directory is not
    this user's alone.
    """
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
        raise RuntimeUnavailableError(
            "this system has no Unix sockets, which the model server needs; set "
            "SCANSCRIBE_MODEL_SERVER=never"
        )
    if parent := os.environ.get("XDG_RUNTIME_DIR"):
        directory = Path(parent) / "scanscribe"
    else:
        directory = Path(tempfile.gettempdir()) / f"scanscribe-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise RuntimeUnavailableError(
            f"cannot make {directory}: {error.strerror}; set XDG_RUNTIME_DIR to a directory of "
            "yours"
        ) from None
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not mine or found.st_mode & 0o077:
        raise RuntimeUnavailableError(
            f"{directory} is not a directory of yours alone (mode 700); remove it, or set "
            "XDG_RUNTIME_DIR"
        )
    if len(os.fsencode(directory)) + _NAME + 6 > _PATH_BYTES:
        raise RuntimeUnavailableError(
            f"{directory}: got a path too long for a socket, expected at most "
            f"{_PATH_BYTES - _NAME - 6} bytes; set XDG_RUNTIME_DIR to a shorter one"
        )
    return directory


def places() -> Iterator[Place]:
    """Of every server that this user has or had. Raises RuntimeUnavailableError."""
    directory = runtime_directory()
    for path in sorted(directory.glob("*.lock")):
        yield Place(directory, path.stem)


def is_same_user(peer: Any) -> bool:
    """Whether the process at the other end of a connected Unix socket runs as this user.

    Where the system cannot tell (not Linux), the socket's mode alone keeps others out.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return bool(uid == os.getuid())
