"""`flows export`: the only part of flows that imports export, when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from flows.discover import printable
from model_onnx.bundle import Bundle
from model_onnx.errors import RuntimeUnavailableError, UsageError

DEVICES: dict[str, Literal["cpu", "cuda"]] = {"cpu": "cpu", "cuda": "cuda"}


def export_and_check(
    checkpoint: Path,
    out: Path,
    *,
    recipe: str,
    device: str,
    int8_prefill: bool,
    drafter: Path | None,
    check: bool,
) -> None:
    """Exports with a bar on standard error; with `check`, prints the parity report. A drafter is
    put beside its target: with it, or later into the bundle `out`."""
    if device not in DEVICES:
        raise UsageError(f"got --device {device}, expected cpu or cuda")
    try:
        from export.drafter import check_pair, is_drafter
        from export.write import export_bundle
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed; pip install 'scanscribe[export]'"
        ) from None
    if is_drafter(checkpoint):
        _add_drafter(checkpoint, out)
        return
    if drafter is not None:  # before the minutes that the target takes
        check_pair(drafter, checkpoint)
    bar = Progress(
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int, tensor: str) -> None:
            bar.update(task, completed=done, total=total, description=printable(tensor))

        bundle = export_bundle(
            checkpoint,
            out,
            recipe=recipe,
            device=DEVICES[device],
            int8_prefill=int8_prefill,
            progress=progress,
        )
    size = sum(entry["bytes"] for entry in bundle.files.values())
    print(f"{out}: {bundle.recipe} for {bundle.device}, {size >> 20} MiB, {bundle.sha256[:12]}")
    if drafter is not None:
        _add_drafter(drafter, out)
    if check:
        _print_parity(bundle, checkpoint)


def _add_drafter(drafter: Path, out: Path) -> None:
    from export.drafter import add_drafter

    entry = add_drafter(drafter, out).drafter
    assert entry is not None
    size = sum(file["bytes"] for file in entry.files.values())
    print(f"{out}: with a drafter of {len(entry.config.layers)} layers, {size / (1 << 20):.1f} MiB")


def _print_parity(bundle: Bundle, checkpoint: Path) -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed; pip install 'scanscribe[parity]'"
        ) from None
    from export.parity import check_parity

    report = check_parity(bundle, checkpoint)
    print(f"prompts: {', '.join(report.prompts)}")
    for name in ("same_weights", "original_weights"):
        difference = getattr(report, name)
        print(
            f"{name.replace('_', ' ')}: relative {difference.relative:.2e}, largest "
            f"{difference.largest:.2e}, same top token {difference.same_top_token:.1%}"
        )
