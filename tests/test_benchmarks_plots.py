"""benchmarks/plots.py: pictures of what was measured, and of nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from benchmarks import plots
from benchmarks.accuracy import BENCHES, key_of

DECODE: dict[str, Any] = {
    "layers": 6,
    "recipe": "int4",
    "machine": {"cores": 2},
    "head_ms": 110.0,
    "extrapolated_48_layers_decode_ms_at_512": 890.0,
    "extrapolated_48_layers_decode_ms_at_8192": 791.0,
    "extrapolated_48_layers_decode_ms_at_32768": 1141.0,
    "extrapolated_48_layers_decode_batch_4_ms_at_512": 1000.0,
    "extrapolated_48_layers_decode_batch_8_ms_at_512": 1600.0,
    "extrapolated_48_layers_decode_batch_16_ms_at_512": 3200.0,
}


def words(svg: str) -> list[str]:
    return [text.strip() for text in ET.fromstring(svg).itertext() if text.strip()]


def test_only_what_was_measured_is_drawn() -> None:
    assert plots.pictures({}) == {}
    assert list(plots.pictures({"decode-12b": DECODE})) == ["decode-by-context", "decode-by-batch"]


def test_a_tokens_cost_is_the_decoder_and_the_head() -> None:
    text = words(plots.pictures({"decode-12b": DECODE})["decode-by-context"])
    assert {"1.00 s", "0.90 s", "1.25 s", "32,768"} <= set(text)
    assert "12B shapes, int4, 2 cores, extrapolated from 6 layers" in text
    assert "5.00" in words(plots.pictures({"decode-12b": DECODE})["decode-by-batch"])


def test_shares_and_errors_have_pictures_of_their_own() -> None:
    measured = {}
    for bench in BENCHES:
        for figure in bench.figures:
            key = key_of(bench, figure)
            measured |= {key: 0.5, f"{key}_low": 0.4, f"{key}_high": 0.6, f"{key}_rules": 0.7}
    made = plots.pictures({"accuracy": measured, "folder": {"stage_parse_share": 0.1}})
    assert list(made) == ["accuracy-shares", "accuracy-errors"]
    shares, errors = (" ".join(words(text)) for text in made.values())
    assert "field F1" in shares and "WER" not in shares
    assert "calibration error" in errors and "field F1" not in errors


def test_the_stages_of_a_run() -> None:
    found = {f"stage_{name}_share": 0.25 for name, _ in plots.STAGES}
    text = words(plots.pictures({"folder": found})["stages"])
    assert "prefill 25%" in text


def test_pictures_in_the_documents_are_those_of_the_results() -> None:
    for name, text in plots.pictures(plots.read_results()).items():
        there = plots.PICTURES / f"{name}.svg"
        assert there.is_file(), f"run python -m benchmarks.plots: {name} is missing"
        numbers = r"(?<![\d.#])\d+(?:\.\d+)? ?(?:s|%)?(?=<)"  # coordinates differ by version
        assert re.findall(numbers, there.read_text("utf-8")) == re.findall(numbers, text), name
