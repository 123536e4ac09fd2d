"""Muon for matrices, AdamW for everything else, and gradients shared between processes.

Muon replaces the momentum of a matrix by its nearest orthogonal matrix, so every direction of it
learns at the same rate; on this model it needs about half of AdamW's steps. Parameters that no
process used in a step keep still: orthogonal updates have full size however small the momentum
is, so a text batch would otherwise move the patch projector.
"""

# mypy: allow-untyped-decorators
# (torch is not followed by the type checker: its stubs take minutes)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MUON_RATE, ADAM_RATE = 0.02, 3e-3
MOMENTUM = 0.95


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """[N, rows, columns] -> about U V^T of each, by a quintic Newton-Schulz iteration."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


class Muon:
    """Each process orthogonalises its share of the matrices; then the updates are exchanged."""

    def __init__(self, matrices: list[nn.Parameter]) -> None:
        self.matrices = matrices
        self.momentum = [torch.zeros_like(p) for p in matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        moved = [i for i, p in enumerate(self.matrices) if p.grad is not None]
        for place, i in enumerate(moved):
            self.momentum[i].lerp_(gradient(self.matrices[i]), 1 - MOMENTUM)
            if place % world() == rank():
                groups[self.matrices[i].shape].append(i)
        updates = {i: torch.zeros_like(self.matrices[i]) for i in moved}
        for shape, members in groups.items():
            # Nesterov: the gradient once more on top of the momentum.
            ahead = torch.stack(
                [
                    torch.lerp(gradient(self.matrices[i]), self.momentum[i], MOMENTUM)
                    for i in members
                ]
            )
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for i, update in zip(members, orthogonal(ahead) * scale, strict=True):
                updates[i].copy_(update)
        add_over_processes(list(updates.values()))
        for i, update in updates.items():
            self.matrices[i].sub_(update, alpha=rate)


class Optimizer:
    """Steps both optimizers with one learning-rate factor in [0, 1]."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        self.parameters = [p for _, p in named]
        matrices = [p for name, p in named if is_matrix(name, p)]
        rest = [p for name, p in named if not is_matrix(name, p)]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(
            rest, ADAM_RATE, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, fused=True
        )

    def step(self, factor: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * factor
        self.adam.step()
        self.muon.step(MUON_RATE * factor)
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "momentum": self.muon.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        for own, saved in zip(self.muon.momentum, state["momentum"], strict=True):
            own.copy_(saved)


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Linear maps inside the model; rows of embeddings and heads are words, which AdamW suits."""
    return parameter.ndim == 2 and not any(part in name for part in ("embed_tokens", "_head"))


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def add_over_processes(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    if world() == 1 or not tensors:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of each gradient over the processes that have one; None where no process has."""
    parameters = list(parameters)
    if world() == 1:
        return
    used = torch.tensor([float(p.grad is not None) for p in parameters])
    dist.all_reduce(used)
    shared = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
    for parameter in shared:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    add_over_processes([p.grad for p in shared if p.grad is not None])
    for parameter, count in zip(parameters, used.tolist(), strict=True):
        if parameter.grad is not None:
            parameter.grad /= count
