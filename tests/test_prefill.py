"""A prompt is cut where its images allow, and its shared prefix is read once."""

from __future__ import annotations

from collections.abc import Sequence as Many
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.bundle import Bundle
from model_onnx.constrain import Grammar
from model_onnx.prefill import Prefill, chunks, image_blocks
from model_onnx.prompt import MediaSpan, Prompt
from model_onnx.sequence import Request, Sequence
from tests.fake_decoder import FakeDecoder
from tests.tiny import tiny_bundle

QUICK = settings(deadline=None)


def prompt(pieces: Many[tuple[str, int]], prefix: int = 0) -> Prompt:
    """pieces: (text, image or audio; tokens). Ids are the places."""
    spans, start = [], 0
    for kind, length in pieces:
        if kind != "text":
            features = np.zeros((length, 3), np.float32)
            spans.append(MediaSpan(start, kind, features, None))  # type: ignore[arg-type]
        start += length
    return Prompt(np.arange(start), tuple(spans), prefix)


PIECES = st.lists(
    st.tuples(st.sampled_from(["text", "image", "audio"]), st.integers(1, 40)), min_size=1
)


@given(pieces=PIECES, size=st.integers(1, 50), prefix=st.integers(0, 30))
@QUICK
def test_no_image_is_cut_and_nothing_is_left_out(
    pieces: list[tuple[str, int]], size: int, prefix: int
) -> None:
    made = prompt([("text", 31), *pieces], prefix)
    blocks = image_blocks(made)
    cut = chunks(made, 0, blocks, size)
    assert [start for start, _ in cut] == [0, *(end for _, end in cut[:-1])]
    assert cut[-1][1] == len(made.ids) and all(start < end for start, end in cut)
    for start, end in cut:
        assert end == len(made.ids) or blocks[end] == 0 or blocks[end] != blocks[end - 1]
        images = [count for kind, count in pieces if kind == "image"]
        assert end - start <= max([size, *images])
    assert prefix == 0 or prefix in [end for _, end in cut]


def test_audio_is_no_block_and_images_are_numbered() -> None:
    made = prompt([("image", 2), ("text", 1), ("audio", 2), ("image", 1)])
    assert image_blocks(made).tolist() == [1, 1, 0, 0, 0, 3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(tiny_bundle(tmp_path_factory.mktemp("prefill") / "bundle"))


def test_a_prefix_comes_from_its_snapshot_and_the_state_is_the_same(bundle: Bundle) -> None:
    decoder, grammar = FakeDecoder(bundle.config), Grammar(bundle)
    prefill = Prefill(decoder)  # type: ignore[arg-type]
    asked = Request(Prompt(np.arange(40, 80), (), 25))
    states = []
    for _ in range(3):
        sequence = Sequence(asked, Future(), grammar)
        prefill.start(sequence)
        hidden = None
        while hidden is None:
            assert prefill.sequence is sequence
            hidden = prefill.run_chunk()
        assert prefill.sequence is None and hidden.shape[0] == 1
        states.append((sequence.counts.cached, hidden.tolist()))
        if len(states) == 2:
            prefill.forget_prefixes()
    assert [cached for cached, _ in states] == [0, 25, 0]
    assert states[0][1] == states[1][1] == states[2][1]
