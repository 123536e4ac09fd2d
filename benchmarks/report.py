"""Result files of the benchmarks: flat keys with units in their names, and where they come from.
And the tables of README.md, which stand between markers.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = RESULTS.parents[1] / "README.md"
_PACKAGES = ("numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "tokenizers", "llguidance")

Value = float | int | str | bool | None


def write_report(name: str, measures: Mapping[str, Value]) -> Path:
    """Writes benchmarks/results/NAME.json."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {**measures, **origin()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(RESULTS.parents[1])}")
    return path


def print_table(measures: Mapping[str, Value]) -> None:
    width = max(map(len, measures))
    for key, value in measures.items():
        print(f"  {key:<{width}}  {_shown(value)}")


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if type(value) is int else str(value)


def write_table(name: str, body: str) -> None:
    """Puts a table into README.md."""
    README.write_text(replace_table(README.read_text("utf-8"), name, body), encoding="utf-8")


def replace_table(text: str, name: str, body: str) -> str:
    """`text` with what stands between the table's markers replaced. Raises ValueError."""
    start, end = f"<!-- table:{name} -->", "<!-- /table -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"got a README without {start} ... {end}, expected both; add them")
    return f"{before}{start}\n{body}\n{end}{after}"


def origin() -> dict[str, object]:
    """machine, versions, date and command of a measurement."""
    return {
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python -m", _module_name(), *sys.argv[1:]]),
    }


def _module_name() -> str:
    return f"benchmarks.{Path(sys.argv[0]).stem}"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
