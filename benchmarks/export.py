"""Time, memory and size of an export at the 12B shapes: `python -m benchmarks.export --shape 12b`.

Makes a synthetic checkpoint with the exact tensor names and shapes, exports it and removes both.
Needs about 24 GB of disk for the checkpoint and the size of the bundle.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report, shapes
from export import export_bundle
from export.quantize import RECIPES, Blocks, Float, Recipe, Target
from export.weights import Weight, all_weights
from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig

LAYERS = {"12b": 48, "12b-period": 6}  # a period is 5 local layers and a global one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=LAYERS, default="12b")
    parser.add_argument("--recipe", choices=RECIPES, default="int4")
    parser.add_argument("--directory", type=Path, help="where the temporary files go")
    arguments = parser.parse_args()
    config = shapes.published_config(LAYERS[arguments.shape])
    needed = _needed_bytes(config, RECIPES[arguments.recipe])
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="benchmark-") as temporary:
        free = shutil.disk_usage(temporary).free
        if free < needed:
            print(
                f"{temporary}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed for the "
                "checkpoint and the bundle; use --directory on another disk",
                file=sys.stderr,
            )
            return 2
        measures = measure(Path(temporary), config, arguments.recipe)
    suffix = "" if arguments.recipe == "int4" else f"-{arguments.recipe}"
    report.print_table(measures)
    report.write_report(f"export-{arguments.shape}{suffix}", measures)
    return 0


def synthetic_bundle(directory: Path, *, layers: int, recipe: str) -> Path:
    """A bundle of the 12B's shapes with `layers` layers and made-up weights, in `directory`."""
    checkpoint = shapes.write_checkpoint(directory / "checkpoint", shapes.published_config(layers))
    bundle = export_bundle(checkpoint, directory / "bundle", recipe=recipe)
    shutil.rmtree(checkpoint)
    return bundle.directory


def measure(directory: Path, config: dict[str, Any], recipe: str) -> dict[str, report.Value]:
    checkpoint = shapes.write_checkpoint(directory / "checkpoint", config)
    before, load, start = _cpu_seconds(), os.getloadavg()[0], time.perf_counter()
    bundle = export_bundle(checkpoint, directory / "bundle", recipe=recipe, progress=_progress)
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - before
    size = sum(path.stat().st_size for path in bundle.directory.iterdir())
    arithmetic = arithmetic_bytes(bundle, recipe)
    return {
        "recipe": recipe,
        "tensors": len(all_weights(bundle.config)),
        "parameters": sum(_count(weight) for weight in all_weights(bundle.config).values()),
        "checkpoint_bytes": (checkpoint / "model.safetensors").stat().st_size,
        "bundle_bytes": size,
        "arithmetic_bytes": arithmetic,
        "bundle_to_arithmetic_ratio": size / arithmetic,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "load_before": load,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def arithmetic_bytes(bundle: Bundle, recipe: str) -> int:
    """Bits per weight times weights, nothing else: what the bundle should weigh."""
    target = Target(RECIPES[recipe], bundle.device, bundle.activation_type)
    return round(
        sum(
            _count(weight) * _bits_per_weight(weight, target) / 8
            for weight in all_weights(bundle.config).values()
        )
    )


def _bits_per_weight(weight: Weight, target: Target) -> float:
    packing, float_bits = target.packing(weight), 8 * target.dtype.itemsize
    if isinstance(packing, Float):
        return 8 * target.float_dtype(weight).itemsize
    size = packing.size if isinstance(packing, Blocks) else weight.shape[1]
    bits = packing.bits if isinstance(packing, Blocks) else 8
    return bits + float_bits / size


def _needed_bytes(config: dict[str, Any], recipe: Recipe) -> int:
    weights = all_weights(ModelConfig.from_hugging_face(config)).values()
    target = Target(recipe, "cpu", "float32")
    bits = sum(_count(weight) * (16 + _bits_per_weight(weight, target)) for weight in weights)
    return round(bits / 8 * 1.02) + (1 << 30)


def _count(weight: Weight) -> int:
    return int(np.prod(weight.shape))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _progress(done: int, total: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done / total:6.1%}  {name[:60]:<60}", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
