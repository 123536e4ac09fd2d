"""A run in PostgreSQL, which several processes on several machines compute together.

Knows no run but its name. Each run has a schema of its own, so one database holds many. A process
has one connection, and its claims are advisory locks of that connection: the server grants a key to
one process at a time and takes the claims of a dead one back, at once when its connection closes,
after a minute when its machine falls silent. What a process writes goes over the connection that
holds its claims, so one that lost them cannot write over the next one's work.

    presence   held, shared, by all that take part; who gets it alone starts the run anew
    claims     key -> whether it has been finished or failed since the run was started
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError

from flows.discover import RUN_DATABASE, RUN_POINTER
from flows.files import write_lines
from flows.run_tables import METADATA, RECORDS, Claim, database_errors
from model_onnx.errors import OutputError, RuntimeUnavailableError, UsageError

_LAYOUT = "Scanscribe run, layout 1"  # the schema's comment
_CLAIMS = Table(
    "claims",
    MetaData(),
    Column("key", Text, primary_key=True),
    Column("done", Boolean, nullable=False),
)
# A silent machine is given up after 30 + 3 * 10 seconds, by both sides.
_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_SERVER_ALIVE = "".join(f" -ctcp_{name}={value}" for name, value in _ALIVE.items())


class Shared:
    """An open database. connection: the one that the run reads and writes with."""

    shared = True
    advice = "check that the server runs, that it can be reached and that the user may log in"

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        run = str(url.query["run"])
        self._schema = schema_of(run)
        self._held: set[str] = set()
        self.place = without_password(url)
        self.engine = _engine(url, self._schema, read_only=read_only)
        with database_errors(self):
            self.connection = self.engine.connect()
            try:
                with self.connection.begin():
                    self._prepare(self.connection, create=not read_only)
            except BaseException:
                self.close()
                raise

    @classmethod
    def open(cls, store: str, directory: Path) -> Shared:
        """Opens or makes the run, and leaves word of it in the directory. Raises OutputError."""
        if (directory / RUN_DATABASE).is_file():
            raise OutputError(
                f"got --store for {directory}, where another run keeps its {RUN_DATABASE}; say "
                "another --output"
            )
        url = parse_store(store, directory)
        opened = cls(url)
        write_lines(directory / RUN_POINTER, [without_password(url)])
        return opened

    @classmethod
    def read(cls, store: str, directory: Path) -> Shared:
        """To look at. Raises OutputError if there is no such run."""
        return cls(parse_store(store, directory), read_only=True)

    def close(self) -> None:
        self.connection.close()
        self.engine.dispose()

    def _prepare(self, connection: Connection, *, create: bool) -> None:
        find = text("SELECT obj_description(to_regnamespace(:schema), 'pg_namespace')")
        if create:
            self._lock(connection, "begin")
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        layout = connection.scalar(find, {"schema": self._schema})
        if create and layout is None:
            METADATA.create_all(connection)
            _CLAIMS.create(connection, checkfirst=True)
            connection.exec_driver_sql(f"COMMENT ON SCHEMA {self._schema} IS '{_LAYOUT}'")
        elif layout != _LAYOUT:
            raise OutputError(
                f"{self.place}: got {layout or 'no run of that name'}, expected {_LAYOUT}; say "
                "another --store, or ?run=NAME at its end"
            )

    def _lock(self, connection: Connection, name: str) -> None:
        """Waits for it; the transaction's end gives it back."""
        connection.execute(_WAIT, {"lock": self._number(name)})

    def _number(self, name: str) -> int:
        """What stands for a lock in the whole database."""
        digest = hashlib.sha256(f"{self._schema} {name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    # what several processes agree on

    def begin(self, connection: Connection) -> bool:
        """Takes part in the run. -> whether it starts anew: nobody else takes part."""
        presence = {"lock": self._number("presence")}
        self._lock(connection, "begin")
        anew = bool(connection.scalar(_TRY, presence))
        connection.execute(_SHARE, presence)
        if anew:
            connection.execute(_UNLOCK, presence)
            connection.execute(delete(_CLAIMS))
        return anew

    def claim(self, connection: Connection, key: str) -> Claim:
        """A key that is `mine` stays so until it is released or this process ends."""
        lock = {"lock": self._number(key)}
        if key in self._held or not connection.scalar(_TRY, lock):
            return "theirs"
        done = connection.scalar(_DONE, {"of": key})
        if done or connection.scalar(_FINISHED, {"of": key}):
            connection.execute(_UNLOCK, lock)
            return "done"
        if done is None:
            connection.execute(insert(_CLAIMS), {"key": key, "done": False})
        self._held.add(key)
        return "mine"

    def done(self, connection: Connection, key: str) -> None:
        """The key was finished or has failed: nobody tries it again in this run."""
        connection.execute(_SET_DONE, {"of": key})

    def release(self, connection: Connection, key: str) -> None:
        if key in self._held:
            self._held.discard(key)
            connection.execute(_UNLOCK, {"lock": self._number(key)})

    def enter(self, connection: Connection) -> None:
        """Waits until no other process is inside."""
        connection.execute(_STAY, {"lock": self._number("inside")})

    def leave(self, connection: Connection) -> None:
        connection.execute(_UNLOCK, {"lock": self._number("inside")})


_OF: BindParameter[Any] = bindparam("of")
_LOCK: BindParameter[Any] = bindparam("lock", type_=BigInteger)
_TRY = select(func.pg_try_advisory_lock(_LOCK))
_STAY = select(func.pg_advisory_lock(_LOCK))
_SHARE = select(func.pg_advisory_lock_shared(_LOCK))
_UNLOCK = select(func.pg_advisory_unlock(_LOCK))
_WAIT = select(func.pg_advisory_xact_lock(_LOCK))
_DONE = select(_CLAIMS.c.done).where(_CLAIMS.c.key == _OF)
_FINISHED = select(RECORDS.c.key).where(RECORDS.c.key == _OF)
_SET_DONE = update(_CLAIMS).where(_CLAIMS.c.key == _OF).values(done=True)


def _engine(url: URL, schema: str, *, read_only: bool) -> Engine:
    options = f"{url.query.get('options', '')} -csearch_path={schema}{_SERVER_ALIVE}"
    if read_only:
        options += " -cdefault_transaction_read_only=on"
    try:
        return create_engine(
            url.difference_update_query(["run", "options"]),
            connect_args={**_ALIVE, "options": options, "application_name": "scanscribe"},
            hide_parameters=True,  # they quote documents
        )
    except ImportError:
        raise RuntimeUnavailableError(
            "got --store postgresql://, which needs psycopg; install it: "
            "pip install 'scanscribe[postgres]'"
        ) from None


def schema_of(run: str) -> str:
    """A name that PostgreSQL takes without quotes: readable, and different for each run."""
    words = re.sub(r"[^a-z0-9]+", "_", run.rpartition("/")[2].lower()).strip("_")[:40]
    return f"run_{words}_{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def parse_store(store: str, directory: Path) -> URL:
    """The URL with the run's name in its query: `?run=NAME`, else the directory's path.

    Raises UsageError, which does not show the URL: it may hold a password.
    """
    try:
        url = make_url(store.strip())
        known = url.get_backend_name() == "postgresql" and bool(url.database)
    except (ArgumentError, ValueError):
        known = False
    if not known:
        raise UsageError("got another --store, expected postgresql://USER@HOST/DATABASE")
    if "run" not in url.query:
        url = url.update_query_dict({"run": str(directory.resolve())})
    return url.set(drivername="postgresql+psycopg")


def without_password(url: URL) -> str:
    """For people and files."""
    query = [name for name in url.query if "password" in name]
    return url._replace(password=None).difference_update_query(query).render_as_string()


def keep_password(store: str) -> str:
    """Moves a URL's password to where the database's library and child processes look for it.

    So it stands in no log, parameter, task or file. -> the URL without it.
    """
    url = parse_store(store, Path())
    password = url.password or url.query.get("password")
    if password:
        os.environ["PGPASSWORD"] = str(password)
    return without_password(make_url(store.strip()))


def engine_of(directory: Path) -> Engine | None:
    """For tables of others beside a run's, with no part in its claims. None: it is not here."""
    store = pointer(directory)
    if store is None:
        return None
    url = parse_store(store, directory)
    return _engine(url, schema_of(str(url.query["run"])), read_only=False)


def pointer(directory: Path) -> str | None:
    """Which store a directory's run is in, when that is not its own database."""
    path = directory / RUN_POINTER
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
