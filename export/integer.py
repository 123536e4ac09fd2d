"""The decoder a second time, with 8-bit matrix products, for many rows at a time on a CPU.

Per layer of the 12B the integer units take 0.6 s for 512 rows where MatMulNBits takes 2.7; for one
row the 4-bit weights win, because fewer bytes are read. Weights have a scale per output channel and
activations one per row. A row with a few large values rounds all others coarsely, so what rounded
inputs change is measured first, on a prompt of the kind that is to be read; a matrix whose results
change by more than the threshold keeps the recipe's own form in this graph too.

Measured is the result, not the input: where one channel is large and its weights are small, it
hides in the size of the input that all other channels are lost. And against what sets rows apart,
not against the size of the result: a channel that is large in every row alike says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.parity import GraphRunner, visible
from export.quantize import RECIPES, Rows, Target
from export.weights import all_weights
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig
from model_onnx.errors import ConfigError
from model_onnx.prompt import PromptRenderer, Turn

# Root of the mean squared relative error of a row of results. Normal values lose about 0.01, blocks
# of 4 bits lose 0.08 on the weights' side.
THRESHOLD = 0.05
_INSTRUCTION = "Extract these fields as JSON, null where absent:\ncompany\ndate: as written\ntotal"
_TEXT = """HILL FARM SHOP SDN BHD
No. 12, Jalan Market 3/4, 50100 Kuala Lumpur   Tel: 03-555 0199
TAX INVOICE  INV-2024/00317          Date 28/03/2024 14:05
2 x GREEN TEA 100 G @ 4.50     9.00
1 x ENVELOPES C5 (25)          3.95
SUBTOTAL 12.95   ROUNDING -0.05   TOTAL RM 12.90   CASH 20.00   CHANGE 7.10
Dear Mrs Ahmad, thank you for your letter of 3 May. We will deliver on Tuesday; please sign below.
{"company":"HILL FARM SHOP SDN BHD","date":"28/03/2024","total":"12.90"}"""


@dataclass(frozen=True)
class Gate:
    """errors: of the results, by matrix. refused: matrices that stay as the recipe stores them."""

    errors: Mapping[str, float]
    threshold: float

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(sorted(n for n, error in self.errors.items() if error > self.threshold))

    def report(self) -> dict[str, Any]:
        """Rounded, so that the last bits of a product do not show in the bundle's bytes."""
        shown = {name: float(f"{error:.3g}") for name, error in sorted(self.errors.items())}
        return {
            "threshold": self.threshold,
            "activation_errors": shown,
            "refused": list(self.refused),
        }


def integer_target(target: Target) -> Target:
    """What the matrices are stored as for the second graph. Raises ConfigError."""
    if target.device != "cpu" or target.exact or isinstance(target.recipe.linear, Rows):
        raise ConfigError(
            "int8_prefill: got a bundle for CUDA, with exact activations or with recipe int8, "
            "expected a CPU bundle of another recipe; leave the option out"
        )
    return replace(target, recipe=RECIPES["int8"])


def gated(target: Target, config: ModelConfig, gate: Gate) -> Target:
    """The target of the second graph: 8 bits where the gate allows them."""
    weights = all_weights(config)
    kept = {name: target.packing(weights[name]) for name in gate.refused}
    return replace(integer_target(target), exceptions=kept)


def measure(bundle: Bundle, *, threshold: float = THRESHOLD) -> Gate:
    """Runs the bundle's decoder on a prompt and measures what 8 bits would lose. The graph with the
    probes lies beside the decoder, whose weights it uses, and is removed again."""
    probe = bundle.directory / f"probe-{names.DECODER}"
    try:
        outputs = _write_probe(bundle.path(names.DECODER), probe)
        prompt = PromptRenderer(bundle).render(
            [Turn("system", (_INSTRUCTION,)), Turn("user", (_TEXT,))]
        )
        runner = GraphRunner(bundle, capacity=len(prompt.ids), decoder=probe)
        embeds = runner.run(names.EMBEDDING, {names.INPUT_IDS: prompt.ids[None]})[0][0]
        seen, _ = visible(prompt.ids, bundle.config)
        feeds = runner.feeds(embeds, 0, seen, runner.empty_caches())
        values = runner.run(names.DECODER, feeds, list(outputs.values()))
    finally:
        probe.unlink(missing_ok=True)
    errors = (math.sqrt(float(value)) for value in values)
    return Gate(dict(zip(outputs, errors, strict=True)), threshold)


def _write_probe(decoder: Path, probe: Path) -> dict[str, str]:
    """Writes the graph with one more output for each matrix -> matrix: output."""
    model = onnx.load(str(decoder), load_external_data=False)
    graph, outputs = model.graph, {}
    matrices = {
        tensor.name: tensor.name.removesuffix(".codes")
        for tensor in graph.initializer
        if tensor.external_data and tensor.name.removesuffix(".codes").endswith("proj.weight")
    }
    for node in list(graph.node):
        if node.op_type in ("MatMulNBits", "MatMul") and node.input[1] in matrices:
            outputs[matrices[node.input[1]]] = _add_probe(graph, node)
    for output in outputs.values():
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ()))
    probe.write_bytes(model.SerializeToString())
    return outputs


def _add_probe(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """Nodes for the mean over rows of |y - y'|^2 / |y - mean of all rows|^2, where y' is what the
    matrix makes of inputs that are rounded with their row's own step."""
    if not any(tensor.name == "probe.axis" for tensor in graph.initializer):
        for name, value in (("axis", [-1]), ("rows", [-2]), ("levels", 127.0), ("least", 1e-30)):
            array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
            graph.initializer.append(onnx.numpy_helper.from_array(array, f"probe.{name}"))
    x, y = node.input[0], node.output[0]

    def add(kind: str, *inputs: str) -> str:
        result = f"probe.{y}.{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, [result]))
        return result

    largest = add("ReduceMax", add("Abs", x), "probe.axis")
    step = add("Div", add("Max", largest, "probe.least"), "probe.levels")
    rounded = add("Mul", add("Round", add("Div", x, step)), step)
    product = onnx.NodeProto()
    product.CopyFrom(node)
    product.name = f"probe.{y}.product"
    product.input[0], product.output[0] = rounded, product.name
    graph.node.append(product)
    lost = add("ReduceSumSquare", add("Sub", y, product.output[0]), "probe.axis")
    own = add("Sub", y, add("ReduceMean", y, "probe.rows"))
    norm = add("Max", add("ReduceSumSquare", own, "probe.axis"), "probe.least")
    output = f"probe.{y}"
    relative = add("Div", lost, norm)
    graph.node.append(helper.make_node("ReduceMean", [relative], [output], keepdims=0))
    return output
