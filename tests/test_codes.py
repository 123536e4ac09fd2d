"""Rows as codes of 8 bits: how far from floats, alone, in a cache and in an engine's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import export_bundle
from export.parity import GraphRunner, sample_prompts
from model_onnx import engine as engine_module
from model_onnx.bundle import Bundle
from model_onnx.cache import KVCache
from model_onnx.codes import encode, scales_of
from model_onnx.decoder import Decoder
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError
from model_onnx.prompt import Prompt
from model_onnx.sequence import Request
from model_onnx.session import Array
from tests.tiny import tiny_bundle, tiny_checkpoint

PROMPT, STEPS = 400, 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model for prompts long enough for codes, with both decoders."""
    home = tmp_path_factory.mktemp("codes")
    checkpoint = tiny_checkpoint(home / "checkpoint", max_position_embeddings=16384)
    return export_bundle(checkpoint, home / "bundle", recipe="int4", int8_prefill=True)


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> Decoder:
    return Decoder(bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def exact(bundle: Bundle) -> Decoder:
    """Its floats: INT4 products round activations, which makes small differences larger."""
    home = bundle.directory.parent
    return Decoder(export_bundle(home / "checkpoint", home / "fp32", recipe="fp32"), "cpu")


def cache(decoder: Decoder, *, slots: int = 1, int8: bool = False) -> KVCache:
    return decoder.cache(slots=slots, local_capacity=256, global_capacity=512, int8=int8)


def feed(decoder: Decoder, rows: KVCache, slot: int, ids: Array) -> Array:
    """Logits [S, V]"""
    rows.reserve(slot, len(ids))
    nothing = np.zeros((1, len(ids)), np.int64)
    return decoder.logits(decoder.forward(rows, slot, decoder.embed(ids)[None], nothing)[0])


def prompted(decoder: Decoder, seed: int) -> KVCache:
    floats, ids = cache(decoder), np.random.default_rng(seed).integers(40, 400, PROMPT)
    for start in range(0, PROMPT, 200):
        feed(decoder, floats, 0, ids[start : start + 200])
    return floats


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9)),
    seed=st.integers(0, 1000),
    size=st.floats(1e-3, 1e3),
)
@settings(deadline=None)
def test_a_value_comes_back_within_half_a_step(
    shape: tuple[int, int, int], seed: int, size: float
) -> None:
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(size)
    scales, codes = scales_of(rows), np.zeros(shape, np.int8)
    encode(rows, scales, codes)
    steps = scales[:, None]
    assert (np.abs(codes * steps - rows) <= steps * 0.5001).all()
    assert (np.abs(rows).max(axis=1) <= 127 * scales / 1.24).all()  # room for what comes later


def test_channels_of_zeros_and_rows_beyond_the_scale_do_no_harm() -> None:
    rows = np.zeros((1, 5000, 2), np.float32)
    rows[0, -1, 1] = -8.0  # behind the rows that are looked at together
    scales, codes = scales_of(rows), np.zeros((1, 5000, 2), np.int8)
    encode(rows, scales, codes)
    assert not codes[0, :, 0].any() and codes[0, -1, 1] == -102
    encode(rows * 9, scales, codes)
    assert codes[0, -1, 1] == -127


@pytest.mark.parametrize(("recipe", "bound"), [("fp32", 0.01), ("int4", 0.04)])
def test_logits_stay_near_those_of_floats(
    recipe: str, bound: float, exact: Decoder, decoder: Decoder
) -> None:
    decoder = exact if recipe == "fp32" else decoder
    assert decoder.has_int8_cache
    floats, codes = prompted(decoder, 1), cache(decoder, slots=3, int8=True)
    codes.take(1, floats, 0)
    errors, same = [], 0
    for token in np.random.default_rng(2).integers(40, 400, (STEPS, 1)):
        plain, coded = (feed(decoder, *where, token)[0] for where in ((floats, 0), (codes, 1)))
        errors.append(np.linalg.norm(coded - plain) / np.linalg.norm(plain))
        same += int(coded.argmax() == plain.argmax())
    assert 0 < np.mean(errors) < bound and max(errors) < 3 * bound
    assert same >= STEPS - (1 if recipe == "fp32" else 4)


def test_slots_chunks_rewinds_and_moves_are_as_with_floats(decoder: Decoder) -> None:
    """Batched, in chunks, after a rewind and in another slot: the same logits as one by one."""
    alone, together = cache(decoder, int8=True), cache(decoder, slots=3, int8=True)
    tokens = np.array([50, 60, 70])
    expected = []
    for slot in range(len(tokens)):
        floats = prompted(decoder, slot)
        together.take(slot, floats, 0)
        alone.take(0, floats, 0)
        expected.append(feed(decoder, alone, 0, tokens[slot : slot + 1])[0])
        together.reserve(slot, 1)
    embeds = decoder.embed(tokens)[:, None]
    hidden = decoder.forward(together, 0, embeds, np.zeros((3, 1), np.int64))
    np.testing.assert_allclose(decoder.logits(hidden[:, 0]), expected, atol=1e-3)
    whole = feed(decoder, together, 2, np.array([80, 90, 95]))
    together.rewind(2, 2)
    assert together.grow(global_capacity=1024)
    decoder.forget(together)
    together.take(0, together, 2)
    again = feed(decoder, together, 0, np.array([90, 95]))
    np.testing.assert_allclose(again, whole[1:], atol=1e-3)


def test_floats_take_no_codes(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="a cache of floats takes no codes"):
        cache(decoder).take(0, cache(decoder, int8=True), 0)


def test_with_floats_in_use_the_graph_is_the_plain_one(bundle: Bundle, decoder: Decoder) -> None:
    runner, sample = GraphRunner(bundle), sample_prompts(bundle.config)[0]
    got = feed(decoder, cache(decoder), 0, sample.ids)
    np.testing.assert_allclose(got, runner.logits(sample), atol=1e-5)


@pytest.mark.parametrize("decode", ["recipe", "int8"])
def test_answers_after_long_prompts_alone_and_in_company(
    bundle: Bundle, decode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short prompts answer as with floats, long ones as with codes, whoever else is there."""
    monkeypatch.setattr(engine_module, "LONG", 100)
    rng = np.random.default_rng(0)
    requests = [
        Request(Prompt(rng.integers(40, 400, length), (), 0), max_new_tokens=12)
        for length in (30, 300, 50, 250)
    ]

    def answers(kind: Any) -> list[tuple[int, ...]]:
        options = {"prefill": decode, "decode": decode, "cache": kind}
        with Engine.open(bundle, slots=2, threads=1, **options) as engine:
            return [future.result(120).ids for future in map(engine.submit, requests)]

    together = answers("auto")
    with Engine.open(bundle, slots=2, threads=1, prefill=decode, decode=decode) as engine:
        assert [engine.generate(request).ids for request in requests] == together
        assert engine.load.steps and not engine.load.active
        used = [batch.steps > 0 for batch in engine._batches]
    assert used == [True, True]
    floats, codes = answers("float"), answers("int8")
    assert [together[0], together[2]] == [floats[0], floats[2]]
    assert [together[1], together[3]] == [codes[1], codes[3]]


def test_the_memory_of_a_long_prompt_is_given_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_onnx.prefill.LONG", 300)
    request = Request(Prompt(np.arange(700) % 300 + 40, (), 0), max_new_tokens=4)
    with Engine.open(bundle, slots=1, threads=1) as engine:
        first = engine.generate(request).ids
        assert engine._prefill.cache.global_capacity < 300
        assert engine.generate(request).ids == first


def test_a_bundle_without_codes_uses_floats_and_refuses_a_wish(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plain = Bundle.open(tiny_bundle(tmp_path_factory.mktemp("floats") / "bundle"))
    with Engine.open(plain, slots=1, threads=1) as engine:
        assert len(engine._batches) == 1
    with pytest.raises(ConfigError, match=r"got 'int8'.*export the checkpoint again"):
        Engine.open(plain, slots=1, threads=1, cache="int8")
