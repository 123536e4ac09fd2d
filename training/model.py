"""The embedded model's architecture for training: `gemma4_unified` in a lean form, plus two
helper heads.

Story: norm -> rope -> attention -> gated MLP -> layer -> projectors -> model, in the checkpoint's
own names, so that `training/checkpoint.py` renames almost nothing. It differs from the reference
in two ways, both undone on export: patches are grey (2304 values, the reference sees 6912 of
RGB), and two heads that are dropped predict the characters inside a patch and the characters
spoken in a frame. They teach the first layers to read and to hear before the language loss can.

The module knows nothing about text: ids, patches and frames in, hidden states out.
"""

# mypy: allow-subclassing-any
# (torch is not followed by the type checker: its stubs take minutes)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_PIXELS = 48 * 48
FRAME_SAMPLES = 640
PATCH_SLOTS = 6  # characters predicted per patch, in reading order
FRAME_SLOTS = 2  # CTC outputs per 40 ms frame; fast speech has more than one character in a frame


@dataclass(frozen=True)
class LayerShape:
    """Attention of one layer: local layers see a window, global layers everything before them."""

    is_global: bool
    head_dim: int
    kv_heads: int
    theta: float
    rotated: float  # share of the head's frequency pairs that rotate


@dataclass(frozen=True)
class Shape:
    """Sizes of the embedded model."""

    vocabulary: int
    image_id: int
    audio_id: int
    hidden: int = 256
    mlp: int = 768
    layers: int = 6
    heads: int = 4
    local_head_dim: int = 64
    local_kv_heads: int = 2
    global_head_dim: int = 128
    global_kv_heads: int = 2
    window: int = 1024
    positions: int = 1120  # rows of the patch position table
    max_length: int = 8192
    softcap: float = 30.0

    def layer(self, index: int) -> LayerShape:
        if index == self.layers - 1:
            return LayerShape(True, self.global_head_dim, self.global_kv_heads, 1e6, 0.25)
        return LayerShape(False, self.local_head_dim, self.local_kv_heads, 1e4, 1.0)


def normalise(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x [N, size] over its root mean square, computed in float32."""
    x = x.float()
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(dtype)


def normalise_scaled(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (normalise(x, torch.float32) * weight).to(dtype)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    return F.gelu(gate, approximate="tanh") * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, T, heads, head_dim], cos and sin [T, 1, head_dim] in the type of x."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


@dataclass
class Elementwise:
    """The functions between matrix products. They take 60 % of the time on a CPU until compiled.

    Compiling only them costs seconds; whole layers cost minutes, and more for new shapes.
    """

    normalise: Callable[[Tensor, torch.dtype], Tensor] = normalise
    normalise_scaled: Callable[[Tensor, Tensor, torch.dtype], Tensor] = normalise_scaled
    gated: Callable[[Tensor, Tensor], Tensor] = gated
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor] = rotate

    def compile(self) -> None:
        for name, function in list(vars(self).items()):
            setattr(self, name, torch.compile(function, dynamic=True))


ELEMENTWISE = Elementwise()


def product_type(x: Tensor) -> torch.dtype:
    """The type of the next matrix product; casting once in the norm saves a cast in each."""
    enabled = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if enabled else x.dtype


class RMSNorm(nn.Module):
    def __init__(self, size: int, initial: float = 1.0, scaled: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), initial)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        flat, dtype = x.reshape(-1, x.shape[-1]), product_type(x)
        if self.weight is None:
            return ELEMENTWISE.normalise(flat, dtype).view(x.shape)
        return ELEMENTWISE.normalise_scaled(flat, self.weight, dtype).view(x.shape)


def rope_table(shape: LayerShape, length: int) -> Tensor:
    """cos and sin of every position [2, length, head_dim]; what does not rotate has frequency 0."""
    half = shape.head_dim // 2
    exponent = torch.arange(half, dtype=torch.float32) * 2 / shape.head_dim
    frequency = shape.theta**-exponent
    frequency[int(half * shape.rotated) :] = 0.0
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    angle = torch.cat((angle, angle), -1)
    return torch.stack((angle.cos(), angle.sin()))


class Attention(nn.Module):
    """Scale 1.0: the norms of queries and keys carry it.

    Global layers take their values from the key projection.
    """

    def __init__(self, size: Shape, shape: LayerShape) -> None:
        super().__init__()
        self.heads, self.shape = size.heads, shape
        self.q_proj = nn.Linear(size.hidden, size.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(size.hidden, shape.kv_heads * shape.head_dim, bias=False)
        if not shape.is_global:
            self.v_proj = nn.Linear(size.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(size.heads * shape.head_dim, size.hidden, bias=False)
        self.q_norm = RMSNorm(shape.head_dim, shape.head_dim**-0.25)
        self.k_norm = RMSNorm(shape.head_dim, shape.head_dim**-0.25)
        self.v_norm = RMSNorm(shape.head_dim, scaled=False)

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, H]; mask bool [B, 1, T, T], None = causal."""
        split = (*x.shape[:2], -1, self.shape.head_dim)
        query = self.q_proj(x).view(split)
        key = self.k_proj(x).view(split)
        value = key if self.shape.is_global else self.v_proj(x).view(split)
        cos, sin = rope[:, :, None].to(query.dtype)
        query = ELEMENTWISE.rotate(self.q_norm(query), cos, sin)
        key = ELEMENTWISE.rotate(self.k_norm(key), cos, sin)
        group = self.heads // self.shape.kv_heads
        key = key.repeat_interleave(group, 2)
        value = self.v_norm(value).repeat_interleave(group, 2)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            scale=1.0,
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))


class MLP(nn.Module):
    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size.hidden, size.mlp, bias=False)
        self.up_proj = nn.Linear(size.hidden, size.mlp, bias=False)
        self.down_proj = nn.Linear(size.mlp, size.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(ELEMENTWISE.gated(self.gate_proj(x), self.up_proj(x)))


class Layer(nn.Module):
    def __init__(self, size: Shape, shape: LayerShape) -> None:
        super().__init__()
        self.self_attn = Attention(size, shape)
        self.mlp = MLP(size)
        self.input_layernorm = RMSNorm(size.hidden)
        self.post_attention_layernorm = RMSNorm(size.hidden, 0.3)
        self.pre_feedforward_layernorm = RMSNorm(size.hidden)
        self.post_feedforward_layernorm = RMSNorm(size.hidden, 0.3)
        self.layer_scalar = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), rope, mask))
        x = x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        return x * self.layer_scalar


class SoftTokens(nn.Module):
    """Features [N, size] -> soft tokens [N, hidden]."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.embedding_pre_projection_norm = RMSNorm(features, scaled=False)
        self.embedding_projection = nn.Linear(features, hidden, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.embedding_projection(self.embedding_pre_projection_norm(features))


class PatchEmbedder(nn.Module):
    """Grey patches in [0, 1] [N, 2304] at (x, y) [N, 2] -> soft tokens [N, hidden]."""

    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.patch_ln1 = nn.LayerNorm(PATCH_PIXELS)
        self.patch_dense = nn.Linear(PATCH_PIXELS, size.hidden)
        self.patch_ln2 = nn.LayerNorm(size.hidden)
        self.pos_embedding = nn.Parameter(torch.randn(size.positions, 2, size.hidden) * 0.02)
        self.pos_norm = nn.LayerNorm(size.hidden)
        self.multimodal_embedder = SoftTokens(size.hidden, size.hidden)

    def forward(self, patches: Tensor, positions: Tensor) -> Tensor:
        x = self.patch_ln2(self.patch_dense(self.patch_ln1(patches)))
        x = x + self.pos_embedding[positions[:, 0], 0] + self.pos_embedding[positions[:, 1], 1]
        return self.multimodal_embedder(self.pos_norm(x))


class Decoder(nn.Module):
    """The layers and the final norm: the part worth compiling, since its shapes are only [B, T]."""

    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.ModuleList(Layer(size, size.layer(i)) for i in range(size.layers))
        self.norm = RMSNorm(size.hidden)
        for name, index in (("local_rope", 0), ("global_rope", size.layers - 1)):
            table = rope_table(size.layer(index), size.max_length)
            self.register_buffer(name, table, persistent=False)

    def forward(self, x: Tensor, local: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [B, T, H], local bool [B, 1, T, T] (None = causal) -> two hidden states [B, T, H].

        The first is final; the second, for the helper heads, is from two layers before the last.
        """
        tap, length = x, x.shape[1]
        for index, layer in enumerate(self.layers):
            is_global = index == self.size.layers - 1
            rope = (self.global_rope if is_global else self.local_rope)[:, :length]
            x = layer(x, rope, None if is_global else local)
            if index == self.size.layers - 3:
                tap = x
        return self.norm(x), tap


def local_mask(block: Tensor, window: int) -> Tensor | None:
    """block [B, T] (0 = no image, 1.. = image number) -> bool [B, 1, T, T].

    None where plain causality says the same.
    """
    length = block.shape[1]
    if length <= window and not block.any():
        return None
    place = torch.arange(length, device=block.device)
    distance = place[:, None] - place[None]
    same = (block[:, :, None] == block[:, None]) & (block[:, :, None] > 0)
    return (((distance >= 0) | same) & (distance.abs() < window))[:, None]


class UnifiedModel(nn.Module):
    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(size.vocabulary, size.hidden)
        self.vision_embedder = PatchEmbedder(size)
        self.embed_audio = SoftTokens(FRAME_SAMPLES, size.hidden)
        self.language_model = Decoder(size)
        self.patch_head = nn.Linear(size.hidden, PATCH_SLOTS * size.vocabulary)
        self.frame_head = nn.Linear(size.hidden, FRAME_SLOTS * size.vocabulary)
        nn.init.normal_(self.embed_tokens.weight, std=size.hidden**-0.5)
        for head in (self.patch_head, self.frame_head):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def embed(self, ids: Tensor) -> Tensor:
        return self.embed_tokens(ids) * self.size.hidden**0.5

    def merge(
        self, ids: Tensor, patches: Tensor | None, positions: Tensor | None, frames: Tensor | None
    ) -> Tensor:
        """Token embeddings [B, T, H]; soft tokens of patches and frames replace their places."""
        x = self.embed(ids)
        if patches is not None and positions is not None:
            soft = self.vision_embedder(patches, positions)
            x = x.masked_scatter((ids == self.size.image_id)[..., None], soft.to(x.dtype))
        if frames is not None:
            soft = self.embed_audio(frames)
            x = x.masked_scatter((ids == self.size.audio_id)[..., None], soft.to(x.dtype))
        return x

    def head(self, hidden: Tensor) -> Tensor:
        """[M, H] -> soft-capped logits [M, V] in float32."""
        logits = F.linear(hidden, self.embed_tokens.weight).float()
        return self.size.softcap * torch.tanh(logits / self.size.softcap)
