"""Checkpoint -> bundle directory: every weight read once, packed, and written at its final place.

The layout of the weight files follows from the config and the target alone, so rows can be packed
by several threads and written in any order, and the same input gives the same bytes.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from export.checkpoint import Checkpoint, Chunk, StoredTensor, free_bytes
from export.decoder import decoder_graph
from export.integer import gated, integer_target, measure
from export.layers import Graph, Location
from export.projectors import audio_graph, embedding_graph, head_graph, vision_graph
from export.quantize import RECIPES, Device, Packed, Target, is_transposed, pack, parts
from export.weights import TABLE, WEIGHT_FILES, Assignment, Weight, all_weights, assign
from model_onnx import bundle as names
from model_onnx.bundle import ActivationType, Bundle
from model_onnx.config import ModelConfig
from model_onnx.errors import CheckpointError, ConfigError, OutputError

_Errors = dict[str, list[tuple[float, float]]]  # squared error and norm of every chunk
Progress = Callable[[int, int, str], None]

_PAGE = 4096  # weights start on a page, so that they can be mapped straight into memory
_ROWS_BYTES = 8 << 20  # of the checkpoint, handed to one thread at a time
_THREADS = min(4, os.cpu_count() or 1)  # each may hold one whole matrix in float32
_MANIFEST_BYTES = 64 << 20  # room for graphs, tokenizer and manifest in the check of the disk


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    recipe: str = "int4",
    device: Device = "cpu",
    activation_type: ActivationType | None = None,
    activations: Literal["int8", "exact"] = "int8",
    int8_prefill: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a checkpoint to the new directory `out` and opens it.

    recipe: fp32, int4, int4-b128 or int8. activation_type: float32 on the CPU, float16 (default) or
    bfloat16 on CUDA. activations: "exact" does not round them in quantised matrix products.
    int8_prefill: writes the decoder a second time, for many rows at a time (CPU, see `integer.py`).
    progress: called with (bytes done, bytes in all, tensor). Raises CheckpointError, ConfigError or
    OutputError, and then, as after an interrupt, nothing is left behind.
    """
    target = _target(recipe, device, activation_type, activations)
    source = Checkpoint(Path(checkpoint))
    config = ModelConfig.from_checkpoint(source.directory)
    weights = all_weights(config)
    targets = (target, integer_target(target)) if int8_prefill else (target,)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    assignment = assign(shapes, weights.values())
    locations = _layout(weights, targets)
    with _new_directory(Path(out), _needed_bytes(locations)) as directory:
        _copy_tokenizer(source.directory, directory)
        report = _write_weights(source, assignment, locations, targets, directory, progress)
        factor = _embedding_factor(source, assignment, config)
        for file, graph in _graphs(config, target, factor).items():
            graph.save(directory / file, locations)
        written = Bundle(
            directory=directory,
            config=config,
            recipe=recipe,
            device=device,
            activation_type=target.activation_type,
            embedding_factor=factor,
            files={},
            source_sha256=source.sha256,
        )
        if int8_prefill:
            gate = measure(written)
            graph = decoder_graph(config, gated(target, config, gate))
            graph.save(directory / names.DECODER_INT8, locations)
            report["int8_prefill"] = gate.report()
        _write_json(directory / names.QUANTIZATION_REPORT, {"recipe": recipe, **report})
        written = replace(written, files=_listing(directory))
        _write_json(directory / names.MANIFEST, written.manifest())
    return Bundle.open(out)


def _listing(directory: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": names.sha256_file(path)}
        for path in sorted(directory.iterdir())
    }


def _target(
    recipe: str, device: Device, activation_type: ActivationType | None, activations: str
) -> Target:
    allowed: dict[str, tuple[ActivationType, ...]] = {
        "cpu": ("float32",),
        "cuda": ("float16", "bfloat16"),
    }
    for name, value, choices in (
        ("recipe", recipe, tuple(RECIPES)),
        ("device", device, tuple(allowed)),
        ("activations", activations, ("int8", "exact")),
        ("activation type", activation_type, (None, *allowed.get(device, ()))),
    ):
        if value not in choices:
            raise ConfigError(f"{name}: got {value!r}, expected one of {choices}")
    exact = activations == "exact"
    return Target(RECIPES[recipe], device, activation_type or allowed[device][0], exact)


def _graphs(config: ModelConfig, target: Target, factor: float) -> dict[str, Graph]:
    return {
        names.EMBEDDING: embedding_graph(config, target, factor),
        names.VISION_EMBEDDER: vision_graph(config, target),
        names.AUDIO_EMBEDDER: audio_graph(config, target),
        names.DECODER: decoder_graph(config, target),
        names.HEAD: head_graph(config, target),
    }


def _layout(weights: Mapping[str, Weight], targets: Sequence[Target]) -> dict[str, Location]:
    """The place of every part: in the order of the weights, large ones on page borders. What the
    second target adds lies in a file of its own."""
    ends: dict[str, int] = {}
    locations: dict[str, Location] = {}
    for weight, target in ((w, t) for t in targets for w in weights.values()):
        file = WEIGHT_FILES[weight.use] if target is targets[0] else names.DECODER_INT8_WEIGHTS
        for part in parts(weight, target):
            if part.name in locations:
                continue
            alignment = _PAGE if part.bytes >= _PAGE else 64
            offset = -(-ends.get(file, 0) // alignment) * alignment
            locations[part.name] = Location(file, offset, part.bytes)
            ends[file] = offset + part.bytes
    return locations


def _needed_bytes(locations: Mapping[str, Location]) -> int:
    return sum(location.bytes + _PAGE for location in locations.values()) + _MANIFEST_BYTES


@contextmanager
def _new_directory(out: Path, needed: int) -> Iterator[Path]:
    """A temporary sibling of `out` that becomes `out` if all goes well and vanishes otherwise."""
    if out.exists() or out.is_symlink():
        raise OutputError(f"{out} exists; expected a new directory, remove it or name another")
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = free_bytes(out.parent)
        if free < needed:
            raise OutputError(
                f"{out}: got {free / 1e9:.1f} GB free, expected {needed / 1e9:.1f} GB for the "
                "bundle; free some space or name another disk"
            )
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(out)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise OutputError(
            f"cannot write {error.filename or out}: {reason}; nothing was left behind, name "
            "another directory or make room"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_weights(
    source: Checkpoint,
    assignment: Assignment,
    locations: Mapping[str, Location],
    targets: Sequence[Target],
    directory: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Streams the checkpoint through the threads into the weight files -> the report."""
    done, total = 0, sum(tensor.bytes for tensor in source.tensors.values())
    errors: _Errors = {}
    with _WeightFiles(directory, locations) as files:

        def work(chunk: Chunk) -> tuple[Chunk, Packed | None]:
            weight = assignment.weights.get(chunk.tensor.name)
            return chunk, None if weight is None else _pack_chunk(chunk, weight, targets, files)

        chunks = source.chunks(lambda tensor: _rows_at_once(tensor, assignment, targets))
        for chunk, packed in _in_threads(work, chunks):
            done += chunk.values.nbytes
            if packed is not None:
                name = assignment.weights[chunk.tensor.name].name
                pair = (packed.squared_error, packed.squared_norm)
                errors.setdefault(name, []).append(pair)
            if progress:
                progress(done, total, chunk.tensor.name)
    return _report(errors, assignment)


def _rows_at_once(tensor: StoredTensor, assignment: Assignment, targets: Sequence[Target]) -> int:
    """A matrix that is stored transposed is packed whole; so is what has one axis."""
    weight = assignment.weights.get(tensor.name)
    if weight is not None and (
        len(weight.shape) == 1 or any(is_transposed(weight, t.packing(weight)) for t in targets)
    ):
        return tensor.rows
    return max(1, _ROWS_BYTES // max(1, tensor.row_bytes))


def _pack_chunk(
    chunk: Chunk, weight: Weight, targets: Sequence[Target], files: _WeightFiles
) -> Packed:
    """Packs rows for every target and writes them; the first target's result is returned."""
    values = chunk.values.astype(np.float32)
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{chunk.tensor.file}: tensor {chunk.tensor.name} has NaN or infinite values; the "
            "checkpoint is damaged, download it again"
        )
    results = []
    for target in targets if weight.use == "linear" else targets[:1]:
        with np.errstate(over="ignore", invalid="ignore"):
            packed = pack(values, weight, target)
        if not math.isfinite(packed.squared_error):
            raise CheckpointError(
                f"tensor {chunk.tensor.name} does not fit in {target.activation_type}; use bfloat16"
            )
        for part, array in zip(parts(weight, target), packed.arrays, strict=True):
            # Transposed parts come whole, so their first row is row 0 as well.
            row_bytes = part.bytes // part.shape[0]
            files.write(part.name, chunk.start * row_bytes, np.ascontiguousarray(array))
        results.append(packed)
    return results[0]


def _in_threads(
    work: Callable[[Chunk], tuple[Chunk, Packed | None]], chunks: Iterator[Chunk]
) -> Iterator[tuple[Chunk, Packed | None]]:
    """Results in any order, with few chunks in memory at a time."""
    pool = ThreadPoolExecutor(_THREADS)
    waiting: set[Future[tuple[Chunk, Packed | None]]] = set()
    try:
        for chunk in chunks:
            waiting.add(pool.submit(work, chunk))
            if len(waiting) > _THREADS:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        yield from (future.result() for future in waiting)
    finally:
        pool.shutdown(cancel_futures=True)


class _WeightFiles:
    """The weight files at their full size, for writes at any place from any thread."""

    def __init__(self, directory: Path, locations: Mapping[str, Location]) -> None:
        self._directory, self._locations = directory, locations
        self._open: dict[str, int] = {}

    def __enter__(self) -> _WeightFiles:
        for location in self._locations.values():
            path = self._directory / location.file
            if location.file not in self._open:
                self._open[location.file] = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.truncate(path, max(path.stat().st_size, location.offset + location.bytes))
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def write(self, name: str, offset: int, array: npt.NDArray[Any]) -> None:
        """Puts an array at `offset` bytes inside the part's place."""
        location, data = self._locations[name], array.reshape(-1).view(np.uint8).data
        assert offset + len(data) <= location.bytes, f"{name}: {len(data)} bytes at {offset}"
        while data:
            place = location.offset + offset
            written = os.pwrite(self._open[location.file], data, place)
            data, offset = data[written:], offset + written


def _report(errors: _Errors, assignment: Assignment) -> dict[str, Any]:
    """quantization.json: the relative error of every tensor, |packed - original| / |original|."""
    relative = {name: _relative(pairs) for name, pairs in sorted(errors.items())}
    worst = sorted(relative, key=lambda name: (-relative[name], name))[:10]
    return {
        "relative_error": _relative([pair for pairs in errors.values() for pair in pairs]),
        "worst": {name: relative[name] for name in worst},
        "tensors": relative,
        "skipped": sorted(assignment.skipped),
    }


def _relative(pairs: list[tuple[float, float]]) -> float:
    """fsum, because the threads finish in any order and the report's bytes must not show it."""
    error, norm = (math.fsum(pair[i] for pair in pairs) for i in (0, 1))
    return math.sqrt(error / norm) if norm else 0.0


def _embedding_factor(source: Checkpoint, assignment: Assignment, config: ModelConfig) -> float:
    """sqrt(hidden_size) in the table's own type, as the reference computes it: 62.0 in bfloat16."""
    key = next(key for key, weight in assignment.weights.items() if weight.name == TABLE)
    exact = np.float32(math.sqrt(config.hidden_size))
    return float(exact.astype(source.tensors[key].dtype))


def _copy_tokenizer(checkpoint: Path, directory: Path) -> None:
    for name in (names.TOKENIZER, names.CHAT_TEMPLATE, names.GENERATION_CONFIG):
        try:
            content = (checkpoint / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"{checkpoint} has no {name} ({error.strerror}); expected it beside the weights, "
                "download it too"
            ) from error
        (directory / name).write_bytes(content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
