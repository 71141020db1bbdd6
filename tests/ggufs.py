"""GGUF files made by hand, byte by byte: tiny models that llama.cpp runs, real shapes without weights, hostile ones.

It packs with `struct` and knows nothing of the reader it tests. `write_model` gives a file that decodes, `write_shape`
a sparse file with the header of a real model, and `Gguf` anything between that and nonsense.
"""

from __future__ import annotations

import functools
import itertools
import random
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

# fmt: off
# ggml.h, enum ggml_type; then elements and bytes of one block (ggml-common.h)
TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q8_1": (9, 32, 36), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292),
    "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50),
    "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82), "IQ4_XS": (23, 256, 136),
    "I8": (24, 1, 1), "I16": (25, 1, 2), "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8),
    "IQ1_M": (29, 256, 56), "BF16": (30, 1, 2), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17), "NVFP4": (40, 64, 36), "Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18),
}
# fmt: on

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


COMMON = "the and ing ion ent for her tha nth int ere tio ter est ers ati hat ate all eth hes ver his oft ith"


def pieces(size: int) -> tuple[list[str], list[float], list[int]]:
    """A SentencePiece vocabulary with byte fallback: texts, scores, types. At least 259 entries."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    common = COMMON.split()
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
    pairs = [f"{bytewise[number % 256]}{number:x} {bytewise[number % 251]}" for number in range(merges)]
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
    chat_template: str | bytes | None = None,
    experts: int = 0,
    seed: int = 0,
    context: int = 512,
    **extra_metadata: Any,
) -> Gguf:
    """A llama-architecture model with random weights that llama.cpp loads and decodes.

    `extra_metadata` has full GGUF keys (`**{"llama.rope.freq_base": 1e6}`); None leaves a key out.
    """
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
    keys = embedding // heads * kv_heads
    return Gguf(
        amend(metadata, extra_metadata), weights(layers, embedding, keys, ffn, vocab, quant, experts, seed).copy()
    )


@functools.lru_cache(maxsize=32)
def weights(
    layers: int, embedding: int, keys: int, ffn: int, vocab: int, quant: Quant, experts: int, seed: int
) -> dict[str, Block]:
    """Random tensors of a llama model, made once."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int, kind: str = quant) -> Block:
        values = rng.standard_normal(int(np.prod(shape)), dtype=np.float32) / np.float32(np.sqrt(shape[0]))
        return Block(shape, kind.upper(), quantize(values, kind))

    def norm() -> Block:
        return Block((embedding,), "F32", np.ones(embedding, "<f4").tobytes())

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
    return tensors | {"output_norm.weight": norm(), "output.weight": weight(embedding, vocab)}


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


_TINY = (("attention.sliding_window", 64), ("attention.key_length", 128), ("attention.value_length", 128))
_GEMMA = (("attention.sliding_window", 1024), ("attention.key_length", 256), ("attention.value_length", 256))
SHAPES = {
    "mistral-7b": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768),
    "mixtral-8x7b": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768, experts=8),
    "mixtral-8x7b-old": Shape("llama", 32, 4096, 14336, 32, 8, 32000, 32768, experts=8, merged=False),
    "solar-10.7b": Shape("llama", 48, 4096, 14336, 32, 8, 32000, 4096),
    "gemma3-4b": Shape("gemma3", 34, 2560, 10240, 8, 4, 262208, 131072, head=256, tied=True, extra=_GEMMA),
    "tiny-gemma3": Shape("gemma3", 7, 256, 256, 2, 1, 400, 512, tied=True, extra=_TINY),
    "tiny-qwen2": Shape("qwen2", 2, 256, 256, 2, 1, 400, 512, biased=True),
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


# --- hostile files ----------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 3, 7, 31, 33, 255, 256, 4096, 65535, 65536, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62)
NUMBERS += (2**63 - 1, 2**63, 2**64 - 33, 2**64 - 1)


def mutated(seed: int) -> bytes:
    """A valid tiny file with something wrong in its header: bytes, lengths, values, descriptions."""
    rng = random.Random(seed)
    base = rng.choice(bases())
    change = rng.choice((flip, flip, cut, poke, poke, revalue, revalue, revalue, redescribe, shuffle))
    return change(base, rng)


@functools.cache
def bases() -> tuple[Gguf, ...]:
    """Valid tiny models of several kinds."""
    experts = {"llama.expert_group_count": 2, "llama.expert_group_used_count": 1}
    return (
        model(chat_template="{{ messages }}"),
        model(quant="q8_0", experts=4, **experts),
        model(layers=1, vocab=300, **{"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}),
        shaped("tiny-gemma3"),
        shaped("tiny-qwen2"),
    )


def flip(base: Gguf, rng: random.Random) -> bytes:
    """Other bytes in the header."""
    raw, size = bytearray(base.pack()), len(base.header())
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        raw[rng.randrange(size)] ^= rng.choice((1, 2, 16, 128, 255))
    return bytes(raw)


def cut(base: Gguf, rng: random.Random) -> bytes:
    """A shorter file, or one with a hole cut into its header."""
    raw, size = base.pack(), len(base.header())
    at = rng.randrange(size)
    return raw[:at] if rng.random() < 0.5 else raw[:at] + raw[at + rng.choice((1, 4, 8, 100)) :]


def poke(base: Gguf, rng: random.Random) -> bytes:
    """A number where some number, length or character was."""
    raw, size = bytearray(base.pack()), len(base.header())
    at, width = rng.randrange(size - 8), rng.choice((1, 2, 4, 8))
    raw[at : at + width] = (rng.choice(NUMBERS) % 256**width).to_bytes(width, "little")
    return bytes(raw)


def revalue(base: Gguf, rng: random.Random) -> bytes:
    """One metadata value replaced by another, of its own type or any."""
    key = rng.choice(list(base.metadata))
    kind = (
        base.metadata[key][0] if rng.random() < 0.6 else rng.choice([*CODES, "str", "[u32]", "[str]", "[f32]", "[i32]"])
    )
    return base.but(**{key: (kind, value_of(kind, rng))}).pack()


def value_of(kind: str, rng: random.Random) -> Any:
    if kind.startswith("["):
        return [value_of(kind[1:-1], rng) for _ in range(rng.choice((0, 1, 2, 3, 7, 300, 400)))]
    if kind == "str":
        return rng.choice(
            (
                "",
                "llama",
                "gpt2",
                "bert",
                "t5",
                "qwen2",
                "yarn",
                "a b",
                "x" * 300,
                b"\xff\xfe",
                "a\0b",
                str(rng.random()),
            )
        )
    if kind in ("f32", "f64"):
        return rng.choice((0.0, -1.0, 1.0, 1e-30, 0.5, 1e30, float("nan"), float("inf"), -float("inf")))
    if kind == "bool":
        return rng.random() < 0.5
    bits = 8 * struct.calcsize(CODES[kind])
    value = rng.choice(NUMBERS) % 2**bits
    return value - 2**bits if kind.startswith("i") and value >= 2 ** (bits - 1) else value


def redescribe(base: Gguf, rng: random.Random) -> bytes:
    """One tensor described otherwise; sometimes with the data to match."""
    name = rng.choice(list(base.tensors))
    block, offset = base.tensors[name], base.offsets()[name]
    what = rng.randrange(5)
    if what == 0:
        return base.with_tensor(name, None).pack()
    if what == 1:
        return (
            base.with_tensor(name, Block(block.shape, rng.choice(list(TYPES)))).pack() if fits(block) else base.pack()
        )
    shape = block.shape
    if what == 2:
        place = rng.randrange(len(shape))
        shape = (*shape[:place], rng.choice(NUMBERS) % 2**64, *shape[place + 1 :])
    if what == 3:
        shape = rng.choice(((), (*shape, 1), (*shape, 1, 1, 1, 1), shape[:1], tuple(reversed(shape))))
    code = rng.choice((*range(45), 2**31, 2**32 - 1)) if what == 4 else TYPES[block.type][0]
    shift = rng.choice((0, 0, 1, 32, 2**63))
    return replace(base, infos={name: info(name, shape, code, (offset + shift) % 2**64)}).pack()


def fits(block: Block) -> bool:
    """Whether every type can pack rows of this length."""
    return block.shape[0] % 256 == 0


def shuffle(base: Gguf, rng: random.Random) -> bytes:
    """Pairs and tensors in another order, twice, or fewer than claimed."""
    keys, names = list(base.metadata), list(base.tensors)
    rng.shuffle(keys)
    rng.shuffle(names)
    keys, names = (
        keys[: rng.choice((1, len(keys) - 1, len(keys)))],
        names[: rng.choice((1, len(names) - 1, len(names)))],
    )
    counts = (
        None if rng.random() < 0.7 else (len(names) + rng.choice((-1, 1, 1000)), len(keys) + rng.choice((-1, 0, 1)))
    )
    metadata = {key: base.metadata[key] for key in keys}
    return replace(base, metadata=metadata, tensors={name: base.tensors[name] for name in names}, counts=counts).pack()


def hostile() -> Iterator[tuple[str, bytes]]:
    """Files with one thing wrong each, by hand: what a broken download, a bug or an enemy makes of a tiny model."""
    yield from hostile_openings()
    for name, file in itertools.chain(hostile_shapes(), hostile_metadata(), hostile_tokenizers(), hostile_tensors()):
        yield name, file.pack()


def hostile_openings() -> Iterator[tuple[str, bytes]]:
    """Wrong before the first value, or in its bytes."""
    base = model()
    raw, size = base.pack(), len(base.header())
    for length in (0, 1, 4, 23, 24, 25, 100, size - 40, size, len(raw) // 2, len(raw) - 1):
        yield f"cut to {length}", raw[:length]
    for magic in (b"GGML", b"ggjt", b"FUGG", b"\0\0\0\0", b"<!DO", b"PK\3\4", b"vers"):
        yield f"magic {magic!r}", magic + raw[4:]
    for version in (0, 1, 4, 2**24, 3 << 24, 2**32 - 1):
        yield f"version {version}", replace(base, version=version).pack()
    tensors, pairs = len(base.tensors), len(base.metadata)
    for count in (0, pairs - 1, pairs + 1, 65_537, 2**31, 2**63, 2**64 - 1):
        yield f"{count} pairs claimed", replace(base, counts=(tensors, count)).pack()
        yield f"{count} tensors claimed", replace(base, counts=(count, pairs)).pack()
    for name, value in {
        "huge string": struct.pack("<IQ", 8, 2**60) + b"x",
        "string of 2**64-1": struct.pack("<IQ", 8, 2**64 - 1),
        "huge array": struct.pack("<IIQ", 9, 4, 2**61),
        "array of 2**64-1 strings": struct.pack("<IIQ", 9, 8, 2**64 - 1),
        "array that wraps": struct.pack("<IIQ", 9, 4, 2**62 + 1) + bytes(4),
        "array of arrays": struct.pack("<IIQIQ", 9, 9, 1, 4, 1) + bytes(4),
        "string that leaves its array": struct.pack("<IIQQ", 9, 8, 1, 2**40),
        **{f"type code {code}": struct.pack("<I", code) + bytes(16) for code in (13, 99, 2**31, 2**32 - 1)},
        **{f"array of type {code}": struct.pack("<IIQ", 9, code, 1) + bytes(16) for code in (13, 2**32 - 1)},
    }.items():
        yield name, base.but(**{"general.name": ("raw", value)}).pack()
    for name, key in {
        "empty key": b"",
        "key with zero": b"a\0b",
        "bad UTF-8 key": b"\xff\xfe",
        "huge key": b"k" * 70_000,
    }.items():
        yield name, splice(base, entry(key, "u32", 1))
    yield "key twice", splice(base, entry("general.name", "str", "again"))
    yield "key of 2**63", splice(base, struct.pack("<Q", 2**63))


def splice(base: Gguf, pair: bytes) -> bytes:
    """Put the bytes of one more pair before all others."""
    head = struct.pack("<4sIQQ", base.magic, base.version, len(base.tensors), len(base.metadata) + 1)
    raw = head + pair + replace(base, alignment=1).header()[24:]
    return raw + bytes(-len(raw) % base.alignment) + base.pack()[len(base.header()) :]


def hostile_metadata() -> Iterator[tuple[str, Gguf]]:
    """Values that llama.cpp asserts, divides by, or reads as another type."""
    base, experts = model(), model(experts=4)
    wrong: dict[str, tuple[Any, ...]] = {
        "general.alignment": (
            ("u32", 0),
            ("u32", 1),
            ("u32", 4),
            ("u32", 33),
            ("u32", 2**31),
            ("u64", 32),
            ("i32", -32),
        ),
        "general.architecture": (
            "",
            "lama",
            "gpt5",
            "clip",
            "bert",
            "t5",
            "LLAMA",
            "llama\0",
            "x" * 10_000,
            None,
            ("u32", 1),
        ),
        "general.type": ("adapter", "mmproj", "imatrix"),
        "llama.block_count": (0, 1, 3, 513, 10**6, 2**31, 2**32 - 1, None, ("i32", 2), ("u64", 2), ("[u32]", [2])),
        "llama.nextn_predict_layers": (1, 2, 3, 2**32 - 1),
        "llama.context_length": (0, 2**31, 2**32 - 1, None, ("str", "512")),
        "llama.embedding_length": (0, 1, 63, 65, 2**31, 2**32 - 1, None),
        "llama.feed_forward_length": (0, 127, 2**32 - 1, ("[u32]", [128]), ("[u32]", [128, 64]), ("[i32]", [-1, 128])),
        "llama.attention.head_count": (
            0,
            3,
            5,
            64,
            2**32 - 1,
            ("[u32]", [4, 2]),
            ("[u32]", [4]),
            ("[u32]", []),
            ("str", "4"),
        ),
        "llama.attention.head_count_kv": (
            0,
            3,
            8,
            2**32 - 1,
            ("[u32]", [2, 4]),
            ("[u32]", [2, 0]),
            ("[i32]", [-2, -2]),
        ),
        "llama.attention.key_length": (0, 1, 8, 32, 2**31),
        "llama.attention.value_length": (0, 8, 32, 2**32 - 1),
        "llama.attention.layer_norm_rms_epsilon": (-1.0, 0.0, 1.0, float("nan"), float("inf"), None, ("f64", 1e-5)),
        "llama.attention.causal": (False,),
        "llama.rope.dimension_count": (0, 1, 8, 15, 32, 2**31),
        "llama.rope.freq_base": (0.0, -1.0, float("nan"), float("inf"), ("u32", 10_000)),
        "llama.rope.scaling.type": ("", "dynamic", "YARN", ("u32", 1)),
        "llama.rope.scaling.factor": (-1.0, float("nan"), float("inf")),
        "llama.expert_count": (1, 4, 1025, 2**32 - 1),
        "llama.expert_used_count": (1, 2**32 - 1),
        "llama.expert_group_count": (1, 2, 2**32 - 1),
        "llama.pooling_type": (1, 4, 99),
        "llama.vocab_size": (0, 7, 2**32 - 1),
        "split.count": (("u16", 2), ("u16", 65_535), ("u32", 2)),
        "split.no": (("u16", 1), ("u32", 0)),
        "tokenizer.chat_template": (b"\xff", "x" * 300_000, ("u32", 1), ("[str]", ["a"])),
    }
    for key, values in wrong.items():
        for value in values:
            yield f"{key} = {str(value)[:40]}", base.but(**{key: value})
    for count, used, groups, groups_used in (
        *((4, 0, 0, 0), (4, 5, 0, 0), (0, 2, 0, 0), (1025, 2, 0, 0), (3, 2, 0, 0), (4, 2, 4, 1), (4, 2, 3, 1)),
        *((4, 2, 2, 0), (4, 2, 2, 2), (4, 2, 2**32 - 1, 1)),
    ):
        values = {"count": count, "used_count": used, "group_count": groups, "group_used_count": groups_used}
        name = f"{used} of {count} experts in {groups_used} of {groups} groups"
        yield name, experts.but(**{f"llama.expert_{key}": value for key, value in values.items()})
    for kind in ("[bool]", "u32"):
        pattern = [False] * 7 if kind == "[bool]" else 1
        yield (
            f"no windowed layer, {kind}",
            shaped("tiny-gemma3").but(**{"gemma3.attention.sliding_window_pattern": (kind, pattern)}),
        )


def hostile_tokenizers() -> Iterator[tuple[str, Gguf]]:
    """Vocabularies that end the process when loaded, or when a text is tokenized."""
    texts, scores, kinds = pieces(400)
    plain = [f"q{number}" for number in range(397)]
    for name, tokens in {
        "token twice": [*texts[:-1], texts[5]],
        "tokens equal before a zero": [*texts[:-2], "a\0b", "a\0c"],
        "token with zero": [*texts[:-1], "a\0"],
        "empty token and its stand-in": [*texts[:-2], "", "[EMPTY_398]"],
        "two empty tokens": [*texts[:-2], "", ""],
        "token not UTF-8": [*texts[:-1], b"\xff\xfe"],
        "no byte tokens": [*texts[:3], *plain],
        "one byte token missing": [*texts[:100], "q", *texts[101:]],
        "no tokens": [],
        "too few tokens": texts[:300],
        "one token": texts[:1],
    }.items():
        yield name, model(**{"tokenizer.ggml.tokens": ("[str]", tokens)})
    for name, value in {
        "tokens as bytes": ("[u8]", [1] * 400),
        "tokens as text": ("str", "abc"),
        "no tokens at all": None,
    }.items():
        yield name, model(**{"tokenizer.ggml.tokens": value})
    for value in (
        ("[f32]", scores[:-1]),
        ("[f64]", scores),
        ("[str]", texts),
        ("f32", 1.0),
        ("[f32]", [float("nan")] * 400),
    ):
        yield (
            f"scores {value[0]} {len(value[1]) if value[0] != 'f32' else ''}",
            model(**{"tokenizer.ggml.scores": value}),
        )
    for value in (
        ("[i32]", kinds[:-1]),
        ("[u32]", kinds),
        ("[i32]", [99] * 400),
        ("[i32]", [6] * 400),
        ("[i32]", [1] * 400),
    ):
        yield f"{len(value[1])} types {value[0]}, {value[1][-1]}", model(**{"tokenizer.ggml.token_type": value})
    for name in (
        "bert",
        "t5",
        "rwkv",
        "none",
        "no_vocab",
        "test",
        "plamo2",
        "gpt2",
        "gemma4",
        "hybriddna",
        "",
        "sentencepiece",
    ):
        yield f"tokenizer {name!r}", model(**{"tokenizer.ggml.model": name})
        merges = {"tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.pre": "default"}
        yield f"tokenizer {name!r} with merges", model(**{"tokenizer.ggml.model": name, **merges})
    for name in ("bos", "eos", "eot", "eom", "unknown", "padding", "mask"):
        for token in (400, 2**31, 2**32 - 1, ("i32", -1), ("str", "</s>")):
            yield f"{name} {token}", model(**{f"tokenizer.ggml.{name}_token_id": token})
    pairs: tuple[list[Any], ...] = ([""], ["ab"], [" "], ["a  b", "c"], [b"\xff \xfe"], ["\0 a"])
    for merges in pairs:
        yield f"merges {merges}", model(**spm_to_bpe(("[str]", merges)))
    yield "merges as numbers", model(**spm_to_bpe(("[u32]", [1, 2])))
    yield "no merges", model(**spm_to_bpe(None))


def spm_to_bpe(merges: Any) -> dict[str, Any]:
    """What turns the vocabulary of `model()` into a byte-level one with these merges."""
    gone = ("scores", "bos_token_id", "unknown_token_id")
    return {**bpe(400), **{f"tokenizer.ggml.{key}": None for key in gone}, "tokenizer.ggml.merges": merges}


def hostile_tensors() -> Iterator[tuple[str, Gguf]]:
    """Descriptions that do not fit the file, and weights that llama.cpp cannot compute with."""
    base = model()
    name = "blk.0.attn_q.weight"
    offset = base.offsets()[name]
    shapes = (
        (),
        (0, 64),
        (64, 0),
        (63, 64),
        (64, 65),
        (64,),
        (64, 64, 1, 1),
        (64, 64, 1, 1, 1),
        (64, 2**62),
        (2**63, 2),
    )
    for shape in (*shapes, (2**32, 2**32), (2**64 - 1, 1), (2**31, 2**31, 2, 1)):
        yield f"shape {shape}", replace(base, infos={name: info(name, shape, 0, offset)})
    for code in (4, 5, 31, 36, 43, 255, 2**31, 2**32 - 1):
        yield f"tensor type {code}", replace(base, infos={name: info(name, (64, 64), code, offset)})
    for shift in (-32, -1, 1, 32, 2**40, 2**63):
        place = (offset + shift) % 2**64
        yield f"offset moved by {shift}", replace(base, infos={name: info(name, (64, 64), 0, place)})
    for other in ("", "x" * 64, "x" * 300, b"a\0b", b"\xff\xfe", "blk.0.attn_k.weight", "attn\x1b[31m"):
        yield (
            f"tensor name {str(other)[:20]!r} of {len(other)}",
            replace(base, infos={name: info(other, (64, 64), 0, offset)}),
        )
    for gone in ("token_embd.weight", "output_norm.weight", name, "blk.1.ffn_down.weight"):
        yield f"without {gone}", base.with_tensor(gone, None)
    yield "no tensors", Gguf(base.metadata, {})
    yield "unknown tensor", base.with_tensor("blk.0.surprise.weight", Block((64,)))
    yield "layer 99", base.with_tensor("blk.99.attn_norm.weight", Block((64,)))
    yield "one tensor per expert", model(experts=4).with_tensor("blk.0.ffn_gate.0.weight", Block((64, 128)))
    wide = model(embedding=256, ffn=256, experts=4)
    roles = (
        "token_embd",
        "output",
        "output_norm",
        "blk.0.attn_norm",
        "blk.1.attn_q",
        "blk.0.ffn_gate_inp",
        "blk.0.ffn_up_exps",
    )
    for kind, role in itertools.product(
        ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "F16", "BF16", "Q4_0", "IQ1_M"), roles
    ):
        weight = f"{role}.weight"
        yield f"{role} of {kind}", wide.with_tensor(weight, Block(wide.tensors[weight].shape, kind))
    for extra, shape in {"rope_freqs.weight": (8,), "blk.0.attn_q.bias": (64,), "blk.0.attn_q.scale": (1,)}.items():
        for kind in ("F16", "I32", "F32"):
            yield f"{extra} of {kind}", base.with_tensor(extra, Block(shape, kind))
    for size in (1, 8, 16):
        file = model(**{"general.alignment": size, "general.name": "x" * 7})
        yield f"aligned to {size}", replace(file, alignment=size)


def hostile_shapes() -> Iterator[tuple[str, Gguf]]:
    """Files whose tensors agree with their metadata, so that only the graph notices (src/models/llama.cpp)."""
    for heads, kv_heads, key, value, turned in (
        *((4, 2, 32, 16, 32), (4, 2, 16, 32, 16), (4, 2, 32, 32, 16), (4, 3, 16, 16, 16), (2, 4, 16, 16, 16)),
        *((3, 2, 16, 16, 16), (4, 2, 15, 15, 15), (4, 2, 16, 16, 15), (4, 2, 1, 1, 1)),
    ):
        sizes = {"head_count": heads, "head_count_kv": kv_heads, "key_length": key, "value_length": value}
        file = model(
            **{f"llama.attention.{name}": size for name, size in sizes.items()},
            **{"llama.rope.dimension_count": turned},
        )
        for layer in range(2):
            file = file.with_tensor(f"blk.{layer}.attn_q.weight", Block((64, key * heads)))
            file = file.with_tensor(f"blk.{layer}.attn_k.weight", Block((64, key * kv_heads)))
            file = file.with_tensor(f"blk.{layer}.attn_v.weight", Block((64, value * kv_heads)))
            file = file.with_tensor(f"blk.{layer}.attn_output.weight", Block((key * heads, 64)))
        yield f"{heads} and {kv_heads} heads, keys {key}, values {value}, turned {turned}", file
    for width in (1, 3, 5, 33):
        yield f"heads {width} wide", model(embedding=4 * width)
    own = {"qwen2.attention.key_length": 128, "qwen2.attention.value_length": 128}
    for heads in (4, 3, 4096, 2**31):
        yield f"{heads} heads of qwen2", shaped("tiny-qwen2").but(**own, **{"qwen2.attention.head_count": heads})
    for key, values in {
        "gemma3.rope.dimension_count": (0, 64, 130, 2**20),
        "gemma3.attention.value_length": (0, 64, 2**31),
        "gemma3.attention.key_length": (0, 64, 256),
        "gemma3.attention.head_count": (1, 4, 2**32 - 1),
        "gemma3.attention.sliding_window": (0, 1, 2**31, 2**32 - 1),
    }.items():
        for value in values:
            yield f"{key} = {value}", shaped("tiny-gemma3").but(**{key: value})
