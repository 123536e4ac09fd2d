"""One row of logits -> one token and its log-probability. Pure functions; they know no vocabulary.

Order of the steps, as in transformers: mask, temperature, top-k, top-p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_onnx.errors import ConstraintError, ModelError, RequestError


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy and ignores the rest. top_p 1 and top_k 0 keep everything."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (
            0 <= self.temperature < math.inf
            and 0 < self.top_p <= 1
            and self.top_k >= 0
            and self.seed >= 0
        ):
            raise RequestError(
                f"got {self}, expected a temperature of at least 0, top_p above 0 and up to 1, "
                "top_k and seed of at least 0"
            )


def choose(
    logits: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    sampling: Sampling,
    random: np.random.Generator,
) -> tuple[int, float]:
    """Logits [V] -> (index, natural log of its probability among what the mask [V] allows).

    The probability is the model's own, before temperature, top-k and top-p. Ties of greedy choice
    go to the lowest index. Logits of the allowed tokens alone with mask None give the same choice.
    Draws one number from `random`, none when greedy. Raises ConstraintError when the mask allows
    nothing, ModelError when the logits are not finite.
    """
    if mask is None:
        return _choose(logits, sampling, random)
    allowed = np.flatnonzero(mask)
    if not len(allowed):
        raise ConstraintError("the constraint allows no token here; it can never be satisfied")
    index, log_probability = _choose(logits[allowed], sampling, random)
    return int(allowed[index]), log_probability


def _choose(
    logits: NDArray[np.float32], sampling: Sampling, random: np.random.Generator
) -> tuple[int, float]:
    best = int(np.argmax(logits))
    if not np.isfinite(logits[best]):
        raise ModelError(
            f"got {logits[best]} among the logits, expected finite numbers; the activations "
            "overflowed, use a bundle with float32 or bfloat16 activations"
        )
    scores = logits - logits[best]
    total = math.log(np.exp(scores).sum())  # float32: 20 times faster at 262144, error 1e-6
    index = best if sampling.temperature == 0 else _draw(scores, sampling, random)
    return index, float(scores[index]) - total


def _draw(scores: NDArray[np.float32], sampling: Sampling, random: np.random.Generator) -> int:
    """scores [n]: log-probabilities up to a constant, the largest is 0."""
    kept = np.arange(len(scores))
    if 0 < sampling.top_k < len(scores):
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        kept = np.flatnonzero(scores >= least)
    with np.errstate(over="ignore", under="ignore"):  # tiny temperatures leave the best alone
        scaled = (scores[kept] / np.float64(sampling.temperature)).astype(np.float32)
        weights = np.exp(scaled).astype(np.float64)
    if sampling.top_p < 1:
        nucleus = _nucleus(weights / weights.sum(), sampling.top_p)
        kept, weights = kept[nucleus], weights[nucleus]
    cumulative = weights.cumsum()
    drawn = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
    return int(kept[drawn])


def _nucleus(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Indices, ascending, of the likeliest tokens that together reach top_p."""
    # Tokens below this sum to less than 1 - top_p, so none is needed: a tenth is left to sort.
    candidates = np.flatnonzero(probabilities >= (1 - top_p) / len(probabilities))
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    sorted_probabilities = probabilities[order]
    likelier = sorted_probabilities.cumsum() - sorted_probabilities
    return np.sort(order[likelier < top_p])
