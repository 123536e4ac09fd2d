"""Who may import what: packages one way, files in order, heavy libraries with their owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import model_onnx
from tests.tiny import tiny_bundle

ROOT = Path(__file__).parents[1]
# A package may import these packages of the project.
DIRECTIONS = {
    "model_onnx": set(),
    "export": {"model_onnx"},
    "pipelines": {"model_onnx"},
    "flows": {"model_onnx", "pipelines"},
    "training": {"model_onnx", "export", "pipelines"},
}
# The story of each package: a file imports none that comes later. Helpers stand anywhere.
ORDER = {
    "model_onnx": "errors config bundle patches frames answer prompt grammar matcher constrain "
    "sample session precision cache decoder scoring sequence engine",
    "export": "checkpoint weights quantize layers decoder projectors parity integer write",
    "pipelines": "records sandbox pages evidence items subtask transcribe windows extract clean "
    "repair tag auto evaluate comparison",
    "flows": "discover store run prefect_flows cli",
    "training": "model tokenizer samples encoding loss checkpoint train lessons memory merge "
    "tuning steps finetune",
}
# Where a library may be imported: a package, or a file of one.
OWNERS = {
    "onnxruntime": {"model_onnx/session.py", "model_onnx/decoder.py", "export/parity.py"},
    "llguidance": {"model_onnx/constrain.py", "model_onnx/matcher.py", "model_onnx/grammar.py"},
    "jinja2": {"model_onnx/prompt.py", "flows"},
    "tokenizers": {"model_onnx/prompt.py", "training"},
    "PIL": {"model_onnx/patches.py", "pipelines", "flows", "training"},
    "soxr": {"model_onnx/frames.py", "training"},
    "onnx": {"export"},
    "onnx_ir": {"export"},
    "safetensors": {"export", "training"},
    "ml_dtypes": {"export"},
    "optimum": {"export"},
    "torch": {"training"},
    "transformers": {"training"},
    "peft": {"training"},
    "pydantic": {"pipelines", "flows/parameters.py"},
    "pymupdf": {"pipelines"},
    "soundfile": {"pipelines"},
    "rapidfuzz": {"pipelines"},
    "dateparser": {"pipelines"},
    "jiwer": {"pipelines"},
    "sqlalchemy": {"flows"},
    "prefect": {"flows"},
    "typer": {"flows"},
    "rich": {"flows"},
    "pyarrow": {"flows"},
    "matplotlib": {"flows"},
}
# Imports inside functions only: what a command or a comparison needs and nothing else should load.
LAZY = {
    ("flows", "export"),
    ("flows/doctor.py", "onnxruntime"),
    ("flows/export_command.py", "torch"),
    ("flows/export_command.py", "transformers"),
    ("export/parity.py", "torch"),
    ("export/parity.py", "transformers"),
}


@dataclass(frozen=True)
class Import:
    file: str  # relative to the repository
    name: str  # dotted; `from a import b` gives a.b
    lazy: bool

    @property
    def package(self) -> str:
        return self.file.split("/")[0]

    @property
    def library(self) -> str:
        return self.name.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file} imports {self.name}" + (" lazily" if self.lazy else "")


def statements(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Import statements that run, with whether they stand inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(node, lazy or inside)


def imports_of(path: Path) -> Iterator[Import]:
    file = path.relative_to(ROOT).as_posix()
    for node, lazy in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.ImportFrom) and node.module and not node.level, file
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield Import(file, name, lazy)


IMPORTS = [
    found
    for package in DIRECTIONS
    for path in sorted((ROOT / package).rglob("*.py"))
    for found in imports_of(path)
]


def modules_of(package: str) -> dict[str, set[str]]:
    """Dotted module -> the modules of the same package that it imports."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / package).rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in names}
    for found in IMPORTS:
        if found.library == found.package == package:
            importer = found.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            target = found.name if found.name in names else found.name.rpartition(".")[0]
            graph[importer].add(target)
    return graph


def test_packages_import_one_way() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if found.library in DIRECTIONS
        and found.library not in DIRECTIONS[found.package] | {found.package}
        and not (found.lazy and (found.package, found.library) in LAZY)
    ]
    assert not wrong


@pytest.mark.parametrize("package", DIRECTIONS)
def test_files_import_only_those_before_them(package: str) -> None:
    graph = modules_of(package)
    list(TopologicalSorter(graph).static_order())  # raises CycleError
    order = [f"{package}.{name}" for name in ORDER[package].split()]
    assert set(order) <= set(graph), "a file of the order is gone"
    wrong = [
        f"{importer} imports {later}"
        for index, importer in enumerate(order)
        for later in order[index + 1 :]
        if later in graph[importer]
    ]
    assert not wrong


def test_heavy_libraries_stay_with_their_owner() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if found.library in OWNERS
        and not OWNERS[found.library] & {found.file, found.package}
        and not (found.lazy and (found.file, found.library) in LAZY)
    ]
    assert not wrong


def test_model_onnx_imports_what_it_declares_and_no_more() -> None:
    allowed = {"numpy", "onnxruntime", "tokenizers", "jinja2", "llguidance", "PIL", "soxr"}
    used = {found.library for found in IMPORTS if found.package == "model_onnx"}
    assert used - sys.stdlib_module_names - {"model_onnx"} <= allowed


BLOCKED = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
for name in {modules!r}:
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
{then}
print(sorted({blocked!r} & set(sys.modules)))
"""
GENERATE = """
import numpy
from model_onnx import Audio, Engine, Image, Regex, Request, Turn
parts = Image(numpy.zeros((48, 48, 3), numpy.uint8), None), Audio(numpy.ones(640, numpy.float32))
with Engine.open({bundle!r}, threads=1) as engine:
    prompt = engine.renderer.render([Turn("user", (*parts, "How many?"))])
    assert engine.generate(Request(prompt, Regex("[0-9]{{2}}"))).text.isdigit()
"""


def loaded_without(blocked: set[str], modules: list[str], then: str = "") -> str:
    script = BLOCKED.format(blocked=blocked, modules=modules, then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NOT_AT_RUN_TIME = {"torch", "transformers", "onnx", "onnx_ir", "safetensors", "export", "training"}


def test_the_model_runs_without_the_libraries_of_the_others(tmp_path: Path) -> None:
    others = {"pydantic", "prefect", "typer", "rich", "pymupdf", "soundfile", "pipelines", "flows"}
    generate = GENERATE.format(bundle=str(tiny_bundle(tmp_path / "bundle")))
    assert loaded_without(NOT_AT_RUN_TIME | others, ["model_onnx"], generate) == "[]"


def test_pipelines_run_without_flows() -> None:
    others = {"prefect", "typer", "rich", "flows"}
    assert loaded_without(NOT_AT_RUN_TIME | others, ["pipelines"]) == "[]"


def test_flows_run_without_prefect() -> None:
    assert loaded_without(NOT_AT_RUN_TIME | {"prefect"}, ["flows.run", "flows.cli"]) == "[]"


def test_errors_load_no_runtime() -> None:
    """Parsers run in child processes with little memory and know only the errors."""
    heavy = {"onnxruntime", "tokenizers", "llguidance", "jinja2", "soxr", "numpy"}
    assert loaded_without(heavy, ["model_onnx.errors"]) == "[]"


def test_the_public_names_are_these() -> None:
    assert model_onnx.__all__ == [
        "Audio",
        "Bundle",
        "Choices",
        "Engine",
        "FreeText",
        "Image",
        "JsonSchema",
        "Regex",
        "Request",
        "Result",
        "Sampling",
        "Turn",
        "Video",
    ]
    for name in model_onnx.__all__:
        assert getattr(model_onnx, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = model_onnx.nothing
