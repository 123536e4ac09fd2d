"""The benchmark of a long context, at tiny shapes: what it holds and what it extrapolates."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.long_context import _extrapolated, hold
from export import export_bundle
from tests.tiny import WINDOW, tiny_checkpoint


def test_the_rows_are_counted_as_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", max_position_embeddings=16384)
    bundle = export_bundle(checkpoint, tmp_path / "bundle")
    for kind, width in (("float", 4), ("int8", 1)):
        figures = hold(bundle.directory, 1, kind, 16384, 2)  # type: ignore[arg-type]
        local = 2 * 2 * 2 * 16 * (WINDOW + 127) * 4  # layers, key and value, heads, size, rows
        assert figures["cache_bytes"] == local + 2 * 2 * 1 * 32 * 16384 * width
        assert figures["layers"] == 4 and figures["global_layers"] == 2
        assert isinstance(figures["pss_bytes"], int) and figures["pss_bytes"] > 1 << 20


def test_fewer_layers_are_said_to_be_extrapolated() -> None:
    figures = {"token_ms": 100.0, "pss_gib": 2.0, "cache_bytes": 10}
    assert _extrapolated(dict(figures), 1.0) == {}
    assert _extrapolated(dict(figures), 8.0) == {
        "extrapolated_48_layers_token_ms": 800.0,
        "extrapolated_48_layers_pss_gib": 16.0,
        "extrapolated_48_layers_cache_bytes": 80.0,
    }
