"""Where each value stands in a JSON text: its pointer, and the characters from where to where.

Reads text that has been parsed before; knows no schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_BLANK = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class Position(NamedTuple):
    """A value and its place; an object or array comes after what it holds."""

    pointer: str
    start: int
    end: int
    value: Any
    holds: int = 0  # how many values are directly inside

    @property
    def is_leaf(self) -> bool:
        """Whether it holds nothing."""
        return self.holds == 0


def positions(text: str) -> list[Position]:
    """Every value of a JSON text."""
    return list(_walk(text, _skip(text, 0), ""))


def escape(key: str) -> str:
    """Write a key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def cut_off(text: str, said_chars: int) -> tuple[str, list[str]]:
    """Pointers to the innermost value that was open when the model had said so much, and to the leaves begun after that."""
    found = positions(text)
    within = [one for one in found if one.start < said_chars < one.end]
    innermost = min(within, key=lambda one: one.end - one.start, default=None)
    filled = [one.pointer for one in found if one.is_leaf and one.start >= said_chars]
    return innermost.pointer if innermost else "", filled


def _walk(text: str, at: int, pointer: str) -> Iterator[Position]:
    if text[at] not in "{[":
        value, end = _decode(text, at)
        yield Position(pointer, at, end, value)
        return
    start, named, holds = at, text[at] == "{", 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        if named:
            key, at = _decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        else:
            key = str(holds)
        for one in _walk(text, at, f"{pointer}/{escape(key)}"):
            yield one
            at = one.end
        holds += 1
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    yield Position(pointer, start, at + 1, _decode(text, start)[0], holds)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found
    return found.end()
