"""Opening a bundle: what is there is read, and every damage is one clear BundleError."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import BundleError
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "own"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def refused(directory: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(directory)
    assert caught.value.exit_code == 5


def test_the_manifest_is_written_and_read(whole: Path) -> None:
    bundle = Bundle.open(whole, verify=True)
    written = json.loads((whole / names.MANIFEST).read_text())
    assert json.loads(json.dumps(bundle.manifest())) == written
    assert Bundle.open(str(whole)).sha256 == bundle.sha256
    assert {*names.GRAPHS, names.TOKENIZER, names.QUANTIZATION_REPORT} < set(bundle.files)
    assert bundle.path(names.HEAD) == whole / "head.onnx"


def test_another_file_gives_another_identity(own: Path) -> None:
    before = Bundle.open(own).sha256
    rewrite(own / names.MANIFEST, lambda raw: raw["files"]["decoder.bin"].update(sha256="0" * 64))
    assert Bundle.open(own).sha256 != before
    with pytest.raises(BundleError, match=r"decoder\.bin: its sha256 is not the manifest's"):
        Bundle.open(own, verify=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "cannot read"), ("{", "cannot read"), ("[]", "expected a JSON object"), ("\0", "cannot")],
)
def test_a_manifest_that_is_no_json_object(own: Path, text: str, message: str) -> None:
    (own / names.MANIFEST).write_text(text)
    refused(own, message)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    refused(tmp_path, "has no bundle.json; expected a bundle of `flows export")
    refused(tmp_path / "nowhere", "has no bundle.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(format=2), "got bundle format 2, expected 1"),
        (lambda raw: raw.pop("config"), "is damaged: KeyError.*config"),
        (lambda raw: raw.pop("source_sha256"), "is damaged: KeyError.*source_sha256"),
        (lambda raw: raw.update(config=3), "is damaged: ConfigError"),
        (lambda raw: raw["config"].pop("heads"), "is damaged: ConfigError.*heads"),
        (lambda raw: raw["config"].update(heads="4"), "heads: got '4', expected int"),
        (lambda raw: raw["config"].update(hidden_sise=64), "is damaged: ConfigError.*hidden_sise"),
        (lambda raw: raw["config"]["layers"][0].update(kind="middle"), "kind: got 'middle'"),
        (lambda raw: raw.update(device="tpu"), "got 'tpu', expected one of"),
        (lambda raw: raw.update(activation_type=[]), "is damaged"),
        (lambda raw: raw.update(embedding_factor=None), "is damaged"),
        (lambda raw: raw.update(files=[]), "is damaged"),
        (lambda raw: raw["files"]["decoder.bin"].pop("bytes"), "is damaged: KeyError.*bytes"),
        (lambda raw: raw["files"].pop("head.onnx"), r"does not list \['head.onnx'\]"),
        (lambda raw: raw["files"]["head.onnx"].update(bytes=3), "head.onnx: got .*, expected 3"),
    ],
)
def test_a_damaged_manifest(own: Path, change: Callable[[Any], object], message: str) -> None:
    rewrite(own / names.MANIFEST, change)
    refused(own, message)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_the_manifest_opens_or_is_a_bundle_error(own: Path, data: Any) -> None:
    path = own / names.MANIFEST
    intact = path.read_text()
    raw = json.loads(intact)
    place = data.draw(st.sampled_from([raw, raw["config"], raw["config"]["layers"][1]]))
    field = data.draw(st.sampled_from(sorted(place)))
    place[field] = data.draw(st.sampled_from([None, True, -1, 0.5, "x", [], {}, [1], {"a": 1}]))
    path.write_text(json.dumps(raw))
    try:
        Bundle.open(own)
    except BundleError as error:
        assert error.exit_code == 5
    finally:
        path.write_text(intact)


@pytest.mark.parametrize("name", sorted([*names.GRAPHS, names.DECODER_WEIGHTS, names.TOKENIZER]))
def test_a_file_that_is_missing_or_short(own: Path, name: str) -> None:
    size = (own / name).stat().st_size
    (own / name).write_bytes((own / name).read_bytes()[:-1])
    refused(own, f"{name}: got {size - 1} bytes, expected {size}")
    (own / name).unlink()
    refused(own, f"{name}: got None bytes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("3", "expected a JSON object"),
        ("{}", "has no eos_token_id"),
        ('{"eos_token_id": []}', "has no eos_token_id"),
        ('{"eos_token_id": "<eos>"}', "eos_token_id has .*<eos>.*, expected ids below 512"),
        ('{"eos_token_id": [1, 512]}', r"eos_token_id has \[512\]"),
    ],
)
def test_a_damaged_generation_config(own: Path, text: str, message: str) -> None:
    (own / names.GENERATION_CONFIG).write_text(text)
    files = {names.GENERATION_CONFIG: {"bytes": len(text), "sha256": ""}}
    rewrite(own / names.MANIFEST, lambda raw: raw["files"].update(files))
    bundle = Bundle.open(own)
    with pytest.raises(BundleError, match=message):
        _ = bundle.eos_token_ids


def test_media_tokens_are_never_generated_whatever_the_file_says(own: Path) -> None:
    text = '{"eos_token_id": 1, "suppress_tokens": [9]}'
    (own / names.GENERATION_CONFIG).write_text(text)
    files = {names.GENERATION_CONFIG: {"bytes": len(text), "sha256": ""}}
    rewrite(own / names.MANIFEST, lambda raw: raw["files"].update(files))
    bundle = Bundle.open(own)
    config = bundle.config
    assert bundle.eos_token_ids == (1,)
    assert {9, config.image_token_id, config.audio_token_id, config.video_token_id} < set(
        bundle.suppress_tokens
    )
