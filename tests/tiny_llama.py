"""A tiny grouped-query Llama in numpy: its weights as PyTorch has them, its forward pass, its GGUF file, and LoRAs for it.

The forward pass is an oracle of its own: rotation by halves, as in the Hugging Face models, and no llama.cpp anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ggufs
import numpy as np
import numpy.typing as npt
from ggufs import Block, Gguf

Array = npt.NDArray[np.float32]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate"}
_NAMES |= {"up_proj": "ffn_up", "down_proj": "ffn_down"}
_EPSILON, _BASE = 1e-5, 10000.0


def module(layer: int, target: str) -> str:
    """The name of a module in a Hugging Face model."""
    part = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    return f"model.layers.{layer}.{part}.{target}"


@dataclass
class Tiny:
    """Width 64, 2 layers, 4 heads, 2 for keys and values."""

    seed: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed: int = 96
    vocab: int = 300
    tied: bool = False
    weights: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.weights = {"model.embed_tokens": rng.normal(0, 1, (self.vocab, self.width)).astype(np.float32)}
        for layer in range(self.layers):
            for target in TARGETS:
                outputs, inputs = self.shape(target)
                values = rng.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
                self.weights[module(layer, target)] = values
        self.weights["lm_head"] = rng.normal(0, 1, (self.vocab, self.width)).astype(np.float32) / 4
        if self.tied:
            self.weights["lm_head"] = self.weights["model.embed_tokens"]

    @property
    def head(self) -> int:
        return self.width // self.heads

    def shape(self, target: str) -> tuple[int, int]:
        """(outputs, inputs) of a module."""
        rows = {
            "q_proj": self.heads * self.head,
            "k_proj": self.kv_heads * self.head,
            "v_proj": self.kv_heads * self.head,
        }
        rows |= {"o_proj": self.width, "gate_proj": self.feed, "up_proj": self.feed, "down_proj": self.width}
        rows |= {"embed_tokens": self.vocab, "lm_head": self.vocab}
        return rows[target], self.feed if target == "down_proj" else self.width

    def forward(self, tokens: Sequence[int], deltas: Mapping[str, Array] | None = None) -> npt.NDArray[np.float64]:
        """Logits of every position, computed in float64; `deltas` are added to the weights."""
        weights = {name: array.astype(np.float64) for name, array in self.weights.items()}
        for name, delta in (deltas or {}).items():
            weights[name] = weights[name] + delta
        x = weights["model.embed_tokens"][list(tokens)]
        for layer in range(self.layers):
            mine = {target: weights[module(layer, target)] for target in TARGETS}
            x = x + self._attend(_normed(x), mine)
            hidden = _normed(x)
            gate = hidden @ mine["gate_proj"].T
            x = x + (gate / (1 + np.exp(-gate)) * (hidden @ mine["up_proj"].T)) @ mine["down_proj"].T
        logits: npt.NDArray[np.float64] = _normed(x) @ weights["lm_head"].T
        return logits

    def _attend(self, x: Any, mine: Mapping[str, Any]) -> Any:
        count, head = len(x), self.head
        q = _turned((x @ mine["q_proj"].T).reshape(count, self.heads, head))
        k = _turned((x @ mine["k_proj"].T).reshape(count, self.kv_heads, head))
        v = (x @ mine["v_proj"].T).reshape(count, self.kv_heads, head)
        k, v = (np.repeat(one, self.heads // self.kv_heads, axis=1) for one in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / head**0.5
        scores = np.where(np.tril(np.ones((count, count), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", scores, v).reshape(count, -1) @ mine["o_proj"].T

    def gguf(self, path: Path, architecture: str = "llama") -> Path:
        """Write it as llama.cpp wants it, in F32: q and k turned from halves to neighbours."""
        body = {
            "context_length": 256,
            "embedding_length": self.width,
            "block_count": self.layers,
            "feed_forward_length": self.feed,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.layer_norm_rms_epsilon": _EPSILON,
            "rope.dimension_count": self.head,
            "rope.freq_base": _BASE,
        }
        metadata = {
            "general.architecture": ("str", architecture),
            "general.name": ("str", "tiny"),
            **ggufs.amend({}, {f"{architecture}.{key}": value for key, value in body.items()}),
            **ggufs.spm(self.vocab),
        }
        tensors = {"token_embd.weight": self.weights["model.embed_tokens"]}
        for layer in range(self.layers):
            tensors[f"blk.{layer}.attn_norm.weight"] = tensors[f"blk.{layer}.ffn_norm.weight"] = np.ones(
                self.width, "f4"
            )
            for target, name in _NAMES.items():
                tensors[f"blk.{layer}.{name}.weight"] = self._rows(target, self.weights[module(layer, target)])
        tensors["output_norm.weight"] = np.ones(self.width, "f4")
        if not self.tied:
            tensors["output.weight"] = self.weights["lm_head"]
        blocks = {name: Block(array.shape[::-1], "F32", array.tobytes()) for name, array in tensors.items()}
        return Gguf(metadata, blocks).write(path)

    def _rows(self, target: str, array: Array) -> Array:
        heads = {"q_proj": self.heads, "k_proj": self.kv_heads}.get(target)
        if heads is None:
            return array
        return np.ascontiguousarray(array.reshape(heads, 2, self.head // 2, -1).swapaxes(1, 2).reshape(array.shape))


def _normed(x: Any) -> Any:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + _EPSILON)


def _turned(x: Any) -> Any:
    """Rotate (tokens, heads, width) by position, in halves."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] / _BASE ** (np.arange(half) / half)
    cos, sin = (np.concatenate([one, one], -1)[:, None] for one in (np.cos(angles), np.sin(angles)))
    return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin


@dataclass
class Lora:
    """A random LoRA for a Tiny, and its folder as PEFT would save it."""

    model: Tiny
    targets: Sequence[str] = TARGETS
    rank: int = 4
    alpha: float = 8.0
    seed: int = 1
    strength: float = 0.3
    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.tensors = {}
        for name in self.modules:
            outputs, inputs = self.model.shape(name.rsplit(".", 1)[-1])
            side = "lora_embedding_{}" if name.endswith("embed_tokens") else "lora_{}.weight"
            a = rng.normal(0, inputs**-0.5, (self.rank, inputs))
            b = rng.normal(0, self.strength, (outputs, self.rank))
            if name.endswith("embed_tokens"):
                a, b = rng.normal(0, 1, (self.rank, outputs)), rng.normal(0, self.strength, (inputs, self.rank))
            for letter, values in (("A", a), ("B", b)):
                self.tensors[f"base_model.model.{name}.{side.format(letter)}"] = values.astype(np.float32)

    @property
    def modules(self) -> list[str]:
        """Every module it changes."""
        whole = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}
        inner = [module(layer, one) for layer in range(self.model.layers) for one in self.targets if one not in whole]
        return inner + [whole[one] for one in self.targets if one in whole]

    def deltas(self, scale: float | None = None) -> dict[str, Array]:
        """What it adds to each weight; `scale` replaces alpha / rank."""
        scale = self.alpha / self.rank if scale is None else scale
        found = {}
        for name in self.modules:
            sides = (
                ("lora_embedding_A", "lora_embedding_B")
                if name.endswith("embed_tokens")
                else ("lora_A.weight", "lora_B.weight")
            )
            a, b = (self.tensors[f"base_model.model.{name}.{side}"] for side in sides)
            found[name] = scale * ((b @ a).T if name.endswith("embed_tokens") else b @ a)
        return found

    def save(self, folder: Path, **config: Any) -> Path:
        """Write what PEFT writes."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors, folder / "adapter_model.safetensors")
        said = {
            "base_model_name_or_path": "tiny",
            "bias": "none",
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.1,
            "modules_to_save": None,
            "peft_type": "LORA",
            "peft_version": "0.21.2",
            "r": self.rank,
            "target_modules": list(self.targets),
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": False,
            **self.config,
            **config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(said))
        return folder
