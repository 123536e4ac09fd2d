"""What espeak-ng says, and when."""

from __future__ import annotations

import numpy as np
import pytest

from training.generators import espeak
from training.generators.espeak import NUMBERS, UNLABELLED, runs, stretched

spoken = pytest.mark.skipif(
    not espeak.available(), reason="needs espeak-ng (apt-get install espeak-ng)"
)


def test_runs_name_the_sound_at_each_sample() -> None:
    sounds = runs([(2, "f"), (4, "aI"), (5, "no such phoneme"), (6, "_:"), (7, "")], 8)
    f, ai = NUMBERS["f"], NUMBERS["aI"]
    assert sounds.tolist() == [0, 0, f, f, ai, UNLABELLED, 0, 0]


def test_stretched_sounds_keep_their_order() -> None:
    sounds = np.array([1, 1, 2, 2, 3, 3], np.int8)
    assert stretched(sounds, 3).tolist() == [1, 2, 3]
    assert stretched(sounds, 12).tolist() == [1] * 4 + [2] * 4 + [3] * 4


@spoken
@pytest.mark.parametrize("voice", ["en-us", "en", "en-us+m3", "en+f2"])
def test_a_word_is_heard_where_its_phonemes_are(voice: str) -> None:
    clip = espeak.say("five", voice, 150, 50)
    heard = [int(s) for s in clip.sounds[np.flatnonzero(np.diff(clip.sounds, prepend=-2))] if s]
    assert heard == [NUMBERS["f"], NUMBERS["aI"], NUMBERS["v"]]
    assert len(clip.samples) == len(clip.sounds)
    vowel = np.abs(clip.samples[clip.sounds == NUMBERS["aI"]]).mean()
    assert vowel > 5 * np.abs(clip.samples[clip.sounds == 0]).mean()


@spoken
def test_the_same_words_sound_the_same_and_an_unknown_voice_is_refused() -> None:
    first, second = (espeak.say("seven boxes", "en-us", 160, 40) for _ in range(2))
    assert np.array_equal(first.samples, second.samples)
    with pytest.raises(ValueError, match="no voice"):
        espeak.say("seven", "xx-none", 150, 50)
