"""What fine-tuning takes, calculated from a config: nothing is loaded, nothing was measured.

python -m training.memory --checkpoint DIR
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from export.weights import Weight, all_weights
from model_onnx.config import ModelConfig
from model_onnx.errors import RuntimeUnavailableError

GIB = 1 << 30
_TRAINED = 16  # bytes a trained parameter: float32 weight, gradient, two averages of AdamW
_FROZEN = 2  # bfloat16
_RESERVE = 0.08  # of the memory: CUDA's own, and what fragments
_HEAD_TOKENS = 512  # answers together have about so many tokens
_HEAD_BYTES = 12  # per logit: bfloat16, float32, its gradient
TOKENS = 2048  # one batch of the plan
CARDS = (24, 32, 48, 80, 96, 141, 288)  # GiB, as sold


@dataclass(frozen=True)
class Method:
    """lora: rank, 0 for all weights; checkpointing: activations are computed twice."""

    lora: int
    checkpointing: bool

    @property
    def words(self) -> str:
        name = f"LoRA r={self.lora}" if self.lora else "all weights"
        return f"{name}, checkpointing" if self.checkpointing else name


LORA = Method(16, True)
METHODS = (LORA, Method(16, False), Method(0, True))


@dataclass(frozen=True)
class Need:
    """Bytes."""

    weights: int
    trained: int
    activations: int

    @property
    def bytes(self) -> int:
        return self.weights + self.trained + self.activations


def is_projector(weight: Weight) -> bool:
    return weight.use in ("projector", "projector_linear")


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """Of adapters on every matrix of the decoder: rank x (inputs + outputs)."""
    matrices = (w for w in all_weights(config).values() if w.use == "linear")
    return sum(rank * sum(weight.shape) for weight in matrices)


def need(config: ModelConfig, method: Method, tokens: int) -> Need:
    """tokens: of one batch."""
    weights = all_weights(config).values()
    total = sum(math.prod(weight.shape) for weight in weights)
    projectors = sum(math.prod(weight.shape) for weight in weights if is_projector(weight))
    if method.lora:
        trained = lora_parameters(config, method.lora) + projectors
        frozen = _FROZEN * (total - projectors)
    else:
        trained, frozen = total, 0
    return Need(frozen, _TRAINED * trained, _activations(config, method, tokens))


def _activations(config: ModelConfig, method: Method, tokens: int) -> int:
    """What a layer keeps for its gradient, in bfloat16: its norms and residuals (12 widths), its
    queries, keys, values and attention (twice, before and behind the norms), the MLP's four, and
    the scores of the attention. With checkpointing only one layer at a time, and each one's input.
    """
    layers = []
    for spec in config.layers:
        heads = 2 * (config.heads + spec.kv_heads) * spec.head_dim
        values = 12 * config.hidden_size + 2 * heads + 4 * config.intermediate_size
        layers.append(2 * tokens * values + 6 * config.heads * tokens**2)
    inputs = 2 * tokens * config.hidden_size * len(layers)
    kept = max(layers) + inputs if method.checkpointing else sum(layers)
    return kept + _HEAD_BYTES * min(tokens, _HEAD_TOKENS) * config.vocab_size


def most_tokens(config: ModelConfig, method: Method, memory: int) -> int:
    """The largest batch, a multiple of 256 up to 32,768, that fits `memory` bytes; 0: none."""
    room = memory * (1 - _RESERVE)
    fitting = (n for n in range(32_768, 0, -256) if need(config, method, n).bytes <= room)
    return next(fitting, 0)


def available(device: torch.device) -> int:
    """Bytes of the GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(config: ModelConfig, method: Method, tokens: int, memory: int) -> None:
    """Raises RuntimeUnavailableError before anything is loaded."""
    wanted = need(config, method, tokens).bytes
    if wanted <= memory * (1 - _RESERVE):
        return
    fits = [m.words for m in METHODS if most_tokens(config, m, memory) >= tokens]
    remedy = f"use {' or '.join(fits)}, or" if fits else "use"
    raise RuntimeUnavailableError(
        f"got {memory / GIB:.0f} GiB of memory, expected about {wanted / GIB:.0f} GiB for "
        f"{method.words} with {tokens} tokens a batch; {remedy} a larger GPU or fewer --tokens"
    )


def plan(config: ModelConfig) -> str:
    """Markdown: what each method takes, and the largest batch of each size of GPU."""
    rows = [
        "| method | weights | trained | batch of 2,048 | together |",
        "|---|---:|---:|---:|---:|",
    ]
    for method in METHODS:
        n = need(config, method, TOKENS)
        parts = (n.weights, n.trained, n.activations, n.bytes)
        rows.append(f"| {method.words} | {' | '.join(f'{p / GIB:,.1f} GiB' for p in parts)} |")
    heads = " | ".join(method.words for method in METHODS)
    rows += ["", f"| GPU | {heads} |", "|---|" + "---:|" * len(METHODS)]
    for card in CARDS:
        tokens = (most_tokens(config, method, card * GIB) for method in METHODS)
        cells = (f"{n:,} tokens" if n else "no" for n in tokens)
        rows.append(f"| {card} GiB | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="only config.json is read")
    print(plan(ModelConfig.from_checkpoint(parser.parse_args().checkpoint)))


if __name__ == "__main__":
    main()
