"""Is this installation sound? Each finding says what is so and, where it is bad, what to do."""

from __future__ import annotations

import ctypes
import importlib.util
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

from model_onnx.errors import ScanscribeError

PACKAGES = ("model_onnx", "pipelines", "flows", "export")
EXTRAS = {
    "pyarrow": "parquet",
    "av": "av",
    "onnx": "export",
    "torch": "parity",
    "jiwer": "eval",
}


@dataclass(frozen=True)
class Finding:
    """good: None for something optional that is not there."""

    name: str
    good: bool | None
    text: str


def examine(model: Path | None) -> Iterator[Finding]:
    """All findings, cheapest first. model: a bundle; None for the embedded one."""
    good = sys.version_info >= (3, 11)
    needed = "" if good else "; expected 3.11 or newer: make a new environment with it"
    yield Finding("python", good, sys.version.split()[0] + needed)
    owners = packages_distributions()
    yield from (find_package(name, owners.get(name, [])) for name in PACKAGES)
    yield find_onnxruntime(owners.get("onnxruntime", []))
    yield find_cuda()
    yield find_tesseract()
    yield find_memory()
    for module, extra in EXTRAS.items():
        yield find_extra(module, extra)
    yield find_bundle(model)


def find_package(name: str, owners: list[str]) -> Finding:
    """Other distributions on the package index also install a `flows` and an `export`."""
    home = Path(__file__).resolve().parents[1]
    spec = importlib.util.find_spec(name)
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    strangers = sorted(set(owners) - {"scanscribe"})
    if origin is None or origin.parent.parent != home:
        return Finding(name, False, f"got {origin}, expected it in {home}; reinstall scanscribe")
    if strangers:
        others = ", ".join(strangers)
        return Finding(name, False, f"{others} installs {name} too: pip uninstall {others}")
    return Finding(name, True, str(origin.parent))


def find_onnxruntime(owners: list[str]) -> Finding:
    """Two of its distributions share one directory, and the later one may remove CUDA."""
    names = sorted(set(owners))
    if len(names) != 1:
        found = ", ".join(names) or "none"
        return Finding(
            "onnxruntime",
            False,
            f"got {found}; expected exactly one: uninstall all, then reinstall scanscribe",
        )
    return Finding("onnxruntime", True, f"{names[0]} {version(names[0])}")


def find_cuda() -> Finding:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return Finding("cuda", None, "this onnxruntime is built without it; the CPU is used")
    if not _loads("libcuda.so.1"):
        return Finding("cuda", None, "no NVIDIA driver; the CPU is used")
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()
    home = Path(onnxruntime.__file__).parent / "capi"
    for name in ("shared", "cuda"):
        if not _loads(str(home / f"libonnxruntime_providers_{name}.so")):
            return Finding(
                "cuda",
                False,
                "there is a driver, but CUDA and cuDNN libraries are missing or of another "
                "version: pip install 'scanscribe[cuda]'",
            )
    return Finding("cuda", True, "driver and libraries load")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def find_tesseract() -> Finding:
    program = shutil.which("tesseract")
    if not program:
        return Finding(
            "tesseract",
            None,
            "not installed; scans without a text layer are read from pixels (on Debian: apt "
            "install tesseract-ocr)",
        )
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("tesseract", False, f"{program} does not start: {type(error).__name__}")
    return Finding("tesseract", done.returncode == 0, (done.stdout or done.stderr).split("\n")[0])


def find_memory() -> Finding:
    """A parser may take 2 GiB; the embedded model takes a few hundred MiB, the 12B about 9 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return Finding("memory", None, "unknown on this system")
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    free = sizes["MemAvailable"]
    text = f"{free / 2**30:.1f} GiB available"
    return Finding("memory", free >= 2 << 30, text + ("" if free >= 2 << 30 else "; free 2 GiB"))


def find_extra(module: str, extra: str) -> Finding:
    if importlib.util.find_spec(module):
        return Finding(module, True, "installed")
    return Finding(module, None, f"not installed: pip install 'scanscribe[{extra}]'")


def find_bundle(model: Path | None) -> Finding:
    """Checks the hashes and opens every graph."""
    started = time.monotonic()
    try:
        from model_onnx.bundle import Bundle
        from model_onnx.engine import POCKET, Engine
        from model_onnx.placement import describe

        bundle = Bundle.open(model or POCKET, verify=True)
        with Engine.open(bundle, slots=1) as engine:
            seconds, left = time.monotonic() - started, ""
            if engine.provider != "cpu":
                left = f"; left to the CPU: {describe(engine.left_to_cpu)}"
            return Finding(
                "bundle",
                True,
                f"{bundle.directory.name} ({bundle.recipe}, {engine.provider}, "
                f"{bundle.sha256[:12]}) loads in {seconds:.1f} s{left}",
            )
    except ScanscribeError as error:
        return Finding("bundle", False, str(error))
