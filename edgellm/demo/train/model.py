"""The network: a small llama (RMSNorm, grouped-query attention, RoPE, SwiGLU, tied embeddings) with a structured start.

Knows tensors only: no text, no file. Matrices run in bfloat16 where the machine is fast at it, norms and the loss in
float32.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; every row length is a multiple of 256, so that Q4_K applies."""

    vocabulary: int
    width: int = 512
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    feed_forward: int = 1280
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Dimensions of one head."""
        return self.width // self.heads

    def as_dict(self) -> dict[str, float]:
        """For checkpoints."""
        return asdict(self)


class Norm(nn.Module):
    """RMSNorm, computed in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.epsilon) * self.weight
        return y.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn halves of each head by the position's angle; x is (rows, length, heads, head width)."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


class Block(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, h = shape.width, shape.head_width
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, h
        self.attention_norm = Norm(d, shape.epsilon)
        self.q = nn.Linear(d, shape.heads * h, bias=False)
        self.k = nn.Linear(d, shape.kv_heads * h, bias=False)
        self.v = nn.Linear(d, shape.kv_heads * h, bias=False)
        self.o = nn.Linear(shape.heads * h, d, bias=False)
        self.feed_norm = Norm(d, shape.epsilon)
        self.gate = nn.Linear(d, shape.feed_forward, bias=False)
        self.up = nn.Linear(d, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, d, bias=False)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, length, _ = x.shape
        y = self.attention_norm(x)
        q = linear(y, self.q).view(rows, length, self.heads, self.head_width)
        k = linear(y, self.k).view(rows, length, self.kv_heads, self.head_width)
        v = linear(y, self.v).view(rows, length, self.kv_heads, self.head_width)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + linear(mixed, self.o)
        y = self.feed_norm(x)
        return x + linear(F.silu(linear(y, self.gate)) * linear(y, self.up), self.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.before(x, cos, sin)
        return self.after(x, attend(q, k, v))


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Multiply in the activations' type; the weights stay float32 for the optimizer."""
    return F.linear(x, layer.weight.to(x.dtype))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; key and value heads are shared by neighbouring query heads."""
    rows, length, heads, width = q.shape
    share = heads // k.shape[2]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    k, v = (t.repeat_interleave(share, dim=1) for t in (k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2).reshape(rows, length, heads * width)


class Llama(nn.Module):
    """Tokens in, hidden states out; `logits` turns chosen rows into scores with the tied embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.epsilon)
        self.type = torch.float32

    def angles(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        half = self.shape.head_width // 2
        speed = self.shape.rope_base ** (-torch.arange(half, dtype=torch.float32, device=device) / half)
        angle = torch.arange(length, dtype=torch.float32, device=device)[:, None] * speed
        return angle.cos().to(self.type)[None, :, None], angle.sin().to(self.type)[None, :, None]

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).to(self.type)
        cos, sin = self.angles(tokens.shape[1], tokens.device)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight.to(hidden.dtype)).float()
