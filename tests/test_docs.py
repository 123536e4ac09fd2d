"""The documentation is true: commands run, links lead somewhere, references are the code.

In docs/ and README.md a fenced block may be marked behind its language:

    sh run            the commands are run in order, in a directory that holds `samples/`
    sh run exit=3     and the last one ends with that code
    python run        the program is run there
    python file=a.py  the block is written to that file there, before the blocks behind it

Blocks of one page share the directory. Everything that is not marked is parsed: a command and its
options exist, Python compiles.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from export.quantize import RECIPES
from flows.account import STATUSES
from flows.cli import app
from flows.columns import COLUMNS
from flows.corrections import Corrections
from flows.formats import FORMATS
from flows.reference import commands, examples
from flows.reference import page as cli_page
from flows.store import Store
from model_onnx import bundle as names
from model_onnx import errors
from pipelines import items, records
from pipelines.guard import Edit
from pipelines.opening import SUFFIXES
from pipelines.options import Habits
from pipelines.records import Alignment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = DOCS / "reference"
SHELLS = ("sh", "console", "bash")


@dataclass(frozen=True)
class Block:
    """A fenced block. marks: the words behind the language."""

    language: str
    marks: tuple[str, ...]
    text: str
    line: int

    def value(self, name: str) -> str:
        return next((m.partition("=")[2] for m in self.marks if m.startswith(f"{name}=")), "")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found = []
    text = page.read_text("utf-8")
    for match in re.finditer(r"^(```+)([^\n`]*)\n(.*?)^\1$", text, re.DOTALL | re.MULTILINE):
        language, *marks = match[2].split() or [""]
        line = text[: match.start()].count("\n") + 1
        found.append(Block(language, tuple(marks), match[3], line))
    return found


def prose(page: Path) -> str:
    """Without fenced blocks."""
    return re.sub(r"^(```+).*?^\1$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def command_lines(block: Block) -> Iterator[list[str]]:
    """The words of each command. In a `console` block only lines with a prompt are commands."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        command: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in ("&&", "||", "|", ";"):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def parse_flows(words: list[str]) -> None:
    """Raises when a command or an option does not exist, or a value is not of its type."""
    command: Any = typer.main.get_command(app)
    if words[:1] == ["--version"]:
        return
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"no command {' '.join(words)!r}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("flows", list(words))


def check_command(words: list[str]) -> None:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # variables before the command
        words = words[1:]
    if not words:
        return
    program, arguments = words[0], [word for word in words[1:] if word[0] not in "<>"]
    if program in ("flows", ".venv/bin/flows"):
        parse_flows(arguments)
    elif program.endswith("python") and arguments[:1] == ["-m"]:
        module = ROOT / (arguments[1].replace(".", "/") + ".py")
        if not module.is_file():
            return  # a module of the system: `python -m venv`
        for option in (word for word in arguments[2:] if word.startswith("--")):
            assert f'"{option.partition("=")[0]}"' in module.read_text(), f"no {option}"
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in arguments:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"no {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    for block in blocks(page):
        if block.language in SHELLS:
            for words in command_lines(block):
                try:
                    check_command(words)
                except Exception as error:
                    pytest.fail(f"line {block.line}: {shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_in_the_text_exist(page: Path) -> None:
    ours = {option for _, command in commands() for p in command.params for option in p.opts}
    sources = [*(ROOT / "training").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    others = {o for path in sources for o in re.findall(r'"(--[a-z0-9-]+)"', path.read_text())}
    said = set(re.findall(r"`(--[a-z0-9-]+)", prose(page)))
    assert said <= ours | others | {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "``", prose(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists() and there.is_relative_to(ROOT), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there), f"{target}: no such heading"


def test_the_index_names_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)\)", (DOCS / "README.md").read_text("utf-8")))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages <= linked


RUNNABLE = [page for page in PAGES if any("run" in block.marks for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_a_page_runs_as_written(page: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    for block in blocks(page):
        if file := block.value("file"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(block.text, "utf-8")
        if "run" in block.marks:
            run(block, tmp_path)


def run(block: Block, directory: Path) -> None:
    python = [sys.executable, "-c", block.text]
    shell = ["bash", "-euo", "pipefail", "-c", block.text]
    kept = ("HOME", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        python if block.language == "python" else shell,
        cwd=directory,
        env={**environment, "PATH": path, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == int(block.value("exit") or 0), f"line {block.line}: {done.stderr}"


def test_the_command_reference_is_the_code() -> None:
    written = (REFERENCE / "cli.md").read_text("utf-8")
    assert written == cli_page(), "python -m flows.reference > docs/reference/cli.md"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_the_help_of_a_command_has_an_example_that_parses(name: str) -> None:
    [command] = [command for known, command in commands() if known == name]
    shown = examples(command)
    assert shown, f'{name}: no example; say epilog="Example: {name} ..." in flows/cli.py'
    for example in shown:
        assert example.startswith(name)
        parse_flows(shlex.split(example)[1:])


def first_cells(page: Path, heading: str) -> list[str]:
    """The first cell of each row of the table below a heading, without its code marks."""
    text = page.read_text("utf-8")
    [part] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.M)
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip().strip("`") for row in rows[2:]]


MODELS = ("Record", "Source", "FieldValue", "Grounding", "Check", "ModelInfo", "Timing")


@pytest.mark.parametrize("name", MODELS)
def test_the_record_reference_has_every_field(name: str) -> None:
    assert first_cells(REFERENCE / "records.md", name) == list(getattr(records, name).model_fields)


def test_the_record_reference_has_every_status_and_word() -> None:
    page = REFERENCE / "records.md"
    assert first_cells(page, "Status of an input") == [*STATUSES, "pending"]
    assert first_cells(page, "Grounding status") == list(get_args(Alignment))
    refusals = set(get_args(Edit.model_fields["refused"].annotation)) - {""}
    assert set(first_cells(page, "Refused edits")) == refusals
    failures = first_cells(page, "Reasons of a failure")  # their checks have the same names
    assert {*first_cells(page, "Checks"), *failures} >= check_names() | set(items._FLAWS)


def called(name: str) -> Iterator[ast.Call]:
    """Calls of a function or class in flows/ and pipelines/."""
    for path in [*(ROOT / "flows").glob("*.py"), *(ROOT / "pipelines").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield node


def keyword(call: ast.Call, name: str) -> str | None:
    value = next((word.value for word in call.keywords if word.arg == name), None)
    return str(value.value) if isinstance(value, ast.Constant) else None


def check_names() -> set[str]:
    return {name for call in called("Check") if (name := keyword(call, "name"))}


def test_the_record_reference_has_every_reason_of_a_failure() -> None:
    raised = {reason for call in called("InputError") if (reason := keyword(call, "reason"))}
    documented = set(first_cells(REFERENCE / "records.md", "Reasons of a failure"))
    assert raised <= documented
    sources = [*(ROOT / "flows").glob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    assert [reason for reason in documented if f'"{reason}"' not in code] == []


def test_the_run_directory_reference_has_every_table_and_column(tmp_path: Path) -> None:
    page = REFERENCE / "run-directory.md"
    Store.open(tmp_path).close()
    layer = Corrections.of_run(tmp_path)
    layer.save([])
    layer.close()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        tables = [name for (name,) in connection.execute(sql)]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert first_cells(page, f"Table {table}") == columns
    assert set(re.findall(r"^### Table (\w+)$", page.read_text("utf-8"), re.MULTILINE)) == set(
        tables
    )


def test_the_reference_of_formats_is_the_code() -> None:
    page = REFERENCE / "formats.md"
    assert first_cells(page, "Formats") == list(FORMATS)
    assert first_cells(page, "Tables") == list(COLUMNS)


def test_the_run_directory_reference_has_every_exit_code() -> None:
    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ScanscribeError)
    }
    documented = first_cells(REFERENCE / "run-directory.md", "Exit codes")
    assert {str(code) for code in codes} | {"0", "3", "4", "6", "130", "143"} <= set(documented)


def test_the_bundle_reference_has_every_file_and_field() -> None:
    page = REFERENCE / "bundle.md"
    optional = (
        (names.DECODER_INT8, names.DECODER_INT8_WEIGHTS),
        (names.DRAFTER, names.DRAFTER_WEIGHTS),
    )
    needed = {*names._NEEDED, names.MANIFEST, "quantization.json"}
    assert set(first_cells(page, "Files")) == needed | {"`, `".join(pair) for pair in optional}
    manifest = ROOT / "model_onnx" / "pocket" / names.MANIFEST
    fields = {*json.loads(manifest.read_text()), "drafter"}
    assert set(first_cells(page, "bundle.json")) == fields
    assert set(first_cells(page, "Recipes")) == set(RECIPES)
    habits = first_cells(DOCS / "how-to" / "own-model.md", "Tell the pipelines about the model")
    assert habits == list(Habits.__dataclass_fields__)


def test_the_list_of_kinds_is_the_code() -> None:
    assert first_cells(REFERENCE / "inputs.md", "Kinds") == list(SUFFIXES)


def test_the_list_of_variables_is_the_code() -> None:
    packages = ("flows", "pipelines", "model_onnx", "export")
    code = "\n".join(path.read_text() for name in packages for path in (ROOT / name).glob("*.py"))
    read = set(re.findall(r'(?:environ\.get\(|envvar=|_wanted\()"([A-Z_]+)"', code))
    assert set(first_cells(REFERENCE / "environment.md", "Variables")) == read
