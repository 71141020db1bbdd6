"""The model's vocabulary as llguidance wants it, built once per vocabulary."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from typing import Any, Protocol


class Vocab(Protocol):
    """What this room needs of an engine's vocabulary."""

    @property
    def pieces(self) -> Sequence[bytes]: ...
    @property
    def ends(self) -> Set[int]: ...
    @property
    def specials(self) -> dict[str, int]: ...
    def encode(self, text: str) -> list[int]: ...


_lock = threading.Lock()
_tokenizers: list[tuple[Vocab, Any]] = []  # the last two: building one takes 0.4 s at 128k tokens


def tokenizer(vocab: Vocab) -> Any:
    """The tokenizer of this vocabulary, built at most once."""
    with _lock:
        for known, built in _tokenizers:
            if known is vocab:
                return built
        built = _build(vocab)
        _tokenizers[:] = [*_tokenizers[-1:], (vocab, built)]
        return built


class Writer:
    """Writes bytes with the longest tokens that fit, which is close to the fewest."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab

    @cached_property
    def pieces(self) -> Sequence[bytes]:
        """Bytes of each token."""
        return self._vocab.pieces

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        controls = {*self._vocab.ends, *self._vocab.specials.values()}
        return {piece: token for token, piece in enumerate(self.pieces) if piece and token not in controls}

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token."""
        return max(map(len, self._ids), default=1)

    def spell(self, text: bytes) -> list[int] | None:
        """Token ids of `text`; None when the vocabulary cannot write it."""
        found, start = [], 0
        while start < len(text):
            for end in range(min(len(text), start + self.longest), start, -1):
                if (token := self._ids.get(text[start:end])) is not None:
                    found.append(token)
                    start = end
                    break
            else:
                return None
        return found


_writers: list[tuple[Vocab, Writer]] = []


def writer(vocab: Vocab) -> Writer:
    """The writer of this vocabulary, built at most once."""
    with _lock:
        for known, built in _writers:
            if known is vocab:
                return built
        built = Writer(vocab)
        _writers[:] = [*_writers[-1:], (vocab, built)]
        return built


def _build(vocab: Vocab) -> Any:
    from llguidance import LLTokenizer

    names = {token: text.encode("utf-8", "replace") for text, token in vocab.specials.items()}
    # 0xff marks a control token: it never occurs in UTF-8 (llguidance, toktrie: SPECIAL_TOKEN_MARKER).
    tokens = [
        b"\xff" + names.get(token, b"<end>") if token in names or token in vocab.ends else piece
        for token, piece in enumerate(vocab.pieces)
    ]
    ends = sorted(vocab.ends)
    if not ends:  # llguidance needs one: give it an id that no model has
        ends = [len(tokens)]
        tokens.append(b"\xff<end>")
    # Slices make masks inside strings 10 times faster on large vocabularies, and double the building time.
    slices = LLTokenizer.json_slices() if len(tokens) > 1024 else []
    words = _Words(vocab, tokens, ends[0])
    tokenizer = LLTokenizer(words, n_vocab=len(tokens), eos_token=ends, slices=slices)
    words.spell = tokenizer.greedy_tokenize
    return tokenizer


class _Words:
    """The duck that LLTokenizer takes for a tokenizer (llguidance/_tokenizer.py)."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids = ()

    def __init__(self, vocab: Vocab, tokens: list[bytes], end: int) -> None:
        self.tokens, self.eos_token_id = tokens, end
        self.spell: Callable[[str], list[int]] = lambda _: []
        self._encode = vocab.encode
        # SentencePiece puts a blank before a text; forced text continues one. A byte that merges with nothing takes the
        # blank, and is cut off again (llguidance does the same: llamatokenizer.rs).
        glued = b"".join(tokens[token] for token in vocab.encode("a")) != b"a"
        self._guard = "\x02" if glued else ""
        self._head = vocab.encode(self._guard) if glued else []

    def __call__(self, text: str) -> list[int]:
        tokens = self._encode(self._guard + text)
        rest = tokens[len(self._head) :] if tokens[: len(self._head)] == self._head else []
        if not self._says(rest, text):  # it changes the text (case, Unicode forms): then longest match
            rest = self.spell(text)
        return rest if self._says(rest, text) else []

    def _says(self, tokens: list[int], text: str) -> bool:
        return b"".join(self.tokens[token] for token in tokens) == text.encode()
