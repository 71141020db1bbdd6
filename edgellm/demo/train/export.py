"""Checkpoint to GGUF: arch `llama`, with tokenizer, chat template and description, quantized by llama.cpp itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgellm.demo.train.model import Shape
from edgellm.demo.train.tokenizer import BOS, EOS, UNKNOWN, Tokenizer

TEMPLATE = (
    "{{- bos_token }}"
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system = messages[0]['content'] + '\\n\\n' %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- set turns = messages %}{%- endif %}"
    "{%- for message in turns %}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] not in ['user', 'assistant'] %}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant, after one system message at most.') }}"
    "{%- endif %}"
    "{%- if message['role'] == 'user' %}{{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}"
    "{%- endfor %}"
)
CONTEXT = 2048
_DESCRIPTION = (
    "A tiny model trained from scratch by edgellm on text it generates, so that everything can be tried offline: "
    "translation (English to French and Spanish), summaries, JSON extraction and small talk "
    "within a documented vocabulary. Not for real work."
)
_FILE_TYPE_F32, _FILE_TYPE_Q4_K_M = 0, 15  # llama.cpp: enum llama_ftype


def permuted(weight: Tensor, heads: int) -> Tensor:
    """Reorder q or k rows from halves to neighbours: arch `llama` rotates neighbouring pairs."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def separated(weight: Tensor, heads: int) -> Tensor:
    """Undo `permuted`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read(path: Path) -> tuple[dict[str, Tensor], Shape]:
    """Read a file that `export` made: its weights, as far as quantizing has left them, and its shape."""
    import gguf

    reader = gguf.GGUFReader(path)

    def number(name: str) -> Any:
        return reader.get_field(f"llama.{name}").contents()

    shape = Shape(
        vocabulary=number("vocab_size"),
        width=number("embedding_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        feed_forward=number("feed_forward_length"),
        rope_base=number("rope.freq_base"),
        epsilon=number("attention.layer_norm_rms_epsilon"),
    )
    found = {
        one.name: torch.from_numpy(gguf.quants.dequantize(one.data, one.tensor_type).copy()) for one in reader.tensors
    }
    weights = {}
    for own, theirs, heads in _names(shape):
        weights[own] = separated(found[theirs], heads) if heads else found[theirs]
    return weights, shape


def write(weights: dict[str, Tensor], shape: Shape, tokenizer: Tokenizer, path: Path) -> None:
    """Write a float32 GGUF; `output.weight` is a copy of the embedding, which older readers need."""
    import gguf

    out = gguf.GGUFWriter(path, "llama")
    out.add_name("edgellm demo")
    out.add_author("edgellm")
    out.add_description(_DESCRIPTION)
    out.add_license("apache-2.0")
    out.add_languages(["en", "fr", "es"])
    out.add_context_length(CONTEXT)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.feed_forward)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_rope_dimension_count(shape.head_width)
    out.add_rope_freq_base(shape.rope_base)
    out.add_layer_norm_rms_eps(shape.epsilon)
    out.add_vocab_size(shape.vocabulary)
    out.add_file_type(_FILE_TYPE_F32)
    _write_tokenizer(out, tokenizer)
    for name, tensor in _tensors(weights, shape):
        out.add_tensor(name, np.ascontiguousarray(tensor.float().cpu().numpy()))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _write_tokenizer(out, tokenizer: Tokenizer) -> None:
    out.add_tokenizer_model("llama")
    out.add_token_list(tokenizer.pieces)
    out.add_token_scores(tokenizer.scores)
    out.add_token_types(tokenizer.types)
    out.add_bos_token_id(BOS)
    out.add_eos_token_id(EOS)
    out.add_unk_token_id(UNKNOWN)
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)
    out.add_add_space_prefix(True)
    out.add_chat_template(TEMPLATE)


def _names(shape: Shape):
    """Names of a tensor in a checkpoint and in the file, and how many heads' rows the file has in another order."""
    yield "embedding.weight", "token_embd.weight", 0
    names = {"attention_norm": "attn_norm", "feed_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v"}
    names |= {"o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    heads = {"q": shape.heads, "k": shape.kv_heads}
    for layer in range(shape.layers):
        for own, theirs in names.items():
            yield f"blocks.{layer}.{own}.weight", f"blk.{layer}.{theirs}.weight", heads.get(own, 0)
    yield "norm.weight", "output_norm.weight", 0


def _tensors(weights: dict[str, Tensor], shape: Shape):
    for own, theirs, heads in _names(shape):
        yield theirs, permuted(weights[own], heads) if heads else weights[own]
    yield "output.weight", weights["embedding.weight"]


def quantize(source: Path, target: Path) -> None:
    """Quantize to Q4_K_M with llama.cpp."""
    from llama_cpp import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = _FILE_TYPE_Q4_K_M
    options.nthread = 1
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), options)
    if status != 0:
        raise RuntimeError(f"llama.cpp could not quantize {source} (code {status}).")


def export(checkpoint: Path, tokenizer: Tokenizer, target: Path, *, mean: bool = False) -> None:
    """Turn a checkpoint (its weights, or their running mean) into a quantized file, put in place at once."""
    saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
    whole, part = target.with_suffix(".f32.gguf"), target.with_suffix(".part.gguf")
    write(saved["mean" if mean else "weights"], Shape(**saved["shape"]), tokenizer, whole)
    quantize(whole, part)
    whole.unlink()
    part.replace(target)
