"""Batches from seeds: their size, their kind, their order."""

import os
import time
from multiprocessing import get_context

import pytest
import torch

from training.encoding import IGNORED, Batch
from training.feed import Feed, Feeder, edge, feed

TASKS = ("copy_text", "tag", "clean")


def same(left: Batch, right: Batch) -> bool:
    pairs = ((left.ids, right.ids), (left.targets, right.targets))
    return all(bool(torch.equal(one, other)) for one, other in pairs)


def test_batches_hold_the_budget_and_have_answers() -> None:
    feeder = Feeder(stream=1, budget=1024, tasks=TASKS)
    for _ in range(5):
        batch = feeder.batch(0.5)
        rows, length = batch.ids.shape
        assert rows >= 2 and rows * length <= max(1024, 2 * length)
        assert ((batch.targets != IGNORED).sum(1) >= 2).all()


def test_the_same_stream_gives_the_same_batches_and_another_does_not() -> None:
    one, two, other = (Feeder(stream=s, budget=512, tasks=TASKS) for s in (1, 1, 2))
    first = one.batch(0.0)
    assert same(first, two.batch(0.0))
    assert not same(first, other.batch(0.0))


def test_the_mix_is_followed() -> None:
    feeder = Feeder(stream=3, budget=512, tasks=TASKS)
    for _ in range(60):
        feeder.batch(0.0)
    assert feeder.tokens["copy_text"] > 5 * feeder.tokens["clean"] > 0


def test_media_do_not_share_a_batch() -> None:
    feeder = Feeder(stream=4, budget=512, tasks=("copy_text", "read_line"))
    for _ in range(6):
        batch = feeder.batch(0.2)
        patches = 0 if batch.patches is None else len(batch.patches)
        assert patches == int(batch.block.sum())
        assert (batch.patches is None) or (batch.block.sum(1) > 0).all()


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 32), (32, 32), (33, 48), (65, 96), (1600, None)]
)
def test_bucket_edges(length: int, expected: int | None) -> None:
    assert edge(length) == expected


def test_a_feeder_ends_when_its_parent_is_gone() -> None:
    context = get_context("spawn")
    progress, out = context.Value("d", 0.0), context.Queue(1)
    arguments = (1, 512, ("copy_text",), progress, out, os.getpid() + 1)
    process = context.Process(target=feed, args=arguments, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_feed_delivers_and_closes() -> None:
    source = Feed(stream=1, budget=512)
    assert next(source.batches()).ids.numel() > 0
    source.close()
    deadline = time.monotonic() + 30
    while source.process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not source.process.is_alive()
