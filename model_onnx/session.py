"""ONNX Runtime: providers, sessions over mapped weights, graphs run on the caller's memory.

Knows no cache layout and no token. By default ONNX Runtime keeps a private repacked copy of every
matrix (0.72 bytes a parameter at INT4, 8.6 GB for the 12B) in each session. `prepacked` writes that
copy once to a file that all sessions and processes map: 12 matrices of the 12B's MLP shape go from
556 MB to 38 MB of anonymous memory, with the same outputs and speed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort

from model_onnx import bundle as names
from model_onnx.bundle import ActivationType, Bundle
from model_onnx.errors import BundleError, RuntimeUnavailableError
from model_onnx.placement import RECORD, left_to_cpu

Provider = Literal["cpu", "cuda"]
Array = np.ndarray[Any, np.dtype[Any]]

_PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
_STATE = ort.capi.onnxruntime_pybind11_state
_LOAD_ERRORS = (
    *(_STATE.Fail, _STATE.InvalidArgument, _STATE.InvalidProtobuf, _STATE.InvalidGraph),
    *(_STATE.NoSuchFile, _STATE.NotImplemented, _STATE.RuntimeException),
)
_DRAFT = ".making-"
# The files that a graph with matrices reads.
_WEIGHTS = {
    names.DECODER: (names.DECODER_WEIGHTS,),
    names.DECODER_INT8: (names.DECODER_WEIGHTS, names.DECODER_INT8_WEIGHTS),
    names.HEAD: (names.EMBEDDING_WEIGHTS,),
}
# Below this a private copy costs less than keeping a second file on disk.
_PREPACK_FROM_BYTES = 64 << 20
# ONNX Runtime 1.31 aligns what it writes to the external file only above 1 MiB. A packed INT4
# matrix at an odd address is read wrongly (NaN), so smaller ones stay private: eight of the 12B's.
_EXTERNAL_FROM = (1 << 20) + 1
# Kernels that ONNX Runtime picks at load time, and so the packed layout, depend on these.
_CPU_FEATURE = re.compile(r"\b(avx\w*|amx\w*|fma|f16c|asimd\w*|sve\w*|i8mm|bf16)\b")


class ElementType(NamedTuple):
    """How float tensors lie in memory. numpy has no bfloat16: its bits travel as uint16."""

    dtype: np.dtype[Any]
    onnx: int  # TensorProto.DataType


ELEMENT_TYPES: dict[ActivationType, ElementType] = {
    "float32": ElementType(np.dtype(np.float32), 1),
    "float16": ElementType(np.dtype(np.float16), 10),
    "bfloat16": ElementType(np.dtype(np.uint16), 16),
}


def to_elements(values: Array, kind: ActivationType) -> Array:
    """float32 -> the activation type's memory (bfloat16 by truncation)."""
    if kind == "bfloat16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16
        return np.asarray(bits, np.uint16)
    return np.asarray(values, ELEMENT_TYPES[kind].dtype)


def from_elements(elements: Array, kind: ActivationType) -> Array:
    """The activation type's memory -> float32."""
    if kind == "bfloat16":
        return (elements.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(elements, np.float32)


def choose_provider(bundle: Bundle, wanted: Provider | None) -> Provider:
    """The wanted provider, else the one that the bundle was made for. Raises when not there."""
    provider = wanted or bundle.device
    available = ort.get_available_providers()
    if _PROVIDERS[provider] not in available:
        raise RuntimeUnavailableError(
            f"{_PROVIDERS[provider]} is not available, this onnxruntime has {available}; "
            "install scanscribe[cuda] on a machine with a GPU, or use a bundle made for the CPU"
        )
    return provider


class Graph:
    """One ONNX graph whose inputs and outputs are bound to arrays that the caller owns.

    On the CPU it works in those arrays. Other providers copy an input when it is bound and an
    output when the graph has run. left_to_cpu: operator -> nodes that such a provider does not run.
    """

    def __init__(
        self, session: ort.InferenceSession, left_to_cpu: Mapping[str, int] | None = None
    ) -> None:
        self._session, self.left_to_cpu = session, left_to_cpu or {}
        self.inputs = frozenset(value.name for value in session.get_inputs())

    def binding(self) -> ort.IOBinding:
        """A new binding; tensors that stay where they are need to be bound only once."""
        return self._session.io_binding()

    def run(
        self, binding: ort.IOBinding, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """Binds and runs. Everything not named must be bound already."""
        bind(binding.bind_input, inputs)
        bind(binding.bind_output, outputs)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()


class Tensor(NamedTuple):
    """C-contiguous memory and the ONNX type that it holds."""

    array: Array
    onnx: int


def tensor(array: Array) -> Tensor:
    """An array of a type that numpy knows."""
    kinds = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.int32): 6}
    kinds |= {np.dtype(np.int8): 3, np.dtype(np.bool_): 9}
    return Tensor(np.require(array, requirements="C"), kinds[array.dtype])


def bind(method: Any, tensors: Mapping[str, Tensor]) -> None:
    for name, (array, onnx) in tensors.items():
        method(name, "cpu", 0, onnx, array.shape, array.ctypes.data)


def open_graph(
    bundle: Bundle, name: str, provider: Provider, *, threads: int = 0, prepack: bool | None = None
) -> Graph:
    """Opens one graph of a bundle.

    threads: 0 lets ONNX Runtime use every core. prepack: None decides by the weights' size; it is
    for the CPU alone. Raises BundleError when ONNX Runtime cannot load the graph and
    RuntimeUnavailableError when the provider does not start.
    """
    weights = sum(entry["bytes"] for entry in bundle.files.values())
    if prepack is None:
        prepack = weights >= _PREPACK_FROM_BYTES
    prepack, path = prepack and provider == "cpu", bundle.path(name)
    try:
        if prepack:
            path = prepacked(bundle, name)
        session = _session(
            path, [_PROVIDERS[provider]], threads, optimized=prepack, record=provider != "cpu"
        )
    except _LOAD_ERRORS as error:
        raise BundleError(f"{path} does not load: {error}; export the bundle again") from error
    # Where the libraries of CUDA are missing, ONNX Runtime warns and carries on with the CPU.
    if _PROVIDERS[provider] not in session.get_providers():
        raise RuntimeUnavailableError(
            f"{_PROVIDERS[provider]} did not start, onnxruntime would use "
            f"{session.get_providers()}; install scanscribe[cuda] on a machine with a GPU, or use "
            "a bundle made for the CPU"
        )
    if provider == "cpu":
        return Graph(session)
    return Graph(session, left_to_cpu(session.get_provider_graph_assignment_info()))


def prepacked(bundle: Bundle, name: str) -> Path:
    """The graph with its matrices already in the CPU's layout, made on first use.

    Kept in the user's cache directory, keyed by bundle, ONNX Runtime version and CPU features. Two
    processes may make it at once: each writes its own directory and the first rename wins.
    Raises RuntimeUnavailableError when it cannot be written.
    """
    home = cache_directory() / f"{bundle.sha256[:16]}-{_machine_key()}" / Path(name).stem
    if (home / name).exists():
        return home / name
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        _check_disk(bundle, name, home.parent)
        _remove_abandoned(home.parent)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=home.parent))
        try:
            _session(bundle.path(name), [_PROVIDERS["cpu"]], 0, write_to=draft / name)
            _publish(draft, home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"cannot keep the prepacked weights in {home.parent}: {error.strerror}; set "
            "XDG_CACHE_HOME to a directory that can be written, or open the engine with "
            "prepack=False"
        ) from error
    return home / name


def _publish(draft: Path, home: Path) -> None:
    try:
        draft.rename(home)
    except OSError:
        if not home.exists():  # else another process was first
            raise


def _remove_abandoned(directory: Path) -> None:
    """A process that was killed while it wrote leaves gigabytes. None writes for a day."""
    for draft in directory.glob(f"{_DRAFT}*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > 86400:
                shutil.rmtree(draft, ignore_errors=True)


def cache_directory() -> Path:
    """Where prepacked graphs are kept: `$XDG_CACHE_HOME/scanscribe`, else `~/.cache/scanscribe`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "scanscribe"


def _check_disk(bundle: Bundle, name: str, directory: Path) -> None:
    # The file holds the packed matrices and the originals: 2.2 times the weights were measured.
    files = _WEIGHTS.get(name, tuple(bundle.files))
    need = 3 * sum(bundle.files[file]["bytes"] for file in files)
    free = shutil.disk_usage(directory).free
    if free < need:
        raise RuntimeUnavailableError(
            f"the prepacked weights need up to {need >> 20} MiB in {directory}, {free >> 20} MiB "
            "are free; free some, move XDG_CACHE_HOME, or open the engine with prepack=False"
        )


def _session(
    path: Path,
    providers: Sequence[str],
    threads: int,
    *,
    optimized: bool = False,
    record: bool = False,
    write_to: Path | None = None,
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if byte_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if record:
        options.add_session_config_entry(RECORD, "1")
    if optimized:  # the stored graph is already optimised for this machine
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if write_to is not None:
        options.optimized_model_filepath = str(write_to)
        entries = {
            "session.optimized_model_external_initializers_file_name": f"{write_to.stem}.bin",
            "session.optimized_model_external_initializers_min_size_in_bytes": str(_EXTERNAL_FROM),
            "session.save_external_prepacked_constant_initializers": "1",
        }
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
    return ort.InferenceSession(str(path), options, providers=list(providers))


def byte_products_saturate() -> bool:
    """x86 without VNNI adds products of unsigned and signed bytes in 16 bits, which overflow: the
    int8 recipe then needs unsigned weights. Elsewhere those only cost (5 times, with AMX)."""
    return _is_x86() and not _has_byte_products()


def has_integer_units() -> bool:
    """Whether 8-bit matrix products are faster than float ones here: AMX or VNNI of x86. Other
    processors were not measured."""
    return _is_x86() and _has_byte_products()


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _has_byte_products() -> bool:
    return any("vnni" in name or name == "amx_int8" for name in _cpu_features())


def _cpu_features() -> list[str]:
    try:
        return sorted(set(_CPU_FEATURE.findall(Path("/proc/cpuinfo").read_text())))
    except OSError:  # not Linux: the machine's name stands for its features
        return [platform.processor()]


def _machine_key() -> str:
    features = _cpu_features()
    text = "\n".join([ort.__version__, platform.machine(), *features])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
