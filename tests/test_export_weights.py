"""The table of weights, and the matching of checkpoint keys with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.shapes import published_config
from export.weights import (
    TABLE,
    WEIGHT_FILES,
    Weight,
    all_weights,
    assign,
    canonical_name,
    published_name,
)
from model_onnx.config import ModelConfig
from model_onnx.errors import CheckpointError
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def weights() -> dict[str, Weight]:
    return all_weights(ModelConfig.from_hugging_face(tiny_config()))


def published_shapes(weights: dict[str, Weight]) -> dict[str, tuple[int, ...]]:
    return {published_name(weight): weight.shape for weight in weights.values()}


def test_the_12b_has_the_published_number_of_tensors_and_parameters() -> None:
    table = all_weights(ModelConfig.from_hugging_face(published_config()))
    assert len(table) == 677
    assert sum(int(np.prod(weight.shape)) for weight in table.values()) == 11_959_730_224
    assert table["layers.5.self_attn.k_proj.weight"].shape == (512, 3840)
    assert "layers.5.self_attn.v_proj.weight" not in table
    assert table["layers.0.self_attn.v_proj.weight"].shape == (2048, 3840)


def test_every_use_has_a_file(weights: dict[str, Weight]) -> None:
    assert {weight.use for weight in weights.values()} == set(WEIGHT_FILES)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model.language_model.embed_tokens.weight", TABLE),
        ("language_model.model.embed_tokens.weight", TABLE),
        ("model.embed_tokens.weight", TABLE),
        ("model.layers.3.layer_scalar", "layers.3.layer_scalar"),
        ("model.norm.weight", "norm.weight"),
        ("model.language_model.norm.weight", "norm.weight"),
        ("model.vision_embedder.patch_ln1.bias", "vision_embedder.patch_ln1.bias"),
        ("model.embed_vision.patch_ln1.bias", "vision_embedder.patch_ln1.bias"),
        ("model.embed_vision.pos_embedding", "vision_embedder.pos_embedding"),
        (
            "model.embed_vision.multimodal_embedder.embedding_projection.weight",
            "embed_vision.embedding_projection.weight",
        ),
        (
            "model.embed_vision.embedding_projection.weight",
            "embed_vision.embedding_projection.weight",
        ),
        ("lm_head.weight", "lm_head.weight"),
        ("something.else", "something.else"),
    ],
)
def test_every_spelling_has_one_name(key: str, name: str) -> None:
    assert canonical_name(key) == name


def test_published_names_are_undone(weights: dict[str, Weight]) -> None:
    for weight in weights.values():
        assert canonical_name(published_name(weight)) == weight.name


def test_every_key_fills_one_weight_and_a_tied_head_is_skipped(weights: dict[str, Weight]) -> None:
    shapes = {**published_shapes(weights), "lm_head.weight": (512, 64)}
    assignment = assign(shapes, weights.values())
    assert {weight.name for weight in assignment.weights.values()} == set(weights)
    assert assignment.skipped == ("lm_head.weight",)


def test_missing_unexpected_twice_and_wrong_shapes_are_named(weights: dict[str, Weight]) -> None:
    good = published_shapes(weights)
    some = "model.language_model.layers.1.mlp.up_proj.weight"
    for shapes, message in (
        ({key: shape for key, shape in good.items() if key != some}, "missing tensors layers.1"),
        ({**good, "model.vision_tower.x": (1,)}, "unexpected tensors model.vision_tower.x"),
        ({**good, "model.layers.1.mlp.up_proj.weight": (128, 64)}, "unexpected tensors model.lay"),
        ({**good, some: (64, 128)}, rf"tensor {some}: got shape \[64, 128\], expected \[128, 64\]"),
        ({}, "and .* more; the checkpoint is incomplete"),
    ):
        with pytest.raises(CheckpointError, match=message):
            assign(shapes, weights.values())


def test_reference_names_all_match(weights: dict[str, Weight], tmp_path: Path) -> None:
    """transformers' own names in memory are one of the spellings."""
    torch = pytest.importorskip("torch")
    from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

    with torch.device("meta"):
        model = Gemma4UnifiedForConditionalGeneration(Gemma4UnifiedConfig(**tiny_config()))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assignment = assign(shapes, weights.values())
    assert {weight.name for weight in assignment.weights.values()} == set(weights)
