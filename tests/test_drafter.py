"""The drafter against transformers: the same guesses, in fp32 on random weights.

transformers 5.23 cannot construct a drafter: `kv_sharing_modes` refuses a model all of whose layers
read the rows of another one, and its generator hands over rows that the target has rejected and
rows outside the window. Both are repaired here: the property below, and rows cut by hand to what
comes before the token, in the window on local layers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.drafter import add_drafter
from model_onnx.bundle import Bundle
from model_onnx.decoder import Decoder
from model_onnx.drafter import Drafter
from tests.tiny import WINDOW, tiny_bundle
from tests.tiny_drafter import tiny_drafter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

COUNT = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("parity")
    add_drafter(tiny_drafter(home / "assistant"), tiny_bundle(home / "bundle"))
    return home


@pytest.fixture
def reference(home: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The drafter of transformers, its layers all reading."""
    monkeypatch.setattr(
        transformers.Gemma4UnifiedTextConfig,
        "kv_sharing_modes",
        property(lambda config: ["reuse"] * config.num_hidden_layers),
    )
    return transformers.Gemma4UnifiedAssistantForCausalLM.from_pretrained(
        home / "assistant", dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.mark.slow
@pytest.mark.parametrize("length", [3, WINDOW - 1, WINDOW, 3 * WINDOW])
def test_guesses_are_the_reference_s(home: Path, reference, length: int) -> None:  # type: ignore[no-untyped-def]
    bundle = Bundle.open(home / "bundle")
    decoder = Decoder(bundle, "cpu", threads=1)
    drafter = Drafter(bundle, decoder, "cpu", threads=1)
    rng = np.random.default_rng(length)
    ids, last = rng.integers(40, 400, length), rng.integers(40, 400, 2).tolist()
    cache = decoder.cache(slots=2, local_capacity=4 * WINDOW, global_capacity=256)
    blocks = np.zeros((1, length), np.int64)
    hidden = decoder.forward(cache, 1, decoder.embed(ids)[None], blocks)[0, -1]
    before = [buffer.copy() for pair in cache.buffers for buffer in pair]
    guessed: set[int] = set()
    for tokens in (last[:1], last):  # one token that waits, and one that is forced behind it
        got = drafter.draft(cache, 1, hidden, tokens, COUNT)
        rows = {}
        for layer, (key, value) in zip(bundle.config.layers, cache.buffers, strict=True):
            first = max(0, length - WINDOW + 1) if layer.kind == "local" else 0
            kind = "sliding_attention" if layer.kind == "local" else "full_attention"
            rows[kind] = tuple(torch.from_numpy(x[1:2, :, first:length]) for x in (key, value))
        expected: list[int] = []
        state = torch.from_numpy(hidden[None, None])
        for step in range(len(tokens) - 1 + COUNT):
            token = tokens[step] if step < len(tokens) else expected[-1]
            embeds = torch.from_numpy(decoder.embed(np.array([token]))[None])
            with torch.no_grad():
                output = reference(
                    inputs_embeds=torch.cat([embeds, state], -1),
                    position_ids=torch.tensor([[length]]),
                    attention_mask=None,
                    shared_kv_states=rows,
                )
            state = output.last_hidden_state
            expected.append(int(output.logits.argmax()))
        assert got == expected[len(tokens) - 1 :]
        np.testing.assert_allclose(
            drafter._logits[0], output.logits[0, 0].numpy(), atol=1e-4, rtol=1e-4
        )
        guessed |= set(expected)
    assert len(guessed) > 1, "a constant guess compares nothing"
    after = [buffer for pair in cache.buffers for buffer in pair]
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
