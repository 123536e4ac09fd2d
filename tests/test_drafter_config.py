"""Which drafters are understood, and which belong to a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_onnx.config import ModelConfig
from model_onnx.drafter_config import DrafterConfig
from model_onnx.errors import ConfigError
from tests.tiny import tiny_config
from tests.tiny_drafter import drafter_config

TARGET = ModelConfig.from_hugging_face(tiny_config())


def parse(**text: Any) -> DrafterConfig:
    return DrafterConfig.from_hugging_face(drafter_config(**text))


def test_it_reads_the_last_layer_of_each_kind() -> None:
    assert parse().sources(TARGET) == {"local": 2, "global": 3}
    only_global = parse(num_hidden_layers=1, layer_types=["full_attention"], num_kv_shared_layers=1)
    assert only_global.sources(TARGET) == {"global": 3}


def test_json_and_back() -> None:
    config = parse()
    assert DrafterConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ConfigError, match="export the drafter again"):
        DrafterConfig.from_json({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 600}, "vocabulary: got 600, expected 512"),
        ({"sliding_window": 32}, "window: got 32, expected 16"),
        ({"head_dim": 8}, "local keys and values: got 2 heads of 8"),
        ({"num_key_value_heads": 4}, "local keys and values: got 4 heads of 16"),
        ({"global_head_dim": 64}, "global keys and values: got 1 heads of 64"),
        ({"num_global_key_value_heads": 2}, "global keys and values: got 2 heads of 32"),
    ],
)
def test_a_drafter_of_another_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(**change).sources(TARGET)


def test_a_drafter_of_a_wider_model_is_refused() -> None:
    raw = drafter_config() | {"backbone_hidden_size": 3840}
    with pytest.raises(ConfigError, match="got 3840, expected 64; use the drafter"):
        DrafterConfig.from_hugging_face(raw).sources(TARGET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma4_unified"}, "gemma4_unified_assistant"),
        ({"use_ordered_embeddings": True}, "use_ordered_embeddings: got True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"surprise": 1}, "unknown fields"),
        ({"text_config": None}, "malformed"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DrafterConfig.from_hugging_face(drafter_config() | change)


def test_layers_with_rows_of_their_own_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_kv_shared_layers: got 1, expected 3"):
        parse(num_kv_shared_layers=1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        DrafterConfig.from_checkpoint(tmp_path)
