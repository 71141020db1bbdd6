"""An adapter as a GGUF file: what it says about itself, and whether a base can run it, before any C code sees either."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edgellm import gguf
from edgellm.errors import AdapterRefused
from edgellm.gguf import Header, Tensor

_LAYER = re.compile(r"blk\.\d+\.")
_ACTIVATED = "adapter.alora.invocation_tokens"
_PADDING_BYTES = 128  # CUDA aligns every tensor so
_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Adapter:
    """A LoRA file, by its header."""

    header: Header

    @property
    def path(self) -> str:
        """Where it is."""
        return self.header.path

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return Path(self.path).stem

    @property
    def architecture(self) -> str:
        """The family of models it was trained for."""
        return self.header.architecture

    @property
    def base(self) -> str:
        """The base it was made for, where the file says it."""
        return str(self.header.metadata.get("general.base_model.0.name", ""))

    @property
    def alpha(self) -> float:
        """Numerator of its strength; llama.cpp multiplies each pair by alpha / rank, and by 1 where alpha is 0."""
        return float(self.header.metadata["adapter.lora.alpha"])

    @cached_property
    def pairs(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The two tensors of every weight it changes."""
        tensors = {tensor.name: tensor for tensor in self.header.tensors}
        targets = [
            tensor.name.removesuffix(".lora_a") for tensor in self.header.tensors if tensor.name.endswith(".lora_a")
        ]
        return {target: (tensors[f"{target}.lora_a"], tensors[f"{target}.lora_b"]) for target in targets}

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank that occurs, the smallest first."""
        return tuple(sorted({b.shape[0] for _, b in self.pairs.values()}))

    @property
    def targets(self) -> Mapping[str, int]:
        """Kinds of weights it changes, such as attn_q, and in how many layers."""
        found: dict[str, int] = {}
        for target in self.pairs:
            kind = _LAYER.sub("", target).removesuffix(".weight")
            found[kind] = found.get(kind, 0) + 1
        return found

    @property
    def tensor_bytes(self) -> int:
        """Bytes of its matrices: what it takes in memory, beside its base."""
        return self.header.tensor_bytes


def read(path: str | Path) -> Adapter:
    """Read and check an adapter's header. Raises ModelFileError."""
    return Adapter(gguf.read(path, expect="adapter"))


def check(adapter: Adapter, base: Header) -> None:
    """Raise AdapterRefused unless llama.cpp can run the adapter on this base.

    What src/llama-adapter.cpp refuses, and what the graph would assert later.
    """
    if adapter.architecture != base.architecture:
        raise AdapterRefused(
            f"{adapter.path} is for models of the architecture {adapter.architecture!r}, and {base.name} is "
            f"{base.architecture!r}."
        )
    if _ACTIVATED in adapter.header.metadata:
        raise AdapterRefused(
            f"{adapter.path} is an activated LoRA, which begins in the middle of a text; here it would change all of it."
        )
    known = {tensor.name: tensor for tensor in base.tensors}
    for target, (a, b) in adapter.pairs.items():
        if target not in known:
            raise AdapterRefused(
                f"{adapter.path} changes {target}, which {base.name} does not have: it is for another base."
            )
        _check_pair(adapter, base, known[target], a, b)
    if _EMBEDDING in adapter.pairs and "output.weight" not in known:
        # The output layer is then the same tensor by the same name, and the graph would multiply it the wrong way round.
        raise AdapterRefused(
            f"{adapter.path} changes the embedding, which is also the output layer of {base.name}: llama.cpp would stop. "
            "Train again without embed_tokens."
        )


def weighed(base: Header, paths: Sequence[str]) -> Header:
    """Return a base as heavy as it is with these adapters, for planning: llama.cpp puts each pair beside its weight."""
    extra: dict[str, int] = {}
    for path in paths:
        for target, pair in read(path).pairs.items():
            extra[target] = extra.get(target, 0) + sum(one.bytes + _PADDING_BYTES for one in pair)
    tensors = tuple(one._replace(bytes=one.bytes + extra.get(one.name, 0)) for one in base.tensors)
    return replace(base, tensors=tensors) if extra else base


def _check_pair(adapter: Adapter, base: Header, weight: Tensor, a: Tensor, b: Tensor) -> None:
    """Hold one pair against its weight; ne0 comes first. An embedding's a is looked up by rows, and so lies across."""
    if weight.name == _EMBEDDING:
        fits = (a.shape[1], b.shape[1]) == (weight.shape[1], weight.shape[0]) and a.shape[0] == b.shape[0]
    else:
        fits = (a.shape[0], b.shape[1]) == weight.shape and a.shape[1] == b.shape[0]
    if not fits:
        one, two, whole = (" x ".join(f"{length:,}" for length in tensor.shape) for tensor in (a, b, weight))
        raise AdapterRefused(
            f"{adapter.path}: the matrices for {weight.name} are {one} and {two}, and the weight in {base.name} is {whole}: "
            "it is for another base."
        )
    if (
        weight.type_name == "NVFP4"
    ):  # src/llama-graph.cpp, build_ffn: GGML_ASSERT(... != GGML_TYPE_NVFP4 || !has_lora(up))
        raise AdapterRefused(f"{base.name} is packed as NVFP4, and llama.cpp runs no adapter on such weights.")
