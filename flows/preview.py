"""`flows run --dry-run`: the list, the sums, and an estimate of minutes."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing

from flows.discover import printable
from flows.plan import Planned, known_rate, known_results, measured_rate, plan
from flows.start import LazyEngine, Settings, prepare


def print_plan(settings: Settings) -> None:
    """One line per input that is not `unchanged`, then the sums. Raises UsageError, ModelError."""
    bundle, procedure, entries = prepare(settings)
    with ExitStack() as stack:
        stack.callback(procedure.abandon)
        store = known_results(settings.directory)
        if store:
            stack.enter_context(store)
        states: Counter[str] = Counter()
        todo: list[Planned] = []
        for row in plan(
            procedure,
            entries,
            store,
            retry_failed=settings.retry_failed,
            limit=settings.limit,
        ):
            states[row.state] += 1
            if row.state == "compute":
                todo.append(row)
            if row.state != "unchanged":
                print(line(row))
        rate = known_rate(store)
        if todo and rate is None:
            engine = stack.enter_context(closing(LazyEngine(bundle)))
            rate = measured_rate(procedure, entries, lambda: engine)
    print(", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "no inputs")
    print(total(todo, rate))


def line(row: Planned) -> str:
    size = row.size
    parts = [f"{size.pages} pages"] if size.pages else []
    parts += [f"{size.audio_seconds:.0f} s of audio"] if size.audio_seconds else []
    parts += [f"about {size.prompt_tokens} tokens"] if size.prompt_tokens else []
    return "  ".join([f"{row.state:12}", printable(row.path), ", ".join(parts)]).rstrip()


def total(todo: list[Planned], rate: float | None) -> str:
    """rate: seconds per prompt token."""
    pages = sum(row.size.pages for row in todo)
    audio = sum(row.size.audio_seconds for row in todo)
    tokens = sum(row.size.prompt_tokens for row in todo)
    minutes = "unknown" if rate is None else f"{tokens * rate / 60:.1f}"
    return (
        f"{len(todo)} documents, {pages} pages, {audio:.0f} s of audio, about {tokens} tokens: "
        f"about {minutes if todo else '0.0'} minutes"
    )
