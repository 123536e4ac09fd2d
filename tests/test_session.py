"""Prepacked weights: same outputs, one file, safe against a race; providers; element types."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import export_bundle
from model_onnx import session
from model_onnx.bundle import DECODER, HEAD, Bundle
from model_onnx.decoder import Decoder
from model_onnx.errors import BundleError, RuntimeUnavailableError
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLP matrices above 1 MiB, the others below: both kinds that the stored file has."""
    home = tmp_path_factory.mktemp("bundle")
    checkpoint = tiny_checkpoint(home / "checkpoint", intermediate_size=1 << 16)
    export_bundle(checkpoint, home / "bundle", recipe="int4")
    return home / "bundle"


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scanscribe"


def hidden_states(directory: Path, prepack: bool) -> np.ndarray[Any, np.dtype[Any]]:
    decoder = Decoder(Bundle.open(directory), "cpu", threads=1, prepack=prepack)
    cache = decoder.cache(slots=1, local_capacity=64, global_capacity=64)
    ids = np.arange(60, 90)
    hidden = decoder.forward(cache, 0, decoder.embed(ids)[None], np.zeros((1, 30), np.int64))
    return np.concatenate([hidden[0], decoder.logits(hidden[0])], axis=1)


def test_prepacked_weights_give_the_same_numbers(directory: Path, cache_home: Path) -> None:
    plain = hidden_states(directory, prepack=False)
    assert not cache_home.exists()
    first, second = (hidden_states(directory, prepack=True) for _ in range(2))
    assert np.array_equal(plain, first) and np.array_equal(first, second)
    made = sorted(path.name for path in cache_home.rglob("*.onnx"))
    assert made == [DECODER, HEAD]
    stored = sum(path.stat().st_size for path in cache_home.rglob("decoder.bin"))
    assert stored > 12 * (1 << 20), "the large matrices and their packed copies are in the file"


def test_small_bundles_are_not_prepacked_by_themselves(directory: Path, cache_home: Path) -> None:
    Decoder(Bundle.open(directory), "cpu")
    assert not cache_home.exists()


def _open(directory: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(float(np.abs(hidden_states(directory, prepack=True)).sum()))


def test_two_processes_may_make_the_file_at_once(directory: Path, cache_home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_open, args=(directory, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    sums = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(sums)) == 1
    assert not list(cache_home.rglob(".making-*")), "drafts are left behind"
    assert len(list(cache_home.rglob("*.onnx"))) == 2


def test_another_machine_or_version_gets_its_own_file(
    directory: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden_states(directory, prepack=True)
    monkeypatch.setattr(session.ort, "__version__", "9.9.9")
    session.prepacked(Bundle.open(directory), DECODER)
    assert len(list(cache_home.iterdir())) == 2


def test_no_room_for_the_file_is_said_before_it_is_written(
    directory: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(session.shutil, "disk_usage", lambda path: full)
    with pytest.raises(RuntimeUnavailableError, match="prepack=False"):
        session.prepacked(Bundle.open(directory), DECODER)
    assert not list(cache_home.rglob("*.onnx"))


def test_a_provider_that_is_not_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match=r"scanscribe\[cuda\]"):
        session.choose_provider(Bundle.open(directory), "cuda")
    assert session.choose_provider(Bundle.open(directory), None) == "cpu"


@pytest.mark.parametrize("prepack", [None, True])
def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(
    directory: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch, prepack: bool | None
) -> None:
    """As onnxruntime-gpu does where CUDA's libraries are missing: it lists the provider, warns and
    opens the session on the CPU."""
    wanted: list[dict[str, Any]] = []
    real = session._session

    def without_cuda(path: Path, providers: Any, threads: int, **options: Any) -> Any:
        wanted.append({"providers": providers, **options})
        return real(path, ["CPUExecutionProvider"], threads, **options)

    monkeypatch.setattr(session, "_session", without_cuda)
    with pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider did not start"):
        session.open_graph(Bundle.open(directory), DECODER, "cuda", prepack=prepack)
    # A prepacked graph is the CPU's alone: on CUDA the graph is the bundle's, to be optimised.
    cuda = {"providers": ["CUDAExecutionProvider"], "optimized": False, "record": True}
    assert wanted == [cuda]
    assert not cache_home.exists()


def test_a_cache_directory_that_cannot_be_written(directory: Path, cache_home: Path) -> None:
    cache_home.parent.mkdir()
    cache_home.touch()
    with pytest.raises(RuntimeUnavailableError, match="or open the engine with prepack=False"):
        session.prepacked(Bundle.open(directory), DECODER)


def test_what_a_killed_process_left_is_removed_after_a_day(
    directory: Path, cache_home: Path
) -> None:
    home = session.prepacked(Bundle.open(directory), DECODER).parents[1]
    old, fresh = home / ".making-old", home / ".making-fresh"
    for draft in (old, fresh):
        draft.mkdir()
        (draft / "decoder.bin").touch()
    os.utime(old, (0, 0))
    session.prepacked(Bundle.open(directory), HEAD)
    assert fresh.exists() and not old.exists()


def test_a_damaged_graph_is_a_bundle_error(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    size = (copy / DECODER).stat().st_size
    (copy / DECODER).write_bytes(b"\x00" * size)
    with pytest.raises(BundleError, match="export the bundle again"):
        Decoder(Bundle.open(copy), "cpu")
    with pytest.raises(BundleError, match="sha256"):
        Bundle.open(copy, verify=True)
    (copy / DECODER).unlink()
    with pytest.raises(BundleError, match="incomplete"):
        Bundle.open(copy)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_element_types_round_trip(kind: Any) -> None:
    values = np.array([0.0, 1.0, -2.5, 1e-3, 300.0], np.float32)
    elements = session.to_elements(values, kind)
    assert elements.dtype == session.ELEMENT_TYPES[kind].dtype
    assert np.allclose(session.from_elements(elements, kind), values, rtol=2**-7, atol=0)


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", ["avx2", "fma"], True),
        ("AMD64", ["avx2", "avx512f"], True),
        ("x86_64", ["avx2", "avx_vnni"], False),
        ("x86_64", ["avx512_vnni"], False),
        ("aarch64", ["asimd"], False),
    ],
)
def test_unsigned_weights_only_where_byte_products_saturate(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: list[str], expected: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(session, "_cpu_features", lambda: features)
    assert session.byte_products_saturate() is expected


def test_int8_computes_the_same_with_unsigned_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_bundle(tiny_checkpoint(tmp_path / "checkpoint"), tmp_path / "bundle", recipe="int8")
    logits = []
    for saturates in (False, True):
        monkeypatch.setattr(session, "byte_products_saturate", lambda it=saturates: it)
        decoder = Decoder(Bundle.open(tmp_path / "bundle"), "cpu", threads=1, prepack=False)
        cache = decoder.cache(slots=1, local_capacity=32, global_capacity=32)
        embeds = np.random.default_rng(0).standard_normal((1, 5, 64), np.float32)
        hidden = decoder.forward(cache, 0, embeds, np.zeros((1, 5), np.int64))
        logits.append(decoder.logits(hidden[0]))
    np.testing.assert_array_equal(logits[0], logits[1])
