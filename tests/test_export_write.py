"""Exports of a whole checkpoint: layout, report, repeatability, and what every failure leaves."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

import export.write
from export import export_bundle
from export.parity import stored_weights
from export.quantize import RECIPES
from export.weights import canonical_name
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import CheckpointError, ConfigError, OutputError, ScanscribeError
from tests.tiny import tiny_checkpoint, write_json


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("write") / "checkpoint")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint that the test may damage."""
    return tiny_checkpoint(tmp_path / "own")


def change(checkpoint: Path, name: str, change: Callable[[Any], Any] | None) -> None:
    """Changes or removes one tensor."""
    file = checkpoint / "model.safetensors"
    arrays = load_file(file)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays.get(name))
    save_file(arrays, file)


def change_config(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((checkpoint / "config.json").read_text())
    change(raw)
    write_json(checkpoint / "config.json", raw)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoint: Path, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export_bundle(checkpoint, tmp_path / "a", recipe=recipe)
    monkeypatch.setattr(export.write, "_THREADS", 1)
    second = export_bundle(checkpoint, tmp_path / "b", recipe=recipe)
    files = sorted(path.name for path in first.directory.iterdir())
    assert files == sorted([*first.files, names.MANIFEST])
    for name in files:
        assert first.path(name).read_bytes() == second.path(name).read_bytes()
    assert first.sha256 == second.sha256


def test_rows_in_small_pieces_give_the_same_bytes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export_bundle(checkpoint, tmp_path / "a", recipe="int4")
    monkeypatch.setattr(export.write, "_ROWS_BYTES", 5 * 64 * 4)
    second = export_bundle(checkpoint, tmp_path / "b", recipe="int4")
    for name in (names.DECODER_WEIGHTS, names.EMBEDDING_WEIGHTS):
        assert first.files[name] == second.files[name]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_written_bundle_opens_and_its_hashes_hold(
    checkpoint: Path, tmp_path: Path, recipe: str
) -> None:
    export_bundle(checkpoint, tmp_path / "out", recipe=recipe)
    bundle = Bundle.open(tmp_path / "out", verify=True)
    assert (bundle.recipe, bundle.device, bundle.activation_type) == (recipe, "cpu", "float32")
    assert bundle.source_sha256 == names.sha256_file(checkpoint / "model.safetensors")
    assert oct(bundle.directory.stat().st_mode)[-3:] == "755"


def test_float_weights_come_back_bit_by_bit(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, tmp_path / "out", recipe="fp32")
    original = {
        canonical_name(key): array
        for key, array in load_file(checkpoint / "model.safetensors").items()
    }
    stored = stored_weights(bundle)
    assert set(stored) == set(original)
    for name, array in original.items():
        np.testing.assert_array_equal(stored[name], array)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_initializer_lies_in_a_file_once_and_embedding_and_head_share(
    checkpoint: Path, tmp_path: Path, recipe: str
) -> None:
    bundle = export_bundle(checkpoint, tmp_path / "out", recipe=recipe)
    places: dict[str, dict[str, str]] = {}
    users: Counter[str] = Counter()
    for name in names.GRAPHS:
        model = onnx.load(str(bundle.path(name)), load_external_data=False)
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                users[tensor.name] += 1
                assert places.setdefault(tensor.name, entries) == entries
                if int(entries["length"]) >= 4096:
                    assert int(entries["offset"]) % 4096 == 0
    shared = {name for name, count in users.items() if count > 1}
    assert shared == {name for name in places if name.startswith("embed_tokens.weight")}
    spans = sorted(
        (place["location"], int(place["offset"]), int(place["length"])) for place in places.values()
    )
    for (file, offset, length), (next_file, next_offset, _) in itertools.pairwise(spans):
        assert file != next_file or offset + length <= next_offset


def test_the_report_names_every_tensor_and_the_worst(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, tmp_path / "out", recipe="int4")
    report = json.loads(bundle.path(names.QUANTIZATION_REPORT).read_text())
    assert set(report["tensors"]) == set(stored_weights(bundle))
    errors = report["tensors"]
    assert report["tensors"]["layers.0.input_layernorm.weight"] == 0
    assert 0.05 < errors["layers.1.mlp.up_proj.weight"] < 0.1
    assert 0 < errors["embed_tokens.weight"] < 0.01
    worst = max(errors, key=errors.__getitem__)
    assert report["worst"][worst] == errors[worst] == max(errors.values())
    assert 0 < report["relative_error"] < errors[worst]


def test_a_quantisation_aware_checkpoint_keeps_its_lattice(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "lattice", lattice=True)
    bundle = export_bundle(source, tmp_path / "out", recipe="int4")
    report = json.loads(bundle.path(names.QUANTIZATION_REPORT).read_text())
    assert max(report["tensors"].values()) <= 1e-6


def test_a_tied_head_is_named_as_skipped(own: Path, tmp_path: Path) -> None:
    change(own, "lm_head.weight", lambda _: np.zeros((512, 64), np.float32))
    bundle = export_bundle(own, tmp_path / "out")
    report = json.loads(bundle.path(names.QUANTIZATION_REPORT).read_text())
    assert report["skipped"] == ["lm_head.weight"]


@pytest.mark.parametrize(
    ("dtype", "hidden", "factor"),
    [("float32", 96, 9.797959), ("bfloat16", 96, 9.8125), ("float16", 96, 9.796875)],
)
def test_the_embedding_factor_is_rounded_as_the_checkpoint_is(
    tmp_path: Path, dtype: str, hidden: int, factor: float
) -> None:
    source = tiny_checkpoint(tmp_path / "own", dtype=dtype, hidden_size=hidden)
    bundle = export_bundle(source, tmp_path / "out")
    assert bundle.embedding_factor == pytest.approx(factor, rel=1e-6)
    assert float(np.float32(np.sqrt(3840)).astype(ml_dtypes.bfloat16)) == 62.0


def test_progress_counts_up_to_all_bytes(checkpoint: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    export_bundle(checkpoint, tmp_path / "out", progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[-1] == calls[-1][1] <= (checkpoint / "model.safetensors").stat().st_size


def spoil(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array.flat[-1] = value
        return array

    return change


DENSE = "model.vision_embedder.patch_dense.weight"
UP = "model.language_model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        (UP, spoil(np.nan), f"tensor {UP} has NaN"),
        (DENSE, spoil(-np.inf), f"tensor {DENSE} has NaN or infinite"),
        (UP, None, "missing tensors layers.1.mlp.up_proj.weight"),
        (UP, lambda array: array[:-1].copy(), r"up_proj.weight: got shape \[127, 64\]"),
        ("model.vision_tower.x", lambda _: np.zeros(3, np.float32), "unexpected .*vision_tower.x"),
    ],
    ids=["nan", "infinite", "missing", "shape", "unexpected"],
)
def test_a_bad_tensor_is_named_and_nothing_is_left(
    own: Path, tmp_path: Path, name: str, how: Callable[[Any], Any] | None, message: str
) -> None:
    change(own, name, how)
    assert_refused(tmp_path, own, CheckpointError, message)


@pytest.mark.parametrize("name", [names.TOKENIZER, names.CHAT_TEMPLATE, names.GENERATION_CONFIG])
def test_a_missing_tokenizer_file_is_named(own: Path, tmp_path: Path, name: str) -> None:
    (own / name).unlink()
    assert_refused(tmp_path, own, CheckpointError, f"has no {name}")


def other_model(raw: dict[str, Any]) -> None:
    raw["model_type"] = "gemma3"


def with_towers(raw: dict[str, Any]) -> None:
    raw["vision_config"]["num_hidden_layers"] = 27


def experts(raw: dict[str, Any]) -> None:
    raw["text_config"]["enable_moe_block"] = True


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (other_model, "got model_type 'gemma3', expected 'gemma4_unified'"),
        (with_towers, "unknown fields .*num_hidden_layers"),
        (experts, "enable_moe_block: got True, expected False"),
    ],
)
def test_another_architecture_is_refused(
    own: Path, tmp_path: Path, how: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_config(own, how)
    assert_refused(tmp_path, own, ConfigError, message)


def test_an_output_that_exists_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputError, match="out exists; expected a new directory") as caught:
        export_bundle(checkpoint, tmp_path / "out")
    assert caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_too_small_a_disk_is_noticed_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.write, "free_bytes", lambda directory: 1_000_000)
    assert_refused(tmp_path, checkpoint, OutputError, "got 0.0 GB free, expected")


def test_a_disk_that_fills_up_is_an_output_error(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert_refused(tmp_path, checkpoint, OutputError, "the disk is full")


def test_an_unwritable_parent_is_an_output_error(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        export_bundle(checkpoint, tmp_path / "file" / "out")


def test_an_interrupt_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_float16_ask_for_bfloat16(own: Path, tmp_path: Path) -> None:
    name = "model.language_model.norm.weight"
    change(own, name, spoil(1e6))
    with pytest.raises(CheckpointError, match=f"{name} does not fit in float16; use bfloat16"):
        export_bundle(own, tmp_path / "out", device="cuda")
    export_bundle(own, tmp_path / "out", device="cuda", activation_type="bfloat16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "int3"}, "recipe: got 'int3', expected one of"),
        ({"device": "tpu"}, "device: got 'tpu'"),
        ({"activation_type": "float16"}, "activation type: got 'float16'"),
        ({"activations": "int4"}, "activations: got 'int4'"),
    ],
)
def test_options_that_do_not_exist(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_bundle(checkpoint, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def assert_refused(
    directory: Path, checkpoint: Path, kind: type[ScanscribeError], message: str
) -> None:
    """Exporting fails with one clear error and leaves nothing in an empty place."""
    place = directory / "place"
    place.mkdir()
    with pytest.raises(kind, match=message) as caught:
        export_bundle(checkpoint, place / "out")
    assert caught.value.exit_code == 2
    assert list(place.iterdir()) == []
