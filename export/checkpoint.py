"""Safetensors shards as a stream of arrays. Knows no architecture: files, names, types, shapes.

The files are read with plain reads, front to back and once, not memory-mapped: mapped pages would
count as resident memory, and the same pass gives the hash of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

from model_onnx.errors import CheckpointError

_TYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a shard. `offset`: bytes from the start of the file."""

    name: str
    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        return self.rows * self.row_bytes


@dataclass(frozen=True)
class Chunk:
    """Rows [start, start + len(values)) of a tensor, in the checkpoint's type."""

    tensor: StoredTensor
    start: int
    values: npt.NDArray[Any]


class Checkpoint:
    """The tensors of a model directory or of one safetensors file. Raises CheckpointError."""

    def __init__(self, path: Path) -> None:
        self.files = _shards(path)
        self.directory = self.files[0].parent
        self.tensors: dict[str, StoredTensor] = {}
        for file in self.files:
            for tensor in _read_header(file):
                if tensor.name in self.tensors:
                    raise CheckpointError(
                        f"tensor {tensor.name} is in {self.tensors[tensor.name].file} and in "
                        f"{file}; expected it once, remove the stale shard"
                    )
                self.tensors[tensor.name] = tensor
        self._digests: dict[str, str] = {}

    def chunks(self, rows: Callable[[StoredTensor], int]) -> Iterator[Chunk]:
        """Every tensor in file order, in pieces of `rows(tensor)` rows. Read it to the end before
        asking for `sha256`."""
        for file in self.files:
            with _readable(file), file.open("rb") as stream:
                yield from self._chunks_of(file, stream, rows)

    def _chunks_of(
        self, file: Path, stream: BinaryIO, rows: Callable[[StoredTensor], int]
    ) -> Iterator[Chunk]:
        digest = hashlib.sha256()
        tensors = [tensor for tensor in self.tensors.values() if tensor.file == file]
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            digest.update(stream.read(tensor.offset - stream.tell()))
            step = max(1, rows(tensor))
            for start in range(0, tensor.rows, step):
                count = min(step, tensor.rows - start)
                data = stream.read(count * tensor.row_bytes)
                if len(data) != count * tensor.row_bytes:
                    raise CheckpointError(
                        f"{file}: ends inside tensor {tensor.name}; download the file again"
                    )
                digest.update(data)
                shape = (count, *tensor.shape[1:]) if tensor.shape else ()
                yield Chunk(tensor, start, np.frombuffer(data, tensor.dtype).reshape(shape))
        digest.update(stream.read())
        self._digests[file.name] = digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Of the one file, or of the list of the shards' hashes."""
        if len(self.files) == 1:
            return self._digests[self.files[0].name]
        listing = "".join(f"{self._digests[file.name]}  {file.name}\n" for file in self.files)
        return hashlib.sha256(listing.encode()).hexdigest()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """No permission, a failing disk, a file that went away: the checkpoint's fault, by name."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot read {file}: {error.strerror}; expected a safetensors file, check its "
            "permissions and the disk"
        ) from error


def _shards(path: Path) -> list[Path]:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected a model directory or a file")
    if path.is_dir():
        index, single = path / "model.safetensors.index.json", path / "model.safetensors"
        if index.is_file():
            return _indexed(index)
        if single.is_file():
            return [single]
        kind = "GGUF files" if list(path.glob("*.gguf")) else "no model.safetensors"
        raise CheckpointError(
            f"{path}: got {kind}, expected model.safetensors or model.safetensors.index.json; "
            "use the original Hugging Face checkpoint"
        )
    if path.name.endswith(".index.json"):
        return _indexed(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: got a {path.suffix or 'nameless'} file, expected .safetensors; "
            "GGUF and PyTorch files cannot be exported, use the original checkpoint"
        )
    return [path]


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"cannot read {index}: {error!r}; download it again") from error
    files = [index.parent / Path(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{index} lists {file.name}, which is not there; download it")
    if not files:
        raise CheckpointError(f"{index} lists no file; download it again")
    return files


def _read_header(file: Path) -> list[StoredTensor]:
    """safetensors: 8 bytes length of a JSON header, the header, the data."""
    with _readable(file), file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        if start[:4] == b"GGUF":
            raise CheckpointError(f"{file} is a GGUF file; expected the original safetensors")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(f"{file}: no safetensors header in {size} bytes; download again")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        items = [(name, entry, *entry["data_offsets"]) for name, entry in header.items()]
        tensors = [_tensor(file, 8 + length, *item) for item in items]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: damaged header ({error!r}); download it again") from error
    for tensor in tensors:
        if tensor.offset + tensor.bytes > size:
            raise CheckpointError(
                f"{file}: truncated, tensor {tensor.name} ends at byte "
                f"{tensor.offset + tensor.bytes} of {size}; download the file again"
            )
    return tensors


def _tensor(file: Path, data: int, name: str, entry: Any, begin: int, end: int) -> StoredTensor:
    if entry["dtype"] not in _TYPES:
        raise CheckpointError(
            f"{file}: tensor {name} has type {entry['dtype']}, expected one of {sorted(_TYPES)}; "
            "use the unquantised checkpoint"
        )
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(int(size) for size in entry["shape"])
    tensor = StoredTensor(name, file, dtype, shape, data + int(begin))
    if tensor.bytes != end - begin or begin < 0:
        raise CheckpointError(
            f"{file}: tensor {name} has {end - begin} bytes, expected {tensor.bytes} for {shape}; "
            "download the file again"
        )
    return tensor


def free_bytes(directory: Path) -> int:
    usage = os.statvfs(directory)
    return usage.f_bavail * usage.f_frsize
