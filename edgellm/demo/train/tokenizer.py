"""The tokenizer: pieces with scores and types, as a "llama" (SentencePiece) vocabulary that llama.cpp reads.

Merges stay inside words; the space mark `▁` joins only common words, so that a name has the same pieces after a space
and after a quotation mark. Digits stand alone, unknown characters fall back to bytes.
"""

# ruff: noqa: SIM905
# A list of words is one string.
from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from edgellm.demo import text, values
from edgellm.prompt import Message

UNKNOWN, BOS, EOS, FIRST_BYTE = 0, 1, 2, 3
NORMAL, UNKNOWN_TYPE, CONTROL, BYTE = 1, 2, 3, 6  # llama.cpp: enum llama_token_type
SPACE = "▁"
_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿŒœ"
_CHARACTERS = (
    SPACE
    + "".join(chr(code) for code in range(33, 127))
    + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœß¡¿«»“”‘’–—…€£¥°§·•"
)
# Each is made of two earlier ones, so that merging can reach it; the instruction marks come first.
_PUNCTUATION = (
    *("T]", "ST]", "NST]", "INST]", "[INST]", "/INST]", "[/INST]", "▁[INST]", "▁[/INST]"),
    *('":', '",', '{"', '"}', '["', '"]', '▁"', '▁{"', '▁["', '":▁"', '",▁"', ',▁"', "▁[", "..."),
)
_CHUNK = re.compile(
    rf"{SPACE}?\[/?INST\]|{SPACE}?[{_LETTERS}]+|(?:(?!{SPACE}?\[/?INST\]|{SPACE}?[{_LETTERS}]).)+", re.DOTALL
)
_CAPITALS = frozenset(
    """The He She We You They My It This There Your Our Where How What Does Please Il Elle Ils Nous Vous Notre Votre Mon Les Une
    Est Usted Ella Ellos Los Las Una Hay Nuestro Nuestra Este Esta Extract Translate Summarize Reply Use Repeat JSON English
    French Spanish Text Find Give Street Road Avenue Hello Hi Thank No Yes Monday Tuesday Wednesday Thursday Friday Saturday
    Sunday January February March April May June July August September October November December""".split()
)
_VALUES = frozenset(
    word
    for group in (
        values.PRODUCT_ADJECTIVES,
        values.PRODUCT_NOUNS,
        values.SKILLS,
        values.JOBS,
        values.COLORS,
        values.FIRST_NAMES,
        values.LAST_NAMES,
        values.COMPANY_WORDS,
        values.CITIES,
        values.STREET_WORDS,
        values.COUNTRIES,
    )
    for entry in group
    for word in entry.split()
)


class Tokenizer:
    """Pieces in id order; a piece's score orders the merging."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = list(pieces)
        self.ids = {piece: index for index, piece in enumerate(pieces)}
        self._ranks = {piece: index for index, piece in enumerate(pieces) if index >= FIRST_BYTE + 256}
        self._cache: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def types(self) -> list[int]:
        """llama.cpp's token type of every piece."""
        return [UNKNOWN_TYPE, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(self) - FIRST_BYTE - 256)]

    @property
    def scores(self) -> list[float]:
        """Merge order as scores: the earlier a piece, the higher."""
        return [0.0] * (FIRST_BYTE + 256) + [-float(index) for index in range(len(self) - FIRST_BYTE - 256)]

    def encode(self, plain: str, *, prefix: bool = True) -> list[int]:
        """Turn plain text into ids as llama.cpp does, with its space in front."""
        marked = ((" " if prefix else "") + plain).replace(" ", SPACE)
        if "T]" in marked.replace("[INST]", "").replace("[/INST]", ""):
            return list(self._merge(marked))
        found: list[int] = []
        for chunk in _CHUNK.findall(marked):
            ids = self._cache.get(chunk)
            if ids is None:
                ids = self._merge(chunk)
                if len(self._cache) < 500_000:
                    self._cache[chunk] = ids
            found += ids
        return found

    def _merge(self, chunk: str) -> tuple[int, ...]:
        parts: list[str] = list(chunk)
        while len(parts) > 1:
            best = min(
                ((self._ranks.get(parts[at] + parts[at + 1], 1 << 30), at) for at in range(len(parts) - 1)),
            )
            if best[0] == 1 << 30:
                break
            at = best[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        found: list[int] = []
        for part in parts:
            found += [self.ids[part]] if part in self._ranks else [FIRST_BYTE + byte for byte in part.encode()]
        return tuple(found)

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; control tokens vanish, the first space stays."""
        raw = bytearray()
        for one in ids:
            if FIRST_BYTE <= one < FIRST_BYTE + 256:
                raw.append(one - FIRST_BYTE)
            elif one >= FIRST_BYTE + 256:
                raw += self.pieces[one].replace(SPACE, " ").encode()
        return raw.decode("utf-8", "replace")

    def save(self, path: Path) -> None:
        """Write the pieces as JSON."""
        path.write_text(json.dumps(self.pieces, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote."""
        return cls(json.loads(path.read_text()))


def fold(messages: Sequence[Message]) -> list[Message]:
    """Put a system message in front of the first user turn, as the chat template does."""
    turns = list(messages)
    if turns and turns[0].role == "system":
        first = turns.pop(0).content
        turns[0] = Message("user", f"{first}\n\n{turns[0].content}")
    return turns


def build(seed: int, *, merges: int = 2500, words: int = 800, samples: int = 20_000) -> Tokenizer:
    """Make the vocabulary from generated text."""
    plain, spaced = _count(seed, samples)
    found = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", "<s>", "</s>", *found, *_PUNCTUATION]
    known = set(pieces)
    for piece in _learn(plain, merges):
        if piece not in known:
            pieces.append(piece)
            known.add(piece)
    joined = [word for word, _ in spaced.most_common() if (word in known or len(word) == 1) and _joins(word)]
    letters = [letter for letter in _CHARACTERS if letter not in known]
    spare = -(len(pieces) + len(letters) + words) % 64  # a multiple of 64 keeps the matrix units busy
    pieces += [SPACE + word for word in joined[: words + spare]]
    return Tokenizer(pieces + letters)


def _joins(word: str) -> bool:
    if len(word) == 1:
        return word in "aIyàeA"
    return word in _CAPITALS or (word.islower() and word not in _VALUES)


def _count(seed: int, samples: int) -> tuple[Counter[str], Counter[str]]:
    """Words of generated text, and how often each stands after a space."""
    plain: Counter[str] = Counter()
    spaced: Counter[str] = Counter()
    stream = text.examples(seed, tasks={"translate": 50, "extract": 25, "spoken": 5, "summarize": 12, "chat": 8})
    for _ in range(samples):
        one = next(stream)
        content = " " + " ".join(message.content for message in one.messages) + " " + one.answer
        for space, word in re.findall(rf"( ?)([{_LETTERS}]+)", content):
            plain[word] += 1
            if space:
                spaced[word] += 1
    for word in list(plain):
        if plain[word] == 1:
            del plain[word]
    return plain, spaced


def _learn(counts: Counter[str], merges: int) -> list[str]:
    """Byte-pair merges over words, most valuable first; damped counts, so that rare words get their share."""
    words = [list(word) for word in counts]
    weights = [count**0.6 for count in counts.values()]
    pairs: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[int]] = {}
    for index, parts in enumerate(words):
        for pair in pairwise(parts):
            pairs[pair] += weights[index]  # type: ignore[assignment]
            where.setdefault(pair, set()).add(index)
    queue = [(-weight, pair) for pair, weight in pairs.items()]
    heapq.heapify(queue)
    found: list[str] = []
    while queue and len(found) < merges:
        weight, pair = heapq.heappop(queue)
        if -weight != pairs.get(pair, 0):
            continue
        found.append("".join(pair))
        touched: set[tuple[str, str]] = set()
        for index in where.pop(pair):
            parts, at = words[index], 0
            for old in pairwise(parts):
                pairs[old] -= weights[index]  # type: ignore[assignment]
                touched.add(old)
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == pair:
                    parts[at : at + 2] = ["".join(pair)]
                at += 1
            for new in pairwise(parts):
                pairs[new] += weights[index]  # type: ignore[assignment]
                where.setdefault(new, set()).add(index)
                touched.add(new)
        for one in touched:
            if pairs[one] > 1e-6:
                heapq.heappush(queue, (-pairs[one], one))
    return list(dict.fromkeys(found))
