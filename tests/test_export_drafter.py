"""A drafter in a bundle: what is written, what is refused, and that it changes no answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.drafter import add_drafter, check_drafter, check_pair, is_drafter
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig
from model_onnx.constrain import Regex
from model_onnx.decoder import Decoder
from model_onnx.drafter import Drafter
from model_onnx.engine import Engine
from model_onnx.errors import BundleError, CheckpointError, ConfigError
from model_onnx.prompt import Turn
from model_onnx.sequence import Request
from model_onnx.session import Array
from tests.tiny import tiny_bundle, tiny_config
from tests.tiny_drafter import drafter_config, tiny_drafter


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles fp32 and int8 without a drafter, and one to put into them."""
    home = tmp_path_factory.mktemp("drafter")
    tiny_bundle(home / "fp32")
    (home / "int8-checkpoint-0").symlink_to(home / "fp32-checkpoint-0")
    tiny_bundle(home / "int8", "int8")
    tiny_drafter(home / "assistant")
    return home


@pytest.fixture
def bundle(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "fp32", tmp_path / "bundle"))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_drafter_leaves_the_bundle_the_same(home: Path, bundle: Path) -> None:
    before = Bundle.open(bundle)
    made = add_drafter(home / "assistant", bundle)
    assert made.drafter is not None and made.sha256 == before.sha256
    assert set(made.drafter.files) == {names.DRAFTER, names.DRAFTER_WEIGHTS}
    assert Bundle.open(bundle, verify=True) == made
    assert sorted(content(bundle)) == sorted([*content(home / "fp32"), *made.drafter.files])


def test_the_same_drafter_gives_the_same_bytes(home: Path, bundle: Path) -> None:
    add_drafter(home / "assistant", bundle)
    first = content(bundle)
    add_drafter(home / "assistant", bundle)
    assert content(bundle) == first


def test_a_bundle_without_its_drafter_s_files_is_whole(home: Path, bundle: Path) -> None:
    add_drafter(home / "assistant", bundle)
    weights = bundle / names.DRAFTER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"drafter\.bin: got"):
        Bundle.open(bundle)
    for name in (names.DRAFTER, names.DRAFTER_WEIGHTS):
        (bundle / name).unlink()
    assert Bundle.open(bundle).drafter is None


def test_a_refused_drafter_changes_nothing(home: Path, bundle: Path, tmp_path: Path) -> None:
    before = content(bundle)
    foreign = tiny_drafter(tmp_path / "foreign", vocab_size=640)
    with pytest.raises(ConfigError, match="vocabulary: got 640, expected 512"):
        add_drafter(foreign, bundle)
    other = tiny_drafter(tmp_path / "other", seed=1)
    raw = drafter_config(intermediate_size=96)
    (other / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"down_proj\.weight: got shape"):
        add_drafter(other, bundle)
    with pytest.raises(ConfigError, match="expected 'gemma4_unified_assistant'"):
        check_drafter(home / "fp32-checkpoint-0", ModelConfig.from_hugging_face(tiny_config()))
    assert content(bundle) == before


def test_a_drafter_is_known_by_its_config(home: Path, tmp_path: Path) -> None:
    assert is_drafter(home / "assistant") and is_drafter(home / "assistant" / "model.safetensors")
    assert not is_drafter(home / "fp32-checkpoint-0") and not is_drafter(tmp_path / "nothing")
    check_pair(home / "assistant", home / "fp32-checkpoint-0" / "model.safetensors")
    with pytest.raises(ConfigError, match="expected 'gemma4_unified_assistant'"):
        check_pair(home / "fp32-checkpoint-0", home / "fp32-checkpoint-0")


def logits(drafter: Drafter, decoder: Decoder) -> Array:
    cache = decoder.cache(slots=1, local_capacity=64, global_capacity=64)
    ids = np.arange(40, 60)
    hidden = decoder.forward(cache, 0, decoder.embed(ids)[None], np.zeros((1, 20), np.int64))
    drafter.draft(cache, 0, hidden[0, -1], [70, 71], 2)
    return drafter._logits.copy()


def test_eight_bits_guess_like_thirty_two(home: Path, bundle: Path, tmp_path: Path) -> None:
    exact = add_drafter(home / "assistant", bundle)
    small = add_drafter(home / "assistant", shutil.copytree(home / "int8", tmp_path / "int8"))
    assert exact.drafter is not None and small.drafter is not None
    sizes = [b.drafter.files[names.DRAFTER_WEIGHTS]["bytes"] for b in (exact, small) if b.drafter]
    assert sizes[1] < 0.45 * sizes[0]
    decoder = Decoder(exact, "cpu", threads=1)
    one, other = (logits(Drafter(b, decoder, "cpu", threads=1), decoder) for b in (exact, small))
    assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)


def test_answers_are_the_same_with_it(home: Path, bundle: Path) -> None:
    add_drafter(home / "assistant", bundle)
    outcomes = []
    for drafts in ("off", "on"):
        with Engine.open(bundle, slots=2, threads=1, drafts=drafts) as engine:
            prompts = [engine.renderer.render([Turn("user", (t * 9,))]) for t in ("one ", "two ")]
            wanted = [
                *(Request(prompt, max_new_tokens=40) for prompt in prompts),
                Request(prompts[0], Regex("[a-z ]{30}")),
            ]
            futures = [engine.submit(request) for request in wanted]
            outcomes.append([future.result(120) for future in futures])
    plain, drafted = outcomes
    assert [r.ids for r in drafted] == [r.ids for r in plain]
    assert sum(r.drafted_tokens for r in drafted) > 20 > sum(r.drafted_tokens for r in plain) == 0


def test_a_bundle_without_a_drafter_has_none_to_run(home: Path) -> None:
    bundle = Bundle.open(home / "fp32")
    with pytest.raises(BundleError, match="has no drafter"):
        Drafter(bundle, Decoder(bundle, "cpu", threads=1), "cpu")
