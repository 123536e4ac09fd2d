"""Exact probabilities of a closed set of answers after a prompt.

Each option's tokens are run once on the prompt's cache and taken back; its score is the sum of its
tokens' log-probabilities over the whole vocabulary. An end token among them (it closes an option
that begins another one) stands for every way to end the turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_onnx.cache import KVCache
from model_onnx.decoder import Decoder
from model_onnx.session import Array


def score_choices(
    decoder: Decoder,
    cache: KVCache,
    hidden: Array,
    options: Sequence[Sequence[int]],
    eos: Sequence[int],
    suppressed: Sequence[int],
    *,
    slot: int = 0,
) -> Array:
    """Probability of each option, float64 [len(options)], sum 1.

    hidden: state [H] of the last token before the answer in a slot of `cache`, which has room for
    the longest option and is left as it was.
    """
    first = _log_probabilities(decoder, hidden[None], suppressed)[0]
    scores = np.zeros(len(options))
    for index, option in enumerate(options):
        rows = first[None]
        if len(option) > 1:
            ids = np.array(option[:-1], np.int64)
            cache.reserve(slot, len(ids))
            blocks = np.zeros((1, len(ids)), np.int64)
            states = decoder.forward(cache, slot, decoder.embed(ids)[None], blocks)
            cache.rewind(slot, len(ids))
            rows = np.concatenate([rows, _log_probabilities(decoder, states[0], suppressed)])
        for row, token in zip(rows, option, strict=True):
            scores[index] += np.logaddexp.reduce(row[list(eos)]) if token in eos else row[token]
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def _log_probabilities(decoder: Decoder, hidden: Array, suppressed: Sequence[int]) -> Array:
    logits = decoder.logits(hidden).astype(np.float64)
    logits[:, list(suppressed)] = -np.inf
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))
