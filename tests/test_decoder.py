"""The graphs as functions: against plain runs of the same graphs, in chunks, slots and batches."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import export_bundle
from export.parity import GraphRunner, blocks, sample_prompts
from export.parity import Prompt as Sample
from model_onnx import decoder as decoder_module
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.decoder import Decoder
from model_onnx.prompt import MediaSpan
from model_onnx.session import Array, Graph, Provider, Tensor, from_elements, open_graph
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("decoder") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    return export_bundle(checkpoint, checkpoint.parent / "fp32", recipe="fp32")


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> Decoder:
    return Decoder(bundle, "cpu", threads=1)


def spans(sample: Sample, bundle: Bundle) -> list[MediaSpan]:
    """The media of a sample at their placeholders."""
    config = bundle.config
    starts = {
        token: [
            int(place)
            for place in np.flatnonzero(sample.ids == token)
            if place == 0 or sample.ids[place - 1] != token
        ]
        for token in (config.image_token_id, config.audio_token_id)
    }
    images = zip(starts[config.image_token_id], sample.images, strict=True)
    clips = zip(starts[config.audio_token_id], sample.clips, strict=True)
    return [
        *(MediaSpan(start, "image", patches, places) for start, (patches, places) in images),
        *(MediaSpan(start, "audio", frames, None) for start, frames in clips),
    ]


def new_cache(decoder: Decoder, slots: int = 1) -> KVCache:
    return decoder.cache(slots=slots, local_capacity=64, global_capacity=64)


def feed(decoder: Decoder, cache: KVCache, slot: int, ids: Array) -> Array:
    cache.reserve(slot, len(ids))
    nothing = np.zeros((1, len(ids)), np.int64)
    return decoder.forward(cache, slot, decoder.embed(ids)[None], nothing)[0]


def prefilled(decoder: Decoder, sample: Sample, bundle: Bundle) -> Array:
    cache, count = new_cache(decoder), len(sample.ids)
    embeds = decoder.embed(sample.ids, spans(sample, bundle))
    cache.reserve(0, count)
    hidden = decoder.forward(cache, 0, embeds[None], blocks(sample.ids, bundle.config)[None])
    assert cache.positions[0] == cache.local_rows[0] == count
    return decoder.logits(hidden[0])


def test_text_images_and_audio_as_the_graphs_run_plainly(bundle: Bundle, decoder: Decoder) -> None:
    runner = GraphRunner(bundle)
    for sample in sample_prompts(bundle.config):
        got = prefilled(decoder, sample, bundle)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, runner.logits(sample), atol=1e-5)


def test_one_token_at_a_time_is_the_same_as_all_at_once(decoder: Decoder) -> None:
    ids = np.arange(40, 80)
    whole = feed(decoder, new_cache(decoder), 0, ids)
    cache = new_cache(decoder)
    steps = [feed(decoder, cache, 0, ids[i : i + 1]) for i in range(len(ids))]
    np.testing.assert_allclose(np.concatenate(steps), whole, atol=1e-5)


def test_slots_of_a_batch_do_not_see_each_other(decoder: Decoder) -> None:
    prompts = [np.arange(30, 55), np.arange(90, 93), np.arange(60, 71)]
    following = np.array([7, 8, 9])
    alone = []
    for prompt, token in zip(prompts, following, strict=True):
        cache = new_cache(decoder)
        feed(decoder, cache, 0, prompt)
        alone.append(feed(decoder, cache, 0, np.array([token]))[0])
    cache = new_cache(decoder, slots=4)
    for slot, prompt in enumerate(prompts, start=1):
        feed(decoder, cache, slot, prompt)
        cache.reserve(slot, 1)
    embeds = decoder.embed(following)[:, None]
    together = decoder.forward(cache, 1, embeds, np.zeros((3, 1), np.int64))
    np.testing.assert_allclose(together[:, 0], alone, atol=1e-5)
    assert cache.positions.tolist() == [0, 26, 4, 12]


def test_a_cache_that_has_grown_goes_on_where_it_was(decoder: Decoder) -> None:
    ids = np.arange(40, 80)
    whole = feed(decoder, new_cache(decoder), 0, ids)
    cache = decoder.cache(slots=1, local_capacity=32, global_capacity=32)
    first = feed(decoder, cache, 0, ids[:20])
    assert cache.grow(local_capacity=64, global_capacity=64)
    decoder.forget(cache)
    rest = feed(decoder, cache, 0, ids[20:])
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, atol=1e-5)


@pytest.mark.parametrize("recipe", ["fp32", "int4", "int8"])
def test_logits_of_some_tokens_are_those_of_the_whole_head(
    checkpoint: Path, tmp_path: Path, recipe: str
) -> None:
    exported = export_bundle(checkpoint, tmp_path / "out", recipe=recipe, activations="exact")
    decoder = Decoder(exported, "cpu", threads=1)
    hidden = feed(decoder, new_cache(decoder), 0, np.arange(40, 60))
    ids = np.array([0, 3, 77, 300, 511])
    few = decoder.logits_of(hidden[-1], ids)
    assert few.shape == (5,) and few.dtype == np.float32
    np.testing.assert_allclose(few, decoder.logits(hidden[-1:])[0, ids], atol=1e-4)
    assert np.abs(few).max() < exported.config.final_logit_softcapping


def test_float16_masks_hold_no_infinity(
    checkpoint: Path, tmp_path: Path, bundle: Bundle, decoder: Decoder
) -> None:
    """A bundle for CUDA, on the CPU's kernels. An overflow would warn, and fail the test."""
    half = Decoder(export_bundle(checkpoint, tmp_path / "out", recipe="fp32", device="cuda"), "cpu")
    for sample in sample_prompts(bundle.config):
        got = prefilled(half, sample, bundle)
        expected = prefilled(decoder, sample, bundle)
        assert np.linalg.norm(got - expected) < 0.005 * np.linalg.norm(expected)
    hidden = feed(half, new_cache(half), 0, np.arange(40, 60))
    assert hidden.dtype == np.float16 and np.isfinite(from_elements(hidden, "float16")).all()


def test_a_provider_that_copies_what_is_bound_sees_every_earlier_row(
    bundle: Bundle, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA copies an input when it is bound, so a past that is bound once would stay empty."""
    copies: list[Array] = []

    def bind(method: Any, tensors: dict[str, Tensor]) -> None:
        for name, (array, onnx) in tensors.items():
            address = array.ctypes.data
            if method.__name__ == "bind_input":
                data = ctypes.string_at(address, array.nbytes)
                copies.append(np.frombuffer(data, array.dtype).reshape(array.shape))
                address = copies[-1].ctypes.data
            method(name, "cpu", 0, onnx, array.shape, address)

    def on_the_cpu(bundle: Bundle, name: str, provider: Provider, **options: Any) -> Graph:
        assert provider == "cuda"
        return open_graph(bundle, name, "cpu", **options)

    ids = np.arange(40, 80)
    expected = feed(decoder, new_cache(decoder), 0, ids)
    monkeypatch.setattr(decoder_module, "open_graph", on_the_cpu)
    monkeypatch.setattr(decoder_module, "bind", bind)
    monkeypatch.setattr("model_onnx.session.bind", bind)
    other = Decoder(bundle, "cuda", threads=1)
    cache = new_cache(other)
    pieces = [ids[:25], ids[25:30], *ids[30:, None]]
    got = np.concatenate([feed(other, cache, 0, piece) for piece in pieces])
    np.testing.assert_allclose(got, expected, atol=1e-5)
