"""config.json: the published one loads, and nothing else becomes a wrong but valid graph."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shapes import published_config
from model_onnx.config import LayerSpec, ModelConfig
from model_onnx.errors import ConfigError
from tests.tiny import tiny_config

PARTS = ("", "text_config", "vision_config", "audio_config")


def parse(raw: Any) -> ModelConfig:
    return ModelConfig.from_hugging_face(raw)


def part(raw: dict[str, Any], name: str) -> dict[str, Any]:
    inside: dict[str, Any] = raw[name] if name else raw
    return inside


def test_the_published_config_of_the_12b() -> None:
    config = parse(published_config())
    local = LayerSpec("local", 256, 8, 10_000.0, 128, False)
    everywhere = LayerSpec("global", 512, 1, 1_000_000.0, 64, True)
    assert config.layers == ((local,) * 5 + (everywhere,)) * 8
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (
        262144, 3840, 15360,
    )  # fmt: skip
    assert (config.heads, config.sliding_window, config.max_positions) == (16, 1024, 262144)
    assert (config.rms_norm_eps, config.final_logit_softcapping) == (1e-6, 30.0)
    assert (config.patch_size, config.patch_dim, config.patch_positions) == (48, 6912, 1120)
    assert (config.vision_dim, config.frame_size) == (3840, 640)
    media = ("image", "video", "audio")
    assert [getattr(config, f"{kind}_token_id") for kind in media] == [258880, 258884, 258881]
    markers = ("boi", "eoi", "boa", "eoa")
    assert [getattr(config, f"{name}_token_id") for name in markers] == [
        255999, 258882, 256000, 258883,
    ]  # fmt: skip


def test_what_transformers_saves_is_the_same_config() -> None:
    transformers = pytest.importorskip("transformers")
    ours = parse(tiny_config())
    theirs = transformers.Gemma4UnifiedConfig.from_dict(tiny_config())
    for only_changes in (True, False):
        assert parse(json.loads(theirs.to_json_string(use_diff=only_changes))) == ours


@pytest.mark.parametrize("key", ["{}", "{:02}"])
def test_global_layers_may_be_described_layer_by_layer(key: str) -> None:
    raw = tiny_config()
    text = raw["text_config"]
    override = {
        "head_dim": text.pop("global_head_dim"),
        "num_key_value_heads": text.pop("num_global_key_value_heads"),
    }
    text["per_layer_config"] = {key.format(index): override for index in (1, 3)}
    assert parse(raw) == parse(tiny_config())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"1": {"sliding_window": 3}}, r"layer 1 has unknown fields \['sliding_window'\]"),
        ({"4": {"head_dim": 32}}, r"got layers \[4\], expected 0 to 3"),
        ({"one": {}}, "malformed"),
        ([1], "malformed"),
    ],
)
def test_overrides_of_no_layer_or_of_something_else(override: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(tiny_config(per_layer_config=override))


@pytest.mark.parametrize("name", PARTS)
def test_an_unknown_field_is_named(name: str) -> None:
    raw = tiny_config()
    part(raw, name)["query_pre_attn_scalar"] = 256
    with pytest.raises(ConfigError, match=r"unknown fields \['query_pre_attn_scalar'\]"):
        parse(raw)


def test_an_unknown_rope_parameter_is_named() -> None:
    raw = tiny_config()
    raw["text_config"]["rope_parameters"]["full_attention"]["factor"] = 8.0
    with pytest.raises(ConfigError, match=r"rope_parameters has unknown fields \['factor'\]"):
        parse(raw)


NEEDED = {
    "": ["text_config", "vision_config", "audio_config", "image_token_id", "eoa_token_index"],
    "text_config": [
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "layer_types",
        "num_attention_heads", "num_key_value_heads", "head_dim", "attention_k_eq_v",
        "sliding_window", "rms_norm_eps", "final_logit_softcapping", "max_position_embeddings",
        "rope_parameters",
    ],
    "vision_config": ["patch_size", "pooling_kernel_size", "mm_posemb_size"],
    "audio_config": ["audio_embed_dim"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in NEEDED.items() for field in fields]
)
def test_a_missing_field_is_named(name: str, field: str) -> None:
    raw = tiny_config()
    del part(raw, name)[field]
    with pytest.raises(ConfigError, match=f"{name or 'config.json'}.{field} is missing"):
        parse(raw)


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("", "model_type", "gemma3", "got model_type 'gemma3', expected 'gemma4_unified'"),
        ("", "model_type", "gemma4", "got model_type 'gemma4', expected 'gemma4_unified'"),
        ("", "model_type", "gemma4_unified_assistant", "other architectures cannot be exported"),
        ("", "tie_word_embeddings", False, "tie_word_embeddings: got False, expected True"),
        ("", "audio_config", None, "audio_config: got None, expected an object"),
        ("text_config", "enable_moe_block", True, "enable_moe_block: got True, expected False"),
        ("text_config", "hidden_size_per_layer_input", 256, "got 256, expected 0"),
        ("text_config", "num_kv_shared_layers", 2, "got 2, expected 0"),
        ("text_config", "use_bidirectional_attention", "all", "got 'all', expected 'vision'"),
        ("text_config", "final_logit_softcapping", None, "got None, expected float"),
        ("text_config", "hidden_size", "64", "hidden_size: got '64', expected int"),
        ("text_config", "num_attention_heads", 0, "heads: got 0, expected int"),
        ("text_config", "num_hidden_layers", 3, "layer_types: got"),
        (
            "text_config",
            "layer_types",
            ["sliding_attention"] * 4,
            "got sliding_attention last, expected full",
        ),
        ("vision_config", "num_hidden_layers", 27, "unknown fields"),
        ("vision_config", "model_patch_size", 32, "got 32, expected 48"),
        ("vision_config", "output_proj_dims", 65, "got 65, expected 64"),
        ("vision_config", "rms_norm_eps", 1e-5, "got 1e-05, expected 1e-06"),
        ("audio_config", "audio_samples_per_token", 320, "got 320, expected 640"),
        ("audio_config", "num_mel_bins", 128, "unknown fields"),
    ],
)
def test_what_cannot_be_exported(name: str, field: str, value: Any, message: str) -> None:
    raw = tiny_config()
    part(raw, name)[field] = value
    with pytest.raises(ConfigError, match=message) as caught:
        parse(raw)
    assert caught.value.exit_code == 2


json_values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers()),
)  # fmt: skip


@given(name=st.sampled_from(PARTS), value=json_values, data=st.data())
def test_any_value_anywhere_is_a_config_or_a_config_error(
    name: str, value: Any, data: st.DataObject
) -> None:
    raw = copy.deepcopy(tiny_config())
    field = data.draw(st.sampled_from(sorted(part(raw, name))))
    part(raw, name)[field] = value
    with contextlib.suppress(ConfigError):
        assert ModelConfig.from_json(parse(raw).to_json()) == parse(raw)


def test_json_and_back() -> None:
    config = parse(published_config())
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"model_type": "gemma4_unified"}'])
def test_a_damaged_file_is_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        ModelConfig.from_checkpoint(tmp_path)
