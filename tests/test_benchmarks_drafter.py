"""The drafter's benchmark: its sums, its prediction, and the published shapes."""

from __future__ import annotations

import math

import pytest

from benchmarks import shapes
from benchmarks.drafter import WORK, Sums, _summary, speedup
from benchmarks.sets import GENERATED
from export.drafter import drafter_weights
from model_onnx.config import ModelConfig
from model_onnx.costs import Costs
from model_onnx.drafter_config import DrafterConfig


def sums(plain: float, drafted: float, verified: int, right: int) -> Sums:
    seconds = {(False, True): plain, (True, True): drafted}
    bare = {(False, False): 2 * plain, (True, False): drafted}
    return Sums({**seconds, **bare}, verified, right, 10)


def test_the_summary_is_of_all_work_and_of_each() -> None:
    fast, slow = sums(4.0, 2.0, 10, 8), sums(6.0, 6.0, 30, 12)
    rounds = [{name: fast if name == "clean" else slow for name in WORK}] * 3
    figures = _summary(rounds)
    assert figures["clean_speedup"] == 2 and figures["extract_speedup"] == 1
    assert figures["speedup"] == pytest.approx(22 / 20)
    assert figures["speedup_least"] == figures["speedup_most"] == figures["speedup"]
    assert figures["speedup_without_copying"] == pytest.approx(44 / 20)
    assert figures["acceptance"] == pytest.approx(44 / 100)


def test_the_prediction_takes_the_best_number_of_guesses() -> None:
    costs = Costs(row=0.1, draft=0.1)
    assert speedup(costs, 0.0) == 1.0
    assert speedup(costs, 1.0) == pytest.approx(17 / (1 + 16 * 0.2))
    assert 1 < speedup(costs, 0.66) < speedup(costs, 0.82)
    assert speedup(costs, costs.break_even()) == pytest.approx(1.0, abs=1e-3)


def test_the_shapes_are_those_of_the_published_drafter() -> None:
    config = DrafterConfig.from_hugging_face(shapes.published_drafter_config())
    weights = drafter_weights(config).values()
    assert sum(math.prod(weight.shape) for weight in weights) == 422_856_964
    target = ModelConfig.from_hugging_face(shapes.published_config())
    assert config.sources(target) == {"local": 46, "global": 47}


def test_the_work_can_be_generated() -> None:
    assert {task: GENERATED[task] for task in WORK.values()} == {t: s for s, t in WORK.items()}
