"""Random-weight Q4_K_M files of real shapes: the speed of a model before it is downloaded, and our own measurements.

Matrix products do not care what the numbers are. The mixture of types is llama.cpp's Q4_K_M, the numbers have the size of
trained ones, and the vocabulary can spell every text. What such a model says is noise.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from edgellm.errors import UsageError

_ALIGNMENT = 32
_POOL_BYTES = 32 << 20  # of random blocks, used over and over: what is written is bound by the disk, not by the dice
_SPECIALS = ("<unk>", "<s>", "</s>")
# gguf metadata value types; gguf-py, GGUFValueType
_CODES = {int: (4, "<I"), float: (6, "<f"), bool: (7, "<?")}
_CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "<|assistant|>\n"
)


class _Kind(NamedTuple):
    """A tensor type: its ggml id, elements and bytes of one block (ggml-common.h)."""

    code: int
    elements: int
    bytes: int


_F32, _Q4_K, _Q6_K = _Kind(0, 1, 4), _Kind(12, 256, 144), _Kind(14, 256, 210)


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a Llama-architecture model; `experts` of which `used` answer each token."""

    layers: int
    embedding: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int = 32000
    experts: int = 0
    used: int = 0
    context: int = 32768
    seed: int = 0

    @property
    def head(self) -> int:
        """Width of one head."""
        return self.embedding // self.heads


SHAPES = {
    "0.1b": Shape(12, 768, 2048, 12, 4),
    "0.4b": Shape(24, 1024, 2816, 16, 4),
    "1.1b": Shape(22, 2048, 5632, 32, 4),  # TinyLlama
    "3b": Shape(28, 3072, 8192, 24, 8, vocab=128256),  # Llama 3.2
    "7b": Shape(32, 4096, 14336, 32, 8),  # Mistral
    "8b": Shape(32, 4096, 14336, 32, 8, vocab=128256),  # Llama 3.1
    "10.7b": Shape(48, 4096, 14336, 32, 8),  # SOLAR
    "8x7b": Shape(32, 4096, 14336, 32, 8, experts=8, used=2),  # Mixtral
    "8x0.1b": Shape(8, 768, 2048, 12, 4, experts=8, used=2),
}
"""Shapes by size, named after the models that have them."""


def shape(name: str) -> Shape:
    """Find a shape by name, in either case. Raises UsageError with the names there are."""
    try:
        return SHAPES[name.lower()]
    except KeyError:
        raise UsageError(f"no shape is called {name!r}: there are {', '.join(SHAPES)}.") from None


def file_bytes(what: Shape) -> int:
    """Size of the file that `write` makes, without writing it."""
    return len(_header(what)) + sum(_padded(_size(dimensions, kind)) for _, dimensions, kind in _tensors(what))


def write(path: str | os.PathLike[str], what: Shape) -> Path:
    """Write a file of this shape; the same shape gives the same bytes. Returns its path."""
    pools = {kind: _pool(kind, what.seed) for kind in (_Q4_K, _Q6_K)}
    with open(path, "wb") as file:
        file.write(_header(what))
        for name, dimensions, kind in _tensors(what):
            if kind is _F32:
                _write_plain(file, name, dimensions)
            else:
                _write_blocks(file, pools[kind], dimensions[0], _size(dimensions, kind))
            file.write(bytes(-file.tell() % _ALIGNMENT))
    return Path(path)


def _tensors(what: Shape) -> Iterator[tuple[str, tuple[int, ...], _Kind]]:
    """Names, dimensions and types, mixed as Q4_K_M is: src/llama-quant.cpp, LLAMA_FTYPE_MOSTLY_Q4_K_M."""
    width, keys = what.embedding, what.kv_heads * what.head
    yield "token_embd.weight", (width, what.vocab), _Q4_K
    for layer in range(what.layers):
        better = _Q6_K if _more_bits(layer, what.layers) else _Q4_K
        parts: list[tuple[str, tuple[int, ...], _Kind]] = [
            ("attn_norm", (width,), _F32),
            ("attn_q", (width, width), _Q4_K),
            ("attn_k", (width, keys), _Q4_K),
            ("attn_v", (width, keys), better),
            ("attn_output", (width, width), _Q4_K),
            ("ffn_norm", (width,), _F32),
        ]
        if what.experts:
            parts += [
                ("ffn_gate_inp", (width, what.experts), _F32),
                ("ffn_gate_exps", (width, what.ffn, what.experts), _Q4_K),
                ("ffn_up_exps", (width, what.ffn, what.experts), _Q4_K),
                ("ffn_down_exps", (what.ffn, width, what.experts), better),
            ]
        else:
            parts += [
                ("ffn_gate", (width, what.ffn), _Q4_K),
                ("ffn_up", (width, what.ffn), _Q4_K),
                ("ffn_down", (what.ffn, width), better),
            ]
        yield from ((f"blk.{layer}.{name}.weight", dimensions, kind) for name, dimensions, kind in parts)
    yield "output_norm.weight", (width,), _F32
    yield "output.weight", (width, what.vocab), _Q6_K


def _more_bits(layer: int, layers: int) -> bool:
    """The layers where attn_v and ffn_down get more bits: src/llama-quant.cpp, use_more_bits."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _size(dimensions: tuple[int, ...], kind: _Kind) -> int:
    return int(np.prod(dimensions, dtype=object)) // kind.elements * kind.bytes


def _padded(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


# Numbers.


def _write_plain(file: IO[bytes], name: str, dimensions: tuple[int, ...]) -> None:
    if "norm" in name:
        values = np.ones(dimensions, "<f4")
    else:
        values = np.random.default_rng(0).standard_normal(dimensions, np.float32) / np.sqrt(dimensions[0])
    file.write(values.astype("<f4").tobytes())


def _pool(kind: _Kind, seed: int) -> Any:
    """Random blocks, without their scale."""
    count = _POOL_BYTES // kind.bytes
    blocks = np.random.default_rng(seed).integers(0, 256, (count, kind.bytes), np.uint8)
    if kind is _Q4_K:  # scales and minima, packed in 6 bits each, all 32: ggml-quants.c, get_scale_min_k4
        blocks[:, 4:12], blocks[:, 12:16] = 160, 0
    else:
        blocks[:, 192:208] = 32
    return blocks


def _write_blocks(file: IO[bytes], pool: Any, width: int, size: int) -> None:
    """Write `size` bytes of blocks that stand for numbers around 0 of deviation 1 / sqrt(width)."""
    if pool.shape[1] == _Q4_K.bytes:  # w = d * 32 * q - dmin * 32 * 1, q of 0..15: middle 7.5, deviation 4.61
        scale = 1 / (np.sqrt(width) * 32 * 4.61)
        pool[:, 0:4] = np.array([scale, scale * 7.5], "<f2").view(np.uint8)
    else:  # w = d * 32 * (q - 32), q of 0..63: deviation 18.5
        scale = 1 / (np.sqrt(width) * 32 * 18.47)
        pool[:, 208:210] = np.array([scale], "<f2").view(np.uint8)
    raw = memoryview(pool.reshape(-1))
    while size:
        size -= file.write(raw[: min(size, len(raw))])


# The header.


def _header(what: Shape) -> bytes:
    tensors, pairs = list(_tensors(what)), _metadata(what)
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    parts += [_text(key) + _value(value) for key, value in pairs.items()]
    offset = 0
    for name, dimensions, kind in tensors:
        count = len(dimensions)
        parts.append(_text(name) + struct.pack(f"<I{count}QIQ", count, *dimensions, kind.code, offset))
        offset += _padded(_size(dimensions, kind))
    raw = b"".join(parts)
    return raw + bytes(-len(raw) % _ALIGNMENT)


def _metadata(what: Shape) -> dict[str, Any]:
    body = {
        "context_length": what.context,
        "embedding_length": what.embedding,
        "block_count": what.layers,
        "feed_forward_length": what.ffn,
        "attention.head_count": what.heads,
        "attention.head_count_kv": what.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": what.head,
        "rope.freq_base": 1e6,
        **({"expert_count": what.experts, "expert_used_count": what.used} if what.experts else {}),
    }
    texts, scores, kinds = vocabulary(what.vocab)
    return {
        "general.architecture": "llama",
        "general.name": "random weights",
        "general.file_type": 15,  # llama.h, LLAMA_FTYPE_MOSTLY_Q4_K_M
        **{f"llama.{key}": value for key, value in body.items()},
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": _CHAT,
    }


def vocabulary(size: int) -> tuple[list[str], list[float], list[int]]:
    """A SentencePiece vocabulary that spells every text: texts, scores, types; about three characters to a token."""
    texts = [*_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *itertools.islice(_pieces(), size - 259)]
    scores = [0.0] * 259 + [-float(rank) for rank in range(size - 259)]
    return texts, scores, [2, 3, 3] + [6] * 256 + [1] * (size - 259)  # llama.h, enum llama_token_type


def _pieces() -> Iterator[str]:
    """Letters, then pairs, threes and fours of them, frequent ones first, each alone and as the beginning of a word."""
    yield "▁"
    yield from (chr(code) for code in range(33, 127))
    seen: set[str] = set()
    vowels, others = "eaoiu", "tnrslhdcmpfgbvwykjxqz"
    syllables = [a + b for a in others for b in vowels] + [b + a for a in others for b in vowels]
    pairs = [*syllables, *(a + b for a in others for b in others)]
    longer = (a + b for b in itertools.chain(vowels, others) for a in pairs)
    for piece in itertools.chain(pairs, longer, (a + b for a in pairs for b in pairs)):
        for one in (piece, "▁" + piece):
            if one not in seen:
                seen.add(one)
                yield one
    yield from (f"▁{number}" for number in itertools.count())


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        return struct.pack("<I", 9) + _array(value)
    code, layout = _CODES[type(value)]
    return struct.pack("<I", code) + struct.pack(layout, value)


def _array(values: list[Any]) -> bytes:
    if isinstance(values[0], str):
        return struct.pack("<IQ", 8, len(values)) + _texts(values)
    code, layout = (6, "f") if isinstance(values[0], float) else (5, "i")
    return struct.pack(f"<IQ{len(values)}{layout}", code, len(values), *values)


def _texts(values: Iterable[str]) -> bytes:
    return b"".join(map(_text, values))


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
