"""docs/pictures/*.svg from the result files that there are.

    python -m benchmarks.plots

A picture whose results are missing is left out, and what stood there before stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy import BENCHES, key_of
from benchmarks.report import RESULTS
from benchmarks.tables import EXTRAPOLATED, FULL_LAYERS
from flows.plots import BLUE, GREEN, GREY, ORANGE, draw_svg

PICTURES = RESULTS.parents[1] / "docs" / "pictures"
PINK = "#CC79A7"
CONTEXTS = (512, 8192, 32768)
BATCHES = (1, 4, 8, 16)
STAGES = (
    ("parse", GREY),
    ("preprocess", PINK),
    ("prefill", BLUE),
    ("decode", ORANGE),
    ("write", GREEN),
)

Results = Mapping[str, Mapping[str, Any]]  # file's name -> what it holds


@dataclass(frozen=True)
class Measure:
    """One line of the accuracy picture: the model with its interval, the rules, the bar."""

    label: str
    value: float
    low: float
    high: float
    rules: float | None
    must: float | None


def pictures(results: Results) -> dict[str, str]:
    """Name -> SVG."""
    made = {name: draw(results) for name, draw in _PICTURES.items()}
    return {name: text for name, text in made.items() if text}


def decode_by_context(results: Results) -> str | None:
    """What a token costs at 12B shapes, by what stands before it."""
    found = results.get("decode-12b")
    if not found:
        return None
    prefix = _prefix(found)
    decoder = [found[f"{prefix}decode_ms_at_{context}"] / 1000 for context in CONTEXTS]
    head = found["head_ms"] / 1000

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        names = [f"{context:,}" for context in CONTEXTS]
        axes.bar(names, decoder, color=BLUE, width=0.55, label="decoder")
        top = axes.bar(names, head, bottom=decoder, color=ORANGE, width=0.55, label="head")
        axes.bar_label(top, [f"{value + head:.2f} s" for value in decoder], padding=2)
        axes.set(xlabel="tokens of context", ylabel="seconds a token", title=_at(found))
        axes.margins(y=0.3)
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", ncols=2)

    return draw_svg(draw, 5.6, 3.4)


def decode_by_batch(results: Results) -> str | None:
    """Tokens a second by how many sequences decode together."""
    found = results.get("decode-12b")
    if not found:
        return None
    prefix = _prefix(found)
    keys = ["decode_ms_at_512", *(f"decode_batch_{size}_ms_at_512" for size in BATCHES[1:])]
    rates = [size / found[prefix + key] * 1000 for size, key in zip(BATCHES, keys, strict=True)]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        drawn = axes.bar([str(size) for size in BATCHES], rates, color=BLUE, width=0.55)
        axes.bar_label(drawn, [f"{rate:.2f}" for rate in rates], padding=2)
        axes.set(xlabel="sequences together", ylabel="tokens a second, decoder", title=_at(found))
        axes.margins(y=0.15)
        axes.grid(axis="x", visible=False)

    return draw_svg(draw, 5.6, 3.2)


def stages(results: Results) -> str | None:
    """Where the time of `flows run` goes."""
    found = results.get("folder", {})
    shares = [(name, found.get(f"stage_{name}_share"), colour) for name, colour in STAGES]
    if any(share is None for _, share, _ in shares):
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        left = 0.0
        for name, share, colour in shares:
            assert share is not None
            axes.barh([""], [share], left=left, color=colour, label=f"{name} {share:.0%}")
            left += share
        axes.set(
            xlim=(0, max(1.0, left)), xlabel="share of the time", title="Where a run's time goes"
        )
        axes.set_yticks([])
        figure.legend(loc="outside lower center", ncols=4)
        axes.grid(axis="y", visible=False)

    return draw_svg(draw, 5.6, 1.9)


def accuracy(results: Results, *, higher: bool = True) -> str | None:
    """The model on sets held out from training, beside the rules and the bar."""
    measures = list(_measures(results.get("accuracy", {}), higher))
    if not measures:
        return None

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, row in enumerate(measures):
            axes.plot([row.low, row.high], [place, place], color=BLUE, linewidth=3, alpha=0.45)
            axes.plot(row.value, place, "o", color=BLUE, clip_on=False, zorder=3)
            if row.rules is not None:
                axes.plot(row.rules, place, "D", color=ORANGE, markersize=5, clip_on=False)
            if row.must is not None:
                axes.plot([row.must] * 2, [place - 0.3, place + 0.3], color=GREEN, linewidth=2)
        for mark, colour, name in (("o", BLUE, "model, 95 % interval"), ("D", ORANGE, "rules"),
                                   ("|", GREEN, "bar to reach")):  # fmt: skip
            axes.plot([], [], mark, color=colour, label=name)
        axes.set_yticks(range(len(measures)), [row.label for row in measures])
        title = "Shares: more is better" if higher else "Error rates: less is better"
        axes.set(xlim=(0, max(1.0, *(row.high for row in measures))), title=title)
        axes.invert_yaxis()
        axes.margins(y=0.06)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3)

    return draw_svg(draw, 8.2, 1.6 + 0.3 * len(measures))


def _measures(found: Mapping[str, Any], higher: bool) -> Iterator[Measure]:
    for bench in BENCHES:
        for figure in bench.figures:
            key = key_of(bench, figure)
            if figure.higher == higher and found.get(key) is not None:
                yield Measure(
                    label=f"{bench.name}: {figure.label.removeprefix('- ')}",
                    value=found[key],
                    low=found[f"{key}_low"],
                    high=found[f"{key}_high"],
                    rules=found.get(f"{key}_rules"),
                    must=figure.must,
                )


def _prefix(found: Mapping[str, Any]) -> str:
    return "" if found.get("layers", FULL_LAYERS) == FULL_LAYERS else EXTRAPOLATED


def _at(found: Mapping[str, Any]) -> str:
    layers = found.get("layers", FULL_LAYERS)
    how = "" if layers == FULL_LAYERS else f", extrapolated from {layers} layers"
    return f"12B shapes, {found['recipe']}, {found['machine']['cores']} cores{how}"


_PICTURES: dict[str, Callable[[Results], str | None]] = {
    "decode-by-context": decode_by_context,
    "decode-by-batch": decode_by_batch,
    "stages": stages,
    "accuracy-shares": accuracy,
    "accuracy-errors": lambda results: accuracy(results, higher=False),
}


def read_results(directory: Path = RESULTS) -> dict[str, Mapping[str, Any]]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in directory.glob("*.json")}


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, text in pictures(read_results()).items():
        path = PICTURES / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(RESULTS.parents[1]))


if __name__ == "__main__":
    main()
