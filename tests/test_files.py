"""flows/files.py: files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.files import replacing, write_lines
from model_onnx.errors import OutputError


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    assert write_lines(path, ["one", "zwölf"]) == 2
    assert path.read_bytes() == "one\nzwölf\n".encode()
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == "one\nzwölf\n".encode()
    assert os.listdir(path.parent) == ["a.txt"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_lines(tmp_path / "a", [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("place", ["file/a.txt", "directory"])
def test_what_cannot_be_written_is_an_output_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory" / "full").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot write"):
        write_lines(tmp_path / place, ["x"])
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from flows.files import write_lines\n"
        "from model_onnx.errors import OutputError\n"
        "path = Path(sys.argv[1])\n"
        "write_lines(path, ['old'])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        "try:\n"
        "    write_lines(path, ['x' * 99] * 999)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert os.strerror(errno.EFBIG) in done.stdout and "free disk space" in done.stdout
    assert (tmp_path / "a").read_text() == "old\n" and os.listdir(tmp_path) == ["a"]
