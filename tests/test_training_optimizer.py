"""Orthogonal updates, and parameters that keep still when nothing used them."""

# mypy: allow-subclassing-any

import copy

import pytest
import torch
from torch import nn

from training.optimizer import Optimizer, is_matrix, orthogonal


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(8, 4), nn.Linear(8, 4)


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, *shape)).float())
    assert values.min() > 0.3 and values.max() < 1.4


def test_what_no_batch_used_keeps_still() -> None:
    torch.manual_seed(0)
    model = Two()
    optimizer = Optimizer(model)
    for _ in range(2):  # the second step has momentum to spend
        (model.used(torch.randn(2, 8)).sum() + model.unused(torch.randn(2, 8)).sum()).backward()
        optimizer.step(1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.used(torch.randn(2, 8)).pow(2).sum().backward()
    optimizer.step(1.0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"used.weight", "used.bias"}


def test_a_saved_state_continues_the_same_way() -> None:
    def trained(model: Two, optimizer: Optimizer, steps: int) -> Two:
        for step in range(steps):
            torch.manual_seed(step)
            model.used(torch.randn(4, 8)).pow(2).sum().backward()
            optimizer.step(0.5)
        return model

    torch.manual_seed(3)
    first = Two()
    state = {k: v.clone() for k, v in first.state_dict().items()}
    one = Optimizer(first)
    trained(first, one, 3)
    second = Two()
    second.load_state_dict(first.state_dict())
    two = Optimizer(second)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for left, right in zip(
        trained(first, one, 2).parameters(), trained(second, two, 2).parameters(), strict=True
    ):
        torch.testing.assert_close(left, right)
    assert not torch.equal(first.used.weight, state["used.weight"])


def test_embeddings_and_heads_are_left_to_adam() -> None:
    weight = nn.Parameter(torch.zeros(4, 4))
    assert is_matrix("language_model.layers.0.mlp.up_proj.weight", weight)
    assert not is_matrix("embed_tokens.weight", weight)
    assert not is_matrix("patch_head.weight", weight)
