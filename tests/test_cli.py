"""flows/cli.py: parses and calls; errors become one line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.discover import walk
from flows.start import Settings
from model_onnx.errors import BundleError, CheckpointError, ConfigError, OutputError, UsageError
from tests.fake_run import PageModel, procedure
from tests.fakes import FakeEngine

ROOT = Path(__file__).parents[1]
COMMANDS = ("run", "show", "doctor", "export", "eval")


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current directory, and a fake model and subtask behind `flows run`."""
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "a.txt").write_text("one\ntwo")
    monkeypatch.chdir(tmp_path)
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))

    def prepare(settings: Settings) -> tuple[Any, Any, Any]:
        entries = walk(settings.input, skip=settings.directory)
        return SimpleNamespace(sha256="0" * 64), procedure(schema=settings.schema or ""), entries

    class Engine(PageModel):
        def __init__(self, bundle: object) -> None:
            super().__init__(tmp_path / "calls")

        def begin(self) -> None: ...
        def close(self) -> None: ...

    for module in ("start", "preview"):
        monkeypatch.setattr(f"flows.{module}.prepare", prepare)
        monkeypatch.setattr(f"flows.{module}.LazyEngine", Engine)
    monkeypatch.setattr("flows.start.output_schema", lambda *_, **__: "{}")
    return directory


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def test_run_prints_an_account_that_adds_up(inbox: Path, tmp_path: Path) -> None:
    done = invoke("run", "upper", "--input", "in")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "in-upper/records.jsonl",
        "1 inputs = 1 ok + 0 review + 0 truncated + 0 failed + 0 unsupported + 0 unchanged",
    ]
    again = invoke("run", "upper", "--input", "in")
    assert "1 unchanged\nnothing to do" in again.stdout
    other = invoke("run", "upper", "--input", "in", "--schema", "x", "--output", "in-upper")
    assert "1 ok" in other.stdout


def test_run_tells_where_failures_are_explained(inbox: Path) -> None:
    (inbox / "b.txt").write_text("fail damaged")
    done = invoke("run", "upper", "--input", "in", "--output", "out")
    assert done.exit_code == 3
    assert "failed: b.txt: damaged" in done.stderr and "out/manifest.jsonl" in done.stderr


def test_options_reach_the_run(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def refuse(settings: Settings, **_: object) -> None:
        seen.append(settings)
        raise ConfigError("seen")

    monkeypatch.setattr("flows.start.execute", refuse)
    done = invoke(
        *("run", "tag", "--input", "in", "--labels", "letter, memo,", "--limit", "3"),
        *("--retry-failed", "--format", "parquet", "--format", "txt", "--soft-tokens", "280"),
        *("--thinking", "300", "--keep-thoughts", "--video", "rate=2"),
    )
    assert isinstance(done.exception, ConfigError)
    assert seen == [
        Settings(
            "tag",
            Path("in"),
            labels=("letter", "memo"),
            soft_tokens=280,
            limit=3,
            retry_failed=True,
            formats=("parquet", "txt"),
            thinking=300,
            keep_thoughts=True,
            video="rate=2",
        )
    ]


def test_formats_are_written(inbox: Path) -> None:
    invoke("run", "upper", "--input", "in", "--output", "out", "--format", "parquet")
    assert Path("out/records.parquet").is_file()


def test_a_dry_run_writes_nothing(inbox: Path) -> None:
    (inbox / "b.zip").write_bytes(b"")
    done = invoke("run", "upper", "--input", "in", "--output", "out", "--dry-run")
    assert done.exit_code == 0 and not Path("out").exists()
    lines = done.stdout.splitlines()
    assert lines[0] == "compute       a.txt  2 pages, about 20 tokens"
    assert lines[2] == "1 compute, 1 unsupported"
    assert lines[3].startswith("1 documents, 2 pages, 0 s of audio, about 20 tokens: about 0.")
    invoke("run", "upper", "--input", "in", "--output", "out")
    done = invoke("run", "upper", "--input", "in", "--output", "out", "--dry-run")
    assert "1 unchanged" in done.stdout and "about 0.0 minutes" in done.stdout


def test_a_server_or_the_option_means_prefect(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_prefect(settings: Settings, max_failures: str) -> None:
        raise RuntimeError("with Prefect")

    monkeypatch.setattr(cli, "_run_with_prefect", with_prefect)
    assert invoke("run", "upper", "--input", "in").exit_code == 0
    assert "with Prefect" in str(invoke("run", "upper", "--input", "in", "--prefect").exception)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert "with Prefect" in str(invoke("run", "upper", "--input", "in").exception)


def test_show_prints_a_record(inbox: Path) -> None:
    invoke("run", "upper", "--input", "in")
    record = json.loads(Path("in-upper/records.jsonl").read_text())
    done = invoke("show", record["id"][:8])
    assert done.exit_code == 0 and "a.txt" in done.stdout
    shown = json.loads(invoke("show", "a.txt", "--json", "--output", "in-upper").stdout)
    assert shown["output"] == {"text": "ONE\nTWO"} and shown["timing"]["new_tokens"] == 6
    assert isinstance(invoke("show", "nothing").exception, UsageError)


def test_the_doctor_says_what_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import doctor

    findings = [doctor.Finding("python", True, "3"), doctor.Finding("cuda", None, "no driver")]
    monkeypatch.setattr(doctor, "examine", lambda model: iter(findings))
    done = invoke("doctor")
    assert done.exit_code == 0 and "no driver" in done.stdout
    findings.append(doctor.Finding("bundle", False, "not there"))
    done = invoke("doctor")
    assert done.exit_code == 5 and "BAD bundle" in done.stdout


def test_export_and_eval_refuse_what_cannot_be(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    wrong = invoke("export", str(tmp_path), str(tmp_path / "out"), "--device", "tpu")
    assert isinstance(wrong.exception, UsageError) and "cpu or cuda" in str(wrong.exception)
    nothing = invoke("export", str(tmp_path), str(tmp_path / "out"))
    assert isinstance(nothing.exception, CheckpointError | ConfigError)
    assert isinstance(invoke("eval").exception, UsageError)
    report = tmp_path / "report.json"
    report.write_text("[]")
    compared = invoke("eval", "--compare", str(report), str(report))
    assert isinstance(compared.exception, ConfigError)


def test_thinking_reaches_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("TOTAL 12.50")
    row = {"file": "a.txt", "subtask": "tag", "labels": ["bill", "memo"], "label": "bill"}
    (tmp_path / "expected.jsonl").write_text(json.dumps(row))
    engine = FakeEngine(lambda asked: "bill")
    monkeypatch.setattr("flows.eval_command.LazyEngine", lambda bundle: engine)
    out = tmp_path / "report.json"
    done = invoke("eval", "--set", str(tmp_path), "--out", str(out), "--thinking", "40")
    assert done.exit_code == 0 and "tag.accuracy" in done.stdout
    assert [asked.thinking for asked in engine.asked] == [True]
    assert json.loads(out.read_text())["thinking"] == 40


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(cli.app, [command, "--help"])
    assert done.exit_code == 0 and f"Example: flows {command} " in done.stdout + " "


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("say this"), 2, "flows: say this"),
        (BundleError("no bundle"), 5, "flows: no bundle"),
        (OutputError("disk full"), OutputError.exit_code, "flows: disk full"),
    ],
)
def test_our_errors_are_one_line(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, cli.errors_as_exit_codes():
        raise error
    assert stop.value.code == code and capsys.readouterr().err.strip() == line


def test_unexpected_errors_never_say_what_they_quote(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = "".join(["sec", "ret"])  # the source line is in the traceback, and may be
    with pytest.raises(SystemExit) as stop, cli.errors_as_exit_codes():
        raise ValueError(words)
    said = capsys.readouterr().err + caplog.text
    assert stop.value.code == 1 and "secret" not in said
    assert "unexpected ValueError, trace" in said and "test_cli.py" in caplog.text


def flows(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_as_a_program(tmp_path: Path) -> None:
    assert flows("--version", cwd=tmp_path).stdout.startswith("scanscribe ")
    assert flows("run", cwd=tmp_path).returncode == 2
    done = flows("run", "clean", "--input", "nothing", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("flows: got --input")
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_the_program_starts_without_what_is_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, flows.cli\n"
        "heavy = {'numpy', 'onnxruntime', 'pydantic', 'prefect', 'export', 'rich.progress'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"
