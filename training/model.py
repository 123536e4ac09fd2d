"""The embedded model's architecture for training: `gemma4_unified` in a lean form, plus two
helper heads.

Story: norm -> rope -> attention -> gated MLP -> layer -> projectors -> model, in the checkpoint's
own names, so that `training/checkpoint.py` renames almost nothing. It differs from the reference
in two ways, both undone on export: patches are grey (2304 values, the reference sees 6912 of
RGB), and two heads that are dropped predict the characters inside a patch and the phonemes
in a frame. They teach the first layers to read and to hear before the language loss can.

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

from training.filters import filter_bank

PATCH_PIXELS = 48 * 48
FRAME_SAMPLES = 640
PATCH_SLOTS = 6  # characters predicted per patch, in reading order
FRAME_SLOTS = 4  # phonemes predicted per frame: of it and of the one before, 20 ms each


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
    sounds: int  # phonemes and silence
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


def add_normalised(x: Tensor, branch: Tensor, weight: Tensor) -> Tensor:
    """The residual stream x [N, size] after a branch and the branch's own norm."""
    return x + normalise(branch, torch.float32) * weight


def gated(gate_up: Tensor) -> Tensor:
    """[N, 2 * mlp] -> [N, mlp]."""
    gate, up = gate_up.chunk(2, -1)
    return F.gelu(gate, approximate="tanh") * up


def rotated(x: Tensor, weight: Tensor, rope: Tensor) -> Tensor:
    """Normed and rotated heads: x [N, heads, head_dim], rope [2, N, head_dim]."""
    heads = normalise(x, torch.float32) * weight
    first, second = heads.chunk(2, -1)
    turned = heads * rope[0][:, None] + torch.cat((-second, first), -1) * rope[1][:, None]
    return turned.to(x.dtype)


@dataclass
class Elementwise:
    """The functions between matrix products. They take 60 % of the time on a CPU until compiled.

    Compiling only them costs seconds; whole layers cost minutes, and more for new shapes.
    """

    normalise: Callable[[Tensor, torch.dtype], Tensor] = normalise
    normalise_scaled: Callable[[Tensor, Tensor, torch.dtype], Tensor] = normalise_scaled
    add_normalised: Callable[[Tensor, Tensor, Tensor], Tensor] = add_normalised
    gated: Callable[[Tensor], Tensor] = gated
    rotated: Callable[[Tensor, Tensor, Tensor], Tensor] = rotated

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


def joined_product(x: Tensor, *parts: nn.Linear) -> Tensor:
    """Several projections of x in one matrix product: a CPU likes few wide ones."""
    return F.linear(x, torch.cat([part.weight for part in parts]))


class Attention(nn.Module):
    """Scale 1.0: the norms of queries and keys carry it.

    Global layers take their values from the key projection. Plain products and a softmax: on two
    cores the backward of the fused attention took four times as long at 128 tokens, and still half
    as long again at 512.
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

    def forward(self, x: Tensor, rope: Tensor, unseen: Unseen) -> Tensor:
        """x [N, H], the shared tokens before the rows; rope [2, N, head_dim] by place."""
        heads, kv, size = self.heads, self.shape.kv_heads, self.shape.head_dim
        if self.shape.is_global:
            parts = joined_product(x, self.q_proj, self.k_proj).view(len(x), -1, size)
            key = value = parts[:, heads:]
        else:
            parts = joined_product(x, self.q_proj, self.k_proj, self.v_proj)
            parts = parts.view(len(x), -1, size)
            key, value = parts[:, heads : heads + kv], parts[:, heads + kv :]
        query = ELEMENTWISE.rotated(parts[:, :heads], self.q_norm.weight, rope)
        key = ELEMENTWISE.rotated(key, self.k_norm.weight, rope)
        value = ELEMENTWISE.normalise(value, value.dtype)
        count = unseen.shared.shape[-1]
        first = attend(query[None, :count], key[None, :count], value[None, :count], unseen.shared)
        rows = (len(x) - count) // unseen.rows.shape[-2]
        keys, values = (joined_rows(part, count, rows) for part in (key, value))
        rest = attend(query[count:].unflatten(0, (rows, -1)), keys, values, unseen.rows)
        return self.o_proj(torch.cat((first.flatten(0, 1), rest.flatten(0, 1))))


def joined_rows(x: Tensor, count: int, rows: int) -> Tensor:
    """[count + rows * T, heads, head_dim] -> [rows, count + T, heads, head_dim]."""
    shared = x[None, :count].expand(rows, -1, -1, -1)
    return torch.cat((shared, x[count:].unflatten(0, (rows, -1))), 1)


def attend(query: Tensor, key: Tensor, value: Tensor, unseen: Tensor) -> Tensor:
    """query [B, T, heads, head_dim], key and value [B, S, kv heads, head_dim] -> [B, T, all]."""
    batch, length, heads, size = query.shape
    kv = key.shape[2]
    # The heads of a group ask the same keys: they stand below each other in one product.
    asked = query.transpose(1, 2).reshape(batch, kv, heads // kv * length, size)
    scores = asked @ key.permute(0, 2, 3, 1)
    scores = scores.view(batch, kv, heads // kv, length, key.shape[1])
    mixed = (scores + unseen).softmax(-1).flatten(2, 3) @ value.transpose(1, 2)
    return mixed.view(batch, heads, length, size).transpose(1, 2).flatten(2)


class MLP(nn.Module):
    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size.hidden, size.mlp, bias=False)
        self.up_proj = nn.Linear(size.hidden, size.mlp, bias=False)
        self.down_proj = nn.Linear(size.mlp, size.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, H]."""
        return self.down_proj(ELEMENTWISE.gated(joined_product(x, self.gate_proj, self.up_proj)))


class Layer(nn.Module):
    def __init__(self, size: Shape, shape: LayerShape) -> None:
        super().__init__()
        self.self_attn = Attention(size, shape)
        self.mlp = MLP(size)
        self.input_layernorm = RMSNorm(size.hidden)
        self.post_attention_layernorm = RMSNorm(size.hidden, 0.3)
        self.pre_feedforward_layernorm = RMSNorm(size.hidden)
        self.post_feedforward_layernorm = RMSNorm(size.hidden, 0.3)
        # Not trained: the norms around it already scale each layer, and its gradient costs a pass.
        self.register_buffer("layer_scalar", torch.ones(1))

    def forward(self, x: Tensor, rope: Tensor, unseen: Unseen) -> Tensor:
        """x [N, H], as in `Attention`."""
        add = ELEMENTWISE.add_normalised
        branch = self.self_attn(self.input_layernorm(x), rope, unseen)
        x = add(x, branch, self.post_attention_layernorm.weight)
        branch = self.mlp(self.pre_feedforward_layernorm(x))
        return add(x, branch, self.post_feedforward_layernorm.weight) * self.layer_scalar


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

    def forward(self, shared: Tensor, x: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        """shared [P, H] comes before each row of x [B, T, H]; block int [B, T] as in `local_mask`.

        Two hidden states [B, T, H]: the final one and, for the helper heads, one from two layers
        before the last. The shared tokens are computed once: an instruction is half of a short
        sample.
        """
        rows, length, count = len(x), x.shape[1], len(shared)
        place = torch.arange(count + length, device=x.device)
        places = torch.cat((place[:count], place[count:].repeat(rows)))
        unseen = {
            is_global: Unseen.of(block, count, None if is_global else self.size.window, x)
            for is_global in (False, True)
        }
        tap = flat = torch.cat((shared, x.flatten(0, 1)))
        for index, layer in enumerate(self.layers):
            is_global = index == self.size.layers - 1
            rope = (self.global_rope if is_global else self.local_rope)[:, places]
            flat = layer(flat, rope, unseen[is_global])
            if index == self.size.layers - 3:
                tap = flat
        return self.norm(flat[count:]).view(x.shape), tap[count:].view(x.shape)


@dataclass(frozen=True)
class Unseen:
    """What is added to scores: 0, or -1e4 where a key is not seen.

    shared [P, P]; rows [B or 1, 1, 1, T, P + T], one for all heads.
    """

    shared: Tensor
    rows: Tensor

    @classmethod
    def of(cls, block: Tensor, count: int, window: int | None, x: Tensor) -> Unseen:
        """window: of local layers; None = everything before, images included."""
        if window is None:
            block, window = torch.zeros_like(block), count + block.shape[1]
        seen = local_mask(block, window, count)
        own = local_mask(block.new_zeros(1, count), window)[0]
        zero = torch.zeros((), dtype=product_type(x), device=x.device)
        return cls(
            torch.where(own, zero, -1e4).to(zero.dtype),
            torch.where(seen, zero, -1e4).to(zero.dtype)[:, None, None],
        )


def local_mask(block: Tensor, window: int, shared: int = 0) -> Tensor:
    """block [B, T] (0 = no image, 1.. = image number) -> bool [B or 1, T, shared + T].

    Row sees column; the first `shared` columns are the text before all rows.
    """
    place = torch.arange(shared + block.shape[1], device=block.device)
    distance = (place[shared:, None] - place[None])[None]
    near = distance.abs() < window
    if not block.any():
        return (distance >= 0) & near
    before = F.pad(block, (shared, 0))
    same = (block[:, :, None] == before[:, None]) & (block[:, :, None] > 0)
    return ((distance >= 0) | same) & near


class UnifiedModel(nn.Module):
    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(size.vocabulary, size.hidden)
        self.vision_embedder = PatchEmbedder(size)
        self.embed_audio = SoftTokens(FRAME_SAMPLES, size.hidden)
        bank = filter_bank(size.hidden, FRAME_SAMPLES)
        self.embed_audio.embedding_projection.weight = nn.Parameter(bank)
        self.language_model = Decoder(size)
        self.patch_head = nn.Linear(size.hidden, PATCH_SLOTS * size.vocabulary)
        self.frame_head = nn.Linear(size.hidden, FRAME_SLOTS * size.sounds)
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
