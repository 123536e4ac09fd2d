"""Which decoder reads and which writes: by machine, by slots, by wish; and that they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import export_bundle
from model_onnx import precision
from model_onnx.bundle import DECODER, DECODER_INT8, Bundle
from model_onnx.constrain import Regex
from model_onnx.decoder import Decoder
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError
from model_onnx.precision import Precisions, choose_precisions, choose_slots
from model_onnx.prompt import Turn
from model_onnx.sequence import Request
from model_onnx.session import Array
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    home = tmp_path_factory.mktemp("precision")
    checkpoint = tiny_checkpoint(home / "checkpoint")
    return export_bundle(checkpoint, home / "both", recipe="int4", int8_prefill=True)


@pytest.fixture(scope="module")
def single(both: Bundle) -> Bundle:
    checkpoint = both.directory.parent / "checkpoint"
    return export_bundle(checkpoint, both.directory.parent / "single", recipe="int4")


def machine(patch: pytest.MonkeyPatch, *, units: bool = True, memory: float = 1e12) -> None:
    patch.setattr(precision, "has_integer_units", lambda: units)
    patch.setattr(precision, "_memory", lambda: memory)


def needed(bundle: Bundle, *files: str, sequences: int) -> int:
    """Bytes of these files, of the table, and of the rows of so many sequences."""
    weights = sum(int(bundle.files[name]["bytes"]) for name in (*files, "embedding.bin"))
    return weights + sequences * precision._sequence_bytes(bundle)


def test_eight_bits_read_and_write_for_many_and_read_for_few(
    both: Bundle, single: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch)
    assert choose_precisions(both, "cpu", slots=8) == ("int8", "int8")
    assert choose_precisions(both, "cpu", slots=1) == ("int8", "recipe")
    assert choose_precisions(single, "cpu", slots=8) == ("recipe", "recipe")
    assert choose_precisions(both, "cuda", slots=8) == ("recipe", "recipe")


def test_without_the_units_or_the_memory_the_recipe_does_all(
    both: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, units=False)
    assert choose_precisions(both, "cpu", slots=8) == ("recipe", "recipe")
    machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=2) - 1)
    assert choose_precisions(both, "cpu", slots=1) == ("recipe", "recipe")
    machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=5) - 1)
    assert choose_precisions(both, "cpu", slots=8) == ("recipe", "recipe")


def test_where_one_decoder_fits_eight_bits_do_all(
    both: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=5))
    assert choose_precisions(both, "cpu", slots=8) == ("int8", "int8")
    machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=2))
    assert choose_precisions(both, "cpu", slots=1) == ("int8", "int8")
    assert choose_precisions(both, "cpu", slots=1, decode="recipe") == ("recipe", "recipe")
    machine(monkeypatch, memory=needed(both, "decoder-int8.bin", "decoder.bin", sequences=2))
    assert choose_precisions(both, "cpu", slots=1) == ("int8", "recipe")


def test_so_many_are_decoded_together_as_fit_beside_the_weights(
    both: Bundle, single: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch)
    assert choose_slots(single, "cpu", Precisions("recipe", "recipe")) == 8
    assert choose_slots(both, "cpu", Precisions("int8", "int8")) == 16
    eight = Precisions("int8", "int8")
    for slots in (1, 3, 16):  # and the prompt that is being read
        machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=slots + 1))
        assert choose_slots(both, "cpu", eight) == slots
        machine(monkeypatch, memory=needed(both, "decoder-int8.bin", sequences=slots + 1) - 1)
        assert choose_slots(both, "cpu", eight) == max(1, slots - 1)
    machine(monkeypatch, memory=0)
    assert choose_slots(both, "cpu", eight) == 1
    assert choose_slots(single, "cuda", Precisions("recipe", "recipe")) == 8, "its memory: unknown"
    with Engine.open(both, threads=1) as engine:
        assert engine.slots == 1
    with Engine.open(both, threads=1, slots=3) as engine:
        assert engine.slots == 3, "what is asked for goes before the memory"


def test_a_sequence_needs_at_least_the_rows_that_an_engine_gives_it(single: Bundle) -> None:
    window, decoder = single.config.sliding_window, Decoder(single, "cpu", threads=1)
    cache = decoder.cache(slots=1, local_capacity=window, global_capacity=4096)
    held = sum(buffer.nbytes for pair in cache.buffers for buffer in pair)
    assert held <= precision._sequence_bytes(single) < 1.25 * held


def test_memory_is_the_container_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = precision._memory()
    (tmp_path / "limit").write_text("1000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(precision, "_CGROUP_LIMITS", (tmp_path / "absent", tmp_path / "none"))
    assert precision._memory() >= whole
    monkeypatch.setattr(precision, "_CGROUP_LIMITS", (tmp_path / "none", tmp_path / "limit"))
    assert precision._memory() == 800


def test_a_wish_goes_before_the_machine(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    chosen = choose_precisions(both, "cpu", slots=8, prefill="recipe", decode="recipe")
    assert chosen == ("recipe", "recipe")
    machine(monkeypatch, units=False, memory=0)
    chosen = choose_precisions(both, "cpu", slots=1, prefill="int8", decode="int8")
    assert chosen == ("int8", "int8")


def test_what_is_not_there_is_refused(both: Bundle, single: Bundle) -> None:
    with pytest.raises(ConfigError, match="export the checkpoint with --int8-prefill"):
        choose_precisions(single, "cpu", slots=1, prefill="int8")
    with pytest.raises(ConfigError, match="no 8-bit decoder for cuda"):
        choose_precisions(both, "cuda", slots=1, decode="int8")
    wrong: Any = "int4"
    with pytest.raises(ConfigError, match="got 'int4', expected one of"):
        choose_precisions(both, "cpu", slots=1, decode=wrong)


@pytest.mark.parametrize(
    ("precisions", "graphs"),
    [
        (("recipe", "recipe"), {DECODER}),
        (("int8", "recipe"), {DECODER, DECODER_INT8}),
        (("int8", "int8"), {DECODER_INT8}),
    ],
)
def test_only_the_chosen_decoders_are_loaded(
    both: Bundle, precisions: tuple[Any, Any], graphs: set[str]
) -> None:
    decoder = Decoder(both, "cpu", threads=1, precisions=Precisions(*precisions))
    assert {name for name in decoder._graphs if name.startswith("decoder")} == graphs


def test_each_phase_runs_on_its_own_decoder(both: Bundle) -> None:
    """A prompt read with 8 bits leaves other rows in the cache than one read with 4, and a step on
    4 bits goes on from them."""
    ids = np.arange(40, 70)

    def fed(decoder: Decoder, prefill: bool) -> tuple[Array, Array]:
        cache = decoder.cache(slots=1, local_capacity=64, global_capacity=64, prefill=prefill)
        cache.reserve(0, len(ids))
        blocks = np.zeros((1, len(ids)), np.int64)
        hidden = decoder.forward(cache, 0, decoder.embed(ids)[None], blocks)
        return hidden, cache.buffers[0][0].copy()

    mixed = Decoder(both, "cpu", threads=1, precisions=Precisions("int8", "recipe"))
    plain, eight = (
        Decoder(both, "cpu", threads=1, precisions=Precisions(kind, kind))
        for kind in ("recipe", "int8")
    )
    for prefill, alone in ((True, eight), (False, plain)):
        for got, expected in zip(fed(mixed, prefill), fed(alone, False), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(fed(mixed, True)[0], fed(mixed, False)[0])


@pytest.mark.parametrize("decode", ["recipe", "int8"])
def test_an_answer_does_not_depend_on_its_company(both: Bundle, decode: Any) -> None:
    with Engine.open(both, slots=4, threads=1, prefill="int8", decode=decode) as engine:
        assert engine.precisions == ("int8", decode)
        requests = [
            Request(
                engine.renderer.render([Turn("user", ("text " * (3 + 2 * number),))]),
                Regex("[a-z ]{20,40}"),
                max_new_tokens=48,
            )
            for number in range(6)
        ]
        alone = [engine.generate(request).ids for request in requests]
        together = [future.result(120).ids for future in map(engine.submit, requests)]
    assert together == alone
