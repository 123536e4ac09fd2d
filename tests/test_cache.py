"""The cache against a slow model of what it must hold, under random sequences of operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.cache import KVCache
from model_onnx.config import LayerSpec, ModelConfig
from model_onnx.session import Array

WINDOW = 8


def config(layers: str = "lg") -> ModelConfig:
    local = LayerSpec("local", 4, 2, 1e4, 2, False)
    everywhere = LayerSpec("global", 8, 1, 1e6, 1, True)
    return ModelConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, heads=2, sliding_window=WINDOW,
        max_positions=512, rms_norm_eps=1e-6, final_logit_softcapping=30.0,
        layers=tuple(local if kind == "l" else everywhere for kind in layers), patch_size=4,
        patch_positions=8, vision_dim=8, frame_size=4, image_token_id=1, video_token_id=2,
        audio_token_id=3, boi_token_id=4, eoi_token_id=5, boa_token_id=6, eoa_token_id=7,
    )  # fmt: skip


def make(slots: int = 2, local: int = WINDOW - 1 + 6, everywhere: int = 64) -> KVCache:
    return KVCache(
        config(),
        np.dtype(np.float32),
        slots=slots,
        local_capacity=local,
        global_capacity=everywhere,
    )


def write(cache: KVCache, slot: int, values: list[int]) -> None:
    """What the graph does: new rows behind the old ones, each filled with its token."""
    cache.reserve(slot, len(values))
    for layer, pair in zip(cache._config.layers, cache.buffers, strict=True):
        at = int((cache.local_rows if layer.kind == "local" else cache.positions)[slot])
        for buffer in pair:
            for offset, value in enumerate(values):
                buffer[slot, :, at + offset] = value
    cache.advance(slot, 1, len(values))


def rows(cache: KVCache, slot: int, layer: int) -> list[float]:
    kind = cache._config.layers[layer].kind
    count = int((cache.local_rows if kind == "local" else cache.positions)[slot])
    key, value = cache.buffers[layer]
    assert (key[slot, :, :count] == key[slot, :1, :count, :1]).all()
    assert (value[slot, :, :count, :1] == key[slot, :1, :count, :1]).all()
    return [float(row) for row in key[slot, 0, :count, 0]]


def check(cache: KVCache, slot: int, truth: list[int]) -> None:
    assert cache.positions[slot] == len(truth)
    assert rows(cache, slot, 1) == truth
    local = rows(cache, slot, 0)
    assert local == truth[len(truth) - len(local) :]
    assert len(local) >= min(len(truth), WINDOW - 1)  # the next query's whole window is there


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 6)),
        st.tuples(st.just("rewind"), st.integers(0, 6)),
        st.tuples(st.just("snapshot"), st.just(0)),
        st.tuples(st.just("restore"), st.just(0)),
        st.tuples(st.just("move"), st.just(0)),
        st.tuples(st.just("grow"), st.integers(1, 3)),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(OPERATIONS)
def test_any_sequence_of_operations_keeps_the_visible_rows(
    operations: list[tuple[str, int]],
) -> None:
    cache, truth, token, slot, fresh = make(everywhere=256), [], 0, 0, 0
    kept, kept_truth = cache.snapshot(0), []
    for name, number in operations:
        if name == "write":
            values = list(range(token + 1, token + 1 + number))
            token += number
            write(cache, slot, values)
            truth, fresh = truth + values, number
        elif name == "rewind":
            number = min(number, fresh)
            cache.rewind(slot, number)
            truth, fresh = truth[: len(truth) - number], fresh - number
        elif name == "snapshot":
            kept, kept_truth = cache.snapshot(slot), truth
        elif name == "restore":
            cache.restore(slot, kept)
            truth, fresh = kept_truth, 0
        elif name == "move":
            cache.take(1 - slot, cache, slot)
            cache.clear(slot)
            slot = 1 - slot
        else:
            local = cache.local_capacity + number
            cache.grow(local_capacity=local, global_capacity=cache.global_capacity + number)
        check(cache, slot, truth)


def test_moving_to_another_cache_keeps_only_the_window() -> None:
    big, small = make(local=64), make(local=WINDOW + 1)
    truth = list(range(1, 31))
    for start in range(0, 30, 10):
        write(big, 0, truth[start : start + 10])
    small.take(1, big, 0)
    check(small, 1, truth)
    assert small.local_rows[1] == WINDOW - 1


def test_bias_is_the_window_rule_of_the_reference() -> None:
    """Brute force over absolute positions: causal or same image, closer than the window."""
    cache = make(local=64)
    for start in range(0, 20, 5):
        write(cache, 0, list(range(start, start + 5)))
    blocks = np.array([[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 2, 0]])
    bias = cache.local_bias(0, 1, blocks)
    assert bias.shape == (1, 1, 15, 35)
    for query in range(15):
        for key in range(35):
            q, k = query + 20, key
            image = blocks[0, query]
            same = k >= 20 and image > 0 and blocks[0, k - 20] == image
            visible = (k <= q or same) and abs(q - k) < WINDOW
            assert (bias[0, 0, query, key] == 0) == visible, (query, key)
    assert set(np.unique(bias)) == {np.float32(0), np.finfo(np.float32).min}


def test_bias_of_a_batch_hides_the_rows_of_longer_neighbours() -> None:
    cache = make()
    write(cache, 0, [1, 2, 3, 4, 5])
    write(cache, 1, [1])
    bias = cache.local_bias(0, 2, np.zeros((2, 1), np.int64))
    assert (bias[0, 0, 0] == 0).all()
    assert (bias[1, 0, 0] == 0).tolist() == [True, True, False, False, False, False]


def test_rows_that_do_not_fit_are_refused() -> None:
    cache = make(everywhere=20)
    with pytest.raises(ValueError, match="local capacity"):
        cache.reserve(0, WINDOW + 10)
    write(cache, 0, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="global capacity"):
        cache.reserve(0, 17)
    with pytest.raises(ValueError, match="cannot drop 5 of 4"):
        cache.rewind(0, 5)


def test_unused_slots_cost_no_memory_until_written() -> None:
    """Buffers are zero pages until written: 2 GiB of slots must not become resident."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache = make(slots=8, local=1 << 20, everywhere=1 << 21)
    assert sum(key.nbytes + value.nbytes for key, value in cache.buffers) > 1 << 30
    write(cache, 7, [1, 2, 3])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_memory_that_does_not_suffice_changes_nothing() -> None:
    cache = make()
    write(cache, 1, [1, 2, 3])
    allocate, calls = cache._allocate, [0]

    def failing(index: int, capacity: int) -> tuple[Array, Array]:
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        return allocate(index, capacity)

    cache._allocate = failing  # type: ignore[method-assign]
    before = [id(buffer) for pair in cache.buffers for buffer in pair]
    with pytest.raises(MemoryError):
        cache.grow(local_capacity=100, global_capacity=100)
    assert (cache.local_capacity, cache.global_capacity) == (WINDOW - 1 + 6, 64)
    assert [id(buffer) for pair in cache.buffers for buffer in pair] == before
    check(cache, 1, [1, 2, 3])


def test_growing_touches_the_pages_of_used_slots_alone() -> None:
    cache = make()
    write(cache, 0, [1, 2, 3])
    written: list[int] = []
    allocate = cache._allocate

    class Recording(np.ndarray[Any, np.dtype[Any]]):
        def __setitem__(self, key: Any, value: Any) -> None:
            written.append(int(np.prod(np.shape(value))))
            super().__setitem__(key, value)

    def recording(index: int, capacity: int) -> Any:
        return tuple(buffer.view(Recording) for buffer in allocate(index, capacity))

    cache._allocate = recording  # type: ignore[method-assign]
    assert cache.grow(global_capacity=100)
    assert sum(written) == 2 * 3 * 8  # key and value: three rows of one head of 8
