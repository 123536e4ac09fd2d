"""The training module against transformers: same names, same logits, same answers."""

# mypy: allow-untyped-decorators

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import Gemma4UnifiedForConditionalGeneration

from training import checkpoint
from training.model import UnifiedModel, local_mask

torch.set_num_threads(1)
SHAPE = checkpoint.shape()
IMAGE, AUDIO = SHAPE.image_id, SHAPE.audio_id
NEVER = torch.finfo(torch.float32).min


def small_model(seed: int = 0) -> UnifiedModel:
    """A narrow model with a window shorter than the prompt and every value moved."""
    torch.manual_seed(seed)
    size = dataclasses.replace(
        checkpoint.shape(),
        hidden=64,
        mlp=96,
        layers=3,
        local_head_dim=16,
        global_head_dim=32,
        window=16,
        positions=32,
        max_length=256,
    )
    model = UnifiedModel(size)
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += (0.3 if "scalar" in name else 0.1) * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[UnifiedModel, Gemma4UnifiedForConditionalGeneration, Path]:
    model = small_model()
    directory = tmp_path_factory.mktemp("checkpoint") / "model"
    checkpoint.write(model, directory)
    reference, report = Gemma4UnifiedForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), f"transformers reports {report}"
    checkpoint.load_weights(model, directory)  # as rounded to bfloat16 on export
    return model, reference.eval(), directory


def prompt() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids [1, T] with 4 x 6 patches (more than the window) and 5 frames, then the media."""
    torch.manual_seed(1)
    text = torch.randint(30, 120, (40,)).tolist()
    ids = torch.tensor([[*text[:12], *[IMAGE] * 24, *text[12:20], *[AUDIO] * 5, *text[20:]]])
    y, x = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    positions = torch.stack((x, y), -1).reshape(-1, 2)
    return ids, torch.rand(24, 2304), positions, torch.randn(5, 640) * 0.1


def reference_masks(ids: torch.Tensor, window: int) -> dict[str, torch.Tensor]:
    """By the definition: global causal; local causal or same image, within the window."""
    length = ids.shape[1]
    full, sliding = torch.full((2, 1, 1, length, length), NEVER)
    for query in range(length):
        for key in range(length):
            together = ids[0, query] == IMAGE and ids[0, key] == IMAGE
            if key <= query:
                full[0, 0, query, key] = 0
            if (key <= query or together) and abs(query - key) < window:
                sliding[0, 0, query, key] = 0
    return {"full_attention": full, "sliding_attention": sliding}


@pytest.mark.parametrize("shared", [0, 12])
@torch.no_grad()
def test_logits_equal_those_of_transformers(
    pair: tuple[UnifiedModel, Gemma4UnifiedForConditionalGeneration, Path], shared: int
) -> None:
    model, reference, _ = pair
    ids, patches, positions, frames = prompt()
    merged = model.merge(ids, patches, positions, frames)
    block = (ids == IMAGE).long()
    hidden, _ = model.language_model(merged[0, :shared], merged[:, shared:], block[:, shared:])
    own = model.head(hidden[0])
    types = torch.where(ids == IMAGE, 1, torch.where(ids == AUDIO, 3, 0))
    theirs = reference(
        input_ids=ids,
        pixel_values=patches.repeat_interleave(3, 1)[None],
        image_position_ids=positions[None],
        input_features=frames[None],
        input_features_mask=torch.ones(1, 5, dtype=torch.bool),
        mm_token_type_ids=types,
        attention_mask=reference_masks(ids, model.size.window),
        use_cache=False,
    ).logits[0, shared:]
    assert (own.argmax(-1) == theirs.argmax(-1)).all()
    torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_weights_come_back_from_the_directory(
    pair: tuple[UnifiedModel, Gemma4UnifiedForConditionalGeneration, Path],
) -> None:
    model, _, directory = pair
    other = small_model(seed=5)
    checkpoint.load_weights(other, directory)
    for name, value in model.state_dict().items():
        if not name.startswith(checkpoint.HELPERS):
            torch.testing.assert_close(other.state_dict()[name], value)


def test_directory_is_complete_and_replaced_whole(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    for seed in (0, 1):
        checkpoint.write(small_model(seed), directory)
    assert sorted(path.name for path in directory.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_text_sees_what_came_before_inside_the_window() -> None:
    mask = local_mask(torch.zeros(1, 17, dtype=torch.long), 16)
    assert not mask[0, 16, 0] and mask[0, 16, 1] and not mask[0, 3, 4]


def test_two_images_do_not_see_each_other() -> None:
    mask = local_mask(torch.tensor([[1, 1, 0, 2, 2]]), 16)
    assert mask[0, 0, 1] and mask[0, 3, 4]
    assert not mask[0, 0, 3] and not mask[0, 1, 2]
