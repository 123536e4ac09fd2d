"""The whole way, engine included, against transformers: same greedy tokens, same logits.

The reference recomputes everything for every token, with masks built by hand (its own are wrong for
images). Prompts: text, images, an image larger than the window, audio, mixtures, longer than the
window, longer than a prefill chunk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export import export_bundle
from export.parity import Prompt as ReferencePrompt
from export.parity import Reference, stored_weights
from model_onnx import prefill
from model_onnx.bundle import Bundle
from model_onnx.constrain import FreeText
from model_onnx.decoder import Decoder
from model_onnx.engine import Engine
from model_onnx.prefill import chunks, image_blocks
from model_onnx.prompt import Audio, Image, Part, Prompt, Turn
from model_onnx.sequence import Request
from model_onnx.session import Array
from tests.tiny import WINDOW, tiny_checkpoint

STEPS = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("fidelity") / "checkpoint")


def opened(checkpoint: Path, recipe: str) -> Bundle:
    out = checkpoint.parent / recipe
    if not out.exists():
        export_bundle(checkpoint, out, recipe=recipe, activations="exact")
    return Bundle.open(out)


def turns() -> list[list[Turn]]:
    """24 prompts of every kind."""
    rng = np.random.default_rng(0)

    def image(width: int, height: int) -> Image:
        return Image(rng.integers(0, 256, (48 * height, 48 * width, 3), np.uint8), None)

    def audio(frames: int) -> Audio:
        return Audio(rng.standard_normal(640 * frames).astype(np.float32) * 0.1)

    large = image(5, 4)
    assert large.pixels.shape[0] * large.pixels.shape[1] // 48**2 > WINDOW
    parts: list[tuple[Part, ...]] = [
        ("Hi",),
        ("A longer text that does not fit the window of the local layers at all. " * 3,),
        ("x" * 600,),  # more than one prefill chunk
        (image(2, 2), "one image"),
        (image(1, 1), image(3, 2), "two images"),
        (large, "an image larger than the window"),
        (large, image(2, 3), large, "three images"),
        (audio(3), "speech"),
        (audio(40), "speech longer than the window"),
        (image(2, 2), audio(5), "both"),
        ("y" * 505, large, "an image across the border of a chunk"),
        (image(3, 3), audio(7), "all mixed, " * 5),
    ]
    system = "Write the text of this page, line by line."
    plain = [[Turn("user", part)] for part in parts]
    return plain + [[Turn("system", (system,)), Turn("user", part)] for part in parts]


def reference_prompt(prompt: Prompt, ids: Array) -> ReferencePrompt:
    images = [span for span in prompt.media if span.kind == "image"]
    return ReferencePrompt(
        "prompt",
        ids,
        tuple((span.features, span.positions) for span in images if span.positions is not None),
        tuple(span.features for span in prompt.media if span.kind == "audio"),
    )


def greedy(
    reference: Reference, prompt: Prompt, permitted: Array, end: tuple[int, ...]
) -> list[int]:
    ids = prompt.ids
    for _ in range(STEPS):
        logits = reference.logits(reference_prompt(prompt, ids))[-1]
        token = int(np.where(permitted, logits, -np.inf).argmax())
        if token in end:
            break
        ids = np.append(ids, token)
    return [int(token) for token in ids[len(prompt.ids) :]]


def logits(decoder: Decoder, prompt: Prompt) -> Array:
    """Every position's logits, prefilled in the engine's own chunks."""
    cache = decoder.cache(slots=1, local_capacity=1024, global_capacity=2048)
    embeds, blocks = decoder.embed(prompt.ids, prompt.media), image_blocks(prompt)
    rows = []
    for start, end in chunks(prompt, 0, blocks):
        cache.reserve(0, end - start)
        hidden = decoder.forward(cache, 0, embeds[None, start:end], blocks[None, start:end])
        rows.append(decoder.logits(hidden[0]))
    return np.concatenate(rows)


def test_fp32_gives_the_reference_s_tokens_for_64_steps(checkpoint: Path) -> None:
    bundle = opened(checkpoint, "fp32")
    reference = Reference(checkpoint, bundle)
    with Engine.open(bundle) as engine:
        prompts = [engine.renderer.render(turn) for turn in turns()]
        permitted = engine.grammar.matcher(FreeText(), STEPS).allowed()
        futures = [engine.submit(Request(prompt, max_new_tokens=STEPS)) for prompt in prompts]
        got = [list(future.result(300).ids) for future in futures]
    expected = [greedy(reference, prompt, permitted, bundle.eos_token_ids) for prompt in prompts]
    assert got == expected
    assert len(prompts) >= 20 and sum(len(ids) for ids in got) > 20 * STEPS // 2


@pytest.mark.parametrize("recipe", ["fp32", "int4", "int4-b128", "int8"])
def test_logits_equal_the_reference_s_on_the_stored_weights(checkpoint: Path, recipe: str) -> None:
    bundle = opened(checkpoint, recipe)
    reference = Reference(checkpoint, bundle)
    if recipe != "fp32":
        reference.load(stored_weights(bundle))
    with Engine.open(bundle) as engine:
        prompts = [engine.renderer.render(turn) for turn in turns()[:12]]
    decoder = Decoder(bundle, "cpu")
    for prompt in prompts:
        expected = reference.logits(reference_prompt(prompt, prompt.ids))
        assert np.abs(logits(decoder, prompt) - expected).max() <= 1e-3


def test_an_image_is_never_split(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunk size, every image lies inside one chunk and the logits stay the same."""
    bundle = opened(checkpoint, "fp32")
    with Engine.open(bundle) as engine:
        prompts = [engine.renderer.render(turn) for turn in turns()[3:12]]
    decoder = Decoder(bundle, "cpu")
    for prompt in prompts:
        whole = logits(decoder, prompt)
        blocks = image_blocks(prompt)
        for size in (7, 33):
            pieces = chunks(prompt, 0, blocks, size)
            assert [start for start, _ in pieces[1:]] == [end for _, end in pieces[:-1]]
            for _, end in pieces[:-1]:
                assert blocks[end] == 0 or blocks[end] != blocks[end - 1]
            monkeypatch.setattr(prefill.chunks, "__defaults__", (size,))
            assert np.abs(logits(decoder, prompt) - whole).max() <= 1e-3
            monkeypatch.undo()
