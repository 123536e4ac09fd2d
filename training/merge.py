"""A checkpoint with some weights changed, written tensor by tensor: one shard is in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoint import Checkpoint
from export.weights import TABLE, canonical_name
from model_onnx.errors import CheckpointError

Change = Callable[[Tensor], Tensor]  # a stored weight -> the new one, in any type
SHARD_BYTES = 2 << 30
_INDEX = "model.safetensors.index.json"


def write_changed(source: Path, target: Path, changes: Mapping[str, Change]) -> None:
    """changes: by `canonical_name`. Types, spellings and all other files stay as they are.

    `target` is complete or not there. Raises CheckpointError when a change meets no tensor.
    """
    checkpoint = Checkpoint(source)
    left = set(changes) - {canonical_name(name) for name in checkpoint.tensors}
    if left:
        raise CheckpointError(
            f"{source}: got no tensor for {sorted(left)[:3]}; expected the checkpoint that was "
            "trained, do not change it meanwhile"
        )
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in checkpoint.directory.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != _INDEX:
            shutil.copyfile(path, partial / path.name)
    _write_shards(checkpoint, partial, changes)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def _changed_name(name: str) -> str:
    """A stored head is the table of embeddings once more."""
    name = canonical_name(name)
    return TABLE if name.endswith("lm_head.weight") else name


def _write_shards(checkpoint: Checkpoint, directory: Path, changes: Mapping[str, Change]) -> None:
    shard: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    size = number = total = 0

    def flush() -> None:
        nonlocal shard, size, number
        number += 1
        name = f"model-{number:05}.safetensors"
        save_file(shard, directory / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, name))
        shard, size = {}, 0

    for file in checkpoint.files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                value = tensors.get_tensor(name)
                change = changes.get(_changed_name(name))
                if change:
                    value = change(value).detach().to("cpu", value.dtype).reshape(value.shape)
                shard[name] = value.contiguous()
                size += value.nbytes
                total += value.nbytes
                if size >= SHARD_BYTES:
                    flush()
    if shard:
        flush()
    if number == 1:
        os.replace(directory / "model-00001.safetensors", directory / "model.safetensors")
        return
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (directory / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
