"""The network: a small llama (RMSNorm, grouped-query attention, RoPE, SwiGLU, tied embeddings) with a structured start.

Knows tensors only: no text, no file. Matrices run in bfloat16 where the machine is fast at it, norms and the loss in
float32.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        return x + linear(functional.silu(linear(y, self.gate)) * linear(y, self.up), self.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.before(x, cos, sin)
        return self.after(x, attend(q, k, v))


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Multiply in the activations' type; the weights stay float32 for the optimizer."""
    return functional.linear(x, layer.weight.to(x.dtype))


_CROSSOVER = 320  # tokens: below it plain matrix products beat the fused kernel on a CPU (measured)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; key and value heads are shared by neighbouring query heads."""
    if q.device.type == "cpu" and q.shape[1] <= _CROSSOVER:
        return Products.apply(q, k, v)
    rows, length, heads, width = q.shape
    share = heads // k.shape[2]
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    k, v = (t.repeat_interleave(share, dim=1) for t in (k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(1, 2).reshape(rows, length, heads * width)


def _weights(scores: Tensor, mask: Tensor, scale: float) -> Tensor:
    s = scores.float() * scale + mask
    e = (s - s.amax(-1, keepdim=True)).exp()
    return (e / e.sum(-1, keepdim=True)).to(scores.dtype)


def _weights_backward(weights: Tensor, gradient: Tensor, scale: float) -> Tensor:
    w = weights.float()
    g = w * gradient.float()
    return ((g - w * g.sum(-1, keepdim=True)) * scale).to(weights.dtype)


class Products(torch.autograd.Function):
    """Causal attention as batched matrix products; the fused kernel's backward is several times slower on short rows."""

    weights = staticmethod(_weights)
    weights_backward = staticmethod(_weights_backward)

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows, length, heads, width = q.shape
        groups = k.shape[2]
        share = heads // groups
        q = (
            q.view(rows, length, groups, share, width)
            .permute(0, 2, 3, 1, 4)
            .reshape(rows * groups, share * length, width)
        )
        k = k.transpose(1, 2).reshape(rows * groups, length, width)
        v = v.transpose(1, 2).reshape(rows * groups, length, width)
        mask = torch.full((length, length), -1e30).triu(1)
        scores = torch.bmm(q, k.transpose(1, 2)).view(rows * groups, share, length, length)
        weights = Products.weights(scores, mask, width**-0.5).view(rows * groups, share * length, length)
        mixed = torch.bmm(weights, v)
        ctx.save_for_backward(q, k, v, weights)
        ctx.sizes = (rows, length, heads, width, groups, share)
        return (
            mixed.view(rows, groups, share, length, width).permute(0, 3, 1, 2, 4).reshape(rows, length, heads * width)
        )

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights = ctx.saved_tensors
        rows, length, heads, width, groups, share = ctx.sizes
        g = gradient.view(rows, length, groups, share, width).permute(0, 2, 3, 1, 4)
        g = g.reshape(rows * groups, share * length, width)
        v_gradient = torch.bmm(weights.transpose(1, 2), g)
        scores = Products.weights_backward(weights, torch.bmm(g, v.transpose(1, 2)), width**-0.5)
        q_gradient = torch.bmm(scores, k).view(rows, groups, share, length, width).permute(0, 3, 1, 2, 4)
        k_gradient = torch.bmm(scores.transpose(1, 2), q)
        return (
            q_gradient.reshape(rows, length, heads, width),
            k_gradient.view(rows, groups, length, width).transpose(1, 2),
            v_gradient.view(rows, groups, length, width).transpose(1, 2),
        )


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

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Hidden states (places, width) at these flat places, the only ones for which the last layer is finished."""
        x = self.embedding(tokens).to(self.type)
        cos, sin = self.angles(tokens.shape[1], tokens.device)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, cos, sin)
        mixed = attend(*last.before(x, cos, sin))
        return self.norm(last.after(x.flatten(0, 1)[places], mixed.flatten(0, 1)[places]))

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.embedding.weight.to(hidden.dtype)).float()

    def compile(self) -> None:  # type: ignore[override]
        """Fuse the small operations; needs a C++ compiler."""
        for block in self.blocks:
            block.before = torch.compile(block.before, dynamic=True)
            block.after = torch.compile(block.after, dynamic=True)
        Products.weights = staticmethod(torch.compile(_weights, dynamic=True))
        Products.weights_backward = staticmethod(torch.compile(_weights_backward, dynamic=True))


def grown(weights: dict[str, Tensor], layers: int, at: int = 2) -> dict[str, Tensor]:
    """Add layers before layer `at`, which look where the layer before them looks, and say nothing yet."""
    had = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    if layers < had:
        raise ValueError(f"{had} layers cannot become {layers}: ask for at least as many.")
    more, made = layers - had, {}
    for name, weight in weights.items():
        if not name.startswith("blocks."):
            made[name] = weight
            continue
        _, number, rest = name.split(".", 2)
        layer = int(number)
        made[f"blocks.{layer + more if layer >= at else layer}.{rest}"] = weight
        if layer == at - 1:
            for new in range(at, at + more):
                silent = rest in ("o.weight", "down.weight")
                made[f"blocks.{new}.{rest}"] = torch.zeros_like(weight) if silent else weight.clone()
    return made


EMBEDDING_SCALE = 0.05
_CONSTANT = 0.3  # value of the last dimension of every embedding: what heads that look at positions read


@torch.no_grad()
def structured_start(net: Llama, seed: int) -> None:
    """Write by hand what takes longest to learn: heads that look one and two tokens back (layer 0), and heads that find
    where the current token occurred before and copy what followed (layer 1, "induction"; Olsson et al. 2022).

    The width is split: who I am (A), who stood before me (B), who stood two before me (C), free space, a constant.
    """
    torch.manual_seed(seed)
    d = net.shape.width
    for name, each in net.named_parameters():
        if each.ndim == 2:
            torch.nn.init.normal_(each, std=0.5 / math.sqrt(d))
        if name.endswith(("o.weight", "down.weight")):
            torch.nn.init.zeros_(each)
    a, b, c = slice(0, 3 * d // 8), slice(3 * d // 8, 5 * d // 8), slice(5 * d // 8, 7 * d // 8)
    table = net.embedding.weight
    table.normal_(std=EMBEDDING_SCALE * 0.1)
    table[:, a].normal_(std=EMBEDDING_SCALE)
    table[:, -1] = _CONSTANT
    view = torch.linalg.qr(torch.randn(3 * d // 8, d // 4))[0].T  # A seen through d/4 orthogonal directions
    _look_back(net, view, a, (b, c))
    _induce(net, view, a, b, c)


def _look_back(net: Llama, view: Tensor, a: slice, targets: tuple[slice, slice]) -> None:
    """Layer 0: heads that copy who stood one and two before (A there) into the targets here."""
    shape, first = net.shape, net.blocks[0]
    d, h = shape.width, shape.head_width
    half = h // 2
    speed = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    share = shape.heads // shape.kv_heads
    rms = math.sqrt((3 * d // 8 * EMBEDDING_SCALE**2 + _CONSTANT**2) / d)
    near = 9.0 / (_CONSTANT / rms) * (torch.arange(half) < half // 2)  # only the fast half tells neighbours apart
    for group in range(2):
        keys = first.k.weight[group * h : (group + 1) * h]
        keys.zero_()
        keys[:half, -1] = near
        part = slice(group * d // 8, (group + 1) * d // 8)
        first.v.weight[group * h : (group + 1) * h].zero_()
        first.v.weight[group * h : group * h + d // 8, a] = view[part]
        for back, target in enumerate(targets, 1):
            head = group * share + back - 1
            query = first.q.weight[head * h : (head + 1) * h]
            query.zero_()
            query[:half, -1] = near * torch.cos(speed * back)
            query[half:, -1] = -near * torch.sin(speed * back)
            start = target.start + part.start
            into = first.o.weight[start : start + d // 8, head * h : head * h + d // 8]
            into.copy_(torch.eye(d // 8) * rms)


def _induce(net: Llama, view: Tensor, a: slice, b: slice, c: slice) -> None:
    """Layer 1: heads that find where the current token occurred before, and copy what followed."""
    shape, second = net.shape, net.blocks[1]
    d, h = shape.width, shape.head_width
    half, share = h // 2, shape.heads // shape.kv_heads
    slow = torch.cat((torch.arange(half // 2, half), torch.arange(half + half // 2, h)))
    strength = 1.7
    for group in range(shape.kv_heads):
        rows, head = slice(group * h, (group + 1) * h), group * share
        keys, query, value = second.k.weight[rows], second.q.weight[head * h : (head + 1) * h], second.v.weight[rows]
        for each in (keys, query, value):
            each.zero_()
        look = torch.linalg.qr(torch.randn(d // 4, len(slow)))[0].T * math.sqrt(2)  # what of B and of A it compares
        keys[slow, b] = strength * look
        query[slow, a] = strength * look @ view
        if group >= shape.kv_heads // 2:  # half of them compare the token before as well
            other = torch.linalg.qr(torch.randn(d // 4, len(slow)))[0].T
            keys[slow, c] = strength * other
            query[slow, b] = strength * other
        size = 3 * d // 8 // shape.kv_heads
        part = slice(group * size, (group + 1) * size)
        value[:size, part] = torch.eye(size)
        second.o.weight[part, head * h : head * h + size] = torch.eye(size) * 3 * EMBEDDING_SCALE
