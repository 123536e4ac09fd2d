"""The second decoder with 8-bit products: what it computes, what the gate refuses, what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from safetensors.numpy import load_file, save_file

from export import export_bundle, write
from export.integer import Gate, _add_probe, measure
from export.parity import GraphRunner, compare, sample_prompts
from export.weights import all_weights
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import ConfigError
from tests.tiny import tiny_checkpoint

WIDE = "layers.0.mlp.down_proj.weight"
BEHIND_NORM = [f"self_attn.{kind}_proj.weight" for kind in "kqv"]


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


def test_the_error_is_what_rounding_each_row_changes() -> None:
    """Rows of another size each, one of zeros, one with a value that swallows the others, and a
    column that is the same in all rows."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 5, 64)).astype(np.float32)
    x[0, 1], x[0, 2], x[0, 3, 7] = 1e4 * x[0, 1], 0, 1e3
    x[..., 9] = 40
    w = random.standard_normal((64, 32)).astype(np.float32)
    w[7] /= 1e3
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    value = helper.make_tensor_value_info("x", 1, x.shape)
    graph = helper.make_graph([node], "probe", [value], [], [onnx.numpy_helper.from_array(w, "w")])
    output = _add_probe(graph, node)
    graph.output.append(helper.make_tensor_value_info(output, 1, ()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-30) / 127
    y, rounded = x @ w, (np.rint(x / step) * step) @ w
    lost = ((y - rounded) ** 2).sum(-1) / ((y - y.mean(-2, keepdims=True)) ** 2).sum(-1)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], lost.mean(), rtol=1e-3)


def with_outliers(checkpoint: Path, out: Path, factor: float) -> Path:
    """The same function in other numbers: one channel behind the first norm is `factor` times as
    large, and the weights that it meets are as much smaller."""
    shutil.copytree(checkpoint, out)
    arrays = load_file(out / "model.safetensors")
    layer = "model.language_model.layers.0."
    assert f"{layer}input_layernorm.weight" in arrays
    arrays[f"{layer}input_layernorm.weight"][5] *= factor
    for matrix in BEHIND_NORM:
        arrays[f"{layer}{matrix}"][:, 5] /= factor
    save_file(arrays, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_matrices_that_an_outlier_channel_spoils_are_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In size, the inputs lose the less the larger the outlier is: 0.008 here. The results lose
    all, and an ungated decoder shows it."""
    spoiled = with_outliers(checkpoint, tmp_path / "checkpoint", 3000)
    recipe: dict[str, Any] = {"recipe": "fp32", "int8_prefill": True}
    gated = export_bundle(spoiled, tmp_path / "gated", **recipe)
    report = report_of(gated)
    assert report["refused"] == [f"layers.0.{matrix}" for matrix in sorted(BEHIND_NORM)]
    assert all(report["activation_errors"][name] > 0.5 for name in report["refused"])
    monkeypatch.setattr(write, "measure", lambda bundle: measure(bundle, threshold=1e9))
    ungated = export_bundle(spoiled, tmp_path / "ungated", **recipe)
    prompts = sample_prompts(gated.config)

    def distance(bundle: Bundle) -> float:
        eight = GraphRunner(bundle, decoder=bundle.path(names.DECODER_INT8))
        exact = GraphRunner(gated)
        return compare(*([r.logits(p) for p in prompts] for r in (eight, exact))).relative

    assert distance(gated) < 0.06 < 0.3 < distance(ungated)


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
