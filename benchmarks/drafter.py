"""What the drafter brings: how often its guesses are right and how much faster answers are.

    python -m benchmarks.drafter                           # the embedded model, on real work
    python -m benchmarks.drafter --shape 12b --layers 6    # break-even at the 12B's shapes

Real work: the requests that the pipelines make of held-out samples (extract, transcribe, clean,
repair), one at a time, each answered in turn by an engine without the drafter and by one with it.
Acceptance: of the ids that were verified, the share that was right, the right ones before it given;
measured without a text to copy from, which would guess first. Speed-up: decoding time without by
decoding time with the drafter, of all requests of a round; the median of the rounds.

The 12B's shapes have random weights: a step of one row, of five, and a guess are timed, 48 layers
are extrapolated, and what a given acceptance would bring is computed from these times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.decode import FULL_LAYERS, _alternate, _pretend
from benchmarks.report import Value, print_table, write_report
from benchmarks.sets import generated
from export.drafter import add_drafter
from model_onnx.bundle import Bundle
from model_onnx.costs import Costs
from model_onnx.decoder import Decoder
from model_onnx.drafter import Drafter
from model_onnx.engine import POCKET, Engine
from model_onnx.sequence import Request, Result
from pipelines.evaluate import evaluate
from pipelines.opening import Opener
from pipelines.options import Options

WORK = {"extract": "extract_text", "transcribe": "read_line", "clean": "clean", "repair": "repair"}
FIRST_SEED = 5000  # of the held-out samples; other benchmarks and tests begin elsewhere
VERIFIED = 5  # rows of the step that checks four guesses
THIRD_PARTY = (0.66, 0.82)  # acceptance that others report for the 12B's drafter


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=POCKET, help="a bundle with a drafter")
    parser.add_argument("--n", type=int, default=12, help="samples of each subtask")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--shape", choices=["12b"])
    parser.add_argument("--layers", type=int, default=6, help="a multiple of 6 (5 local, 1 global)")
    parser.add_argument("--recipe", default="int4")
    given = parser.parse_args()
    if given.shape is None and Bundle.open(given.model).drafter is None:
        parser.error(
            f"got {given.model}, a bundle without a drafter, expected one with it; train one with "
            "`python -m training.drafter`, then `flows export DIR/model BUNDLE`"
        )
    if given.shape is None:
        figures, name = on_real_work(given.model, given.n, given.rounds, given.threads), "drafter"
    else:
        figures = at_full_shape(given.layers, given.recipe, given.rounds, given.threads)
        name = "drafter-12b"
    print_table(figures)
    write_report(name, figures)


class Recorder:
    """An engine that keeps what it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.requests = engine, list[Request]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, request: Request) -> Future[Result]:
        self.requests.append(request)
        return self._engine.submit(request)


@dataclass
class Sums:
    """Of one subtask in one round. seconds of decoding, by (drafted, with its text to copy)."""

    seconds: dict[tuple[bool, bool], float] = field(default_factory=dict)
    verified: int = 0
    right: int = 0
    tokens: int = 0

    def add(self, key: tuple[bool, bool], seconds: float) -> None:
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds

    def speedup(self, copying: bool) -> float:
        return self.seconds[False, copying] / self.seconds[True, copying]


def on_real_work(model: Path, n: int, rounds: int, threads: int) -> dict[str, Value]:
    bundle = Bundle.open(model)
    with (
        Engine.open(bundle, slots=1, threads=threads, drafts="off") as plain,
        Engine.open(bundle, slots=1, threads=threads, drafts="auto") as drafted,
    ):
        work = requests(plain, n)
        run_round(plain, drafted, {name: asked[:2] for name, asked in work.items()})  # warm
        sums = [run_round(plain, drafted, work) for _ in range(rounds)]
        assert drafted.drafting is not None
        costs = drafted.drafting.costs.costs(1) or drafted.drafting.costs.costs(1)
    figures = _summary(sums)
    figures |= {
        "n": sum(map(len, work.values())),
        "rounds": rounds,
        "tokens": sum(task.tokens for task in sums[0].values()),
        "drafter_bytes": _drafter_bytes(bundle),
        "threads": threads,
    }
    if costs is not None:
        figures |= {
            "break_even_acceptance": costs.break_even(),
            "verified_row_in_plain_steps": costs.row,
            "guess_in_plain_steps": costs.draft,
        }
    return figures


def requests(engine: Engine, n: int) -> dict[str, list[Request]]:
    """What the pipelines ask the model about `n` samples of each subtask."""
    work = {}
    with (
        tempfile.TemporaryDirectory(prefix="drafter-") as scratch,
        Opener(workers=1, tesseract=False) as files,
    ):
        for subtask, task in WORK.items():
            labelled = generated(task, Path(scratch) / task, n, start=FIRST_SEED)
            recorder: Any = Recorder(engine)
            evaluate(recorder, labelled, read=files.open, options=Options(time_limit=None))
            work[subtask] = recorder.requests
    return work


def run_round(plain: Engine, drafted: Engine, work: Mapping[str, list[Request]]) -> dict[str, Sums]:
    """Every request by both engines, as it is and without its text to copy from."""
    assert drafted.drafting is not None
    whole, sums = drafted.drafting.overall, {name: Sums() for name in work}
    for name, asked in work.items():
        for at, request in enumerate(asked):
            for copying in (True, False):
                given = request if copying else replace(request, draft=None)
                engines = [(False, plain), (True, drafted)]
                results: dict[bool, Result] = {}
                verified, right = whole.verified, whole.right
                for is_drafted, engine in engines[:: 1 if at % 2 else -1]:
                    results[is_drafted] = engine.generate(given)
                    sums[name].add((is_drafted, copying), results[is_drafted].decode_seconds)
                if results[True].ids != results[False].ids:
                    print(f"{name} {at}: another answer, by a rounding at a near-tie")
                if not copying:
                    sums[name].verified += whole.verified - verified
                    sums[name].right += whole.right - right
                    sums[name].tokens += len(results[True].ids)
    return sums


def _summary(rounds: list[dict[str, Sums]]) -> dict[str, Value]:
    """Medians of the rounds, for all subtasks together and for each."""
    figures: dict[str, Value] = {}
    whole = [_together(list(sums.values())) for sums in rounds]
    for prefix, sums in {"": whole, **{f"{n}_": [r[n] for r in rounds] for n in WORK}}.items():
        speedups = [one.speedup(True) for one in sums]
        figures[f"{prefix}acceptance"] = _share(sums)
        figures[f"{prefix}speedup"] = statistics.median(speedups)
        figures[f"{prefix}speedup_least"] = min(speedups)
        figures[f"{prefix}speedup_most"] = max(speedups)
        bare = statistics.median(one.speedup(False) for one in sums)
        figures[f"{prefix}speedup_without_copying"] = bare
    return figures


def _share(sums: list[Sums]) -> float:
    return sum(one.right for one in sums) / max(1, sum(one.verified for one in sums))


def _together(parts: list[Sums]) -> Sums:
    whole = Sums()
    for part in parts:
        for key, seconds in part.seconds.items():
            whole.add(key, seconds)
        whole.verified += part.verified
        whole.right += part.right
        whole.tokens += part.tokens
    return whole


def _drafter_bytes(bundle: Bundle) -> int:
    assert bundle.drafter is not None
    return sum(entry["bytes"] for entry in bundle.drafter.files.values())


def at_full_shape(layers: int, recipe: str, rounds: int, threads: int) -> dict[str, Value]:
    from benchmarks.export import synthetic_bundle

    with tempfile.TemporaryDirectory(prefix="drafter-12b-") as scratch:
        directory = synthetic_bundle(Path(scratch), layers=layers, recipe=recipe)
        bundle = add_drafter(shapes.write_drafter(Path(scratch) / "drafter"), directory)
        decoder = Decoder(bundle, "cpu", threads=threads, prepack=False)
        drafter = Drafter(bundle, decoder, "cpu", threads=threads)
        times = _alternate(_cases(decoder, drafter), rounds)
        size = _drafter_bytes(bundle)
    whole = _break_even(times, FULL_LAYERS / layers)
    return {
        "layers": layers,
        "recipe": recipe,
        "threads": threads,
        **times,
        "drafter_bytes": size,
        **_break_even(times, 1.0),
        **{f"extrapolated_{FULL_LAYERS}_layers_{name}": value for name, value in whole.items()},
    }


def _break_even(times: Mapping[str, float], scale: float) -> dict[str, float]:
    """scale: from the layers that were timed to those that are meant; the head and a guess stay."""
    plain, verify = (
        times[f"decoder_{rows}_ms"] * scale + times[f"head_{rows}_ms"] for rows in (1, VERIFIED)
    )
    row = (verify - plain) / (VERIFIED - 1) / plain
    costs = Costs(row=row, draft=times["draft_ms"] / plain)
    return {
        "plain_ms": plain,
        f"verify_{VERIFIED}_ms": verify,
        "verified_row_in_plain_steps": costs.row,
        "guess_in_plain_steps": costs.draft,
        "break_even_acceptance": costs.break_even(),
        **{f"speedup_at_{rate}": speedup(costs, rate) for rate in THIRD_PARTY},
    }


def speedup(costs: Costs, rate: float) -> float:
    """Tokens in a plain step's time with the number of guesses that is best at this rate."""
    count = costs.best_count(rate)
    return sum(rate**i for i in range(count + 1)) / (1 + (costs.row + costs.draft) * count)


def _cases(decoder: Decoder, drafter: Drafter) -> dict[str, Callable[[], object]]:
    """At 512 tokens of context, whose rows are written: unwritten pages cost less to read."""
    window, hidden, context = decoder.config.sliding_window, decoder.config.hidden_size, 512
    cache = decoder.cache(slots=1, local_capacity=window + 127, global_capacity=context + 128)
    for buffer in (buffer for pair in cache.buffers for buffer in pair):
        buffer.fill(0.01)
    states = np.random.default_rng(0).standard_normal((1, VERIFIED, hidden), np.float32)

    def step(rows: int) -> None:
        _pretend(cache, context, window)
        decoder.forward(cache, 0, states[:, :rows], np.zeros((1, rows), np.int64))

    def draft() -> None:
        _pretend(cache, context, window)
        drafter.draft(cache, 0, states[0, 0], [7], 1)

    cases: dict[str, Callable[[], object]] = {"draft_ms": draft}
    for rows in (1, VERIFIED):
        cases[f"decoder_{rows}_ms"] = lambda rows=rows: step(rows)  # type: ignore[misc]
        cases[f"head_{rows}_ms"] = lambda rows=rows: decoder.logits(states[0, :rows])  # type: ignore[misc]
    return cases


if __name__ == "__main__":
    main()
