"""The drafter's benchmark: its sums, its prediction, and the published shapes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from benchmarks import drafter, shapes
from benchmarks.drafter import WORK, Sums, _summary, speedup
from benchmarks.sets import GENERATED
from benchmarks.tables import GROUPS
from export.drafter import add_drafter, drafter_weights
from model_onnx.config import ModelConfig
from model_onnx.costs import Costs
from model_onnx.drafter_config import DrafterConfig
from model_onnx.engine import POCKET
from tests.tiny import tiny_bundle
from tests.tiny_drafter import tiny_drafter


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


def test_a_bundle_without_a_drafter_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny_bundle(tmp_path / "bundle")
    monkeypatch.setattr("sys.argv", ["drafter", "--model", str(made)])
    with pytest.raises(SystemExit):
        drafter.main()
    assert "flows export DIR/model BUNDLE" in capsys.readouterr().err


def test_the_break_even_comes_from_timed_steps_and_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_bundle(tmp_path / "bundle")
    monkeypatch.setattr("benchmarks.export.synthetic_bundle", lambda *_, **__: made)
    monkeypatch.setattr(shapes, "write_drafter", tiny_drafter)
    figures = drafter.at_full_shape(layers=6, recipe="fp32", rounds=2, threads=1)
    times = {name: float(figures[name] or 0) for name in figures if name.endswith("_ms")}
    assert min(times.values()) > 0
    for scale, prefix in ((1, ""), (8, "extrapolated_48_layers_")):
        plain = scale * times["decoder_1_ms"] + times["head_1_ms"]
        verify = scale * times["decoder_5_ms"] + times["head_5_ms"]
        row, guess = (verify - plain) / 4 / plain, times["draft_ms"] / plain
        assert figures[f"{prefix}plain_ms"] == pytest.approx(plain)
        assert figures[f"{prefix}verified_row_in_plain_steps"] == pytest.approx(row)
        assert figures[f"{prefix}guess_in_plain_steps"] == pytest.approx(guess)
        assert figures[f"{prefix}break_even_acceptance"] == Costs(row, guess).break_even()
    [group] = [group for group in GROUPS if group.file == "drafter-12b"]
    assert {line.key for line in group.lines} < figures.keys()
    assert figures["drafter_bytes"] == sum(path.stat().st_size for path in made.glob("drafter.*"))


@pytest.mark.slow
def test_real_work_is_answered_with_and_without_the_drafter(tmp_path: Path) -> None:
    """The embedded model with a drafter that knows nothing."""
    torch = pytest.importorskip("torch")
    from training import checkpoint
    from training.drafter import write
    from training.drafter_model import DrafterModel

    torch.manual_seed(0)
    write(DrafterModel(checkpoint.shape(), hidden=32, layers=2), tmp_path / "model")
    shutil.copytree(POCKET, tmp_path / "bundle")
    add_drafter(tmp_path / "model", tmp_path / "bundle")
    figures = drafter.on_real_work(tmp_path / "bundle", n=1, rounds=1, threads=1)
    tokens = figures["tokens"]
    assert figures["n"] >= len(WORK) and isinstance(tokens, int) and tokens > 20
    assert figures["speedup"] > 0 and 0 <= figures["acceptance"] < 0.5
    assert {f"{name}_speedup" for name in WORK} < set(figures)


def test_the_work_can_be_generated() -> None:
    assert {task: GENERATED[task] for task in WORK.values()} == {t: s for s, t in WORK.items()}
