"""Headers of many architectures, any size, without weights: what the planner is held against, one by one.

Each differs in what matters for memory: attention kinds, normalisation, fused tensors, experts, sliding windows, state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ggufs
from ggufs import Block, Gguf


@dataclass(frozen=True)
class Model:
    """The dimensions of one model."""

    architecture: str
    layers: int
    embedding: int
    ffn: int
    heads: int
    kv_heads: int
    head: int
    vocab: int = 1000
    experts: int = 0
    used: int = 0
    window: int = 0
    quant: str = "Q4_K"
    context: int = 131072
    best: str = "Q6_K"  # for every other layer's ffn_down and attn_v

    @property
    def recurrent(self) -> list[bool]:
        """LFM2's pattern: two convolutions, one attention."""
        return [self.architecture == "lfm2" and layer % 3 != 2 for layer in range(self.layers)]


MODELS = {
    "llama-tiny": Model("llama", 4, 256, 512, 8, 2, 32, quant="Q8_0", best="Q8_0"),
    "llama-1b": Model("llama", 22, 2048, 5632, 32, 4, 64, 32000),
    "llama-8b": Model("llama", 32, 4096, 14336, 32, 8, 128, 32000),
    "llama-mha": Model("llama", 8, 4096, 11008, 32, 32, 128, 32000),
    "llama-wide-vocab": Model("llama", 4, 2048, 8192, 32, 8, 64, 128256),
    "mixtral": Model("llama", 8, 4096, 14336, 32, 8, 128, 32000, experts=8, used=2),
    "qwen2-odd": Model("qwen2", 6, 896, 4864, 14, 2, 64, 8000, quant="Q8_0", best="Q8_0"),
    "qwen2-7b": Model("qwen2", 28, 3584, 18944, 28, 4, 128, 8000),
    "qwen3-4b": Model("qwen3", 12, 2560, 9728, 32, 8, 128, 8000),
    "qwen3moe-30b": Model("qwen3moe", 12, 2048, 768, 32, 4, 128, 8000, experts=128, used=8),
    "gemma2": Model("gemma2", 10, 2304, 9216, 8, 4, 256, 8000, window=4096),
    "gemma3": Model("gemma3", 12, 2560, 10240, 8, 4, 256, 8000, window=1024),
    "phi3": Model("phi3", 8, 3072, 8192, 32, 32, 96, 8000),
    "granite": Model("granite", 8, 2048, 8192, 32, 8, 64, 8000),
    "gpt-oss": Model(
        "gpt-oss", 8, 2880, 2880, 64, 8, 64, 8000, experts=32, used=4, window=128, quant="Q8_0", best="Q8_0"
    ),
    "lfm2": Model("lfm2", 12, 2048, 8192, 32, 8, 64, 8000),
}


def small(model: Model) -> Model:
    """The same architecture, small enough to allocate and run for real."""
    head = 32 if model.head != 256 else 64
    return replace(
        model,
        layers=min(6, model.layers),
        embedding=256,
        ffn=512,
        heads=8,
        kv_heads=2 if model.kv_heads != model.heads else 8,
        head=head if model.architecture not in ("phi3", "llama", "granite", "lfm2") else 32,
        vocab=800,
        experts=min(model.experts, 8),
        used=min(model.used, 2),
        window=min(model.window, 256),
        quant="Q8_0",
        best="Q8_0",
    )


def tensors(model: Model) -> Iterator[tuple[str, Block]]:
    """Names, shapes and types."""
    width, tied = model.embedding, model.architecture in ("gemma2", "gemma3", "granite", "lfm2")
    yield "token_embd.weight", Block((width, model.vocab), model.best if tied else model.quant)
    for layer, recurrent in enumerate(model.recurrent):
        body = convolution(model) if recurrent else attention(model, layer)
        for name, block in (*body, *feed_forward(model, layer)):
            yield f"blk.{layer}.{name}", block
    yield ("token_embd_norm.weight" if model.architecture == "lfm2" else "output_norm.weight"), Block((width,))
    if not tied:
        yield "output.weight", Block((width, model.vocab), model.best)


def convolution(model: Model) -> Iterator[tuple[str, Block]]:
    width = model.embedding
    yield "attn_norm.weight", Block((width,))
    yield "shortconv.conv.weight", Block((3, width))
    yield "shortconv.in_proj.weight", Block((width, 3 * width), model.quant)
    yield "shortconv.out_proj.weight", Block((width, width), model.quant)


def attention(model: Model, layer: int) -> Iterator[tuple[str, Block]]:
    width, name = model.embedding, model.architecture
    queries, keys = model.heads * model.head, model.kv_heads * model.head
    yield "attn_norm.weight", Block((width,))
    if name == "phi3":
        yield "attn_qkv.weight", Block((width, queries + 2 * keys), model.quant)
    else:
        yield "attn_q.weight", Block((width, queries), model.quant)
        yield "attn_k.weight", Block((width, keys), model.quant)
        yield "attn_v.weight", Block((width, keys), model.best if layer % 2 else model.quant)
    yield "attn_output.weight", Block((queries, width), model.quant)
    if name in ("qwen2", "gpt-oss"):
        for part, size in (("q", queries), ("k", keys), ("v", keys)):
            yield f"attn_{part}.bias", Block((size,))
    if name in ("qwen3", "qwen3moe", "gemma3", "lfm2"):
        yield "attn_q_norm.weight", Block((model.head,))
        yield "attn_k_norm.weight", Block((model.head,))
    if name in ("gemma2", "gemma3", "gpt-oss"):
        yield "post_attention_norm.weight", Block((width,))
    if name in ("gemma2", "gemma3"):
        yield "post_ffw_norm.weight", Block((width,))
    if name == "gpt-oss":
        yield "attn_output.bias", Block((width,))
        yield "attn_sinks.weight", Block((model.heads,))


def feed_forward(model: Model, layer: int) -> Iterator[tuple[str, Block]]:
    wide, narrow = (model.embedding, model.ffn), (model.ffn, model.embedding)
    down = model.best if layer % 2 else model.quant
    if model.architecture != "gpt-oss":
        yield "ffn_norm.weight", Block((model.embedding,))
    if model.experts:
        yield "ffn_gate_inp.weight", Block((model.embedding, model.experts))
        yield "ffn_gate_exps.weight", Block((*wide, model.experts), model.quant)
        yield "ffn_up_exps.weight", Block((*wide, model.experts), model.quant)
        yield "ffn_down_exps.weight", Block((*narrow, model.experts), down)
        if model.architecture == "gpt-oss":
            yield "ffn_gate_inp.bias", Block((model.experts,))
            yield "ffn_gate_exps.bias", Block((model.ffn, model.experts))
            yield "ffn_up_exps.bias", Block((model.ffn, model.experts))
            yield "ffn_down_exps.bias", Block((model.embedding, model.experts))
        return
    if model.architecture == "phi3":
        yield "ffn_up.weight", Block((model.embedding, 2 * model.ffn), model.quant)
    else:
        yield "ffn_gate.weight", Block(wide, model.quant)
        yield "ffn_up.weight", Block(wide, model.quant)
    yield "ffn_down.weight", Block(narrow, down)


def header(model: Model) -> Gguf:
    """A file of this model, holes instead of weights."""
    kv_heads: Any = model.kv_heads
    if any(model.recurrent):
        kv_heads = [0 if recurrent else model.kv_heads for recurrent in model.recurrent]
    body: dict[str, Any] = {
        "context_length": model.context,
        "embedding_length": model.embedding,
        "block_count": model.layers,
        "feed_forward_length": model.ffn,
        "attention.head_count": model.heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": model.head,
        "attention.value_length": model.head,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": model.head,
        "rope.freq_base": 10000.0,
        **({"expert_count": model.experts, "expert_used_count": model.used} if model.experts else {}),
        **({"attention.sliding_window": model.window} if model.window else {}),
        **({"expert_feed_forward_length": model.ffn} if model.architecture in ("qwen3moe", "gpt-oss") else {}),
        **({"shortconv.l_cache": 3} if model.architecture == "lfm2" else {}),
        **({"logit_scale": 8.0} if model.architecture == "granite" else {}),
    }
    metadata = {
        "general.architecture": ("str", model.architecture),
        "general.name": ("str", "a model"),
        "general.file_type": ("u32", 15),
        **ggufs.amend({}, {f"{model.architecture}.{key}": value for key, value in body.items()}),
        **ggufs.spm(model.vocab),
    }
    return Gguf(metadata, dict(tensors(model)))


def write(folder: Path, name: str, *, running: bool = False) -> Path:
    """Write a model's sparse file; `running` makes it small enough to be loaded for real."""
    model = small(MODELS[name]) if running else MODELS[name]
    return header(model).write(folder / f"{name}{'-small' if running else ''}.gguf")
