"""A PostgreSQL server of our own for tests: a new cluster in a temporary directory, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USERS = ("postgres", "nobody")  # the server refuses to run as root


def _program(name: str) -> str | None:
    """Debian keeps them in a directory for each version."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))


def _as_somebody(directory: Path) -> list[str]:
    """What to put before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    known = {user.pw_name for user in pwd.getpwall()}
    user = next((name for name in _USERS if name in known), None)
    runuser = shutil.which("runuser")
    if not user or not runuser:
        pytest.skip("needs a user other than root, and runuser, for a PostgreSQL server")
    shutil.chown(directory, user)
    return [runuser, "-u", user, "--"]


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database, on a Unix socket, with a password."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'scanscribe[postgres]'")
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("needs PostgreSQL: make system")
    # Not pytest's own: the path of a socket has at most 107 characters, and others may not enter.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o711)
        before = _as_somebody(directory)
        data, log, secret = directory / "data", directory / "log", directory / "password"
        secret.write_text("s3cret")
        secret.chmod(0o644)
        create = [initdb, "-D", data, "-U", "tester", "-A", "scram-sha-256", "--no-sync"]
        _run([*before, *create, f"--pwfile={secret}", "-E", "UTF8", "--locale=C"])
        options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
        control = [*before, pg_ctl, "-D", data, "-l", log, "-w"]
        _run([*control, "-t", "120", "-o", options, "start"])
        try:
            yield f"postgresql://tester:s3cret@/postgres?host={directory}"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _run(command: list[object]) -> None:
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
    )
    assert done.returncode == 0, done.stderr.decode()
