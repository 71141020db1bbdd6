"""Texts that are tokens of their own: finding them, and spelling text so that none of them comes out.

llama.cpp keeps control tokens out of a text when asked, but not user-defined ones (`</s>` is one in Phi-3's file): those
are cut open here. Knows strings and ids, no engine and no template.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from edgellm.errors import UsageError

# Characters that merge with nothing that follows: one of them goes first where a tokenizer would put a blank.
_GUARDS = "\x02\n\x01|"


class Speller:
    """Turns text into ids that are never special, whatever the text says, and loses none of it.

    `encode` is the library's tokenizer, `pieces` the bytes per id, `whole` the texts that it would take for tokens of
    their own, `forbidden` the ids that must not come out.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        pieces: Sequence[bytes],
        whole: Iterable[str],
        forbidden: Collection[int],
    ) -> None:
        self._encode, self._pieces = encode, pieces
        self._starts = starts(whole)
        self._forbidden = frozenset(forbidden)

    def __call__(self, text: str) -> list[int]:
        """Spell a text. Raises UsageError for a character that the vocabulary has no bytes for."""
        first, *others = _opened(text, self._starts) if self._starts else [text]
        ids = self._checked(first, self._encode(first))
        for part in others:
            ids += self._checked(part, self.continued(part))
        if not self._written(ids).endswith(text.encode()):
            self._refuse_lost(text)
        return ids

    def _written(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._pieces[token] for token in ids)

    def _refuse_lost(self, text: str) -> None:
        """Find what does not come through at all; a tokenizer may also change a text on purpose (case, Unicode forms)."""
        lead = self._written(self._encode("a"))[:-1]
        for character in dict.fromkeys(text):
            written = self._written(self._encode(character)).removeprefix(lead)
            if not written or "\ufffd" in written.decode("utf-8", "replace").replace(character, ""):
                raise UsageError(
                    f"this model's vocabulary cannot write the character {character!a} (U+{ord(character):04X}): "
                    "it would be lost. Remove it, or use another model."
                )

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        """Spell in two halves what comes out special all the same, down to single characters."""
        if self._forbidden.isdisjoint(ids) or len(text) < 2:
            return ids
        left, right = text[: len(text) // 2], text[len(text) // 2 :]
        return self._checked(left, self.continued(left)) + self._checked(right, self.continued(right))

    def continued(self, text: str) -> list[int]:
        """Spell text that continues another: without the blank that SentencePiece puts before a text."""
        for guard, head in self._heads:
            ids = self._encode(guard + text)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self._encode(text)

    @functools.cached_property
    def _heads(self) -> list[tuple[str, list[int]]]:
        plain = b"".join(self._pieces[token] for token in self._encode("a")) == b"a"
        return [] if plain else [(guard, self._encode(guard)) for guard in _GUARDS]


def _opened(text: str, starts: re.Pattern[str]) -> Iterator[str]:
    """Cut a text after the first character of every special text in it, which breaks them all."""
    last = 0
    for found in starts.finditer(text):
        yield text[last : found.start() + 1]
        last = found.start() + 1
    yield text[last:]


def starts(texts: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that matches, with no length, wherever one of the texts begins; they may overlap."""
    return _compiled(frozenset(texts), "(?=%s)")


@functools.lru_cache(maxsize=4)
def finder(texts: frozenset[str]) -> re.Pattern[str] | None:
    """Return a pattern for any of the texts, the longest that fits, as llama.cpp sorts its special tokens."""
    return _compiled(texts, "%s")  # src/llama-vocab.cpp, cache_special_tokens


def _compiled(texts: frozenset[str], frame: str) -> re.Pattern[str] | None:
    known = sorted(texts - {""}, key=len, reverse=True)
    return re.compile(frame % _branches(known)) if known else None


def _branches(texts: Sequence[str], depth: int = 0) -> str:
    """Write texts, the longest first, as a tree: vocabularies have thousands of tokens that begin alike."""
    groups: dict[str, list[str]] = {}
    for text in filter(None, texts):
        groups.setdefault(text[0], []).append(text)
    branches: list[str] = []
    for group in groups.values():
        if depth > 20:  # texts that contain each other; regular expressions nest only so deep
            branches += map(re.escape, group)
            continue
        stem = os.path.commonprefix(group)  # noqa: RUF071 - texts, not paths
        rest = [text[len(stem) :] for text in group]
        below = _branches(rest, depth + 1)
        branches.append(re.escape(stem) + below + ("?" if below and "" in rest else ""))
    return f"(?:{'|'.join(branches)})" if branches else ""
