"""What a header must say before llama.cpp may see its file: C++ answers much of the rest by ending the process.

Each check names the assertion or crash it stands in front of, in the llama.cpp that `pyproject.toml` pins. Where that
says a clean no itself, it is left to say so, except for what a user should hear before a download. It raises
`Objection`, and knows no file and no offset.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal, NoReturn

from edgellm.gguf_bytes import Field, Strings, Tensor

Expect = Literal["model", "vocabulary", "adapter"]
"""What a file is for: generating text, its tokenizer alone, or a LoRA."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every name of src/llama-arch.cpp, LLM_ARCH_NAMES, sorted by what src/models/*.cpp asserts when it builds the graph.
# Keys, values and rotation have one width: GGML_ASSERT(n_embd_head == n_rot).
_UNIFORM = _names(
    """
    apertus arcee arctic baichuan chameleon codeshell cogvlm cohere2moe dbrx deci deepseek dots1 ernie4_5 exaone
    falcon granite granite_swa graniteswitch grok grovemoe hunyuan-moe hunyuan_vl hy_v3 internlm2 jais2 llama
    llama4 maincoder mellum mistral3 olmo olmo2 olmoe orion pangu-embedded plamo qwen2 qwen2moe qwen2vl qwen3
    qwen3moe qwen3vl qwen3vlmoe seed_oss smallthinker smollm3 starcoder2 xverse
    """
)
# Keys and values have one width: GGML_ASSERT(n_embd_head == hparams.n_embd_head_k()).
_EVEN = _names(
    """
    afmoe bailingmoe2 bitnet bloom chatglm cohere2 command-r glm4 glm4moe gpt2 gptneox granitehybrid jais laguna
    minimax-01 minimax-m2 minimax-m3 mpt muse-glimmer nanbeige nemotron nemotron_h openelm phi2 phi3 qwen qwen35
    qwen35moe refact spark2_5 stablelm starcoder
    """
)
# Nothing of the kind.
_FREE = _names(
    """
    arwkv7 bailingmoe bailingmoe3 deepseek2 deepseek2-ocr deepseek32 deepseek4 dots3note ernie4_5-moe exaone-moe
    exaone4 falcon-h1 gemma gemma2 gemma3 gemma3n gemma4 glm-dsa glm5-next gpt-oss granitemoe hrm_text
    hunyuan-dense hy_v4 jamba kimi-k3 kimi-linear lfm2 lfm2moe mamba mamba2 maple mimo2 minicpm minicpm3
    mistral4 nemotron_h_moe paddleocr phimoe plamo2 plamo3 plm qwen3next qwen4exp rwkv6 rwkv6qwen2 rwkv7 step35
    talkie
    """
)
_SILENT = {
    "an embedding model": _names(
        """
    bert eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llama-embed modern-bert neo-bert nomic-bert nomic-bert-moe
    t5encoder
    """
    ),
    "a diffusion model": _names("dream llada llada-moe rnd1"),
    "a draft for another model": _names("dflash eagle3 gemma4-assistant"),
    "a speech model": _names("pockettts qwen3tts wavtokenizer-dec"),
    "an image or audio projector": _names("clip"),
    "an encoder-decoder model": _names("t5"),
    "a model that llama.cpp names but cannot run": _names("gptj"),
}
ARCHITECTURES = frozenset().union(_UNIFORM, _EVEN, _FREE, *_SILENT.values())
"""Every architecture that llama.cpp knows by name, also those that cannot generate text."""

_ALIKE = _UNIFORM - _names("deci granite granite_swa graniteswitch hunyuan-moe")
"""Architectures whose graph takes the heads of the first layer for those of all."""

_UNTURNED = _names(
    "arwkv7 bloom glm5-next gpt2 jais jamba kimi-k3 kimi-linear mamba mamba2 mpt nemotron_h nemotron_h_moe refact rwkv6 "
    "rwkv6qwen2 rwkv7"
)
"""Architectures that do not rotate keys by position: src/llama-model.cpp, LLAMA_ROPE_TYPE_NONE."""

_PLAIN_ATTENTION = (_UNIFORM | _EVEN | _names("gemma gemma2 gemma3 gpt-oss granitemoe lfm2 lfm2moe phimoe")) - _names(
    "graniteswitch laguna minimax-01 minimax-m3 muse-glimmer nanbeige qwen35 qwen35moe spark2_5"
)
"""Architectures whose attn_q, attn_k and attn_v hold nothing but heads, in every layer that has them."""

_LAYERS_MAX, _EXPERTS_MAX = 512, 1024  # src/llama-hparams.h, LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS
_TEMPLATE_MAX = 256 << 10  # real ones stay below 30 KB
_SCALINGS = ("none", "linear", "yarn", "longrope")  # src/llama-model.cpp, LLAMA_ROPE_SCALING_TYPES
_KEY_SWA = "attention.key_length_swa"
_TOKENS = "tokenizer.ggml.tokens"
_TOKENIZERS = ("llama", "gpt2", "gemma4", "rwkv", "plamo2", "hybriddna", "whitespace")
_ENCODERS = ("bert", "t5")  # tokenizers of embedding and encoder-decoder models
_MERGING = ("gpt2", "gemma4", "hybriddna", "whitespace")
_MERGES = "tokenizer.ggml.merges"
_BYTES = frozenset(b"<0x%02X>" % byte for byte in range(256))
_ATTENTION = re.compile(r"blk\.(\d+)\.attn_(q|k|v|qkv)\.weight")
_EXPERT_ALONE = re.compile(r"blk\.\d+\.ffn_(gate|up|down)\.\d+\.weight")

# What convert_hf_to_gguf.py always writes as F32, since ggml-cpu has no other kernels for it (conversion/base.py).
_MATRIX = (".weight", ".lora_a", ".lora_b")
_PLAIN = re.compile(r"_norm\.weight$|\.ssm_conv1d(_[qkv])?\.weight$|\.shortconv\.conv\.weight$")
_NO_WEIGHT = frozenset(["Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"])
_WORD_IDS = re.compile(r"^d2t$|\.ffn_gate_tid2eid\.weight$|_ordering(\.weight)?$")  # tables of ids, never multiplied

# How llama.cpp reads what a Header tells; "*" allows one value per layer. It refuses other types; a plan comes first.
_WRITTEN = {
    **dict.fromkeys(["context_length", "embedding_length", "block_count", "vocab_size"], "u32"),
    **dict.fromkeys(["attention.key_length", "attention.value_length", _KEY_SWA, "rope.dimension_count"], "u32"),
    "rope.dimension_count_swa": "u32",
    **dict.fromkeys(["expert_count", "expert_group_count", "expert_group_used_count", "nextn_predict_layers"], "u32"),
    **dict.fromkeys(["attention.head_count", "attention.head_count_kv", "feed_forward_length"], "u32*"),
    "expert_used_count": "u32*",
    "attention.causal": "bool",
    "rope.scaling.type": "str",
    **dict.fromkeys(["rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor"], "f32"),
    **dict.fromkeys(["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"], "f32"),
    "attention.group_norm_epsilon": "f32",
}


class Objection(Exception):
    """Why a header must not reach llama.cpp; `field` is the key or the tensor it is about."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def check(
    metadata: Mapping[str, Any], fields: Mapping[str, Field], tensors: Sequence[Tensor], expect: Expect = "model"
) -> None:
    """Raise Objection unless llama.cpp can take this header for what it is expected to be."""
    facts = _Facts(metadata, fields)
    if expect == "adapter":
        _check_adapter(facts, tensors)
        return
    _check_architecture(facts, talks=expect == "model")
    if expect == "model":
        _check_layout(tensors)
        for step in _STEPS:
            step(facts)
        _check_attention(facts, tensors)
        _check_weights(facts, tensors)
    if expect == "model" or "tokenizer.ggml.model" in metadata:
        _check_tokenizer(facts, _TOKENIZERS if expect == "model" else _TOKENIZERS + _ENCODERS)
        _check_ends(facts)
    _check_templates(facts)


class _Facts:
    """Metadata, read below the name of its architecture."""

    def __init__(self, metadata: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
        self.metadata, self.fields = metadata, fields
        self.architecture = metadata.get("general.architecture", "")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value of the architecture's own."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def per_layer(self, name: str, default: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return a value that may differ from layer to layer."""
        value = self.get(name, default)
        return value if isinstance(value, tuple) else (value,) * self.get("block_count")

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        return self.per_layer("attention.head_count", 0)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Key and value heads of each layer."""
        return self.per_layer("attention.head_count_kv", self.heads)

    @property
    def key(self) -> int:
        """Width of a key, where the first layer has heads."""
        return int(self.get("attention.key_length", self.get("embedding_length") // self.heads[0]))

    @property
    def value(self) -> int:
        """Width of a value, where the first layer has heads."""
        return int(self.get("attention.value_length", self.get("embedding_length") // self.heads[0]))

    def kind(self, key: str) -> str | None:
        """Return how a full key is written."""
        return self.fields[key].kind if key in self.fields else None

    def require(self, key: str, *kinds: str) -> Any:
        """Return the value of a full key that must be there, in one of these types."""
        if key not in self.metadata:
            raise Objection(key, "is missing, and llama.cpp needs it.")
        if self.kind(key) not in kinds:
            raise Objection(key, f"is written as {self.kind(key)}, and llama.cpp reads {' or '.join(kinds)}.")
        return self.metadata[key]

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Object to a value of the architecture's own."""
        raise Objection(f"{self.architecture}.{name}", reason)


def _check_architecture(facts: _Facts, *, talks: bool) -> None:
    """Refuse what llama.cpp does not know, and what cannot generate text."""
    kind = facts.metadata.get("general.type", "model")
    if kind != "model":
        cure = " Give it with --adapter, beside its model." if kind == "adapter" else ""
        raise Objection("general.type", f"the file is of type {kind!r}, not a model.{cure}")
    name = facts.require("general.architecture", "str")
    if name not in ARCHITECTURES:
        import difflib

        near = difflib.get_close_matches(name, ARCHITECTURES, n=3)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise Objection("general.architecture", f"llama.cpp does not know {name[:64]!r}.{hint}")
    silent = next((what for what, names in _SILENT.items() if name in names), None)
    if talks and silent:
        raise Objection("general.architecture", f"{name} is {silent}: it cannot generate text here.")


def _check_layout(tensors: Sequence[Tensor]) -> None:
    """Refuse what looks like a model and is not one any more."""
    if not tensors:
        raise Objection("tensor count", "the file holds no weights, only a vocabulary.")
    old = next((tensor.name for tensor in tensors if _EXPERT_ALONE.fullmatch(tensor.name)), None)
    if old is not None:
        reason = (
            "one tensor per expert: llama.cpp has not read this layout since October 2024 (b3990). Choose a file that "
        )
        raise Objection(old, reason + "was quantized again since, such as the catalogue's mixtral-8x7b-instruct.")


def _check_written(facts: _Facts) -> None:
    for name, kind in _WRITTEN.items():
        found = facts.kind(f"{facts.architecture}.{name}")
        allowed = ("u32", "[u32]", "[i32]") if kind == "u32*" else (kind,)
        if found is not None and found not in allowed:
            facts.refuse(name, f"is written as {found}, and llama.cpp reads {allowed[0]}.")


def _check_layers(facts: _Facts) -> None:
    """llama-model.cpp: GGML_ASSERT(n_layer_all > 0 && n_layer_all <= LLAMA_MAX_LAYERS) and its neighbour."""
    for name, most in (("block_count", _LAYERS_MAX), ("context_length", 2**31 - 1), ("embedding_length", 2**24)):
        value = facts.require(f"{facts.architecture}.{name}", "u32")
        if not 1 <= value <= most:
            facts.refuse(name, f"{value:,}; 1 to {most:,} are possible.")
    layers, extra = facts.get("block_count"), facts.get("nextn_predict_layers", 0)
    if extra > layers:
        facts.refuse("nextn_predict_layers", f"{extra:,} of {layers} layers.")
    for name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_used_count"):
        values = facts.per_layer(name, 0)
        if len(values) != layers or min(values) < 0:
            facts.refuse(name, f"{len(values)} values, the least {min(values, default=0)}, for {layers} layers.")


def _check_experts(facts: _Facts) -> None:
    """llama-model.cpp, load_hparams: seven assertions on expert counts and groups."""
    count, used = facts.get("expert_count", 0), max(facts.per_layer("expert_used_count", 0))
    if facts.architecture in ("hunyuan-dense", "hunyuan_vl") and count <= 1:
        return  # both count as none there
    if count > _EXPERTS_MAX or used > count or (used == 0) != (count == 0):
        facts.refuse(
            "expert_count", f"{count:,} experts of which {used:,} are used; at most {_EXPERTS_MAX:,} are possible."
        )
    groups, groups_used = facts.get("expert_group_count", 0), facts.get("expert_group_used_count", 0)
    even = groups <= 1 or (count % groups == 0 and 0 < groups_used < groups)
    if groups and (groups >= count or not even):
        facts.refuse("expert_group_count", f"{count:,} experts in {groups:,} groups of which {groups_used:,} are used.")


def _check_heads(facts: _Facts) -> None:
    """ggml.c: GGML_ASSERT(ggml_can_mul_mat(k, q)); src/models/*.cpp, which ask for the heads of the first layer only."""
    heads, kv_heads = facts.heads, facts.kv_heads
    for head, kv_head in zip(heads, kv_heads, strict=True):
        if kv_head and head % kv_head:
            facts.refuse("attention.head_count_kv", f"{head:,} heads cannot share {kv_head:,} key and value heads.")
    if facts.architecture in _ALIKE and len({*heads}) * len({*kv_heads}) > 1:
        facts.refuse("attention.head_count_kv", f"differs between layers, which {facts.architecture} models cannot.")
    if heads[0] and facts.get("attention.key_length") is None and facts.get("embedding_length") % heads[0]:
        embedding = facts.get("embedding_length")
        facts.refuse("attention.head_count", f"{heads[0]:,} heads do not divide an embedding of {embedding:,}.")


def _check_widths(facts: _Facts) -> None:
    """ops.cpp: GGML_ASSERT(n_dims % 2 == 0), GGML_ASSERT(n_dims <= ne0); src/models/*.cpp: _UNIFORM and _EVEN."""
    if not facts.heads[0]:
        return
    key, value = facts.key, facts.value
    if not key or not value:
        facts.refuse("attention.key_length", f"keys of {key:,} and values of {value:,} numbers.")
    turned = facts.get("rope.dimension_count", key)
    for name, most in (("rope.dimension_count", key), ("rope.dimension_count_swa", facts.get(_KEY_SWA, key))):
        count = facts.get(name, most)
        if count % 2 or count > most or (count == 0 and facts.architecture not in _UNTURNED):  # 0 never ends
            facts.refuse(name, f"{count:,} of {most:,} numbers of a key; it must be even, not more, and not 0.")
    if facts.get(_KEY_SWA) is not None:
        return
    if facts.architecture in _UNIFORM | _EVEN and key != value:
        facts.refuse("attention.value_length", f"{value:,} beside keys of {key:,}; they must be of one width.")
    if facts.architecture in _UNIFORM and key != turned:
        facts.refuse("rope.dimension_count", f"{turned:,} of {key:,} numbers of a key; it must be all of them.")


def _check_attention(facts: _Facts, tensors: Sequence[Tensor]) -> None:
    """ggml.c: GGML_ASSERT(ggml_nelements(a) == ne0*ne1*ne2), where the number of heads does not fit the matrices."""
    if facts.architecture not in _PLAIN_ATTENTION or not facts.heads[0]:
        return
    for tensor in tensors:
        match = _ATTENTION.fullmatch(tensor.name)
        if match and int(match[1]) < len(facts.heads):
            head, kv_head = facts.heads[int(match[1])], facts.kv_heads[int(match[1])]
            rows = {"q": head * facts.key, "k": kv_head * facts.key, "v": kv_head * facts.value}
            wanted = rows.get(match[2], sum(rows.values()))
            if tensor.shape[1:] != (wanted,):
                shape = " x ".join(f"{length:,}" for length in tensor.shape)
                raise Objection(tensor.name, f"is {shape}; {head:,} heads, {kv_head:,} for keys, need {wanted:,} rows.")


def _check_numbers(facts: _Facts) -> None:
    """ops.cpp: GGML_ASSERT(eps >= 0.0f); llama-model.cpp: unknown scaling types; and sums that come out as NaN."""
    for name in ("layer_norm_rms_epsilon", "layer_norm_epsilon", "group_norm_epsilon"):
        epsilon = facts.get(f"attention.{name}", 1e-5)
        if not 0 < epsilon < 1:
            facts.refuse(f"attention.{name}", f"{epsilon}; it must be above 0 and below 1.")
    scaling = facts.get("rope.scaling.type", "none")
    if scaling not in _SCALINGS:
        facts.refuse("rope.scaling.type", f"{scaling[:64]!r} is none of {', '.join(_SCALINGS)}.")
    for name in ("rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor"):
        number = facts.get(name, 1.0)
        if not isfinite(number) or number < 0 or (number == 0 and name != "rope.scaling.factor"):
            facts.refuse(name, f"{number} is not a positive number.")
    if not facts.get("attention.causal", True):  # llama-context.cpp: GGML_ASSERT(cparams.causal_attn || ...)
        facts.refuse("attention.causal", "is false: the model sees the future and cannot generate text token by token.")


def _check_window(facts: _Facts) -> None:
    """llama-model.cpp, create_memory: GGML_ASSERT(hparams.is_swa_any())."""
    pattern = facts.get("attention.sliding_window_pattern")
    if not facts.get("attention.sliding_window") or pattern is None:
        return
    if pattern == 1 or (isinstance(pattern, tuple) and not any(pattern)):
        facts.refuse("attention.sliding_window_pattern", "leaves no layer that looks through the window.")


_STEPS = (_check_written, _check_layers, _check_experts, _check_heads, _check_widths, _check_numbers, _check_window)


def _check_weights(facts: _Facts, tensors: Sequence[Tensor]) -> None:
    """ggml-cpu: no kernel multiplies integers, doubles or Q8_1/Q8_K, and only matrices may be anything but F32."""
    for name, shape, _, _, _, kind in ((*tensor, tensor.type_name) for tensor in tensors):
        if kind in _NO_WEIGHT:
            if not (_WORD_IDS.search(name) and kind in ("I32", "I64")):
                raise Objection(name, f"is {kind}, which llama.cpp cannot compute with.")
        elif kind != "F32" and (len(shape) == 1 or not name.endswith(_MATRIX) or _PLAIN.search(name)):
            raise Objection(name, f"is {kind}; llama.cpp computes norms, biases, scales and convolutions in F32 only.")
        if name == "token_embd.weight" and facts.kind(_TOKENS) == "[str]":
            wanted = (facts.get("embedding_length"), len(facts.metadata[_TOKENS]))
            if shape != wanted:
                rows = " x ".join(f"{length:,}" for length in shape)
                raise Objection(name, f"is {rows}; embedding and vocabulary are {wanted[0]:,} x {wanted[1]:,}.")


def _check_tokenizer(facts: _Facts, known: Sequence[str]) -> None:
    """llama-vocab.cpp: GGML_ASSERT(id_to_token.size() == token_to_id.size()), and exceptions that leave the C API."""
    model = facts.require("tokenizer.ggml.model", "str")
    if model not in known:
        raise Objection("tokenizer.ggml.model", f"{model[:64]!r} is none of {', '.join(known)}.")
    tokens = facts.require(_TOKENS, "[str]").encoded()
    if b"" in tokens:  # what llama.cpp makes of empty texts
        tokens = [text or b"[EMPTY_%d]" % index for index, text in enumerate(tokens)]
    unique = set(tokens)
    if len(unique) < len(tokens) or not tokens:
        twice = next((text for text, count in Counter(tokens).items() if count > 1), b"")
        raise Objection(
            _TOKENS, f"{len(tokens):,} tokens, {len(unique):,} of them different: {twice[:64]!r} stands twice."
        )
    if any(b"\0" in b"".join(tokens[at : at + 4096]) for at in range(0, len(tokens), 4096)):
        raise Objection(_TOKENS, "a token holds a zero byte, at which llama.cpp would cut it.")
    missing = _BYTES - unique if model == "llama" else None
    if missing and not all(bytes([int(name[3:5], 16)]) in unique for name in missing):
        raise Objection(_TOKENS, f"{len(missing)} of 256 byte tokens are missing, such as {min(missing).decode()}.")
    if model == "rwkv" and not unique & {b"\n", b"\\n"}:
        raise Objection(_TOKENS, "has no newline, without which llama.cpp stops.")
    _check_beside_tokens(facts, model, len(tokens))


def _check_beside_tokens(facts: _Facts, model: str, count: int) -> None:
    """Hold scores, types and merges against the number of tokens."""
    for name, kinds in (("scores", ("[f32]", "[i32]")), ("token_type", ("[i32]",))):
        key = f"tokenizer.ggml.{name}"
        if key in facts.metadata and len(facts.require(key, *kinds)) < count:
            raise Objection(key, f"{len(facts.metadata[key]):,} values for {count:,} tokens.")
    if model in _MERGING and (_MERGES in facts.metadata or facts.metadata.get("tokenizer.ggml.pre") != "kimi-k2"):
        merges: Strings = facts.require(_MERGES, "[str]")
        if merges.packed.count(b" ") < len(merges):  # each is two pieces with a space between
            raise Objection(_MERGES, f"{len(merges):,} merges, and fewer spaces: they are not pairs of pieces.")


def _check_ends(facts: _Facts) -> None:
    """Refuse ids that llama.cpp would replace by guesses; a wrong padding id, as some files have, harms nobody."""
    for name in ("bos", "eos", "eot", "eom"):
        key = f"tokenizer.ggml.{name}_token_id"
        if key in facts.metadata:
            token, count = facts.require(key, "u32"), len(facts.metadata[_TOKENS])
            if count <= token < 2**32 - 1:  # -1 says there is none
                raise Objection(key, f"{token:,} in a vocabulary of {count:,}.")


def _check_templates(facts: _Facts) -> None:
    for key, value in facts.metadata.items():
        if key.startswith("tokenizer.chat_template") and facts.kind(key) == "str":
            size = len(value.encode())
            if size > _TEMPLATE_MAX:
                raise Objection(
                    key, f"a chat template of {size:,} bytes; more than {_TEMPLATE_MAX:,} are not plausible."
                )
    if "tokenizer.chat_template" in facts.metadata:
        facts.require("tokenizer.chat_template", "str")


def _check_adapter(facts: _Facts, tensors: Sequence[Tensor]) -> None:
    """llama-adapter.cpp, llama_adapter_lora_init_impl: what it asserts or multiplies with."""
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        if facts.require(key, "str") != wanted:
            raise Objection(key, f"{facts.metadata[key][:64]!r}; a LoRA file says {wanted!r}.")
    if facts.require("general.architecture", "str") not in ARCHITECTURES:
        raise Objection("general.architecture", f"llama.cpp does not know {facts.architecture[:64]!r}.")
    alpha = facts.require("adapter.lora.alpha", "f32")
    if not isfinite(alpha):
        raise Objection("adapter.lora.alpha", f"{alpha} is not a number.")
    names = {tensor.name for tensor in tensors}
    for tensor in tensors:
        stem, _, side = tensor.name.rpartition(".lora_")
        if side not in ("a", "b") or f"{stem}.lora_{'ba'[side == 'b']}" not in names:
            raise Objection(tensor.name, "is not one of a pair .lora_a and .lora_b.")
        if tensor.type_name in _NO_WEIGHT or len(tensor.shape) != 2:
            raise Objection(
                tensor.name, f"is {tensor.type_name} of {len(tensor.shape)} dimensions, not a matrix of floats."
            )
    if not tensors:
        raise Objection("tensor count", "the adapter changes nothing: it holds no tensors.")
