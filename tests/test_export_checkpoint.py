"""Reading safetensors files, whole, sharded and damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from export.checkpoint import Checkpoint
from model_onnx.errors import CheckpointError

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(4, 3),
    "b": np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16),
    "c": np.arange(8, dtype=np.float16).reshape(2, 2, 2),
    "scalar": np.array(3, np.float32),
}


def read(checkpoint: Checkpoint, rows: int = 100) -> dict[str, Any]:
    pieces: dict[str, list[Any]] = {}
    for chunk in checkpoint.chunks(lambda tensor: rows):
        assert chunk.start == sum(len(piece) for piece in pieces.get(chunk.tensor.name, []))
        pieces.setdefault(chunk.tensor.name, []).append(chunk.values)
    return {
        name: values[0] if values[0].ndim == 0 else np.concatenate(values)
        for name, values in pieces.items()
    }


def sharded(directory: Path) -> Path:
    save_file({name: ARRAYS[name] for name in ("a", "b")}, directory / "x-1-of-2.safetensors")
    save_file({name: ARRAYS[name] for name in ("c", "scalar")}, directory / "x-2-of-2.safetensors")
    places = {name: f"x-{1 if name in 'ab' else 2}-of-2.safetensors" for name in ARRAYS}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_every_row_of_every_tensor_once_in_its_own_type(tmp_path: Path, rows: int) -> None:
    file = tmp_path / "model.safetensors"
    save_file(ARRAYS, file)
    got = read(Checkpoint(tmp_path), rows)
    assert set(got) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_a_file_is_hashed_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(ARRAYS, file)
    checkpoint = Checkpoint(file)
    read(checkpoint)
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_shards_are_read_through_the_directory_or_the_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    by_directory, by_index = Checkpoint(tmp_path), Checkpoint(index)
    assert set(read(by_directory)) == set(read(by_index)) == set(ARRAYS)
    assert by_directory.sha256 == by_index.sha256


def cut(data: bytes) -> bytes:
    return data[:-1]


def long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 1 << 40) + data[8:]


def broken_json(data: bytes) -> bytes:
    return data[:8] + b"{" * 8 + data[16:]


def quantised_type(data: bytes) -> bytes:
    return data.replace(b'"BF16"', b'"I16" ')


def wrong_length(data: bytes) -> bytes:
    return data.replace(b'"shape":[6]', b'"shape":[5]')


def not_a_mapping(data: bytes) -> bytes:
    return struct.pack("<Q", 2) + b"[]"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "truncated, tensor .* ends at byte"),
        (long_header, "no safetensors header"),
        (broken_json, "damaged header"),
        (quantised_type, "tensor b has type I16, expected one of"),
        (wrong_length, "tensor b has 12 bytes, expected 10"),
        (not_a_mapping, "damaged header"),
        (lambda data: b"", "no safetensors header"),
        (lambda data: b"GGUF" + data, "is a GGUF file"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file = tmp_path / "model.safetensors"
    save_file(ARRAYS, file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint(file)
    assert str(file) in str(caught.value)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(ARRAYS, file)
    checkpoint = Checkpoint(file)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*x\.safetensors: No such file"):
        read(checkpoint)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_checkpoint_or_an_error(tmp_path_factory: Any, data: bytes) -> None:
    file = tmp_path_factory.mktemp("bytes") / "x.safetensors"
    file.write_bytes(struct.pack("<Q", max(0, len(data) - 8)) + data)
    with contextlib.suppress(CheckpointError):
        read(Checkpoint(file))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no model.safetensors, expected"),
        (("model.gguf",), "got GGUF files"),
        (("model-1.safetensors", "pytorch_model.bin"), "no model.safetensors, expected"),
    ],
)
def test_a_directory_without_a_checkpoint(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.gguf", "model.pt", "model"])
def test_other_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"expected \.safetensors"):
        Checkpoint(tmp_path / name)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        Checkpoint(tmp_path / "nowhere")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "x-2-of-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lists x-2-of-2\.safetensors, which is not there"):
        Checkpoint(tmp_path)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    sharded(tmp_path)
    save_file(ARRAYS, tmp_path / "x-2-of-2.safetensors")
    with pytest.raises(CheckpointError, match="tensor a is in"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "[]"])
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="download it again"):
        Checkpoint(tmp_path)


def test_an_index_cannot_lead_out_of_its_directory(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    save_file(ARRAYS, tmp_path / "secret.safetensors")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (inside / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lists secret\.safetensors, which is not there"):
        Checkpoint(inside)
