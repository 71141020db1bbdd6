"""The main engine: llama.cpp through the low-level API of llama-cpp-python, one context, one sequence id per slot.

Runs in the worker's process, on files that passed preflight. It knows tokens and memory, no text format and no sampling.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import cached_property
from itertools import repeat
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from edgellm.decision import DRAFTS, Plan
from edgellm.engines.base import Feed, Logits, Stopped, Worn
from edgellm.engines.loaded import Loading
from edgellm.errors import EngineFailed
from edgellm.spelling import Speller

# llama.h, enum llama_token_attr
_UNKNOWN, _CONTROL, _USER_DEFINED, _RSTRIP = 1 << 0, 1 << 3, 1 << 4, 1 << 8
# What llama.cpp writes for a letter outside GPT-2's alphabet of bytes: 1,403 tokens of Command R (src/unicode.cpp).
_UNMAPPED = re.compile(rb"\[UNK_BYTE_0x[0-9a-f]+([^]]+)\]")
_VIEWS = 1024  # of logits that are kept: as many as there are slots, and drafts of different lengths


class _Pieces(Sequence[bytes]):
    """Bytes per id, asked of the library when they are first wanted: all of a large vocabulary take a tenth of a second."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read, self._found = read, list[bytes | None]([None]) * size

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, token: int) -> bytes: ...
    @overload
    def __getitem__(self, token: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, token: int | slice) -> bytes | tuple[bytes, ...]:
        if isinstance(token, slice):
            return tuple(self[one] for one in range(*token.indices(len(self))))
        found = self._found[token]
        if found is None:
            found = self._found[token] = self._read(token)
        return found


class _Ends(Set[int]):
    """Ids that end a turn, asked of the library one by one: to ask of a whole vocabulary takes as long as a few words."""

    def __init__(self, asked: Callable[[int], bool], size: int) -> None:
        self._asked, self._size, self._known = asked, size, dict[Any, bool]()

    def __contains__(self, token: object) -> bool:
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = isinstance(token, int) and self._asked(token)
        return found

    def __iter__(self) -> Iterator[int]:
        return filter(self.__contains__, range(self._size))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> frozenset[Any]:  # what & and | make
        return frozenset(it)


class LlamaVocab:
    """The vocabulary of a loaded model."""

    def __init__(self, lib: Any, model: Any) -> None:
        self._lib = lib
        self._vocab = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self._vocab)
        self._buffer = ctypes.create_string_buffer(256)

    @cached_property
    def pieces(self) -> Sequence[bytes]:
        """Bytes per id; b"" for control tokens."""
        return _Pieces(self._piece, self.size)

    def _piece(self, token: int) -> bytes:
        length = self._lib.llama_token_to_piece(self._vocab, token, self._buffer, len(self._buffer), 0, False)
        if length < 0:  # a long piece: ask again with the room it needs
            self._buffer = ctypes.create_string_buffer(-length)
            return self._piece(token)
        found = self._buffer.raw[:length]
        return _UNMAPPED.sub(rb"\1", found) if b"[UNK_BYTE" in found else found

    @cached_property
    def specials(self) -> dict[str, int]:
        """Text of every token that stands for more than its letters, and its id.

        User-defined tokens that are runs of blanks (GPT-NeoX) or single letters (DeepSeek) are spelling like any other.
        """
        lib, vocab, found = self._lib, self._vocab, {}
        for token in self._marked(_UNKNOWN | _CONTROL | _USER_DEFINED):
            text = lib.llama_vocab_get_text(vocab, token).decode("utf-8", "replace")
            defined = lib.llama_vocab_get_attr(vocab, token) & _USER_DEFINED
            if not (defined and (len(text) == 1 or not text.strip(" \t\n\r▁"))):
                found[text] = token
        return found

    @cached_property
    def strips(self) -> frozenset[int]:
        """Special tokens that swallow the blanks to their right."""
        return frozenset(self._marked(_RSTRIP))

    @cached_property
    def ends(self) -> Set[int]:
        """Ids that end a turn."""
        return _Ends(lambda token: bool(self._lib.llama_vocab_is_eog(self._vocab, token)), self.size)

    @cached_property
    def bos(self) -> int | None:
        """Id that must stand first, or None."""
        if not self._lib.llama_vocab_get_add_bos(self._vocab):
            return None
        token = int(self._lib.llama_vocab_bos(self._vocab))
        return token if token >= 0 else None

    def read(self) -> None:
        """Ask the library now for what the first text needs to know: one question for every token."""
        _ = self._speller

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; never into special tokens, whatever the text says."""
        return self._speller(text)

    @cached_property
    def _speller(self) -> Speller:
        defined = set(self._marked(_USER_DEFINED))
        whole = [text for text, token in self.specials.items() if token in defined]
        return Speller(self._tokenize, self.pieces, whole, self.specials.values())

    def _marked(self, attributes: int) -> list[int]:
        return [token for token, found in self._attributes if found & attributes]

    @cached_property
    def _attributes(self) -> list[tuple[int, int]]:
        """Tokens that are more than their letters, and what they are."""
        asked = _UNKNOWN | _CONTROL | _USER_DEFINED | _RSTRIP
        every = map(self._lib.llama_vocab_get_attr, repeat(self._vocab), range(self.size))
        return [(token, found) for token, found in enumerate(every) if found & asked]

    def _tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        buffer = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, False)
        if count < 0:
            room = -count
            buffer = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, False)
        return buffer[:count]


class LlamaCpp:
    """A loaded model: weights, one context, `plan.slots` sequences in a cache of `plan.cells` cells, shared or each its part."""

    def __init__(
        self, paths: Sequence[str], plan: Plan, adapters: Sequence[str] = (), *, loading: Loading | None = None
    ) -> None:
        """Open the files, or wait for what is `loading` them already. Raises EngineMissing and EngineFailed."""
        loading = loading or Loading(paths, plan, adapters)
        if half := loading.half():  # C still makes the context
            self.vocab = LlamaVocab(half.lib, half.model)
            self.vocab.read()
        self._loaded = loading.wait()
        self._lib = lib = self._loaded.lib
        self._model, self._context = self._loaded.model, self._loaded.context
        self._memory = lib.llama_get_memory(self._context)
        self.slots, self.batch = plan.slots, plan.batch
        self.cells = int(lib.llama_n_ctx(self._context))
        self.even = plan.slots > 1 and not plan.kv_unified
        # Between what the processor computes, where it computes anything.
        self.breaks_off = not plan.whole(int(lib.llama_model_n_layer(self._model)))
        self.context = min(plan.context, self.cells // self.slots if self.even else self.cells)
        self._held = [0] * self.slots
        self._logits = _plain(lib, "llama_get_logits_ith", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
        self._views: dict[tuple[int, int], Logits] = {}
        self._window = 0 if plan.swa_full else int(lib.llama_model_n_swa(self._model))
        self._rolls_back = not (lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model))
        self.drafts = DRAFTS if self._rolls_back and not self._window else 0
        self.likeness = _likeness(lib, paths, plan)
        self._open_batch()
        self._arm_stop()

    def decode(self, feeds: Sequence[Feed]) -> list[Logits]:
        """Append tokens to slots and compute; one (rows, vocabulary) array per feed that asked for logits."""
        wanted = self._fill(feeds)
        status = self._lib.llama_decode(self._context, self._batch)
        if status != 0:
            lost = [feed.slot for feed in feeds if not self._undo(feed.slot)]
            if status == 2:
                self._flag[0] = b"\0"
                raise Stopped(lost)
            raise EngineFailed(
                f"llama.cpp could not decode {self._batch.n_tokens} tokens (code {status}){self._loaded.why()}."
            )
        for feed in feeds:
            self._held[feed.slot] += len(feed.tokens)
        if not wanted:  # GPUs compute on: who asks for no logits must not take the step to be over, and time it so
            self._lib.llama_synchronize(self._context)
        return [self._rows(first, rows) for first, rows in wanted]

    def keep(self, slot: int, length: int) -> int:
        """Forget all but the first `length` tokens of a slot; returns how many it still holds."""
        if length >= self._held[slot]:
            return self._held[slot]
        self._held[slot] = length if length and self._reaches_back(slot, length) and self._remove(slot, length) else 0
        if not self._held[slot]:
            self._remove(slot, 0)
        return self._held[slot]

    def share(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; in one pool the cells are shared, else copied.

        Nothing is shared in a cache that forgets what has left the sliding window: it never forgets a cell that two slots
        share, and is soon full (llama.cpp src/llama-kv-cache.cpp, find_slot: `seq_count == 1`).
        """
        self._remove(target, 0)
        self._held[target] = 0
        if length and not self._window and (length == self._held[source] or self._rolls_back):
            # Between parts, llama.cpp copies all that a slot holds or nothing (src/llama-kv-cache.cpp, seq_cp).
            self._lib.llama_memory_seq_cp(self._memory, source, target, 0, -1 if self.even else length)
            self._held[target] = length
            if self.even:
                self._remove(target, length)
        return self._held[target]

    def save(self, slot: int) -> bytearray:
        """Return the cells of a slot, as llama.cpp writes them."""
        size = int(self._lib.llama_state_seq_get_size(self._context, slot)) if self._held[slot] else 0
        state = bytearray(size)
        if not size or self._lib.llama_state_seq_get_data(self._context, _bytes_of(state), size, slot) != size:
            return bytearray()
        return state

    def restore(self, slot: int, state: bytearray) -> int:
        """Fill a slot with saved cells; what llama.cpp refuses leaves the slot empty."""
        self._remove(slot, 0)
        self._held[slot] = 0
        if self._lib.llama_state_seq_set_data(self._context, _bytes_of(state), len(state), slot) == len(state):
            self._held[slot] = int(self._lib.llama_memory_seq_pos_max(self._memory, slot)) + 1
        if not self._held[slot]:
            self._remove(slot, 0)
        return self._held[slot]

    def wear(self, worn: Worn | None) -> None:
        """Compute with this adapter, or with none: llama.cpp applies one set to a whole batch."""
        one = [] if worn is None else [(self._loaded.adapters[worn.number], worn.scale)]
        pointers = (self._lib.llama_adapter_lora_p_ctypes * len(one))(*(adapter for adapter, _ in one))
        scales = (ctypes.c_float * len(one))(*(scale for _, scale in one))
        if self._lib.llama_set_adapters_lora(self._context, pointers, len(one), scales):
            raise EngineFailed(f"llama.cpp could not switch the adapter{self._loaded.why()}.")

    def stop(self) -> None:
        """Abort a running `decode`, or the next one when none is running."""
        self._flag[0] = b"\1"

    def close(self) -> None:
        """Free the context and the model."""
        self._loaded.close()

    def _open_batch(self) -> None:
        """Make one batch of our own arrays: filling them costs microseconds, a Python loop over C's would cost hundreds."""
        size = self.batch
        self._token, self._pos, self._slot, self._one = (np.zeros(size, np.int32) for _ in range(4))
        self._want = np.zeros(size, np.int8)
        self._one[:] = 1  # sequence per token, found behind one pointer each
        self._pointers = self._slot.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self._batch = batch = self._lib.llama_batch()
        names = ("token", "pos", "n_seq_id", "seq_id", "logits")
        arrays: tuple[npt.NDArray[Any], ...] = (self._token, self._pos, self._one, self._pointers, self._want)
        for name, array in zip(names, arrays, strict=True):
            kind = dict(batch._fields_)[name]
            setattr(batch, name, ctypes.cast(array.ctypes.data, kind))

    def _arm_stop(self) -> None:
        """Let `stop` abort a decode without Python: libc's strlen, asked about our flag, is the abort callback.

        It answers 0 (go on) for "" and 1 (abort) for "\\x01", and costs nothing per graph node; a Python callback would
        take the interpreter's lock each time.
        """
        self._flag = ctypes.create_string_buffer(2)
        libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        callback = ctypes.cast(libc.strlen, self._lib.ggml_abort_callback)
        self._lib.llama_set_abort_callback(self._context, callback, ctypes.cast(self._flag, ctypes.c_void_p))

    def _fill(self, feeds: Sequence[Feed]) -> list[tuple[int, int]]:
        """Write the feeds into the batch; returns (first index, rows) of every feed that wants logits."""
        total, first = 0, {}
        # Where slots have parts of their own, neighbouring ones are computed together (src/llama-batch.cpp, split_equal).
        for slot, tokens, rows in sorted(feeds, key=_slot) if self.even else feeds:
            count, held = len(tokens), self._held[slot]
            end = total + count
            if count == 1:  # an answer's step: numbers are put down faster than slices
                self._token[total], self._pos[total], self._slot[total], self._want[total] = tokens[0], held, slot, rows
            else:
                self._token[total:end] = tokens
                self._pos[total:end] = np.arange(held, held + count)
                self._want[total:end] = 0
                self._want[end - rows : end] = 1
                self._slot[total:end] = slot
            first[slot] = end - rows
            total = end
        self._batch.n_tokens = total
        return [(first[feed.slot], feed.logits) for feed in feeds if feed.logits]

    def _rows(self, first: int, rows: int) -> Logits:
        """Look at rows of logits where llama.cpp keeps them, mostly at the same place: the views are kept, too."""
        address = self._logits(self._context, first)
        if not address:
            raise EngineFailed("llama.cpp computed no logits.")
        found = self._views.get((address, rows))
        if found is None:
            if len(self._views) > _VIEWS:
                self._views.clear()
            memory = (ctypes.c_float * (rows * self.vocab.size)).from_address(address)
            found = self._views[address, rows] = np.ctypeslib.as_array(memory).reshape(rows, self.vocab.size)
        return found

    def _remove(self, slot: int, start: int) -> bool:
        return bool(self._lib.llama_memory_seq_rm(self._memory, slot, start, -1))

    def _undo(self, slot: int) -> bool:
        """Forget the micro-batches that a broken-off decode has left; False where that meant to forget everything."""
        held = self._held[slot]
        if self._lib.llama_memory_seq_pos_max(self._memory, slot) < held:
            return True
        if held and self._reaches_back(slot, held) and self._remove(slot, held):
            return True
        self._remove(slot, 0)
        self._held[slot] = 0
        return not held

    def _reaches_back(self, slot: int, length: int) -> bool:
        """Say whether position `length` can be continued: recurrent state cannot, nor can a window that has moved on."""
        if not self._rolls_back:
            return False
        oldest = self._lib.llama_memory_seq_pos_min(self._memory, slot)
        return not self._window or bool(oldest <= max(0, length - self._window))


def _slot(feed: Feed) -> int:
    return feed.slot


def _plain(lib: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call a function of the library by plain numbers: with ctypes' pointer objects a step would cost 30 µs more."""
    return ctypes.CFUNCTYPE(result, *arguments)((name, lib._lib))


def _bytes_of(state: bytearray) -> Any:
    """Look at a bytearray as C does, without copying it."""
    return (ctypes.c_uint8 * len(state)).from_buffer(state)


def _likeness(lib: Any, paths: Sequence[str], plan: Plan) -> str:
    """Name all that decides what a state's bytes mean: the library, the files, and how the cache is laid out.

    Files by place, size and time, as `make` knows them: reading gigabytes at every start would cost what a state saves.
    """
    files = [(os.path.realpath(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    library = os.stat(lib._lib._name)
    layout = (plan.kv_type, plan.flash_attention, plan.swa_full, plan.kv_unified)
    facts = repr((files, library.st_size, library.st_mtime_ns, layout))
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()
