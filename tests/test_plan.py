"""flows/plan.py: what a run would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.discover import walk
from flows.plan import known_rate, known_results, measured_rate, plan
from flows.run import Size
from tests.fake_run import PageModel, procedure, run


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    directory = tmp_path / "in"
    directory.mkdir()
    for name, text in {"a": "one\ntwo", "b": "three", "c": "one\ntwo", "d": "fail damaged"}.items():
        (directory / f"{name}.txt").write_text(text)
    (directory / "e.zip").write_bytes(b"x")
    return directory


def states(inbox: Path, output: Path, **options: object) -> dict[str, str]:
    store = known_results(output)
    rows = plan(procedure(), walk(inbox), store, **options)  # type: ignore[arg-type]
    found = {row.path[0]: row.state for row in rows}
    if store:
        store.close()
    return found


def test_a_plan_says_what_a_run_then_does(inbox: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert states(inbox, output) == {
        "a": "compute",
        "b": "compute",
        "c": "unchanged",  # the bytes of a
        "d": "damaged",
        "e": "unsupported",
    }
    assert states(inbox, output, limit=1)["b"] == "pending"
    assert not output.exists()
    run(inbox, output, PageModel(tmp_path / "calls"))
    before = {path.name: path.read_bytes() for path in output.glob("*.jsonl")}
    (inbox / "b.txt").write_text("new")
    assert states(inbox, output) == {
        "a": "unchanged",
        "b": "compute",
        "c": "unchanged",
        "d": "damaged",
        "e": "unsupported",
    }
    assert before == {path.name: path.read_bytes() for path in output.glob("*.jsonl")}


def test_sizes_are_measured(inbox: Path) -> None:
    first = next(iter(plan(procedure(), walk(inbox), None)))
    assert first.size == Size(pages=2, prompt_tokens=20)


def test_minutes_come_from_a_run_or_from_one_document(inbox: Path, tmp_path: Path) -> None:
    model = PageModel(tmp_path / "calls", 0.01)
    assert known_rate(None) is None
    rate = measured_rate(procedure(), walk(inbox), lambda: model)
    assert rate and rate >= 0.02 / 20
    run(inbox, tmp_path / "out", model)
    store = known_results(tmp_path / "out")
    assert store
    with store:
        known = known_rate(store)
    assert known and known > 0
    run(inbox, tmp_path / "out", model)  # computed nothing: what is known stays
    with known_results(tmp_path / "out") or store as again:
        assert known_rate(again) == known


def test_no_rate_without_a_document(tmp_path: Path) -> None:
    assert measured_rate(procedure(), walk(tmp_path), lambda: PageModel(tmp_path / "c")) is None
