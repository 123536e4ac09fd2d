"""What a provider left to the CPU: counted, said by the engine's log and by `flows doctor`."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from flows import doctor
from model_onnx import session
from model_onnx.bundle import DECODER, Bundle
from model_onnx.engine import Engine
from model_onnx.placement import describe, left_to_cpu
from tests.tiny import tiny_bundle


def part(provider: str, *operators: str) -> Any:
    nodes = [SimpleNamespace(op_type=operator) for operator in operators]
    return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)


def test_only_nodes_of_the_cpu_count_most_first() -> None:
    parts = [
        part("CPUExecutionProvider", "Cast"),
        part("CUDAExecutionProvider", "GroupQueryAttention", "Gather", "Cast"),
        part("CPUExecutionProvider", "Gather", "Shape"),
        part("CPUExecutionProvider", "Gather"),
    ]
    found = left_to_cpu(parts)
    assert list(found.items()) == [("Gather", 2), ("Cast", 1), ("Shape", 1)]
    graphs = {"decoder.onnx": found, "head.onnx": {}, "embedding.onnx": {"Cast": 1}}
    assert describe(graphs) == "decoder.onnx: 2 Gather, 1 Cast, 1 Shape; embedding.onnx: 1 Cast"
    assert left_to_cpu(parts[1:2]) == {} and describe({"head.onnx": {}}) == "nothing"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle made for `cuda`, which is here a provider that leaves every node to the CPU."""
    monkeypatch.setitem(session._PROVIDERS, "cuda", "CPUExecutionProvider")
    return tiny_bundle(tmp_path / "bundle", device="cuda")


def test_an_engine_knows_and_logs_what_was_left(
    elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "model_onnx")
    with Engine.open(elsewhere, slots=1, threads=1) as engine:
        assert engine.provider == "cuda"
        found = engine.left_to_cpu[DECODER]
    model = onnx.load(str(elsewhere / DECODER), load_external_data=False)
    attention = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert found["GroupQueryAttention"] == len(attention) > 0
    assert any(
        record.message.startswith("cuda left to the CPU: ")
        and f"{len(attention)} GroupQueryAttention" in record.message
        for record in caplog.records
    )
    assert doctor.find_bundle(elsewhere).text.count("; left to the CPU: ") == 1


def test_on_the_cpu_nothing_is_left_to_it(tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_bundle(tmp_path / "bundle"))
    with Engine.open(bundle, slots=1, threads=1) as engine:
        assert describe(engine.left_to_cpu) == "nothing"
    assert "left to the CPU" not in doctor.find_bundle(bundle.directory).text
