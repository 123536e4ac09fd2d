"""What a run has to account for: every file under the input, in one fixed order.

Opens a file only to hash it, or to look at its first bytes where its name says nothing; knows no
parser and no model. A name is bytes on disk: `raw` keeps
them, `shown` is text that is safe in JSON, SQLite and a terminal.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_onnx.errors import InputError, OutputError, UsageError
from pipelines.labelled import EXPECTED
from pipelines.opening import SUFFIXES, Kind, suffix_of

# A directory that holds one of these is a run's output, never its input.
RUN_DATABASE, RUN_POINTER = "run.sqlite", "run.store"


@dataclass(frozen=True)
class Entry:
    """One input. raw: path below the root as bytes; problem: why it is not opened, or ""."""

    path: Path
    raw: bytes
    kind: Kind | None = None
    problem: str = ""

    @property
    def shown(self) -> str:
        return show_name(self.raw)


@dataclass(frozen=True)
class Version:
    """What a file was when it was hashed; `same_file` tells whether it still is."""

    sha256: str
    bytes: int
    stamp: tuple[int, ...]


def show_name(raw: bytes) -> str:
    """Bytes of a path as JSON-safe text; bytes that are not UTF-8 become `\\xff`."""
    return raw.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """One line for a log or a terminal: control characters (newlines, escapes) become `\\n`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def walk(root: Path, *, skip: Path | None = None) -> list[Entry]:
    """All inputs of a file or tree, sorted by the bytes of their relative paths.

    `skip` (this run's output) and every other run's directory are left out. Links
    that leave the root and entries that cannot be read become entries with a `problem`. Raises
    UsageError when the root is not there.
    """
    root = root.resolve()
    if not root.exists():
        raise UsageError(
            f"got --input {printable(str(root))}, where nothing is, expected a file or directory; "
            "check the path"
        )
    if not root.is_dir():
        return [_entry(root, os.fsencode(root.name), root.parent)]
    excluded = skip.resolve() if skip else None
    return sorted(_walk(root, excluded), key=lambda entry: entry.raw)


def _walk(root: Path, excluded: Path | None) -> Iterator[Entry]:
    directories = [root]  # a stack, not recursion: a tree may be deeper than Python's stack
    while directories:
        directory = directories.pop()
        try:
            with os.scandir(directory) as scan:
                names = [item.name for item in scan]
        except OSError:
            yield Entry(directory, _relative(directory, root), problem="unreadable")
            continue
        if {RUN_DATABASE, RUN_POINTER} & set(names) and directory != root:
            continue
        for path in (directory / name for name in names):
            if path == excluded:
                continue
            if _is_directory(path):
                directories.append(path)
            else:
                yield _entry(path, _relative(path, root), root)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _relative(path: Path, root: Path) -> bytes:
    return os.fsencode(path.relative_to(root))


def _entry(path: Path, raw: bytes, root: Path) -> Entry:
    problem = _problem(path, root) or ("labels" if path.name == EXPECTED else "")
    if problem:
        return Entry(path, raw, problem=problem)
    kind = SUFFIXES.get(path.suffix.lower()) or _sniff(path)
    return Entry(path, raw, kind, "" if kind else "unsupported")


def _sniff(path: Path) -> Kind | None:
    """By content: scanners and mail programs lose the ends of names."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return None
    if head[:4] == b"RIFF" and head[8:] not in (b"WAVE", b"WEBP"):
        return None
    suffix = suffix_of(head)
    return None if suffix == ".txt" else SUFFIXES[suffix]


def _problem(path: Path, root: Path) -> str:
    try:
        if path.is_symlink():
            target = path.resolve()
            if not target.is_relative_to(root):
                return "symlink_outside"
            if target.is_dir():
                return "symlink_directory"  # its files are listed under their own names
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "vanished"
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return "unreadable"
    return "" if stat.S_ISREG(mode) else "unsupported"  # opening a pipe would wait for ever


PROBLEMS = {
    "unsupported": "not a kind of file that is read, expected PDF, PNG, JPEG, WebP, TIFF, WAV, "
    "FLAC, MP3, OGG, Opus, M4A, MP4, MOV, WebM, TXT, SRT or VTT; convert it",
    "labels": "what is expected of the files beside it, for `flows eval --set`; not an input",
    "symlink_outside": "a link that leaves the input directory is not followed; copy the file in",
    "symlink_directory": "a link to a directory is not followed; its files stand for themselves",
    "vanished": "the file went away during the run; put it back, the next run reads it",
    "changed": "the file changed while it was read; the next run reads it again",
    "unreadable": "cannot be read; check its permissions and the disk",
}


def read_version(path: Path) -> Version:
    """Hashes a file. Raises InputError `vanished`, `unreadable` or `changed`."""
    try:
        with path.open("rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise _unread(error) from None
    if _stamp(after) != before:
        raise InputError(PROBLEMS["changed"], reason="changed")
    return Version(sha256, after.st_size, before)


def check_same(path: Path, version: Version) -> None:
    """Raises InputError when the file is not the one that was hashed."""
    try:
        now = _stamp(path.stat())
    except OSError as error:
        raise _unread(error) from None
    if now != version.stamp:
        raise InputError(PROBLEMS["changed"], reason="changed")


def _unread(error: OSError) -> InputError:
    reason = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
    return InputError(PROBLEMS[reason], reason=reason)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def holds_run(directory: Path) -> bool:
    return any((directory / name).is_file() for name in (RUN_DATABASE, RUN_POINTER))


def default_output(root: Path, subtask: str) -> Path:
    """`receipts-extract` in the current directory for the input `receipts/`."""
    name = root.resolve().stem if root.is_file() else root.resolve().name
    if not name:
        raise OutputError(
            f"got --input {root}, which has no name to call the output after; say --output "
            "DIRECTORY"
        )
    return Path(f"{name}-{subtask}")
