"""Choices from one row of logits, against slow definitions and transformers' own filters."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_onnx.errors import ConstraintError, ModelError, RequestError
from model_onnx.sample import Sampling, choose

Array = np.ndarray[Any, np.dtype[Any]]
GREEDY = Sampling()
# Steps of 1/64: logits are equal or clearly not, in float32 as in the exact reference.
LOGITS = arrays(np.int64, st.integers(1, 40), elements=st.integers(-1920, 1920)).map(
    lambda steps: (steps / 64).astype(np.float32)
)
SAMPLING = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-300, 0.3, 1.0, 5.0]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 1.0]),
    top_k=st.integers(0, 50),
)


def draw(logits: Array, mask: Array | None, sampling: Sampling) -> tuple[int, float]:
    return choose(logits, mask, sampling, np.random.default_rng(sampling.seed))


def slow_kept(logits: list[float], sampling: Sampling) -> set[int]:
    """Indices that top-k and then top-p keep, by the definition."""
    ranked = sorted(range(len(logits)), key=lambda i: -logits[i])
    if sampling.top_k:
        least = logits[ranked[: sampling.top_k][-1]]
        ranked = [i for i in ranked if logits[i] >= least]
    weights = [math.exp((logits[i] - max(logits)) / sampling.temperature) for i in ranked]
    kept, mass = set(), 0.0
    for index, weight in zip(ranked, weights, strict=True):
        # Half a millionth of slack: a token at the very edge may fall on either side.
        if mass < sampling.top_p + 5e-7:
            kept.add(index)
        mass += weight / sum(weights)
    return kept


@settings(deadline=None)
@given(logits=LOGITS, sampling=SAMPLING, data=st.data())
def test_a_choice_is_allowed_and_its_probability_is_the_models(
    logits: Array, sampling: Sampling, data: st.DataObject
) -> None:
    mask = data.draw(arrays(np.bool_, len(logits)).filter(lambda m: bool(m.any())))
    index, logprob = draw(logits, mask, sampling)
    allowed = np.flatnonzero(mask)
    assert index in allowed
    exact = [float(logits[i]) for i in allowed]
    total = max(exact) + math.log(sum(math.exp(x - max(exact)) for x in exact))
    assert logprob == pytest.approx(float(logits[index]) - total, abs=1e-5) and logprob <= 1e-6
    # The logits of the allowed tokens alone give the very same choice.
    assert (int(allowed[draw(logits[mask], None, sampling)[0]]), logprob) == (
        index,
        draw(logits[mask], None, sampling)[1],
    )
    if sampling.temperature == 0:
        assert index == next(i for i in allowed if logits[i] == logits[allowed].max())
    elif sampling.temperature > 0.1:
        kept = slow_kept(exact, sampling)
        assert int(np.searchsorted(allowed, index)) in kept


@settings(deadline=None)
@given(logits=LOGITS, seed=st.integers(0, 2**32))
def test_a_seed_repeats_its_choices(logits: Array, seed: int) -> None:
    sampling = Sampling(temperature=1.0, seed=seed)
    runs = []
    for _ in range(2):
        random = np.random.default_rng(seed)
        runs.append([choose(logits, None, sampling, random) for _ in range(5)])
    assert runs[0] == runs[1]


def test_greedy_draws_nothing_and_other_choices_one_number() -> None:
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    random, untouched = np.random.default_rng(3), np.random.default_rng(3)
    choose(logits, None, GREEDY, random)
    assert random.random() == untouched.random()
    choose(logits, None, Sampling(temperature=1.0, top_p=0.5), random)
    untouched.random()
    assert random.random() == untouched.random()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(temperature=0.5), [0.25, 0.09, 0.0225, 0.0025]),
        (Sampling(temperature=1.0, top_k=2), [0.5, 0.3, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.79), [0.5, 0.3, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.81), [0.5, 0.3, 0.15, 0]),
        (Sampling(temperature=1.0, top_p=0.7, top_k=3), [0.5, 0.3, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.01), [1, 0, 0, 0]),
    ],
)
def test_choices_follow_the_distribution(sampling: Sampling, expected: list[float]) -> None:
    logits = np.log([0.05, 0.5, 0.15, 0.3]).astype(np.float32)
    random, runs = np.random.default_rng(0), 4000
    counts = np.bincount(
        [choose(logits, None, sampling, random)[0] for _ in range(runs)], minlength=4
    )
    shares = np.array([expected[3], expected[0], expected[2], expected[1]]) / sum(expected)
    # Five standard deviations: never by chance.
    assert (np.abs(counts / runs - shares) <= 5 * np.sqrt(shares * (1 - shares) / runs)).all()


@pytest.mark.parametrize("top_k", [0, 8])
@pytest.mark.parametrize("top_p", [0.5, 0.95])
def test_the_kept_tokens_are_those_of_transformers(top_k: int, top_p: float) -> None:
    import torch
    from transformers.generation.logits_process import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = (np.random.default_rng(1).standard_normal(60) * 1.5).astype(np.float32)
    scores = TemperatureLogitsWarper(0.8)(None, torch.from_numpy(logits)[None])
    scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = TopPLogitsWarper(top_p)(None, scores)
    reachable = set(torch.isfinite(scores[0]).nonzero()[:, 0].tolist())
    sampling = Sampling(temperature=0.8, top_p=top_p, top_k=top_k)

    class Fixed:
        """A generator that gives one number; the numbers walk through all that can be drawn."""

        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    drawn = {
        choose(logits, None, sampling, cast(np.random.Generator, Fixed(number)))[0]
        for number in np.linspace(0, 1, 3000, endpoint=False)
    }
    assert drawn == reachable


def test_a_mask_that_allows_nothing_is_an_error() -> None:
    with pytest.raises(ConstraintError, match="allows no token"):
        draw(np.zeros(4, np.float32), np.zeros(4, np.bool_), GREEDY)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_overflowed_are_an_error(value: float) -> None:
    with pytest.raises(ModelError, match="overflowed"):
        draw(np.array([1.0, value, 2.0], np.float32), None, Sampling(temperature=1.0))


def test_forbidden_logits_may_be_minus_infinity() -> None:
    assert draw(np.array([-math.inf, 0.0], np.float32), None, GREEDY) == (1, 0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"seed": -1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="expected a temperature"):
        Sampling(**options)
