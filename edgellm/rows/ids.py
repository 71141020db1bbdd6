"""Names for rows: the one they were given, or a hash of what they say, and a number where a name comes again.

Unique within one input, the same on every reading of it, and cheap enough for millions of rows.
"""

from __future__ import annotations

import json
from array import array
from hashlib import blake2b

from edgellm.rows.row import Id

_FIRST_SLOTS = 1 << 10


def content_id(data: bytes) -> str:
    """Name a row by its bytes: 16 hexadecimal digits."""
    return blake2b(data, digest_size=8).hexdigest()


def mark(given: Id) -> int:
    """64 bits that stand for an id; 1 and "1" are two ids."""
    return int.from_bytes(blake2b(json.dumps(given).encode(), digest_size=8).digest(), "little")


class Marks:
    """A set of 64-bit numbers in 12 to 24 bytes each, where Python's own takes about a hundred."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _FIRST_SLOTS))  # open addressing; 0 is a free slot
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return self._table[self._slot(number or 1)] != 0

    def add(self, number: int) -> bool:
        """Add a number; False when it was there."""
        number = number or 1
        slot = self._slot(number)
        if self._table[slot]:
            return False
        self._table[slot] = number
        self._count += 1
        if self._count * 3 > len(self._table) * 2:
            self._grow()
        return True

    def _slot(self, number: int) -> int:
        """Where the number is, or would go."""
        table = self._table
        last = len(table) - 1
        slot = number & last
        while table[slot] not in (0, number):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = self._table
        self._table = array("Q", bytes(16 * len(old)))
        for number in old:
            if number:
                self._table[self._slot(number)] = number


class Numbering:
    """Makes ids unique in the order of the rows: `a`, `a#2`, `a#3`. No legal repetition is lost, none is confused."""

    def __init__(self) -> None:
        self.repeated = 0
        self._marks = Marks()
        self._times: dict[int, int] = {}  # only of ids that came again

    def __call__(self, given: Id) -> Id:
        """Return the id, numbered if it was taken."""
        if self._marks.add(mark(given)):
            return given
        self.repeated += 1
        first = mark(given)
        while True:
            self._times[first] = self._times.get(first, 1) + 1
            numbered = f"{given}#{self._times[first]}"
            if self._marks.add(mark(numbered)):
                return numbered
