"""The drafter's training: it computes what the exported graph computes, learns, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from export import export_bundle  # noqa: E402
from export.drafter import add_drafter  # noqa: E402
from model_onnx.decoder import Decoder  # noqa: E402
from model_onnx.drafter import Drafter  # noqa: E402
from model_onnx.errors import ConfigError  # noqa: E402
from tests.tiny import tiny_checkpoint  # noqa: E402
from training import checkpoint, drafter  # noqa: E402
from training.drafter_model import DrafterModel, read  # noqa: E402
from training.encoding import Batch, Encoder, collate  # noqa: E402
from training.model import UnifiedModel  # noqa: E402
from training.samples import generate  # noqa: E402

POCKET = Path(__file__).parents[1] / "training" / "pocket"


def batch() -> Batch:
    encoder = Encoder()
    examples = [encoder.encode(generate("clean", seed, "heldout")) for seed in (0, 1)]
    return collate(examples, encoder.characters.special("<|image|>"))


@pytest.mark.slow
def test_the_exported_graph_computes_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    target = UnifiedModel(checkpoint.shape())
    checkpoint.load_weights(target, POCKET)
    model = DrafterModel(target.size)
    with torch.no_grad():
        for parameter in model.parameters():  # as they are written
            parameter.copy_(parameter.bfloat16().float())
    drafter.write(model, tmp_path / "model")
    bundle = export_bundle(POCKET, tmp_path / "bundle", recipe="fp32")
    bundle = add_drafter(tmp_path / "model", bundle.directory)
    decoder = Decoder(bundle, "cpu", threads=1)
    onnx = Drafter(bundle, decoder, "cpu", threads=1)
    one = batch()
    with torch.no_grad():
        seen = read(target, one)
    place = int((one.targets[0] != -100).nonzero()[3])
    ids = torch.cat((one.shared, one.ids[0])).numpy()
    at, steps = len(one.shared) + place, 3
    cache = decoder.cache(slots=1, local_capacity=1536, global_capacity=1024)
    embeds = decoder.embed(ids[:at])[None]
    hidden = decoder.forward(cache, 0, embeds, np.zeros((1, at), np.int64))[0, -1]
    np.testing.assert_allclose(hidden, seen.hidden[0, place - 1].numpy(), atol=2e-3)
    onnx.draft(cache, 0, hidden, ids[at : at + steps].tolist(), 1)
    language = target.language_model
    ropes = {False: language.local_rope, True: language.global_rope}
    places = torch.tensor([[at], [at]])
    state = seen.hidden[:, place - 1 : place]
    with torch.no_grad():
        for step in range(steps):
            known = target.embed(one.ids[:, place + step : place + step + 1])
            logits, state = model(known, state, seen, places, ropes)
    expected = logits[0, 0].numpy()
    assert np.abs(onnx._logits[0] - expected).max() < 1e-2 * np.abs(expected).max()


@pytest.mark.slow
def test_a_few_steps_learn_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    options = drafter.parse(
        ["--checkpoint", str(POCKET), "--minutes", "1", "--out", str(tmp_path), "--hidden", "64"]
    )
    run, sample = drafter.Run(options), batch()
    losses = [float(run.step(sample).loss.detach()) for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]
    run.clock.tick()
    run.save()
    again = drafter.Run(options)
    assert (again.clock.step, again.clock.seconds) == (12, run.clock.seconds)
    same = zip(again.drafter.parameters(), run.drafter.parameters(), strict=True)
    assert all(bool((one == other).all()) for one, other in same)
    rates = run.guesses(sample).rates()
    assert set(rates) == {"acceptance", *(f"guess_{i}" for i in range(1, drafter.STEPS + 1))}


def test_places_have_a_known_state_and_a_token_to_guess() -> None:
    one = batch()
    places = drafter.places_in(one, 200)
    row = torch.arange(len(places))[:, None]
    assert (one.targets[row, places] != -100).all() and (one.targets[row, places - 1] != -100).all()


def test_acceptance_counts_only_what_was_reached() -> None:
    right = torch.tensor([[[True, False]], [[True, True]], [[False, True]], [[True, True]]])
    rates = drafter.Guesses(torch.zeros(()), right, torch.ones_like(right)).rates()
    assert rates["guess_1"] == 0.5 and rates["guess_2"] == 1.0 and rates["guess_3"] == 0.0
    assert rates["guess_4"] == 0.0 and rates["acceptance"] == pytest.approx(2 / 4)


def test_a_target_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the embedded model"):
        drafter._shape(tiny_checkpoint(tmp_path / "tiny"))
