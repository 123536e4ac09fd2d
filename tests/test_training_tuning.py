"""training/tuning.py and merge.py: the trained model is the exported one, on both kinds of layers,
with text, pictures and sound in one batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import export_bundle
from export.checkpoint import Checkpoint
from export.parity import GraphRunner, Prompt, sample_prompts
from model_onnx.bundle import Bundle
from model_onnx.errors import CheckpointError
from tests import lessons as made
from training import merge
from training.lessons import Lesson
from training.memory import Method
from training.merge import write_changed
from training.tuning import Tuned

torch.set_num_threads(1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.checkpoint(tmp_path_factory.mktemp("tuning") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    return export_bundle(checkpoint, checkpoint.parent / "bundle", recipe="fp32")


def lesson(prompt: Prompt) -> Lesson:
    """The last five tokens are the answer."""
    images = tuple(
        (np.rint(patches * 255).astype(np.uint8), places.astype(np.int16))
        for patches, places in prompt.images
    )
    answer = len(prompt.ids) - 5
    return Lesson("a", prompt.ids.astype(np.int32), answer, images, clips=prompt.clips)


def lessons(bundle: Bundle) -> list[Lesson]:
    return [lesson(prompt) for prompt in sample_prompts(bundle.config)]


def expected_loss(bundle: Bundle) -> float:
    """The same from the bundle's graphs."""
    runner, losses = GraphRunner(bundle), []
    for prompt in sample_prompts(bundle.config):
        logits = torch.from_numpy(runner.logits(prompt)[-6:-1])
        targets = torch.from_numpy(prompt.ids[-5:])
        losses.append(torch.nn.functional.cross_entropy(logits, targets))
    return float(torch.stack(losses).mean())


def tuned(checkpoint: Path, bundle: Bundle, method: Method) -> Tuned:
    torch.manual_seed(0)
    factor = bundle.embedding_factor
    return Tuned(checkpoint, bundle.config, method, CPU, embedding_factor=factor)


def train(model: Tuned, batch: list[Lesson], steps: int = 5) -> float:
    optimizer = torch.optim.AdamW(list(model.trained().values()), lr=2e-3)
    for _ in range(steps):
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return float(model.loss(batch).detach())


@pytest.mark.parametrize("method", [Method(4, True), Method(0, False)], ids=["lora", "full"])
def test_the_loss_is_that_of_the_exported_graphs_and_survives_the_merge(
    checkpoint: Path, bundle: Bundle, tmp_path: Path, method: Method
) -> None:
    model, batch = tuned(checkpoint, bundle, method), lessons(bundle)
    start = float(model.loss(batch).detach())
    assert start == pytest.approx(expected_loss(bundle), rel=0.02)  # products in bfloat16
    end = train(model, batch)
    assert end < 0.9 * start
    write_changed(checkpoint, tmp_path / "merged", model.changes())
    merged = export_bundle(tmp_path / "merged", tmp_path / "bundle", recipe="fp32")
    assert expected_loss(merged) == pytest.approx(end, rel=0.03)


def test_lora_changes_matrices_and_the_projectors_of_the_media_it_saw(
    checkpoint: Path, bundle: Bundle, tmp_path: Path
) -> None:
    model = Tuned(
        checkpoint,
        bundle.config,
        Method(4, False),
        CPU,
        embedding_factor=bundle.embedding_factor,
        media=frozenset(("image",)),
    )
    names = model.trained()
    assert not [name for name in names if "embed_audio" in name]
    batch = [lesson(prompt) for prompt in sample_prompts(bundle.config) if not prompt.clips]
    train(model, batch, steps=2)
    changes = model.changes()
    layers = range(len(bundle.config.layers))
    for at in layers:  # local and global; the latter have no v_proj
        assert f"layers.{at}.self_attn.q_proj.weight" in changes
        has_values = f"layers.{at}.self_attn.v_proj.weight" in changes
        assert has_values != bundle.config.layers[at].key_equals_value
    write_changed(checkpoint, tmp_path / "merged", changes)
    before, after = (values(Checkpoint(path)) for path in (checkpoint, tmp_path / "merged"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {merge.canonical_name(name) for name in changed} == set(changes)


def values(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    chunks = checkpoint.chunks(lambda tensor: tensor.rows)
    return {chunk.tensor.name: chunk.values.copy() for chunk in chunks}


def test_shards_hold_every_tensor_once_and_the_other_files_come_along(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "SHARD_BYTES", 200_000)
    change = {"norm.weight": lambda stored: stored + 1}
    write_changed(checkpoint, tmp_path / "merged", change)
    before, after = values(Checkpoint(checkpoint)), values(Checkpoint(tmp_path / "merged"))
    assert len(Checkpoint(tmp_path / "merged").files) > 1
    assert before.keys() == after.keys()
    for name, array in before.items():
        wanted = array + 1 if name.endswith("model.norm.weight") else array
        assert np.array_equal(after[name], wanted), name
    for name in ("tokenizer.json", "config.json", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (checkpoint / name).read_bytes()


def test_a_change_of_another_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"layers\.99"):
        write_changed(checkpoint, tmp_path / "merged", {"layers.99.layer_scalar": lambda t: t})
    assert list(tmp_path.iterdir()) == []
