from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.speech import FRAME_SECONDS, Cutting, spans_of

LOUD, ROOM = 1e-2, 1e-7


def levels(*parts: tuple[float, float]) -> NDArray[np.float64]:
    """(seconds, level) ..."""
    return np.concatenate([np.full(round(s / FRAME_SECONDS), level) for s, level in parts])


def test_silence_has_no_clips() -> None:
    assert spans_of(levels((100, 0.0)), Cutting()) == ()
    assert spans_of(levels((100, ROOM)), Cutting()) == ()


def test_pauses_are_left_out_and_gaps_stay() -> None:
    spans = spans_of(
        levels((2, ROOM), (3, LOUD), (1, ROOM), (3, LOUD), (2, ROOM), (1, LOUD)), Cutting()
    )
    assert np.allclose(spans, ((1.8, 9.2), (10.8, 12.0)), atol=0.05)


def test_clicks_are_no_speech() -> None:
    assert spans_of(levels((2, ROOM), (0.02, LOUD), (2, ROOM)), Cutting()) == ()


def test_speech_without_a_pause_is_not_taken_for_silence() -> None:
    spans = spans_of(levels((15, LOUD)), Cutting())
    assert np.allclose(spans, ((0, 15),))


def test_a_long_stretch_is_cut_at_its_longest_silence() -> None:
    sound = levels((11, LOUD), (0.8, ROOM), (4, LOUD), (0.6, ROOM), (10, LOUD))
    (first, second) = spans_of(sound, Cutting())
    assert first[0] == 0 and first[1] == second[0] == pytest.approx(11.4, abs=0.05)
    assert second[1] == pytest.approx(26.4)


def test_without_any_silence_the_softest_place_is_cut() -> None:
    sound = levels((14, LOUD), (0.2, LOUD / 8), (14, LOUD))
    (first, _) = spans_of(sound, Cutting())
    assert first[1] == pytest.approx(14.1, abs=0.1)


sounds = st.lists(
    st.tuples(st.floats(0.1, 30), st.sampled_from([0.0, ROOM, 1e-4, LOUD, 1.0])), max_size=12
)


@given(sounds)
def test_clips_are_in_order_short_enough_and_hold_what_is_loud(
    parts: list[tuple[float, float]],
) -> None:
    sound = levels((0.02, 0.0), *parts)
    spans = spans_of(sound, Cutting())
    ends = [0.0]
    for start, end in spans:
        assert ends[-1] <= start < end <= len(sound) * FRAME_SECONDS + 1e-9
        assert end - start <= 20 + 1e-9
        ends.append(end)
    inside = np.zeros(len(sound), bool)
    for start, end in spans:
        inside[round(start / FRAME_SECONDS) : round(end / FRAME_SECONDS)] = True
    long_loud = [level for seconds, level in parts if level == 1.0 and seconds > 0.3]
    assert not long_loud or inside.any()
    if long_loud:
        loud = sound == 1.0
        assert (inside & loud).sum() >= 0.9 * sum(
            round(s / FRAME_SECONDS) for s, level in parts if level == 1.0 and s > 0.3
        )
