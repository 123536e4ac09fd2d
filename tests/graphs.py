"""Runs a graph under construction, its weights given as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from export.layers import Graph, Location
from export.quantize import pack, parts
from export.weights import Weight
from model_onnx.session import byte_products_saturate


def save(graph: Graph, directory: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Writes the graph and its stored arrays (by part name) to `directory`."""
    locations, data = {}, b""
    for name, part in graph.stored.items():
        assert arrays[name].dtype == part.dtype
        raw = np.ascontiguousarray(arrays[name]).tobytes()
        locations[name] = Location("weights.bin", len(data), len(raw))
        data += raw + b"\0" * (-len(raw) % 64)
    (directory / "weights.bin").write_bytes(data)
    path = directory / "graph.onnx"
    graph.save(path, locations)
    onnx.checker.check_model(str(path))
    return path


def packed(graph: Graph, weight: Weight, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The stored arrays of a weight, by part name."""
    made = pack(values, weight, graph.target).arrays
    return {part.name: array for part, array in zip(parts(weight, graph.target), made, strict=True)}


def run(
    graph: Graph,
    directory: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    feeds: Mapping[str, npt.NDArray[Any]],
) -> list[npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if byte_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        str(save(graph, directory, arrays)), options, providers=["CPUExecutionProvider"]
    )
    results: list[npt.NDArray[Any]] = session.run(None, dict(feeds))
    return results
