"""The comparison with other engines: shapes, bookkeeping, and our own side on a tiny model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers, shapes
from benchmarks.peer_models import gguf_shapes, q4_0
from benchmarks.peer_ours import Ours
from benchmarks.peer_process import PeerError, Remote, evict
from benchmarks.peer_table import peer_table
from benchmarks.peers import Bench, Row
from export import export_bundle
from export.weights import all_weights
from model_onnx.config import ModelConfig
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("peers")
    checkpoint = tiny_checkpoint(home / "checkpoint")
    return export_bundle(checkpoint, home / "bundle", int8_prefill=True).directory


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_llama_cpp_gets_the_matrices_of_the_12b() -> None:
    config = ModelConfig.from_hugging_face(shapes.published_config(12))
    ours = sorted(
        weight.shape
        for weight in all_weights(config).values()
        if "embedder" not in weight.name
        and "embed_audio" not in weight.name
        and "embed_vision" not in weight.name
    )
    assert sorted(gguf_shapes(12).values()) == ours


def test_blocks_of_q4_0_have_a_scale_and_half_a_byte_a_weight() -> None:
    made = q4_0(6, 64)
    assert made.shape == (6, 36) and made.dtype == np.uint8
    scales = made.reshape(6, 2, 18)[..., :2].copy().view(np.float16)
    assert np.all(scales == np.float16(0.002))
    assert len(np.unique(made.reshape(6, 2, 18)[..., 2:])) > 50


@pytest.mark.parametrize("precision", ["mixed", "int8"])
def test_our_side_answers_every_row(bundle: Path, precision: str) -> None:
    ours = Ours(bundle, precision, 1)
    assert ours.ready() == 4
    for answer in (
        ours.prefill(rows=600),
        ours.decode(context=40, batch=3),
        ours.verify(context=40, rows=8),
    ):
        assert 0 < answer["head_seconds"] < answer["seconds"]
    whole = ours.page(documents=2, restricted=False, soft_tokens=70)
    few = ours.page(documents=2, restricted=True, soft_tokens=70)
    assert whole["tokens"] == few["tokens"] and 100 <= few["tokens"] <= 140
    assert 0.2 < few["forced_tokens"] / few["tokens"] < 0.4
    assert whole["head_seconds"] > 0 == few["head_seconds"]


def test_a_peer_in_its_own_process_answers_refuses_and_is_weighed(bundle: Path) -> None:
    with Remote(sys.executable, "peer_ours", [str(bundle), "recipe"], 1) as remote:
        assert remote.load_seconds > 0 and remote.call("head", rows=2) > 0
        with pytest.raises(PeerError, match=r"AttributeError: .*nothing"):
            remote.call("nothing")
        memory = remote.memory()
        assert min(memory["anonymous_bytes"], memory["pss_bytes"]) > 1 << 20
    with pytest.raises(PeerError, match="the process ended"):
        Remote(sys.executable, "peer_ours", [str(bundle / "missing"), "recipe"], 1)


class Fake:
    """Answers from a list; takes no process."""

    def __init__(self, *seconds: float) -> None:
        self.left, self.calls = list(seconds), 0

    def call(self, name: str, **arguments: Any) -> dict[str, float]:
        self.calls += 1
        if not self.left:
            raise PeerError("cannot do it")
        return {"seconds": self.left.pop(0), "head_seconds": 0.5}


def bench_with(tmp_path: Path, **remotes: Any) -> Bench:
    bench = Bench(tmp_path, (), 1)
    bench._remotes |= remotes
    bench.figures["layers"] = 6
    return bench


def test_the_first_round_warms_up_and_48_layers_have_one_head(tmp_path: Path) -> None:
    fake = Fake(7.0, 1.0, 2.0, 1.5)
    bench = bench_with(tmp_path, int4=fake)
    bench.rows((Row("decode_512", "decode", {}, ("int4",)),), 3)
    figures = bench.figures
    assert (figures["int4_decode_512_ms"], figures["int4_decode_512_spread_ms"]) == (1500, 1000)
    assert figures["extrapolated_48_layers_int4_decode_512_ms"] == 8 * 1000 + 500


def test_long_rows_are_measured_once_and_failures_say_why(tmp_path: Path) -> None:
    long, broken = Fake(60.0, 1.0, 1.0), Fake()
    bench = bench_with(tmp_path, llama=long, genai=broken)
    row = Row("prefill_512", "prefill", {}, ("llama", "genai"), {"transformers": "not asked"})
    bench.rows((row,), 3)
    assert long.calls == 1 and broken.calls == 1
    assert bench.figures["llama_prefill_512_ms"] == 60_000
    assert bench.figures["genai_prefill_512_reason"] == "cannot do it"
    assert bench.figures["transformers_prefill_512_reason"] == "not asked"


def test_an_engine_without_batches_of_pages_does_them_one_by_one(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, genai=Fake(3.0))
    bench.pages(1)
    bench.pages(16)
    assert (bench.figures["genai_page_1_ms"], bench.figures["genai_page_16_ms"]) == (3000, 48_000)
    assert "one document after the other" in str(bench.figures["genai_page_16_note"])


def test_a_model_that_is_missing_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "genai.reason").write_text("the builder refuses\n")
    engines = tuple(engine for engine in peers.ENGINES if engine.name == "genai")
    with Bench(tmp_path, engines, 1) as bench:
        bench.load()
    assert bench.figures == {"genai_load_reason": "the builder refuses"}


def test_every_row_names_engines_that_exist() -> None:
    known = {engine.name for engine in peers.ENGINES}
    for row in peers.ROWS:
        assert set(row.engines) | set(row.without) <= known
        assert not set(row.engines) & set(row.without)


def test_eviction_keeps_the_files(tmp_path: Path) -> None:
    file = tmp_path / "inner" / "file"
    file.parent.mkdir()
    file.write_bytes(b"x" * 9000)
    evict(tmp_path)
    evict(file)
    assert file.read_bytes() == b"x" * 9000


def test_the_table_shows_times_bars_reasons_and_growth() -> None:
    result = {
        "layers": 6,
        "int8_prefill_512_ms": 1000.0,
        "llama_prefill_512_ms": 4600.0,
        "genai_prefill_512_reason": "it fell over",
        "extrapolated_48_layers_int8_prefill_512_ms": 8000.0,
        "extrapolated_48_layers_llama_prefill_512_ms": 36000.0,
        "llama_page_16_ms": 3.0,
        "machine": {"cpu": "A Processor", "cores": 2, "memory_bytes": 8e9},
        "versions": {"numpy": "2"},
        "date": "2026-01-02",
        "command": "python -m benchmarks.peers",
    }
    growth = {"growth_10_page_ms": 20.0, "growth_10_pss_bytes": 5e9}
    lines = peer_table(result, growth).split("\n")
    assert lines[2].startswith("| prefill of 512 tokens | 1,000 ms | 4,600 ms | 4.60 |  |")
    assert lines[2].endswith("|  | >= 2 | 4.50 |")
    assert "- onnxruntime-genai INT4, prefill 512: it fell over." in lines
    assert "- Time of a page and memory by the number of pages: 10: 20 ms, 5.00 GB." in lines
    assert not any("16 pages" in line for line in lines), "we have no figure of our own"
    assert lines[-1].startswith("2026-01-02, 2 cores of A Processor, 8 GB; numpy 2: `python -m")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
