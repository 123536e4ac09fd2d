"""The second decoder with 8-bit products: what it computes, what the gate refuses, what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export import export_bundle, write
from export.integer import Gate, _add_probe
from export.parity import GraphRunner, compare, sample_prompts
from export.weights import all_weights
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import ConfigError
from tests.tiny import tiny_checkpoint

WIDE = "layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("integer") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    out = checkpoint.parent / "bundle"
    return export_bundle(checkpoint, out, recipe="int4", int8_prefill=True)


def report_of(bundle: Bundle) -> Any:
    return json.loads(bundle.path(names.QUANTIZATION_REPORT).read_text())["int8_prefill"]


def operators(bundle: Bundle) -> dict[str, int]:
    model = onnx.load(str(bundle.path(names.DECODER_INT8)), load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    return {kind: kinds.count(kind) for kind in ("MatMulInteger", "MatMulNBits")}


def test_its_logits_are_those_of_the_float_weights_within_a_twentieth(
    checkpoint: Path, bundle: Bundle
) -> None:
    """0.050 was measured, and 0.456 for the INT4 decoder: 8 bits lose less than 4 everywhere."""
    assert bundle.has_int8
    exact = export_bundle(checkpoint, checkpoint.parent / "fp32", recipe="fp32")
    assert not exact.has_int8
    prompts = sample_prompts(bundle.config)

    def logits(runner: GraphRunner) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        return [runner.logits(prompt) for prompt in prompts]

    expected = logits(GraphRunner(exact))
    eight = logits(GraphRunner(bundle, decoder=bundle.path(names.DECODER_INT8)))
    difference = compare(eight, expected)
    assert difference.relative < 0.06 and difference.same_top_token > 0.9
    assert compare(logits(GraphRunner(bundle)), expected).relative > 3 * difference.relative


def test_the_report_has_every_matrix_and_nothing_of_the_probe_is_left(bundle: Bundle) -> None:
    matrices = {w.name for w in all_weights(bundle.config).values() if w.use == "linear"}
    report = report_of(bundle)
    assert set(report["activation_errors"]) == matrices and report["refused"] == []
    assert all(0.001 < error < 0.02 for error in report["activation_errors"].values())
    assert operators(bundle) == {"MatMulInteger": len(matrices), "MatMulNBits": 0}
    assert not [path for path in bundle.directory.iterdir() if "probe" in path.name]
    assert Bundle.open(bundle.directory, verify=True).has_int8


def test_the_error_is_that_of_rounding_each_row() -> None:
    """Rows of another size each, one of zeros, one with a value that swallows the others."""
    x = np.random.default_rng(0).standard_normal((1, 5, 64)).astype(np.float32)
    x[0, 1], x[0, 2], x[0, 3, 7] = 1e4 * x[0, 1], 0, 1e3
    graph = helper.make_graph([], "probe", [helper.make_tensor_value_info("x", 1, (1, 5, 64))], [])
    output = _add_probe(graph, "x")
    graph.output.append(helper.make_tensor_value_info(output, 1, ()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-30) / 127
    lost = ((x - np.rint(x / step) * step) ** 2).sum(-1) / np.maximum((x**2).sum(-1), 1e-30)
    assert lost[0, 3] > 20 * lost[0, 2] and lost[0, 3] < 1e-3 and lost[0, 2] == 0
    np.testing.assert_allclose(session.run(None, {"x": x})[0], lost.mean(), rtol=1e-3)


def test_what_the_gate_refuses_stays_in_the_recipe_s_form(
    checkpoint: Path, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = report_of(bundle)["activation_errors"] | {WIDE: 0.3}
    monkeypatch.setattr(write, "measure", lambda written: Gate(errors, 0.05))
    gated = export_bundle(checkpoint, tmp_path / "out", recipe="int4", int8_prefill=True)
    assert report_of(gated)["refused"] == [WIDE]
    assert operators(gated) == {"MatMulInteger": len(errors) - 1, "MatMulNBits": 1}
    prompts = sample_prompts(gated.config)[:1]
    runner = GraphRunner(gated, decoder=gated.path(names.DECODER_INT8))
    assert all(np.isfinite(runner.logits(prompt)).all() for prompt in prompts)


def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoint: Path, tmp_path: Path, bundle: Bundle
) -> None:
    again = export_bundle(checkpoint, tmp_path / "out", recipe="int4", int8_prefill=True)
    assert again.sha256 == bundle.sha256


@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"activations": "exact"}, {"recipe": "int8"}]
)
def test_where_it_makes_no_sense_it_is_refused(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="int8_prefill: got"):
        export_bundle(checkpoint, tmp_path / "out", int8_prefill=True, **options)
    assert not (tmp_path / "out").exists()
