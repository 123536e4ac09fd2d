"""training/memory.py: the arithmetic of the published 12B."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.shapes import published_config
from model_onnx.config import ModelConfig
from model_onnx.errors import RuntimeUnavailableError
from training.memory import GIB, Method, check_fits, lora_parameters, most_tokens, need, plan

CONFIG = ModelConfig.from_hugging_face(published_config())
PARAMETERS = 11_959_730_224
PROJECTORS = 49_922_304 + 2_457_600


def test_weights_and_adapters_are_counted_exactly() -> None:
    local = 2 * (4096 + 3840) + 2 * (2048 + 3840) + 3 * (3840 + 15360)  # q, o; k, v; the MLP
    whole = 2 * (8192 + 3840) + (512 + 3840) + 3 * (3840 + 15360)
    adapters = 16 * (40 * local + 8 * whole)
    assert lora_parameters(CONFIG, 16) == adapters
    lora = need(CONFIG, Method(16, True), 2048)
    assert lora.weights == 2 * (PARAMETERS - PROJECTORS)
    assert lora.trained == 16 * (adapters + PROJECTORS)
    full = need(CONFIG, Method(0, True), 2048)
    assert (full.weights, full.trained) == (0, 16 * PARAMETERS)


def test_more_tokens_and_no_checkpointing_take_more() -> None:
    short, long = (need(CONFIG, Method(16, True), tokens).activations for tokens in (512, 4096))
    kept = need(CONFIG, Method(16, False), 512).activations
    assert short < long and short < kept
    tokens = most_tokens(CONFIG, Method(16, True), 48 * GIB)
    assert 0 < tokens < most_tokens(CONFIG, Method(16, True), 80 * GIB)
    check_fits(CONFIG, Method(16, True), tokens, 48 * GIB)


def test_what_does_not_fit_is_said_with_what_would() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"got 24 GiB.*a larger GPU"):
        check_fits(CONFIG, Method(16, True), 2048, 24 * GIB)
    with pytest.raises(RuntimeUnavailableError, match=r"use LoRA r=16"):
        check_fits(CONFIG, Method(0, True), 2048, 80 * GIB)


def test_the_plan_names_every_method_and_card() -> None:
    table = plan(CONFIG)
    assert "| 24 GiB | no | no | no |" in table
    assert "all weights, checkpointing" in table
    page = Path(__file__).parents[1] / "docs" / "how-to" / "fine-tune.md"
    assert table in page.read_text("utf-8"), "python -m training.memory --checkpoint THE-12B"
