"""The legacy engine: ctransformers 0.2.27, which carries llama.cpp of September 2023 and needs no compiler.

No fix has reached that code since, so it runs only in the worker, on headers that passed preflight and that it can really
run (`legacy.check`), and it never sees a buffer of its own making. One sequence; the vocabulary is read by us.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgellm import gguf
from edgellm.decision import Plan
from edgellm.engines import legacy
from edgellm.engines.base import Feed, Logits, Stopped, Worn
from edgellm.errors import EngineFailed
from edgellm.spelling import Speller

if TYPE_CHECKING:
    from edgellm.gguf import Header

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6  # tokenizer.ggml.token_type
# Control tokens that end a turn whatever the file calls its end (llama.cpp, src/llama-vocab.cpp).
_ENDS = frozenset({"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"})
_PAUSE_S = 0.15  # the longest stretch of computing that does not look whether to stop


class CtVocab:
    """The vocabulary, as the file's header tells it; only the splitting of text into tokens is C's."""

    strips: frozenset[int] = frozenset()

    def __init__(self, lib: Any, model: Any, header: Header) -> None:
        self._lib, self._model = lib, model
        data = header.metadata
        self._texts = [str(text) for text in data["tokenizer.ggml.tokens"]]
        self._kinds = list(data.get("tokenizer.ggml.token_type") or [1] * len(self._texts))
        self.size = len(self._texts)
        eos = {data.get(f"tokenizer.ggml.{name}_token_id", 2 if name == "eos" else None) for name in ("eos", "eot")}
        named = {token for text, token in self.specials.items() if text in _ENDS}
        self.ends = frozenset(token for token in eos | named if isinstance(token, int) and token < self.size)
        self.bos = (
            int(data.get("tokenizer.ggml.bos_token_id", 1)) if data.get("tokenizer.ggml.add_bos_token", True) else None
        )

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """Bytes per id; b"" for control tokens."""
        return tuple(_piece(text, kind) for text, kind in zip(self._texts, self._kinds, strict=True))

    @cached_property
    def specials(self) -> dict[str, int]:
        """Text of every token that stands for more than its letters, and its id."""
        special = {_UNKNOWN, _CONTROL, _USER_DEFINED}
        return {text: token for token, text in enumerate(self._texts) if self._kinds[token] in special}

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; never into special tokens, whatever the text says."""
        return self._speller(text)

    @cached_property
    def _speller(self) -> Speller:
        return Speller(self._tokenize, self.pieces, (), self.specials.values())

    def _tokenize(self, text: str) -> list[int]:
        """Split a text; C takes a NUL for its end, so what follows one is split apart."""
        first, *others = text.split("\0")
        ids = self._split(first) if first or not others else self._split("\2")[:-1]  # the blank before a text
        for part in others:
            ids += [self._nul] if self._nul is not None else []
            ids += self._speller.continued(part) if part else []
        return ids

    @cached_property
    def _nul(self) -> int | None:
        return self.pieces.index(b"\0") if b"\0" in self.pieces else None

    def _split(self, text: str) -> list[int]:
        """Call C with room for what it could write: it checks nothing, and a blank may take three bytes."""
        data = text.encode()
        room = 3 * len(data) + 16
        buffer = (ctypes.c_int * room)()
        count = self._lib.ctransformers_llm_tokenize(self._model, data, False, buffer)
        if not 0 <= count <= room:
            raise EngineFailed(f"ctransformers wrote {count:,} tokens where {room:,} had room.")
        return buffer[:count]


def _piece(text: str, kind: int) -> bytes:
    if kind == _BYTE:
        return bytes([int(text[3:5], 16)])
    if kind in (_UNKNOWN, _CONTROL, _UNUSED):
        return b""
    return (text if kind == _USER_DEFINED else text.replace("▁", " ")).encode()


class Ctransformers:
    """A loaded model with one sequence; `plan.slots` must be 1."""

    slots = 1

    def __init__(self, paths: Sequence[str], plan: Plan) -> None:
        header = gguf.read(paths[0])
        legacy.check(header)
        self._lib = lib = legacy.library(gpu=plan.gpu_layers > 0)
        from ctransformers.llm import ConfigStruct

        config = ConfigStruct(context_length=plan.context, gpu_layers=plan.gpu_layers, mmap=True, mlock=False)
        self._model = lib.ctransformers_llm_create(os.fsencode(paths[0]), b"llama", config)
        if not self._model:
            raise EngineFailed(f"ctransformers could not load {paths[0]}.")
        self.vocab = CtVocab(lib, self._model, header)
        self.context = self.cells = plan.context
        self.batch = plan.batch
        self.likeness = "ctransformers"
        self.even = False
        self.breaks_off = True
        self.drafts = 0  # every row of logits would be a call of its own: nothing to gain
        self._threads = max(1, plan.threads)
        self._held = 0
        self._stride = 8  # tokens at once, so that `stop` is heard in time
        self._stopping = False

    def decode(self, feeds: Sequence[Feed]) -> list[Logits]:
        """Append tokens and compute; one (rows, vocabulary) array for a feed that asked for logits."""
        found = []
        for feed in feeds:
            held, apart = self._held, max(1, feed.logits)
            tokens = list(feed.tokens)
            parts = [tokens[: len(tokens) - apart + 1], *([token] for token in tokens[len(tokens) - apart + 1 :])]
            rows = []
            for part in parts:
                held = self._eval(part, held)
                rows.append(self._row() if len(parts) == 1 else self._row().copy())
            self._held = held
            if feed.logits:
                found.append(np.stack(rows) if len(rows) > 1 else rows[0][None])
        return found

    def keep(self, slot: int, length: int) -> int:  # noqa: ARG002 - there is one
        """Forget all but the first `length` tokens."""
        self._held = min(self._held, length)
        return self._held

    def share(self, source: int, target: int, length: int) -> int:  # noqa: ARG002
        """There is one slot: the same as `keep`."""
        return self.keep(target, length)

    def save(self, slot: int) -> bytearray:  # noqa: ARG002
        """Not possible here."""
        return bytearray()

    def restore(self, slot: int, state: bytearray) -> int:  # noqa: ARG002
        """Not possible here."""
        return self.keep(0, 0)

    def wear(self, worn: Worn | None) -> None:
        """Refuse: this engine runs no adapters, and `engines.open` gives it none."""
        if worn is not None:
            raise EngineFailed("the engine ctransformers runs no adapters.")

    def stop(self) -> None:
        """Abort a running `decode` where it next looks up."""
        self._stopping = True

    def close(self) -> None:
        """Free the model."""
        if self._model:
            self._lib.ctransformers_llm_delete(self._model)
            self._model = None

    def _eval(self, tokens: list[int], held: int) -> int:
        """Compute tokens after the first `held` ones, in strides; returns how many are held then."""
        while tokens:
            if self._stopping:
                self._stopping = False
                raise Stopped
            part, tokens = tokens[: self._stride], tokens[self._stride :]
            start = time.monotonic()
            array = (ctypes.c_int * len(part))(*part)
            if not self._lib.ctransformers_llm_batch_eval(
                self._model, array, len(part), held, len(part), self._threads
            ):
                raise EngineFailed(f"ctransformers could not compute {len(part)} tokens after {held:,}.")
            held += len(part)
            each = (time.monotonic() - start) / len(part)
            self._stride = max(1, min(self.batch, int(_PAUSE_S / max(each, 1e-6))))
        return held

    def _row(self) -> Any:
        size = self._lib.ctransformers_llm_logits_size(self._model)
        if size != self.vocab.size:
            raise EngineFailed(f"ctransformers computed {size:,} logits for {self.vocab.size:,} tokens.")
        return np.ctypeslib.as_array(self._lib.ctransformers_llm_logits_data(self._model), (size,))
