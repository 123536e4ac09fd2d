"""Pictures of how good it is and what it costs, as SVG.

    evaluation(report)   a report of `flows eval` -> {title: SVG}

Each picture stands alone on white, so it reads on a light and on a dark page; colours are those of
Okabe and Ito, which colour-blind people tell apart. The same data give the same bytes. A picture
without data is left out. To show one in a page, put it into an <img>: then nothing in it can act.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.files import replacing
from model_onnx.errors import RuntimeUnavailableError
from pipelines.causes import CAUSES
from pipelines.confidence import TARGET, Pairs, share_interval, suggested_threshold, threshold_rows
from pipelines.evaluate import Report
from pipelines.metrics import reliability

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
_MOST_BARS = 40
_METADATA = ("Date", "Creator", "Format", "Type")
_STYLE = {
    "svg.hashsalt": "scanscribe",
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are a user's own
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def evaluation(report: Report) -> dict[str, str]:
    """Title -> SVG."""
    pictures: dict[str, str] = {}
    for subtask, pairs in report.judged.items():
        pictures[f"Reliability, {subtask}"] = reliability_curve(pairs)
        pictures[f"Confidence threshold, {subtask}"] = threshold_curve(pairs)
    fields = {
        name.split(".", 2)[2]: (interval.value, interval.low, interval.high)
        for name, interval in report.metrics.items()
        if ".field_f1." in name and interval.value is not None
    }
    if fields:
        pictures["F1 by field"] = field_bars(fields)
    if report.causes:
        pictures["Errors by cause"] = cause_bars(report.causes)
    costs = [_cost_of_item(ratios) for ratios in report.items.values()]
    if costs:
        pictures["Cost by document"] = cost_curves(costs)
    return pictures


def reliability_curve(pairs: Pairs) -> str:
    """How often values of a confidence are right, and how many have it."""
    bins = reliability([sure for sure, _ in pairs], [right for _, right in pairs])

    def draw(figure: Any) -> None:
        above, below = figure.subplots(
            2, sharex=True, gridspec_kw={"height_ratios": [3, 1], "hspace": 0.08}
        )
        above.plot(
            [0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right"
        )
        sure, right = [b.confidence for b in bins], [b.accuracy for b in bins]
        spans = [share_interval(b.accuracy, b.n) for b in bins]
        errors = [
            [max(0.0, r - low) for r, (low, _) in zip(right, spans, strict=True)],
            [max(0.0, high - r) for r, (_, high) in zip(right, spans, strict=True)],
        ]
        above.errorbar(
            sure, right, yerr=errors, color=BLUE, marker="o", capsize=3, label="measured"
        )
        above.set(
            xlim=(0, 1),
            ylim=(-0.02, 1.02),
            ylabel="share right",
            title="Are confident values right?",
        )
        above.legend(loc="upper left")
        width = [b.high - b.low for b in bins]
        below.bar([b.low for b in bins], [b.n for b in bins], width, align="edge", color=BLUE)
        below.set(xlabel="confidence", ylabel="values")

    return draw_svg(draw, 5.2, 4.6)


def threshold_curve(pairs: Pairs) -> str:
    """What is kept above a confidence, how much of it is right, and where to cut."""
    rows = threshold_rows(pairs)
    suggested = suggested_threshold(pairs)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        sure = [row[0] for row in rows]
        axes.plot(sure, [row[1] for row in rows], color=BLUE, label="precision")
        axes.plot(sure, [row[2] for row in rows], color=ORANGE, linestyle="--", label="coverage")
        axes.axhline(TARGET, color=GREY, linewidth=1, linestyle=":")
        title = f"No threshold makes {TARGET:.0%} right"
        if suggested is not None:
            kept = sum(confidence >= suggested for confidence, _ in pairs) / len(pairs)
            axes.axvline(suggested, color=GREEN, linewidth=2, label=f"suggested: {suggested:.2f}")
            title = f"From {suggested:.2f} on, {TARGET:.0%} are right; {kept:.0%} of all are kept"
        axes.set(
            xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold", ylabel="share of values", title=title
        )
        axes.legend(loc="lower left")

    return draw_svg(draw, 5.6, 3.8)


def field_bars(fields: Mapping[str, tuple[float | None, float | None, float | None]]) -> str:
    """fields: name -> (F1, low, high)."""
    rows = list(fields.items())[:_MOST_BARS]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, (_, (value, low, high)) in enumerate(rows):
            assert value is not None and low is not None and high is not None
            axes.plot([low, high], [place, place], color=BLUE, linewidth=2, alpha=0.5)
            axes.plot(value, place, "o", color=BLUE, clip_on=False)
            axes.annotate(f"{value:.2f}", (1.03, place), va="center", annotation_clip=False)
        axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows])
        axes.set(xlim=(0, 1), xlabel="F1, with its 95 % interval", title="F1 by field")
        axes.invert_yaxis()
        axes.margins(y=0.1)
        axes.grid(axis="y", visible=False)

    return draw_svg(draw, 5.6, 1.3 + 0.32 * len(rows))


def cause_bars(causes: Mapping[str, int]) -> str:
    """causes: name -> number of wrong values."""
    named = {name: causes.get(name, 0) for name in (*CAUSES, *sorted(set(causes) - set(CAUSES)))}
    said = {
        "reading": "reading: not in what was read",
        "extraction": "extraction: another value, or none",
        "grounding": "grounding: stands nowhere",
    }
    labels = [said.get(name, name) for name in named]
    return _bars("Errors by cause", "wrong values", labels, list(named.values()), ORANGE)


def cost_curves(costs: Sequence[tuple[float, float]]) -> str:
    """costs: (seconds, tokens) of each document."""

    def draw(figure: Any) -> None:
        figure.suptitle(f"Cost by document, {len(costs)} documents, the dearest first",
                        x=0.02, ha="left", fontsize=11, fontweight="bold")  # fmt: skip
        for axes, column, name, colour in zip(
            figure.subplots(1, 2), (0, 1), ("seconds", "tokens"), (BLUE, GREEN), strict=True
        ):
            values = sorted((cost[column] for cost in costs), reverse=True)
            middle = values[len(values) // 2]
            places = [place + 0.5 for place in range(len(values))]
            axes.bar(places, values, width=1.0 if len(values) > 60 else 0.85, color=colour)
            axes.axhline(middle, color=ORANGE, linewidth=1.5, label=f"median {middle:,.4g}")
            axes.set(xlim=(0, len(values)), ylim=(0, None), xlabel="documents", ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="x", visible=False)
            axes.legend(loc="upper right")

    return draw_svg(draw, 7.2, 3.2)


def write_plots(directory: Path, pictures: Mapping[str, str]) -> list[Path]:
    """One file per picture, named by its title. Raises OutputError."""
    paths = []
    for title, text in pictures.items():
        words = "".join(c.lower() if c.isalnum() else " " for c in title).split()
        paths.append(directory / f"{'-'.join(words)}.svg")
        with replacing(paths[-1]) as file:
            file.write(text.encode("utf-8"))
    return paths


def load_matplotlib() -> Any:
    """The module. Raises RuntimeUnavailableError."""
    try:
        import matplotlib
    except ImportError:
        raise RuntimeUnavailableError(
            "got no matplotlib, which draws the pictures; install it: "
            "pip install 'scanscribe[plots]'"
        ) from None
    return matplotlib


def _bars(
    title: str, axis: str, labels: Sequence[str], numbers: Sequence[float], colour: str
) -> str:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        drawn = axes.barh([_short(label) for label in labels], numbers, color=colour, height=0.6)
        axes.bar_label(drawn, padding=4, fmt="{:,.0f}")
        axes.set(xlim=(0, max(*numbers, 1) * 1.12), xlabel=axis, title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)

    return draw_svg(draw, 5.6, 1.3 + 0.36 * len(labels))


def draw_svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """What `draw` puts on a figure. width, height: inches.

    Without the head of an XML file, so that it may stand in a page, and without metadata.
    """
    matplotlib = load_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font for measuring lacks
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", metadata=dict.fromkeys(_METADATA))
    text = out.getvalue()
    return text[text.index("<svg") :]


def _cost_of_item(ratios: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    found = {name.split(".")[-1]: top for name, (top, _) in ratios.items()}
    return found.get("seconds", 0.0), found.get("tokens", 0.0)


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."
