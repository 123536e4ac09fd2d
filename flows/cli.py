"""`flows ...`: parses and calls. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import deploy_command, export_run, model_command, review_command
from flows import run_options as ask
from model_onnx.errors import ScanscribeError, UsageError

app = typer.Typer(
    name="flows",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Folders of scans and recordings in, validated and traceable records out.",
)

Output = Annotated[
    Path | None,
    typer.Option(help="The new dataset's directory.", show_default="INPUT-SUBTASK"),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"scanscribe {version('scanscribe')}")
        except PackageNotFoundError:
            print("scanscribe (run from its source without being installed)")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: flows run extract --schema receipt --input samples/ --output out/")
def run(
    subtask: ask.Subtask,
    input: Annotated[Path, typer.Option(help="A file or a folder tree.")],
    output: Output = None,
    schema: ask.Schema = None,
    labels: ask.Labels = "",
    several: ask.Several = False,
    tools: ask.Tools = None,
    allow: ask.Allow = None,
    model: ask.Model = None,
    soft_tokens: ask.SoftTokens = 560,
    thinking: ask.Thinking = 0,
    keep_thoughts: ask.KeepThoughts = False,
    video: ask.Video = "",
    limit: ask.Limit = None,
    format: ask.Format = None,
    retry_failed: ask.RetryFailed = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be done, and for how long.")
    ] = False,
    prefect: Annotated[
        bool, typer.Option("--prefect", help="As a Prefect flow, also without a server.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Prometheus meanwhile, on the loopback interface."),
    ] = None,
    max_failures: ask.MaxFailures = "50%",
    store: ask.Store = None,
    runner: ask.Runner = "threads",
    workers: ask.Workers = 1,
    address: ask.Address = None,
) -> None:
    """Turn a folder into a dataset: records.jsonl and manifest.jsonl in the output directory.

    What is finished is never computed again; a run that was stopped goes on where it was.
    """
    given = dict(locals())
    for name in ("dry_run", "prefect", "metrics_port", "max_failures"):
        del given[name]
    settings = ask.settings_of(**given)
    if dry_run:
        from flows.preview import print_plan

        print_plan(settings)
        return
    if _wants_prefect(prefect or settings.scale.spread):
        if metrics_port:
            raise UsageError("--metrics-port is for a run without Prefect; leave it out")
        summary = _run_with_prefect(settings, max_failures)
    else:
        summary = _run_here(settings, metrics_port)
    print(f"{settings.directory / 'records.jsonl'}\n{summary}")
    if summary.inputs and summary.inputs == summary.unchanged:
        print("nothing to do: every input has its record already")
    if summary.failed:
        print(f"why inputs failed: {settings.directory / 'manifest.jsonl'}", file=sys.stderr)
    raise typer.Exit(summary.exit_code)


def _wants_prefect(asked: bool) -> bool:
    from flows.server import configured_server

    return asked or configured_server() is not None


def _run_here(settings: Any, metrics_port: int | None) -> Any:
    from flows.progress import show_progress
    from flows.start import execute

    with show_progress() as observer:
        return execute(settings, observer=observer, port=metrics_port)


def _run_with_prefect(settings: Any, max_failures: str) -> Any:
    from flows.prefect_flows import run_with_prefect
    from flows.server import configured_server, wait_for_server

    if url := configured_server():
        wait_for_server(url)
    return run_with_prefect(settings, max_failures)


app.command(epilog=deploy_command.DEPLOY_EXAMPLE)(deploy_command.deploy)
app.command(epilog=deploy_command.SERVE_EXAMPLE)(deploy_command.serve)


@app.command(epilog="Example: flows show receipt-tea.jpg --output out/")
def show(
    record: Annotated[
        str | None,
        typer.Argument(help="A record's id, its beginning, or its input's path; without it, all."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A run's directory.", show_default="here")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The record as it is stored.")] = False,
) -> None:
    """Print one record with the evidence of each value, or the values of all."""
    from flows.show import print_record, print_records

    if record is None:
        print_records(output or Path("."))
    else:
        print_record(record, output or Path("."), as_json=json)


app.command(epilog=review_command.EXAMPLE)(review_command.review)
app.command(epilog=export_run.EXAMPLE)(export_run.export_run)


@app.command(epilog="Example: flows doctor")
def doctor(model: ask.Model = None) -> None:
    """Check the installation: packages, runtime, CUDA, programs, memory; open a bundle."""
    from flows.doctor import examine

    marks = {True: "ok  ", False: "BAD ", None: "-   "}
    bad = 0
    for finding in examine(model):
        bad += finding.good is False
        print(f"{marks[finding.good]}{finding.name:12} {finding.text}", flush=True)
    raise typer.Exit(5 if bad else 0)


@app.command(epilog="Example: flows export gemma-4-12B-it/ bundle/ --recipe int4")
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A directory with safetensors and config.json.")
    ],
    out: Annotated[
        Path, typer.Argument(help="The new bundle's directory; for a drafter, its target's bundle.")
    ],
    recipe: Annotated[str, typer.Option(help="fp32, int4, int4-b128 or int8.")] = "int4",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    int8_prefill: Annotated[
        bool,
        typer.Option("--int8-prefill", help="Add 8-bit matrices that read prompts (CPU)."),
    ] = False,
    drafter: Annotated[
        Path | None,
        typer.Option(help="The checkpoint's drafter, which guesses tokens ahead: its directory."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with transformers afterwards (needs torch).")
    ] = False,
) -> None:
    """Turn a checkpoint into a bundle for `--model`."""
    from flows.export_command import export_and_check

    export_and_check(
        checkpoint,
        out,
        recipe=recipe,
        device=device,
        int8_prefill=int8_prefill,
        drafter=drafter,
        check=check,
    )


@app.command(
    "eval",
    epilog="Example: flows eval --set samples/ --out before.json\n\n"
    "Example: flows eval --compare before.json after.json",
)
def evaluate(
    set: Annotated[
        Path | None, typer.Option("--set", help="A folder with files and expected.jsonl.")
    ] = None,
    model: ask.Model = None,
    out: Annotated[Path | None, typer.Option(help="Write the report there as JSON.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first files.")] = None,
    thinking: ask.Thinking = 0,
    plots: Annotated[Path | None, typer.Option(help="Write pictures there, as SVG.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two reports: BEFORE AFTER.")
    ] = None,
) -> None:
    """Measure a model on a labelled folder, or compare two such reports."""
    from flows.eval_command import compare_reports, evaluate_set

    if (set is None) == (compare is None):
        raise UsageError(
            "got --set and --compare, expected one of them"
            if compare
            else "got nothing to measure, expected --set DIRECTORY or --compare BEFORE AFTER"
        )
    if compare:
        raise typer.Exit(3 if compare_reports(*compare) else 0)
    assert set is not None
    evaluate_set(set, model=model, out=out, limit=limit, thinking=thinking, plots=plots)


app.add_typer(model_command.app, name="model")


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """One clear line for our own errors; for others where they came from, never what they say."""
    try:
        yield
    except ScanscribeError as error:
        print(f"flows: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:  # the reader of our output went away
        raise SystemExit(141) from None
    except Exception as error:
        from flows.run import log_unexpected

        print(f"flows: {log_unexpected(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def main() -> None:
    import logging
    import signal

    # Outside a run; a run has its own way to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    if sys.argv[1:2] == ["run"]:
        from flows.watch import watched

        watched()  # from here on in a child
    with errors_as_exit_codes():
        app()


if __name__ == "__main__":
    main()
