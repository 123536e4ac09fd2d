"""flows/plots.py: what the pictures say, that they repeat, and that nothing in them acts."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from flows.plots import evaluation, write_plots
from pipelines.evaluate import Report
from pipelines.metrics import Interval

NAMES = ("company", "<script>alert(1)</script>", "$x_2$", "القيمة")


def pairs(count: int = 200) -> list[tuple[float, bool]]:
    drawn = random.Random(0)
    sure = [drawn.random() for _ in range(count)]
    return [(round(value, 3), drawn.random() < value) for value in sure]


def report() -> Report:
    return Report(
        set="x",
        bundle="b",
        provider="cpu",
        items={str(n): {"extract.seconds": (n, 1.0), "extract.tokens": (9.0, 1.0)} for n in (1, 2)},
        metrics={f"extract.field_f1.{name}": Interval(0.5, 0.25, 0.75, 9) for name in NAMES},
        judged={"extract": pairs()},
        causes={"extraction": 1234},
    )


def words(svg: str) -> list[str]:
    return [text.strip() for text in ET.fromstring(svg).itertext() if text.strip()]


def test_a_report_has_its_pictures() -> None:
    made = evaluation(report())
    assert list(made) == [
        "Reliability, extract",
        "Confidence threshold, extract",
        "F1 by field",
        "Errors by cause",
        "Cost by document",
    ]
    assert {"company", "$x_2$", "0.50"} <= set(words(made["F1 by field"]))
    assert "1,234" in words(made["Errors by cause"])
    assert "Cost by document, 2 documents, the dearest first" in words(made["Cost by document"])
    assert evaluation(Report("x", "b", "cpu", {}, {})) == {}


def test_the_same_data_give_the_same_bytes() -> None:
    assert evaluation(report()) == evaluation(report())


def test_nothing_in_a_picture_acts_or_is_fetched() -> None:
    for text in evaluation(report()).values():
        tree = ET.fromstring(text)
        assert tree.tag == "{http://www.w3.org/2000/svg}svg" and text.startswith("<svg")
        names = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not names & {"script", "image", "foreignObject", "a", "metadata"}
        links = [v for e in tree.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)


def test_each_picture_is_a_file_named_by_its_title(tmp_path: Path) -> None:
    made = evaluation(report())
    paths = write_plots(tmp_path / "pictures", made)
    assert [path.name for path in paths] == [
        "reliability-extract.svg", "confidence-threshold-extract.svg", "f1-by-field.svg",
        "errors-by-cause.svg", "cost-by-document.svg",
    ]  # fmt: skip
    assert paths[2].read_text("utf-8") == made["F1 by field"]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: Any) -> None:
    from flows.plots import load_matplotlib
    from model_onnx.errors import RuntimeUnavailableError

    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(RuntimeUnavailableError, match=r"scanscribe\[plots\]"):
        load_matplotlib()
