"""benchmarks/tables.py and the markers of benchmarks/report.py."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.folder import Measured, Memory, folder_figures, memory_figures, sample_figures
from benchmarks.report import README, replace_table
from benchmarks.tables import GROUPS, performance_table, read_results

ORIGIN: dict[str, Any] = {
    "machine": {"cpu": "A Processor", "cores": 2, "memory_bytes": 8e9},
    "date": "2026-01-02",
    "command": "python -m benchmarks.something",
}
DECODE = {"layers": 6, "decode_ms_at_512": 100.0, "head_ms": 50.0, **ORIGIN}
DECODE["extrapolated_48_layers_decode_ms_at_512"] = 800.0


@pytest.mark.parametrize("name", ["accuracy", "performance", "peers"])
def test_the_readme_has_the_places_for_the_tables(name: str) -> None:
    text = README.read_text("utf-8")
    once = replace_table(text, name, "| x |")
    assert f"<!-- table:{name} -->\n| x |\n<!-- /table -->" in once
    assert replace_table(once, name, "| x |") == once


def test_only_what_stands_between_the_markers_changes() -> None:
    text = "a <!-- table:b --> old <!-- /table --> c <!-- table:d -->\n<!-- /table --> e"
    assert replace_table(text, "b", "new") == (
        "a <!-- table:b -->\nnew\n<!-- /table --> c <!-- table:d -->\n<!-- /table --> e"
    )


def test_a_text_without_markers_is_refused() -> None:
    for text in ("nothing here", "<!-- table:a --> without an end", "<!-- /table -->"):
        with pytest.raises(ValueError, match="expected both"):
            replace_table(text, "a", "| x |")


def test_figures_for_all_layers_are_named_extrapolated() -> None:
    lines = performance_table({"decode-12b": DECODE}).split("\n")
    assert "| | 6 layers, measured | 48 layers, extrapolated |" in lines
    assert "| decoder, 1 token at context 512 | 100 ms | 800 ms |" in lines
    assert "| 1 token at context 512, with the head | 150 ms | 850 ms |" in lines
    assert "| head, 1 token (once, whatever the layers) | 50 ms |  |" in lines
    assert "extrapolated" not in performance_table({"decode-12b": DECODE | {"layers": 48}})


def test_only_what_exists_stands_in_the_table_with_its_origin() -> None:
    assert performance_table({}) == ""
    result = {"bundle_bytes": 8_160_000_000, "load_before": 0.5, **ORIGIN}
    title, *rest = performance_table({"export-12b": result}).split("\n")
    assert title == (
        "**Export at the 12B's shapes** (2026-01-02, 2 cores of A Processor, 8 GB, "
        "load 0.5 before: `python -m benchmarks.something`)"
    )
    assert rest == ["", "| | measured |", "|---|---:|", "| bundle | 8.16 GB |"]


def test_every_line_names_a_figure_that_is_measured() -> None:
    memory = Memory(parent_rss=1, parent_pss=1)
    run = Measured(inputs=5, seconds=1.0, files=[memory] * 5)
    run.stages = dict.fromkeys(("parse", "preprocess", "prefill", "decode", "write"), 1.0)
    samples = sample_figures("extract", run, run) | sample_figures("transcribe", run, run)
    folder = folder_figures(run) | memory_figures(run) | samples
    measured = read_results() | {"folder": folder}
    for group in GROUPS:
        keys = {line.key for line in group.lines} - {"token_ms"}
        if group.file in measured:
            assert keys <= set(measured[group.file])
