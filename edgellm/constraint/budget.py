"""Whether a value that is being written can still be finished with the tokens that are left, and how.

Asked after every step; while there is room for much more than an end, it answers without looking. Knows tokens as bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from edgellm.constraint.closing import Place, shortest
from edgellm.constraint.vocabulary import Writer

# With more room than this beyond the last known end, only every 16th token is looked at, or fewer where there is much room:
# a token has few brackets.
_FAR, _EVERY, _BRACKETS = 128, 16, 8
REACH_BYTES = 4096  # of an end that is looked for


class Budget:
    """The way of one sequence. Keeps the place where it last looked, and the bytes written since."""

    def __init__(self, begin: Callable[[], Place | None], least: Callable[[], int | None], writer: Writer) -> None:
        self._begin, self._least, self._writer = begin, least, writer
        self._place: Place | None = None
        self._begun = False
        self._step, self._steps = b"", 0  # written since `affords` was asked last, and the tokens that took
        self._late = b""  # written before that, since `_place`
        self._far = 0
        self._unseen = 0
        self._end: bytes | None = None  # finishes the value from `_place`
        self.closing: list[int] = []

    def note(self, *tokens: int) -> None:
        """Tokens have been accepted."""
        self._step += b"".join([self._writer.pieces[token] for token in tokens])
        self._steps += len(tokens)

    def affords(self, room: int) -> bool:
        """Whether what was noted since the last time leaves enough of `room` tokens for an end; else, see `closing`."""
        if not self._begun:  # not before it is asked: the place takes another compilation
            self._begun, self._place, self._far = True, self._begin(), 2 * (self._least() or 0) + _FAR
        self._unseen += self._steps
        if self._place is None or (room > self._far and self._unseen < max(_EVERY, (room - self._far) // _BRACKETS)):
            self._late, self._step, self._steps = self._late + self._step, b"", 0
            return True
        self._unseen = 0
        there = self._place.after(self._late + self._step)
        end = self._end_at(there, room) if there else None
        if end is None:
            return self._fall_back(room)
        self._place, self._end, self._late, self._step, self._steps = there, end, b"", b"", 0
        self._far = 2 * len(end) + _FAR
        return True

    def _end_at(self, there: Place, room: int) -> bytes | None:
        """An end from there: what is left of the last one, where that still fits, or a new one."""
        if self._end is not None:
            for end in (self._end, self._end[len(self._late + self._step) :]):
                if there.ends_with(end) and self._fits(end, room):
                    return end
        return self._look(there, room)

    def _fall_back(self, room: int) -> bool:
        """The last step cannot be afforded: find the end from before it. Without one, nothing can be done any more."""
        before = self._place.after(self._late) if self._place else None
        if self._late or self._end is None:
            self._end = self._look(before, room + self._steps) if before else None
        if self._end is None or not self._fits(self._end, room + self._steps):
            self._place = None
            return True
        self.closing = self._writer.spell(self._end) or []
        return False

    def _look(self, place: Place, room: int) -> bytes | None:
        limit = min(max(room, 0) * self._writer.longest, REACH_BYTES)
        for nulls in (True, False):
            end = shortest(place, limit, nulls=nulls)
            if end is not None and self._fits(end, room):
                return end
        return None

    def _fits(self, end: bytes, room: int) -> bool:
        spelled = self._writer.spell(end)
        return spelled is not None and len(spelled) <= room
