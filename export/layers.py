"""Pieces of the graphs: linear, norm, rope, attention, gated MLP. One function adds one piece.

Standard operators of opset 23 wherever both the CPU and the CUDA provider have them; com.microsoft
for attention over a preallocated cache and for packed matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.quantize import Blocks, Float, Part, Rows, Target, parts
from export.weights import Weight
from model_onnx.config import LayerSpec

OPSET, IR_VERSION = 23, 11
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Location:
    """Where a part lies."""

    file: str
    offset: int
    bytes: int


class Graph:
    """One ONNX graph in the making: nodes in order, small constants inside, weights by name."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.target = name, target
        self.stored: dict[str, Part] = {}  # as this graph sees them: the shape may differ
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._prefix = ""

    @property
    def float_type(self) -> int:
        """The activation type as ONNX numbers it."""
        return helper.np_dtype_to_tensor_dtype(self.target.dtype)

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(
        self,
        kind: str,
        *inputs: str,
        domain: str = "",
        outputs: Sequence[str] = (),
        **attributes: Any,
    ) -> str:
        """Adds a node and returns the name of its first output. `outputs`: their names."""
        name = f"{self._prefix}{kind}.{len(self._nodes)}"
        outputs = outputs or [name]
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)
        )
        return outputs[0]

    @contextmanager
    def branch(self, name: str, outputs: Mapping[str, int]) -> Iterator[onnx.GraphProto]:
        """What is added inside becomes a subgraph, filled when the block ends, that sees all names
        outside. outputs: its results and their types. Not to be nested."""
        subgraph, outside = onnx.GraphProto(), self._nodes
        self._nodes, self._prefix = [], f"{name}."
        yield subgraph
        results = [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()]
        subgraph.CopyFrom(helper.make_graph(self._nodes, name, [], results))
        self._nodes, self._prefix = outside, ""

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """A small constant inside the graph file; equal ones are one."""
        array = np.asarray(values, dtype)
        data = array.tobytes()
        shown = "_".join(str(value) for value in array.ravel()[:4]) if array.size <= 4 else "table"
        name = f"{array.dtype}.{'x'.join(map(str, array.shape)) or 'scalar'}.{shown}"
        while name in self._constants and self._constants[name].raw_data != data:
            name += "'"
        self._constants[name] = helper.make_tensor(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, data, raw=True
        )
        return name

    def activation(self, values: npt.ArrayLike) -> str:
        """A constant in the activation type."""
        return self.constant(values, self.target.dtype)

    def part(self, part: Part, shape: tuple[int, ...] | None = None) -> str:
        """A stored array, seen with another shape if given."""
        self.stored[part.name] = Part(part.name, part.dtype, shape or part.shape)
        return part.name

    def weight(self, weight: Weight, shape: tuple[int, ...] | None = None) -> str:
        """A weight that is stored as floats."""
        (part,) = parts(weight, self.target)
        return self.part(part, shape)

    def save(self, path: Path, locations: Mapping[str, Location]) -> None:
        """Writes the graph; the weights stay in their files."""
        initializers = [self._constants[name] for name in sorted(self._constants)]
        for name, part in self.stored.items():
            where = locations[name]
            tensor = TensorProto(
                name=name,
                data_type=helper.np_dtype_to_tensor_dtype(part.dtype),
                dims=part.shape,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (
                ("location", where.file),
                ("offset", str(where.offset)),
                ("length", str(where.bytes)),
            ):
                tensor.external_data.add(key=key, value=value)
            initializers.append(tensor)
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializers)
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="scanscribe"
        )
        path.write_bytes(model.SerializeToString(deterministic=True))


def linear(graph: Graph, x: str, weight: Weight) -> str:
    """x [..., in] times weight [out, in] -> [..., out], however the weight is stored."""
    packing = graph.target.packing(weight)
    stored = parts(weight, graph.target)
    if isinstance(packing, Float):
        return graph.op("MatMul", x, graph.part(stored[0]))
    codes, scales = (graph.part(part) for part in stored)
    if isinstance(packing, Rows):
        return _integer_linear(graph, x, codes, scales)
    return block_linear(graph, x, codes, scales, weight, packing)


def block_linear(
    graph: Graph, x: str, codes: str, scales: str, weight: Weight, packing: Blocks
) -> str:
    """accuracy_level 4 rounds activations to int8 per block, 1 keeps them float. On a CPU, level 4
    is 1.6 to 2.4 times faster for one row, and the only level where a few rows cost about one."""
    return graph.op(
        "MatMulNBits",
        x,
        codes,
        scales,
        domain=MICROSOFT,
        K=weight.shape[1],
        N=weight.shape[0],
        bits=packing.bits,
        block_size=packing.size,
        accuracy_level=1 if graph.target.exact or graph.target.device == "cuda" else 4,
    )


def _integer_linear(graph: Graph, x: str, codes: str, scales: str) -> str:
    """codes int8 [in, out], scales [out]. Activations are rounded to 8 bits with a scale per row.

    Unsigned activations and signed weights, because that pair reaches the AMX units: 95 ms against
    610 ms for unsigned weights at 512 x 3840 x 15360 on one Sapphire Rapids core.
    """
    if graph.target.exact:
        # Not DequantizeLinear: the runtime fuses that into MatMulNBits and rounds activations.
        floats = graph.op("Cast", codes, to=TensorProto.FLOAT)
        return graph.op("MatMul", x, graph.op("Mul", floats, scales))
    last_axis = graph.constant([-1], np.int64)
    largest = graph.op("ReduceMax", graph.op("Abs", x), last_axis, keepdims=1)  # [..., 1]
    above_zero = graph.op("Max", largest, graph.constant(1e-30, np.float32))
    step = graph.op("Mul", above_zero, graph.constant(1 / 127, np.float32))
    zero_point = graph.constant(128, np.uint8)
    rounded = graph.op(
        "QuantizeLinear", graph.op("Div", x, step), graph.constant(1, np.float32), zero_point
    )
    product = graph.op("MatMulInteger", rounded, codes, zero_point)
    scaled = graph.op("Mul", graph.op("Cast", product, to=TensorProto.FLOAT), scales)
    return graph.op("Mul", scaled, step)


def norm(graph: Graph, x: str, weight: Weight, epsilon: float) -> str:
    """x * (mean(x^2) + epsilon)^-0.5 * weight over the last axis, in float32 inside."""
    scale = graph.weight(weight)
    return graph.op("RMSNormalization", x, scale, axis=-1, epsilon=epsilon, stash_type=1)


def plain_norm(graph: Graph, x: str, size: int, epsilon: float, dtype: npt.DTypeLike) -> str:
    """The norm without a weight."""
    ones = graph.constant(np.ones(size), dtype)
    return graph.op("RMSNormalization", x, ones, axis=-1, epsilon=epsilon, stash_type=1)


def rope_tables(graph: Graph, position_ids: str, spec: LayerSpec) -> tuple[str, str]:
    """position_ids [B, S] -> cos and sin [B, S, head_dim / 2], computed in float32.

    Pairs that do not rotate have frequency 0, so cos 1 and sin 0. They must stay in the table: the
    rotation pairs dimension j with j + head_dim / 2, not with its neighbour in the rotated part.
    """
    half = spec.head_dim // 2
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    frequencies = (np.float32(1) / np.float32(spec.rope_theta) ** exponents).astype(np.float32)
    frequencies[spec.rope_frequencies :] = 0
    positions = graph.op("Cast", position_ids, to=TensorProto.FLOAT)
    column = graph.op("Unsqueeze", positions, graph.constant([-1], np.int64))
    angles = graph.op("Mul", column, graph.constant(frequencies.reshape(1, 1, half), np.float32))
    cos, sin = (
        graph.op("Cast", graph.op(kind, angles), to=graph.float_type) for kind in ("Cos", "Sin")
    )
    return cos, sin


def gated_mlp(graph: Graph, x: str, weights: Mapping[str, Weight]) -> str:
    """down(gelu(gate(x)) * up(x)); weights by the names inside `mlp`."""
    gate = graph.op("Gelu", linear(graph, x, weights["gate_proj.weight"]), approximate="tanh")
    product = graph.op("Mul", gate, linear(graph, x, weights["up_proj.weight"]))
    return linear(graph, product, weights["down_proj.weight"])
