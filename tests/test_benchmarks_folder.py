"""The arithmetic of the folder benchmark, its stopwatch, and the files that it makes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.folder import (
    Measured,
    Memory,
    Stopwatch,
    alone,
    copy_samples,
    flatness,
    folder_figures,
    memory_figures,
    memory_now,
    peak_rss,
    sample_figures,
    write_files,
)
from benchmarks.mixed import receipt, write_folder
from flows.discover import walk


def test_flatness_compares_the_second_hundred_with_the_last() -> None:
    values = [9] * 100 + [100] * 100 + [7] * 200 + [104] * 100
    assert flatness(values) == (100, 104)
    assert flatness(values[:200] + [7] * 700 + [105] * 100) == (100, 105)
    assert flatness([9, 1, 7, 7, 2]) == (1, 2)
    with pytest.raises(ValueError, match="at least 5"):
        flatness([1] * 4)


def test_figures_of_the_folder() -> None:
    files = [Memory(100, 90, 50, 40)] * 9 + [Memory(110, 95, 60, 45)]
    run = Measured(inputs=10, failed=1, pages=6, seconds=4.0, parent_peak_rss=130, files=files)
    run.parent_cpu_seconds, run.parsers_cpu_seconds = 5.0, 1.0
    run.between = [Memory(120, 99, 70, 65)]
    run.stages = {"parse": 1.0, "decode": 3.0}
    figures = folder_figures(run) | memory_figures(run)
    assert figures["folder_files_per_second"] == 2.5
    assert (figures["folder_pages_per_second"], figures["folder_busy_cores"]) == (1.5, 1.5)
    assert (figures["memory_files"], figures["memory_failed_files"]) == (10, 1)
    assert (figures["stage_parse_share"], figures["stage_decode_share"]) == (0.25, 0.75)
    assert figures["parent_peak_rss_bytes"] == 130
    assert figures["parent_peak_pss_bytes"] == 99
    assert figures["children_peak_pss_bytes"] == 70
    assert figures["child_peak_rss_bytes"] == 65
    assert figures["parent_rss_growth_ratio"] == pytest.approx(1.05)  # two files are a fifth
    assert figures["children_pss_growth_ratio"] == pytest.approx(1.1)


def test_pages_and_recordings_have_their_own_seconds() -> None:
    documents = Measured(pages=6, seconds=3.0, failed=1)
    figures = sample_figures("extract", documents, Measured(audio_seconds=8.0, seconds=2.0))
    assert figures["samples_extract_pages_per_second"] == 2
    assert figures["samples_extract_audio_seconds_per_second"] == 4
    assert figures["samples_extract_failed_files"] == 1


def test_a_stage_inside_another_counts_once() -> None:
    watch = Stopwatch()
    inner = watch.timed("write", lambda: time.sleep(0.2))

    def work() -> str:
        inner()
        return "done"

    assert watch.timed("decode", work)() == "done"
    assert watch.seconds["write"] >= 0.2 > watch.seconds["decode"]
    with pytest.raises(ZeroDivisionError):
        watch.timed("parse", lambda: 1 // 0)()
    assert watch.seconds["parse"] >= 0


def test_memory_is_that_of_the_process() -> None:
    before = memory_now()
    held = np.ones(64 << 20, np.uint8)
    now = memory_now()
    assert held.sum() == 64 << 20
    assert now.parent_rss - before.parent_rss > 48 << 20
    assert peak_rss(os.getpid()) >= now.parent_rss - (1 << 20)


def test_the_generated_files_differ_and_take_turns(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "a", 12)
    assert [path.suffix for path in paths] == [".txt", ".png", ".pdf", ".wav"] * 3
    entries = walk(tmp_path / "a")
    assert [entry.path for entry in entries] == paths
    assert {entry.kind for entry in entries} == {"text", "document", "recording"}
    assert len({path.read_bytes() for path in paths}) == 12
    assert receipt(3) == receipt(3) != receipt(7)


def test_a_light_folder_has_all_kinds_in_any_ten_files(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "a", 20, light=True)
    kinds = [path.suffix for path in paths]
    assert kinds[:10] == kinds[10:]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        ".txt": 10,
        ".pdf": 6,
        ".png": 2,
        ".wav": 2,
    }
    assert len({path.read_bytes() for path in paths}) == 20
    assert len(receipt(3, light=True)) < len(receipt(3))


def test_work_alone_is_done_in_another_process(tmp_path: Path) -> None:
    assert alone(os.getpid) != os.getpid()
    assert len(list(alone(write_files, tmp_path / "a", 3, False).iterdir())) == 3


def test_samples_are_split_by_kind(tmp_path: Path) -> None:
    recordings = copy_samples("recording", tmp_path / "recordings")
    assert {path.suffix for path in recordings.iterdir()} == {".wav"}
    documents = copy_samples("document", tmp_path / "documents")
    assert "broken.png" in {path.name for path in documents.iterdir()}
    assert not any(path.suffix == ".txt" for path in documents.iterdir())
