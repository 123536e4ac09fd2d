"""Encoded samples against the rendered chat template, and the padding of batches."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_training_template import render
from training import tokenizer
from training.encoding import IGNORED, Encoder, collate, cut, frame_sounds, split_frames
from training.generators.espeak import UNLABELLED
from training.samples import Sample

ENCODER = Encoder()
REFERENCE = tokenizer.build()
SPECIAL = ENCODER.characters.special
# The reference reads a control token's spelling as the token; `test_prompt.py` has such texts.
TEXT = st.text(alphabet=tokenizer.CHARACTERS + "漢\t", max_size=40).filter(
    lambda text: not any(name in text for name in tokenizer.SPECIAL)
)


def sample(instruction: str = "Read.", text: str = "", answer: str = "ab", **media: Any) -> Sample:
    return Sample("copy_text", instruction, text, answer, **media)


@pytest.mark.parametrize("media", ["none", "image", "audio"])
@settings(deadline=None, max_examples=40)
@given(instruction=TEXT, text=TEXT, answer=TEXT)
def test_prompt_is_the_rendered_template(
    media: str, instruction: str, text: str, answer: str
) -> None:
    image = np.zeros((96, 144), np.uint8) if media == "image" else None
    audio = np.zeros(1500, np.float32) if media == "audio" else None
    example = ENCODER.encode(sample(instruction, text, answer, image=image, audio=audio))
    count = {"none": 0, "image": 6, "audio": 3}[media]
    parts = [{"type": media}] if count else []
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
    ]
    rendered = render(messages, add_generation_prompt=True)
    span = f"<|{media}>" + f"<|{media}|>" * count + f"<{media}|>"
    rendered = rendered.replace(f"<|{media}|>", span) if count else rendered
    expected = REFERENCE.encode(rendered, add_special_tokens=False).ids
    assert example.ids[: example.answer].tolist() == expected
    assert example.ids[example.answer :].tolist() == [
        *ENCODER.characters.encode(answer),
        SPECIAL("<turn|>"),
    ]


def test_patches_are_tiles_in_reading_order() -> None:
    image = np.arange(96 * 144, dtype=np.uint32).reshape(96, 144) % 251
    patches, positions = cut(image.astype(np.uint8))
    assert positions.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert (patches[4].reshape(48, 48) == image[48:, 48:96]).all()


def test_last_frame_is_filled_with_silence() -> None:
    frames = split_frames(np.ones(641, np.float32))
    assert frames.shape == (2, 640)
    assert frames.sum() == 641


def test_a_frame_has_the_sounds_of_itself_and_of_the_frame_before() -> None:
    sounds = np.repeat(np.arange(1, 7), 320).astype(np.int8)  # 20 ms each: three frames
    assert frame_sounds(sounds, 3).tolist() == [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6]]
    assert frame_sounds(sounds[:-100], 3)[2].tolist() == [3, 4, 5, 6]
    assert (frame_sounds(None, 2) == UNLABELLED).all()


def test_patch_characters_are_cut_to_the_slots() -> None:
    image = np.zeros((48, 96), np.uint8)
    example = ENCODER.encode(sample(image=image, patch_text=("", "abcdefgh")))
    assert example.patch_ids is not None
    assert example.patch_ids.tolist() == [[0] * 6, ENCODER.characters.encode("abcdef")]


def test_targets_are_the_answer_and_its_end() -> None:
    short, long = (ENCODER.encode(sample(answer=a)) for a in ("x", "a longer answer"))
    batch = collate([short, long], SPECIAL("<|image|>"))
    assert batch.ids.shape[1] % 16 == 0
    for row, answer in zip(batch.targets, ("x", "a longer answer"), strict=True):
        wanted = [*ENCODER.characters.encode(answer), SPECIAL("<turn|>")]
        assert row[row != IGNORED].tolist() == wanted
    place = int((batch.targets[0] != IGNORED).nonzero()[0])
    assert place == short.answer - 1 - len(batch.shared), (
        "the last prompt position predicts the first character"
    )


def test_the_instruction_is_shared_and_the_rest_is_not() -> None:
    one, two = (ENCODER.encode(sample("Read.\n" + more, "x")) for more in ("ab", "ac"))
    batch = collate([one, two], SPECIAL("<|image|>"))
    assert batch.shared.tolist() == one.ids[: one.common].tolist()
    for row, example in zip(batch.ids, (one, two), strict=True):
        own = example.ids[one.common :].tolist()
        assert row[: len(own)].tolist() == own


def test_media_and_answers_are_never_shared() -> None:
    image = np.zeros((48, 96), np.uint8)
    batch = collate([ENCODER.encode(sample("Read.", image=image))] * 2, SPECIAL("<|image|>"))
    assert SPECIAL("<|image|>") not in batch.shared
    assert (batch.block.sum(1) == 2).all() and ((batch.targets != IGNORED).sum(1) == 3).all()
