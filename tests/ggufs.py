"""GGUF files made by hand, byte by byte: tiny models that llama.cpp runs, real shapes without weights, and hostile ones.

It packs with `struct` and knows nothing of the reader it tests. `write_model` gives a file that decodes, `write_shape` a
sparse file with the header of a real model, and `Gguf` anything between that and nonsense.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

KINDS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "str": 8, "u64": 10, "i64": 11}
KINDS["f64"] = 12
ARRAY = 9
CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?", "u64": "Q"}
CODES |= {"i64": "q", "f64": "d"}

# ggml.h, enum ggml_type; then elements and bytes of one block (ggml-common.h)
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22)}
TYPES |= {"Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q8_1": (9, 32, 36), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110)}
TYPES |= {"Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292)}
TYPES |= {"I8": (24, 1, 1), "I16": (25, 1, 2), "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8), "BF16": (30, 1, 2)}

BYTE, CONTROL, NORMAL, UNKNOWN = 6, 3, 1, 2
"""llama.h, enum llama_token_type."""


class Block(NamedTuple):
    """One tensor: its shape (ne0 first), the name of its type, and its bytes; None leaves a hole in the file."""

    shape: tuple[int, ...]
    type: str = "F32"
    data: bytes | None = None

    @property
    def size(self) -> int:
        _, elements, size = TYPES[self.type]
        return int(np.prod(self.shape, dtype=object)) // elements * size


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind: str, values: Iterable[Any]) -> bytes:
    items = list(values)
    head = struct.pack("<IQ", KINDS[kind], len(items))
    if kind == "str":
        return head + b"".join(text(item) for item in items)
    return head + struct.pack(f"<{len(items)}{CODES[kind]}", *items)


def entry(key: str | bytes, kind: str, value: Any) -> bytes:
    """One metadata pair; kind "[u32]" is an array, kind "raw" is a type code and bytes as they are."""
    if kind == "raw":
        return text(key) + value
    if kind.startswith("["):
        return text(key) + struct.pack("<I", ARRAY) + array(kind[1:-1], value)
    payload = text(value) if kind == "str" else struct.pack("<" + CODES[kind], value)
    return text(key) + struct.pack("<I", KINDS[kind]) + payload


def info(name: str | bytes, shape: tuple[int, ...], type_code: int, offset: int) -> bytes:
    """One tensor's description."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_code, offset)


@dataclass
class Gguf:
    """A file in the making; `infos` replaces the description of single tensors by other bytes."""

    metadata: dict[str, tuple[str, Any]]
    tensors: dict[str, Block]
    magic: bytes = b"GGUF"
    version: int = 3
    alignment: int = 32
    counts: tuple[int, int] | None = None  # tensors, metadata pairs: what the header claims
    infos: dict[str, bytes] = field(default_factory=dict)

    def offsets(self) -> dict[str, int]:
        """Where each tensor starts in the data section."""
        ends = itertools.accumulate((pad(block.size, self.alignment) for block in self.tensors.values()), initial=0)
        return dict(zip(self.tensors, ends, strict=False))

    def header(self) -> bytes:
        """Everything before the data section, padded."""
        offsets = self.offsets()
        tensors, pairs = self.counts or (len(self.tensors), len(self.metadata))
        parts = [self.magic, struct.pack("<IQQ", self.version, tensors, pairs)]
        parts += [entry(key, kind, value) for key, (kind, value) in self.metadata.items()]
        for name, block in self.tensors.items():
            parts.append(self.infos.get(name) or info(name, block.shape, TYPES[block.type][0], offsets[name]))
        raw = b"".join(parts)
        return raw + bytes(-len(raw) % self.alignment)

    def pack(self) -> bytes:
        """The whole file."""
        body = bytearray()
        for block in self.tensors.values():
            body += block.data if block.data is not None else bytes(block.size)
            body += bytes(-len(body) % self.alignment)
        return self.header() + bytes(body)

    def write(self, path: Path) -> Path:
        """Write the file; tensors without data become a hole that costs no disk."""
        head = self.header()
        with path.open("wb") as file:
            file.write(head)
            for start, block in zip(self.offsets().values(), self.tensors.values(), strict=True):
                if block.data is not None:
                    file.seek(len(head) + start)
                    file.write(block.data)
            last = len(head) + sum(pad(block.size, self.alignment) for block in self.tensors.values())
            file.truncate(max(last, file.tell()))
        return path

    def but(self, **metadata: Any) -> Gguf:
        """A copy with other metadata: a value, a (kind, value) pair, or None to leave the key out."""
        return replace(self, metadata=amend(self.metadata, metadata))

    def with_tensor(self, name: str, block: Block | None) -> Gguf:
        """A copy with one tensor replaced, added or (None) left out."""
        tensors = {**self.tensors, name: block} if block else {n: b for n, b in self.tensors.items() if n != name}
        return replace(self, tensors=tensors)


def pad(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def amend(metadata: Mapping[str, tuple[str, Any]], changes: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    result = dict(metadata)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value if isinstance(value, tuple) else (guess(value), value)
    return result


def guess(value: Any) -> str:
    """The kind that llama.cpp's converters would write."""
    if isinstance(value, list):
        return f"[{guess(value[0])}]" if value else "[u32]"
    return {bool: "bool", int: "u32", float: "f32", str: "str", bytes: "str"}[type(value)]


# --- vocabularies -----------------------------------------------------------------------------------------------------


def pieces(size: int) -> tuple[list[str], list[float], list[int]]:
    """A SentencePiece vocabulary with byte fallback: texts, scores, types. At least 259 entries."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    common = "the and ing ion ent for her tha nth int ere tio ter est ers ati hat ate all eth hes ver his oft ith".split()
    whole = dict.fromkeys([*letters, *(word[:2] for word in common), *common, *("▁" + word for word in common)])
    filler = (f"w{number}" for number in itertools.count())
    for piece in itertools.islice(itertools.chain(whole, filler), max(0, size - len(texts))):
        texts.append(piece)
        kinds.append(NORMAL)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(texts) - 259)]
    return texts[:size], scores[:size], kinds[:size]


def spm(size: int) -> dict[str, tuple[str, Any]]:
    """Metadata of a Llama tokenizer."""
    texts, scores, kinds = pieces(size)
    return {
        "tokenizer.ggml.model": ("str", "llama"),
        "tokenizer.ggml.tokens": ("[str]", texts),
        "tokenizer.ggml.scores": ("[f32]", scores),
        "tokenizer.ggml.token_type": ("[i32]", kinds),
        "tokenizer.ggml.bos_token_id": ("u32", 1),
        "tokenizer.ggml.eos_token_id": ("u32", 2),
        "tokenizer.ggml.unknown_token_id": ("u32", 0),
    }


def bpe(size: int, pre: str = "qwen2", merges: int = 1) -> dict[str, tuple[str, Any]]:
    """Metadata of a byte-level BPE tokenizer; the last token is the end of text."""
    bytewise = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    texts = [*bytewise, *(f"tok{number}" for number in range(size - 257)), "<|endoftext|>"]
    # Distinct, and shaped like the real ones: "Ġ t", "h e", ...
    lefts = (a + b for a, b in itertools.product(bytewise, repeat=2))
    pairs = [f"{left} {right}" for left, right in itertools.islice(itertools.product(lefts, bytewise), merges)]
    return {
        "tokenizer.ggml.model": ("str", "gpt2"),
        "tokenizer.ggml.pre": ("str", pre),
        "tokenizer.ggml.tokens": ("[str]", texts),
        "tokenizer.ggml.token_type": ("[i32]", [NORMAL] * (size - 1) + [CONTROL]),
        "tokenizer.ggml.merges": ("[str]", pairs),
        "tokenizer.ggml.eos_token_id": ("u32", size - 1),
        "tokenizer.ggml.padding_token_id": ("u32", size - 1),
        "tokenizer.ggml.add_bos_token": ("bool", False),
    }


# --- models that run --------------------------------------------------------------------------------------------------

Quant = Literal["f32", "q8_0", "q4_0"]


def quantize(values: np.ndarray, quant: str) -> bytes:
    """Pack float32 values as ggml does (ggml-quants.c, quantize_row_*_ref)."""
    if quant == "f32":
        return values.astype("<f4").tobytes()
    blocks = values.reshape(-1, 32).astype(np.float32)
    if quant == "q8_0":
        scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
        numbers = np.rint(blocks / np.where(scale, scale, 1)).astype(np.int8)
    else:
        peak = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
        scale = peak / -8
        levels = np.clip(blocks / np.where(scale, scale, 1) + 8.5, 0, 15).astype(np.uint8)
        numbers = (levels[:, :16] | levels[:, 16:] << 4).view(np.int8)
    return np.hstack([scale.astype("<f2").view(np.int8), numbers]).tobytes()


def model(
    *,
    layers: int = 2,
    embedding: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    ffn: int = 128,
    vocab: int = 400,
    quant: Quant = "f32",
    chat_template: str | None = None,
    experts: int = 0,
    seed: int = 0,
    context: int = 512,
    **extra_metadata: Any,
) -> Gguf:
    """A llama-architecture model with random weights that llama.cpp loads and decodes.

    `extra_metadata` has full GGUF keys (`**{"llama.rope.freq_base": 1e6}`); None leaves a key out.
    """
    rng = np.random.default_rng(seed)

    def weight(*shape: int, kind: str = quant) -> Block:
        values = rng.standard_normal(int(np.prod(shape)), dtype=np.float32) / np.float32(np.sqrt(shape[0]))
        return Block(shape, kind.upper(), quantize(values, kind))

    def norm() -> Block:
        return Block((embedding,), "F32", np.ones(embedding, "<f4").tobytes())

    keys = embedding // heads * kv_heads
    tensors = {"token_embd.weight": weight(embedding, vocab)}
    for layer in range(layers):
        block = {
            "attn_norm": norm(),
            "attn_q": weight(embedding, embedding),
            "attn_k": weight(embedding, keys),
            "attn_v": weight(embedding, keys),
            "attn_output": weight(embedding, embedding),
            "ffn_norm": norm(),
        }
        if experts:
            block["ffn_gate_inp"] = weight(embedding, experts, kind="f32")
            block["ffn_gate_exps"] = weight(embedding, ffn, experts)
            block["ffn_down_exps"] = weight(ffn, embedding, experts)
            block["ffn_up_exps"] = weight(embedding, ffn, experts)
        else:
            block["ffn_gate"] = weight(embedding, ffn)
            block["ffn_down"] = weight(ffn, embedding)
            block["ffn_up"] = weight(embedding, ffn)
        tensors |= {f"blk.{layer}.{part}.weight": value for part, value in block.items()}
    tensors |= {"output_norm.weight": norm(), "output.weight": weight(embedding, vocab)}

    metadata: dict[str, tuple[str, Any]] = {
        "general.architecture": ("str", "llama"),
        "general.name": ("str", "tiny"),
        "general.file_type": ("u32", {"f32": 0, "q4_0": 2, "q8_0": 7}[quant]),
        "llama.context_length": ("u32", context),
        "llama.embedding_length": ("u32", embedding),
        "llama.block_count": ("u32", layers),
        "llama.feed_forward_length": ("u32", ffn),
        "llama.attention.head_count": ("u32", heads),
        "llama.attention.head_count_kv": ("u32", kv_heads),
        "llama.attention.layer_norm_rms_epsilon": ("f32", 1e-5),
        "llama.rope.dimension_count": ("u32", embedding // heads),
        "llama.rope.freq_base": ("f32", 10000.0),
        **({"llama.expert_count": ("u32", experts), "llama.expert_used_count": ("u32", 2)} if experts else {}),
        **spm(vocab),
        **({} if chat_template is None else {"tokenizer.chat_template": ("str", chat_template)}),
    }
    return Gguf(amend(metadata, extra_metadata), tensors)


def write_model(path: Path | str, **options: Any) -> Path:
    """Write the model that `model(**options)` describes."""
    return model(**options).write(Path(path))


# --- real shapes without weights --------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What the header of a known model says; `extra` holds metadata below the architecture's name."""

    architecture: str
    layers: int
    embedding: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    head: int = 128
    experts: int = 0
    merged: bool = True
    tied: bool = False
    biased: bool = False
    extra: tuple[tuple[str, Any], ...] = ()


_GEMMA = (("attention.sliding_window", 1024), ("attention.key_length", 256), ("attention.value_length", 256))
SHAPES = {
    "mistral-7b": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768),
    "mixtral-8x7b": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768, experts=8),
    "mixtral-8x7b-old": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768, experts=8, merged=False),
    "solar-10.7b": Shape("llama", 48, 4096, 14336, 32, 8, 32000, 4096),
    "gemma3-4b": Shape("gemma3", 34, 2560, 10240, 8, 4, 262208, 131072, head=256, tied=True, extra=_GEMMA),
    "qwen2.5-7b": Shape("qwen2", 28, 3584, 18944, 28, 4, 152064, 32768, biased=True),
}
"""Models by the name that `write_shape` takes; the numbers are those of their published config.json."""


def more_bits(layer: int, layers: int) -> bool:
    """Whether Q4_K_M spends six bits on this layer's attn_v and ffn_down (llama.cpp src/llama-quant.cpp)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def shape_tensors(shape: Shape) -> Iterator[tuple[str, Block]]:
    """Names, shapes and the Q4_K_M mix of types, as llama-quantize chooses them."""
    queries, keys, embedding = shape.heads * shape.head, shape.kv_heads * shape.head, shape.embedding
    yield "token_embd.weight", Block((embedding, shape.vocab), "Q6_K" if shape.tied else "Q4_K")
    for layer in range(shape.layers):
        best = "Q6_K" if more_bits(layer, shape.layers) else "Q4_K"
        eight = shape.experts == 8
        yield f"blk.{layer}.attn_norm.weight", Block((embedding,))
        yield f"blk.{layer}.attn_q.weight", Block((embedding, queries), "Q4_K")
        yield f"blk.{layer}.attn_k.weight", Block((embedding, keys), "Q8_0" if eight else "Q4_K")
        yield f"blk.{layer}.attn_v.weight", Block((embedding, keys), "Q8_0" if eight else best)
        yield f"blk.{layer}.attn_output.weight", Block((queries, embedding), "Q5_K" if eight else "Q4_K")
        if shape.biased:
            yield f"blk.{layer}.attn_q.bias", Block((queries,))
            yield f"blk.{layer}.attn_k.bias", Block((keys,))
            yield f"blk.{layer}.attn_v.bias", Block((keys,))
        if shape.architecture == "gemma3":
            yield f"blk.{layer}.attn_q_norm.weight", Block((shape.head,))
            yield f"blk.{layer}.attn_k_norm.weight", Block((shape.head,))
            yield f"blk.{layer}.post_attention_norm.weight", Block((embedding,))
            yield f"blk.{layer}.post_ffw_norm.weight", Block((embedding,))
        yield f"blk.{layer}.ffn_norm.weight", Block((embedding,))
        yield from feed_forward(shape, layer, best)
    yield "output_norm.weight", Block((embedding,))
    if not shape.tied:
        yield "output.weight", Block((embedding, shape.vocab), "Q6_K")


def feed_forward(shape: Shape, layer: int, best: str) -> Iterator[tuple[str, Block]]:
    wide, narrow = (shape.embedding, shape.ffn), (shape.ffn, shape.embedding)
    if not shape.experts:
        yield f"blk.{layer}.ffn_gate.weight", Block(wide, "Q4_K")
        yield f"blk.{layer}.ffn_up.weight", Block(wide, "Q4_K")
        yield f"blk.{layer}.ffn_down.weight", Block(narrow, best)
        return
    yield f"blk.{layer}.ffn_gate_inp.weight", Block((shape.embedding, shape.experts))
    if shape.merged:
        yield f"blk.{layer}.ffn_gate_exps.weight", Block((*wide, shape.experts), "Q4_K")
        yield f"blk.{layer}.ffn_up_exps.weight", Block((*wide, shape.experts), "Q4_K")
        yield f"blk.{layer}.ffn_down_exps.weight", Block((*narrow, shape.experts), best)
        return
    for expert in range(shape.experts):  # the layout before llama.cpp b3990
        yield f"blk.{layer}.ffn_gate.{expert}.weight", Block(wide, "Q4_K")
        yield f"blk.{layer}.ffn_up.{expert}.weight", Block(wide, "Q4_K")
        yield f"blk.{layer}.ffn_down.{expert}.weight", Block(narrow, best)


def shaped(name: str) -> Gguf:
    """The header of a known model, without weights."""
    shape = SHAPES[name]
    body: dict[str, Any] = {
        "context_length": shape.context,
        "embedding_length": shape.embedding,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e6,
        **({} if shape.architecture != "llama" else {"rope.dimension_count": shape.head}),
        **({"expert_count": shape.experts, "expert_used_count": 2} if shape.experts else {}),
        **dict(shape.extra),
    }
    metadata = {
        "general.architecture": ("str", shape.architecture),
        "general.name": ("str", name),
        "general.file_type": ("u32", 15),
        "general.quantization_version": ("u32", 2),
        **amend({}, {f"{shape.architecture}.{key}": value for key, value in body.items()}),
        **(bpe(shape.vocab) if shape.architecture == "qwen2" else spm(shape.vocab)),
    }
    return Gguf(metadata, dict(shape_tensors(shape)))


def write_shape(path: Path | str, name: str) -> Path:
    """Write a sparse file with the header of a known model (SHAPES): full size, almost no disk."""
    return shaped(name).write(Path(path))
