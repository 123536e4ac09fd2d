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
    checkpoint: Path, out: Path, *, recipe: str, device: str, int8_prefill: bool, check: bool
) -> None:
    """Exports with a bar on standard error; with `check`, prints the parity report."""
    if device not in DEVICES:
        raise UsageError(f"got --device {device}, expected cpu or cuda")
    try:
        from export.write import export_bundle
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error.name} is not installed; pip install 'scanscribe[export]'"
        ) from None
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
    if check:
        _print_parity(bundle, checkpoint)


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
