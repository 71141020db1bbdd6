"""The shortest text that finishes a value from where it stands, so that an answer still parses when its budget ends.

Works on bytes: a second matcher of the same grammar, over a vocabulary of 256, tells in a microsecond what may follow.
Values are chosen one by one, the shortest first; texts, numbers and words by a search in their breadth. What is found is
valid, and nearly always the shortest.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any, NamedTuple

from edgellm.constraint.plain import children

_QUOTE, _ESCAPE, _COMMA = b'"\\,'
_OPENERS, _CLOSERS, _NULL = b"[{", b"]}", b"null"
# Inside a text nearly all letters lead to the same place: these stand for them, with the first and last that are allowed.
_LETTERS = b'"a0 -./:@_A1xn'
_MANY = 24
_WIDTH = 32  # states kept for each length of a text: those that can be told apart by what may follow
_HINTS = 12
_FUEL = 20_000  # 0.1 s
_CLASS, _LITERAL = re.compile(r"\\[dwsDWSbB]|\[(?:\\.|[^\]])*\]"), re.compile(r"(?:[\w /:@#%,;=<>!&~'`\"-]|\\\W)+")
_PATIENCE = 10  # lengths tried with every letter, when the few have led nowhere


class Place(NamedTuple):
    """Where a value stands: a matcher over bytes, how many brackets are open, and whether that is inside a text."""

    matcher: Any
    depth: int = 0
    in_text: bool = False
    escaped: bool = False
    hints: tuple[bytes, ...] = ()  # what a text may have to end with, in pieces
    fuel: list[int] | None = None  # steps that one search may still take

    def after(self, written: bytes) -> Place | None:
        """The place behind `written`, None when the grammar refuses it, or the search has taken too long."""
        if self.fuel is not None:
            self.fuel[0] -= 1
            if self.fuel[0] < 0:
                return None
        matcher = self.matcher.deep_copy()
        if not matcher.consume_tokens(list(written)):
            return None
        place = self
        for byte in written:
            place = place._past(byte)
        return place._replace(matcher=matcher)

    def _past(self, byte: int) -> Place:
        if self.in_text:
            if self.escaped:
                return self._replace(escaped=False)
            return self._replace(in_text=byte != _QUOTE, escaped=byte == _ESCAPE)
        if byte == _QUOTE:
            return self._replace(in_text=True)
        if byte in _OPENERS or byte in _CLOSERS:
            return self._replace(depth=self.depth + (1 if byte in _OPENERS else -1))
        return self

    def ends_with(self, closing: bytes) -> bool:
        """Whether `closing` finishes the value from here."""
        matcher = self.matcher.deep_copy()
        return bool(matcher.consume_tokens(list(closing)) and matcher.is_accepting())

    def letters(self) -> bytes:
        """The bytes that may come next."""
        mask = int.from_bytes(self.matcher.compute_bitmask()[:32], "little")
        return b"" if self.matcher.is_error() else _members(mask)

    def ended(self, letters: bytes) -> bool:
        """Whether a value has ended here: a comma or a bracket may follow it, or nothing at all."""
        if self.in_text:
            return False
        return _COMMA in letters or any(one in letters for one in _CLOSERS) or self.matcher.is_accepting()


@cache
def _members(mask: int) -> bytes:
    return bytes(byte for byte in range(256) if mask >> byte & 1)


def begin(grammar: str, schema: Any = None) -> Place | None:
    """The place before the first letter of a grammar; None when it cannot be compiled over bytes.

    The patterns of `schema`, if given, are hints: that `\\.json$` needs `.json` cannot be seen from one letter to the next.
    """
    from edgellm.constraint.library import matcher

    found = matcher(grammar, _bytes())
    return None if found.get_error() else Place(found, hints=_literals(schema))


def _literals(schema: Any) -> tuple[bytes, ...]:
    """The literal pieces of all patterns of a schema, the first dozen."""
    found: dict[bytes, None] = {}
    todo = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, dict) and isinstance(part.get("pattern"), str):
            pieces = _LITERAL.findall(_CLASS.sub("[", part["pattern"]))
            found |= dict.fromkeys(piece.replace("\\", "").encode() for piece in pieces)
        todo += [child for _, child in children(part)]
    return tuple(found)[:_HINTS]


@cache
def _bytes() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte", slices=[])


def shortest(place: Place, limit: int, *, nulls: bool = False) -> bytes | None:
    """The shortest closing found from a place, None when there is none within `limit` bytes.

    With `nulls`, a value that may be null is null: it says nothing, where 0 or "" would.
    """
    found = _close(place._replace(fuel=[_FUEL]), limit, None, nulls)
    return found[0] if found else None


def _close(place: Place | None, limit: int, depth: int | None, nulls: bool) -> tuple[bytes, Place] | None:
    """Write until only `depth` brackets are open, or with None until everything is finished."""
    written = b""
    while place is not None and len(written) <= limit:
        if depth is None and not place.in_text and place.matcher.is_accepting():
            return written, place
        found = _step(place, limit - len(written), nulls)
        if found is None:
            return None
        step, place = _until(place, found, depth)
        written += step
        if place is not None and place.depth == depth:
            return (written, place) if len(written) <= limit else None
    return None


def _until(place: Place, step: bytes, depth: int | None) -> tuple[bytes, Place | None]:
    """Write `step`, but not beyond the bracket after which only `depth` are open."""
    there = place
    for index, byte in enumerate(step):
        there = there._past(byte)
        if there.depth == depth:
            step = step[: index + 1]
            break
    return step, place.after(step)


def _step(place: Place, limit: int, nulls: bool) -> bytes | None:
    """What to write next: a closing bracket, a comma, what is forced, or the shortest value or end of one."""
    letters = place.letters()
    if not place.in_text:
        for one in (*_CLOSERS, _COMMA):
            if one in letters:
                return bytes([one])
    forced = bytes(place.matcher.compute_ff_bytes())
    return forced or _value(place, letters, limit, nulls)


def _value(place: Place, letters: bytes, limit: int, nulls: bool) -> bytes | None:
    if nulls and not place.in_text and _NULL[0] in letters and limit >= len(_NULL) and place.after(_NULL):
        return _NULL
    best = _scalar(place, limit)
    if place.in_text:
        return best or _hinted(place, limit) or _scalar(place, min(limit, _PATIENCE), every=True)
    for opener in _OPENERS:
        if opener in letters:
            room = min(limit, len(best) - 1 if best else limit) - 1
            inside = _close(place.after(bytes([opener])), room, place.depth, nulls) if room > 0 else None
            if inside:
                best = bytes([opener]) + inside[0]
    return best


def _hinted(place: Place, limit: int) -> bytes | None:
    """An end of a text made of up to three hints, the shortest first."""
    ends = (b"".join(some) + b'"' for count in (1, 2, 3) for some in itertools.product(place.hints, repeat=count))
    for end in sorted(ends, key=len):
        if len(end) <= limit and (there := place.after(end)) is not None and not there.in_text:
            return end
    return None


def _scalar(place: Place, limit: int, *, every: bool = False) -> bytes | None:
    """The shortest text, number or word from here, or the shortest end of the one that has begun."""
    front = [(b"", place, place.letters(), b"")]
    for _ in range(limit):
        following: list[tuple[bytes, Place, bytes, bytes]] = []
        seen: set[tuple[bytes, bool]] = set()
        for written, here, letters, only in front:
            for letter in only or (letters if every else _chosen(letters)):
                there = here.after(bytes([letter])) if letter not in _OPENERS or here.in_text else None
                if there is None:
                    continue
                after = there.letters()
                if (here.in_text and not there.in_text) or there.ended(after):
                    return written + bytes([letter])
                if after and (after, there.escaped) not in seen and len(following) < _WIDTH:
                    seen.add((after, there.escaped))
                    # What may follow has not changed: it counts letters, or does not care which they are.
                    more = bytes([letter]) if after == letters and here.in_text and not every else b""
                    following.append((written + bytes([letter]), there, after, more))
        front = following
    return None


def _chosen(letters: bytes) -> bytes:
    """The letters to try, the end of a text first."""
    wanted = bytes(one for one in _LETTERS if one in letters)
    if len(letters) <= _MANY:
        return wanted + bytes(one for one in letters if one not in wanted)
    return wanted + bytes(one for one in letters[:4] + letters[-1:] if one not in wanted)
