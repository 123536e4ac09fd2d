"""A drafter for the embedded model: few layers with queries only, over rows of the target.

Story: what the target has cached -> a layer that reads it -> the model, in the names of
`gemma4_unified_assistant`. A round stands at one place of a row and guesses several tokens from
there; its position and the rows that it sees stay the same.
"""

# mypy: allow-subclassing-any
# (torch is not followed by the type checker: its stubs take minutes)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import tokenizer
from training.encoding import Batch
from training.model import (
    ELEMENTWISE,
    MLP,
    LayerShape,
    RMSNorm,
    Shape,
    UnifiedModel,
    attend,
    joined_rows,
    product_type,
)

HIDDEN, MLP_WIDTH, LAYERS = 128, 384, 2

Rows = tuple[Tensor, Tensor]  # keys and values, [B, S, kv heads, head_dim] each


@dataclass(frozen=True)
class Read:
    """What the target knows of a batch. hidden [B, T, H] and logits [B, T, V] of the rows' own
    tokens; keys and values of P + T tokens by whether they are global; P: shared tokens before
    the rows."""

    shared: int
    hidden: Tensor
    logits: Tensor
    rows: Mapping[bool, Rows]


def read(target: UnifiedModel, batch: Batch) -> Read:
    """The target's states and the rows of its last local and last global layer."""
    count, rows = len(batch.shared), {}

    def keep(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        x, rope, _ = inputs
        shape: LayerShape = attention.shape
        key = attention.k_proj(x).view(len(x), shape.kv_heads, shape.head_dim)
        value = key if shape.is_global else attention.v_proj(x).view_as(key)
        pair = (
            ELEMENTWISE.rotated(key, attention.k_norm.weight, rope),
            ELEMENTWISE.normalise(value, value.dtype),
        )
        rows[shape.is_global] = tuple(joined_rows(part, count, len(batch.ids)) for part in pair)

    last_two = target.language_model.layers[-2:]
    hooks = [layer.self_attn.register_forward_pre_hook(keep) for layer in last_two]
    try:
        patches = None if batch.patches is None else batch.patches.float() / 255
        x = target.merge(batch.ids, patches, batch.positions, batch.frames)
        hidden, _ = target.language_model(target.embed(batch.shared), x, batch.block)
    finally:
        for hook in hooks:
            hook.remove()
    return Read(count, hidden, target.head(hidden), rows)


class BorrowedAttention(nn.Module):
    """Queries over rows that another model has computed. Scale 1.0, as in the target."""

    def __init__(self, size: Shape, shape: LayerShape) -> None:
        super().__init__()
        self.heads, self.shape = size.heads, shape
        self.q_proj = nn.Linear(size.hidden, size.heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(size.heads * shape.head_dim, size.hidden, bias=False)
        self.q_norm = RMSNorm(shape.head_dim, shape.head_dim**-0.25)

    def forward(self, x: Tensor, rope: Tensor, rows: Rows, unseen: Tensor) -> Tensor:
        """x [B, R, h], rope [2, B, R, head_dim], unseen [B, 1, 1, R, S], added to the scores."""
        query = self.q_proj(x).view(-1, self.heads, self.shape.head_dim)
        query = ELEMENTWISE.rotated(query, self.q_norm.weight, rope.flatten(1, 2))
        query = query.view(*x.shape[:2], self.heads, self.shape.head_dim)
        return self.o_proj(attend(query, *rows, unseen))


class DraftLayer(nn.Module):
    def __init__(self, size: Shape, shape: LayerShape) -> None:
        super().__init__()
        self.self_attn = BorrowedAttention(size, shape)
        self.mlp = MLP(size)
        self.input_layernorm = RMSNorm(size.hidden)
        self.post_attention_layernorm = RMSNorm(size.hidden, 0.3)
        self.pre_feedforward_layernorm = RMSNorm(size.hidden)
        self.post_feedforward_layernorm = RMSNorm(size.hidden, 0.3)
        self.register_buffer("layer_scalar", torch.ones(1))

    def forward(self, x: Tensor, rope: Tensor, rows: Rows, unseen: Tensor) -> Tensor:
        branch = self.self_attn(self.input_layernorm(x), rope, rows, unseen)
        x = x + self.post_attention_layernorm(branch)
        branch = self.mlp(self.pre_feedforward_layernorm(x))
        return (x + self.post_feedforward_layernorm(branch)) * self.layer_scalar


class DrafterModel(nn.Module):
    """target: the target's sizes."""

    def __init__(
        self, target: Shape, *, hidden: int = HIDDEN, mlp: int = MLP_WIDTH, layers: int = LAYERS
    ) -> None:
        super().__init__()
        self.target = target
        self.size = size = replace(target, hidden=hidden, mlp=mlp, layers=layers)
        self.embed_tokens = nn.Embedding(size.vocabulary, size.hidden)
        self.layers = nn.ModuleList(DraftLayer(size, size.layer(i)) for i in range(layers))
        self.norm = RMSNorm(size.hidden)
        self.pre_projection = nn.Linear(2 * target.hidden, size.hidden, bias=False)
        self.post_projection = nn.Linear(size.hidden, target.hidden, bias=False)
        nn.init.normal_(self.embed_tokens.weight, std=size.hidden**-0.5)

    def forward(
        self,
        embeds: Tensor,
        state: Tensor,
        seen: Read,
        places: Tensor,
        ropes: Mapping[bool, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One guess of each round: embeds and state [B, R, H]; places [B, R], where in the whole
        row the round stands. Logits [B, R, V] in float32 and the next state [B, R, H]."""
        x = self.pre_projection(torch.cat((embeds, state.to(embeds.dtype)), -1))
        for layer in self.layers:
            shape = layer.self_attn.shape
            rows = seen.rows[shape.is_global]
            window = None if shape.is_global else self.size.window
            unseen = unseen_rows(places, rows[0].shape[1], window).to(product_type(x))
            rope = ropes[shape.is_global][:, places]
            x = layer(x, rope, rows, unseen)
        x = self.norm(x)
        return F.linear(x, self.embed_tokens.weight).float(), self.post_projection(x)


def unseen_rows(places: Tensor, length: int, window: int | None) -> Tensor:
    """What is added to scores [B, 1, 1, R, length]: a round at place p sees the rows before p, on
    local layers those of the window."""
    distance = places[..., None] - torch.arange(length, device=places.device)
    seen = distance > 0
    if window is not None:
        seen &= distance < window
    return torch.where(seen, 0.0, -1e4)[:, None, None]


def exported(model: DrafterModel) -> dict[str, Tensor]:
    """Checkpoint tensors in the published names, bfloat16."""
    own = ("pre_projection.", "post_projection.")
    return {
        name if name.startswith(own) else f"model.{name}": (
            value.detach().to(torch.bfloat16).contiguous().clone()
        )
        for name, value in model.state_dict().items()
    }


def config(model: DrafterModel) -> dict[str, Any]:
    """config.json of the drafter."""
    size, ids = model.size, tokenizer.vocabulary()
    kinds = {True: "full_attention", False: "sliding_attention"}
    text = {
        "model_type": "gemma4_unified_text",
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_kv_shared_layers": size.layers,
        "layer_types": [kinds[size.layer(i).is_global] for i in range(size.layers)],
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.local_kv_heads,
        "head_dim": size.local_head_dim,
        "global_head_dim": size.global_head_dim,
        "num_global_key_value_heads": size.global_kv_heads,
        "attention_k_eq_v": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "sliding_window": size.window,
        "max_position_embeddings": size.max_length,
        "hidden_activation": "gelu_pytorch_tanh",
        "final_logit_softcapping": None,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1000000.0,
            },
        },
        "use_bidirectional_attention": "vision",
        "use_double_wide_mlp": False,
        "tie_word_embeddings": True,
        "pad_token_id": ids["<pad>"],
        "eos_token_id": ids["<eos>"],
        "bos_token_id": ids["<bos>"],
        "dtype": "bfloat16",
    }
    return {
        "architectures": ["Gemma4UnifiedAssistantForCausalLM"],
        "model_type": "gemma4_unified_assistant",
        "dtype": "bfloat16",
        "backbone_hidden_size": model.target.hidden,
        "use_ordered_embeddings": False,
        "tie_word_embeddings": True,
        "text_config": text,
    }
