"""flows/discover.py: what a run has to account for."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.discover import (
    check_same,
    default_output,
    printable,
    read_version,
    show_name,
    walk,
)
from model_onnx.errors import InputError, OutputError, UsageError


def problems(root: Path) -> dict[str, str]:
    return {entry.shown: entry.problem for entry in walk(root)}


def test_every_file_is_an_entry_in_the_order_of_its_bytes(tmp_path: Path) -> None:
    for name in ("b/z.pdf", "b.pdf", "a.PNG", "b/a.wav", ".hidden.txt", "B.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    entries = walk(tmp_path)
    assert [entry.shown for entry in entries] == [
        ".hidden.txt",
        "B.txt",
        "a.PNG",
        "b.pdf",
        "b/a.wav",
        "b/z.pdf",
    ]
    assert [entry.kind for entry in entries[2:5]] == ["document", "document", "recording"]


def test_other_files_are_unsupported_not_missing(tmp_path: Path) -> None:
    for name in ("a.docx", "b", "c.pdf.zip"):
        (tmp_path / name).write_bytes(b"x")
    assert problems(tmp_path) == dict.fromkeys(("a.docx", "b", "c.pdf.zip"), "unsupported")


def test_labels_of_an_evaluation_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "expected.jsonl").write_bytes(b"{}")
    (tmp_path / "expected.pdf").write_bytes(b"x")
    assert problems(tmp_path) == {"expected.pdf": "", "sub/expected.jsonl": "labels"}


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7\n", "document"),
        (b"RIFF\0\0\0\0WAVEfmt ", "recording"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "document"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"OggS\0", "recording"),
        (b"", None),
    ],
)
def test_a_name_that_says_nothing_is_decided_by_content(
    tmp_path: Path, head: bytes, kind: str | None
) -> None:
    (tmp_path / "SCAN0001").write_bytes(head)
    (found,) = walk(tmp_path)
    assert found.kind == kind and found.problem == ("" if kind else "unsupported")


def test_a_single_file_is_its_own_tree(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "b.pdf").write_bytes(b"x")
    assert [entry.shown for entry in walk(tmp_path / "a.pdf")] == ["a.pdf"]


def test_links_out_of_the_tree_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "real.pdf").write_bytes(b"x")
    (tmp_path / "secret.pdf").write_bytes(b"x")
    (tmp_path / "in-too").mkdir()
    (root / "out.pdf").symlink_to(tmp_path / "secret.pdf")
    (root / "up.pdf").symlink_to("../in-too")  # a sibling whose name starts like the root's
    (root / "sub" / "in.pdf").symlink_to("../real.pdf")
    (root / "loop").symlink_to(root)
    (root / "self.pdf").symlink_to("self.pdf")
    (root / "broken.pdf").symlink_to("nothing.pdf")
    assert problems(root) == {
        "broken.pdf": "vanished",
        "loop": "symlink_directory",
        "out.pdf": "symlink_outside",
        "real.pdf": "",
        "self.pdf": "unreadable",
        "sub/in.pdf": "",
        "up.pdf": "symlink_outside",
    }


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pdf")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "b.wav"))
        assert problems(tmp_path) == {"a.pdf": "unsupported", "b.wav": "unsupported"}


def test_a_directory_that_cannot_be_listed_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.pdf").write_bytes(b"x")
    scandir = os.scandir

    def refuse(path: Path) -> os._ScandirIterator[str]:  # the tests may run as root
        if Path(path).name == "closed":
            raise PermissionError(13, "denied")
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert problems(tmp_path) == {"a.pdf": "", "closed": "unreadable"}


def test_outputs_of_runs_are_not_inputs(tmp_path: Path) -> None:
    for directory in ("old", "mine"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "page.txt").write_bytes(b"x")
    (tmp_path / "old" / "run.sqlite").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"x")
    assert [entry.shown for entry in walk(tmp_path, skip=tmp_path / "mine")] == ["a.txt"]


def test_strange_names_become_safe_text(tmp_path: Path) -> None:
    for raw in (
        b"new\nline.pdf",
        b"not-utf8-\xff.pdf",
        "ümläut\u202e.pdf".encode(),
        b"\x1b[31m.pdf",
    ):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + raw)).write_bytes(b"x")
    entries = walk(tmp_path)
    assert [entry.raw for entry in entries] == sorted(entry.raw for entry in entries)
    assert {entry.shown for entry in entries} == {
        "new\nline.pdf",
        "not-utf8-\\xff.pdf",
        "ümläut\u202e.pdf",
        "\x1b[31m.pdf",
    }
    assert printable("new\nline \x1b[31m\u202e") == "new\\nline \\x1b[31m\\u202e"
    assert all(read_version(entry.path).bytes == 1 for entry in entries)


@given(st.binary())
def test_any_name_can_be_shown(raw: bytes) -> None:
    shown = show_name(raw)
    shown.encode("utf-8")
    assert printable(shown).isprintable()


def test_a_very_deep_tree_is_walked(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python's stack, longer than a path may be
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert list(problems(tmp_path).values()) == ["unreadable"]  # where the path gets too long
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)


def test_a_missing_input_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file or directory"):
        walk(tmp_path / "nothing")


def test_versions_notice_change_and_loss(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"one")
    version = read_version(path)
    check_same(path, version)
    stamp = path.stat()
    other = tmp_path / "b"
    other.write_bytes(b"two")  # the same size and times in another file
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(path)
    with pytest.raises(InputError) as error:
        check_same(path, version)
    assert error.value.reason == "changed"
    path.unlink()
    for look in (lambda: check_same(path, version), lambda: read_version(path)):
        with pytest.raises(InputError) as error:
            look()
        assert error.value.reason == "vanished"


def test_default_output_is_named_after_input_and_subtask(tmp_path: Path) -> None:
    assert default_output(tmp_path, "clean") == Path(f"{tmp_path.name}-clean")
    (tmp_path / "a.pdf").write_bytes(b"")
    assert default_output(tmp_path / "a.pdf", "tag") == Path("a-tag")
    with pytest.raises(OutputError, match="--output"):
        default_output(Path("/"), "tag")
