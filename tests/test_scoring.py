"""Exact probabilities of options: against decoding each option from scratch."""

from __future__ import annotations

import numpy as np
import pytest

from model_onnx.cache import KVCache
from model_onnx.config import ModelConfig
from model_onnx.scoring import score_choices
from model_onnx.session import Array
from tests.fake_decoder import FakeDecoder
from tests.tiny import WINDOW, tiny_config

CONFIG = ModelConfig.from_hugging_face(tiny_config())
PROMPT = list(range(100, 100 + 2 * WINDOW))  # longer than the window
EOS, SUPPRESSED = (1, 5), (7, 8, 9)


def prefilled(decoder: FakeDecoder, ids: list[int], room: int = 40) -> tuple[KVCache, Array]:
    cache = decoder.cache(slots=1, local_capacity=WINDOW - 1 + room, global_capacity=256)
    cache.reserve(0, len(ids))
    embeds = decoder.embed(np.array(ids))[None]
    return cache, decoder.forward(cache, 0, embeds, np.zeros((1, len(ids)), np.int64))[0, -1]


def scored(decoder: FakeDecoder, options: list[list[int]], room: int = 40) -> Array:
    cache, hidden = prefilled(decoder, PROMPT, room)
    return score_choices(decoder, cache, hidden, options, EOS, SUPPRESSED)  # type: ignore[arg-type]


def naive(decoder: FakeDecoder, options: list[list[int]]) -> Array:
    likelihoods = []
    for option in options:
        likelihood = 1.0
        for index, token in enumerate(option):
            _, hidden = prefilled(decoder, PROMPT + option[:index])
            weights = np.exp(decoder.logits(hidden[None])[0].astype(np.float64))
            weights[list(SUPPRESSED)] = 0
            meant = list(EOS) if token in EOS else [token]
            likelihood *= weights[meant].sum() / weights.sum()
        likelihoods.append(likelihood)
    return np.array(likelihoods) / sum(likelihoods)


@pytest.mark.parametrize(
    "options",
    [
        [[20], [30], [40]],
        [[20, 21, 22], [20, 1], [30], [20, 21, 23, 24, 25]],
        [[1], [20]],
        [[50] * 12, [50] * 11 + [60]],
        [[20]],
    ],
)
def test_the_product_of_the_tokens_probabilities(options: list[list[int]]) -> None:
    decoder = FakeDecoder(CONFIG)
    got = scored(decoder, options)
    assert got.dtype == np.float64 and got.sum() == pytest.approx(1)
    np.testing.assert_allclose(got, naive(decoder, options), rtol=1e-6)


def test_the_order_of_the_options_and_the_room_do_not_matter() -> None:
    decoder = FakeDecoder(CONFIG)
    options = [[20, 21, 22, 23], [30, 31], [40]]
    got = scored(decoder, options)
    np.testing.assert_allclose(scored(decoder, options[::-1])[::-1], got, rtol=1e-12)
    # Just enough room: the local rows move to the front before the first option.
    np.testing.assert_array_equal(scored(decoder, options, room=2 * WINDOW + 2), got)


def test_the_cache_can_go_on_where_the_prompt_ended() -> None:
    decoder = FakeDecoder(CONFIG)
    cache, hidden = prefilled(decoder, PROMPT)
    score_choices(decoder, cache, hidden, [[20, 21, 22], [30, 31]], EOS, SUPPRESSED)  # type: ignore[arg-type]
    assert cache.positions[0] == len(PROMPT)
    cache.reserve(0, 1)
    after = decoder.forward(cache, 0, decoder.embed(np.array([99]))[None], np.zeros((1, 1), int))
    np.testing.assert_array_equal(after[0, 0], prefilled(decoder, [*PROMPT, 99])[1])


def test_very_unlikely_options_still_have_finite_probabilities() -> None:
    """Every token but one is e^50 times less likely; 40 of them multiply to less than any float."""
    decoder = FakeDecoder(CONFIG, lambda state, last: 400)
    got = scored(decoder, [[20] * 16, [30] * 16, [30] * 15 + [31]])
    assert np.isfinite(got).all() and got.sum() == pytest.approx(1)
    assert scored(decoder, [[400], [20]])[0] > 1 - 1e-9
