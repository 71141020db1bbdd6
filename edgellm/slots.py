"""Who holds what: an engine's slots, the tokens in each, and the prefixes that are shared between them.

What a finished sequence leaves stays until its cells are needed, for the next prompt that begins the same way. Knows tokens;
not what they say, nor when steps are made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Tokens

from edgellm.engines.base import Engine, Worn

# Fewer computed tokens than this are not worth waiting for, or keeping.
WORTH_WAITING = 32


class Slots:
    """The slots of one engine. With a `grain`, only whole grains of a prompt are ever shared or kept."""

    def __init__(self, engine: Engine, grain: int = 1) -> None:
        self._engine, self._grain = engine, grain
        self.held: list[list[int]] = [[] for _ in range(engine.slots)]  # tokens each slot holds, busy or not
        self._worn: list[Worn | None] = [None] * engine.slots  # the adapter with which that was computed
        self._used = [0.0] * engine.slots
        self._reserved: dict[int, int] = {}  # cells that each busy slot may come to need
        self._whole = [0] * engine.slots  # tokens that came in whole grains

    @property
    def free(self) -> list[int]:
        """Slots that nobody uses, whatever they hold."""
        return [slot for slot in range(self._engine.slots) if slot not in self._reserved]

    def fits(self, cells: int, without: Tokens[int] = ()) -> bool:
        """Say whether one more sequence of so many cells could run beside the others, or those that are not `without`."""
        others = sum(reserved for slot, reserved in self._reserved.items() if slot not in without)
        return others + cells <= self._engine.cells

    def take(self, tokens: Tokens[int], cells: int, worn: Worn | None = None) -> tuple[int, int]:
        """Give a sequence the free slot where the least is forgotten, with the longest prefix that any slot holds.

        Nothing that was computed with one adapter is of use to another.

        `cells` is what it may come to need. Returns the slot and how many of its tokens it holds, never all of them:
        one must be computed, for its logits.
        """
        common = [self._usable(slot, tokens, worn) for slot in range(self._engine.slots)]
        source = max(range(self._engine.slots), key=lambda slot: common[slot])
        slot = min(self.free, key=lambda one: (self._lost(one, common[one]), -common[one], self._used[one]))
        if common[slot] >= common[source]:
            kept = self._engine.keep(slot, common[slot])
        else:
            kept = self._engine.share(source, slot, common[source])
        self.held[slot], self._worn[slot] = list(tokens[:kept]), worn
        self._whole[slot] = kept
        self._reserved[slot] = cells
        self._make_room()
        return slot, kept

    def move(self, slot: int, target: int) -> bool:
        """Let the sequence of a slot go on in another that is free; False where the engine cannot copy all of it."""
        length = len(self.held[slot])
        if self._engine.share(slot, target, length) < length:
            self.empty(target)
            return False
        self.held[target], self.held[slot] = self.held[slot], []
        self._worn[target], self._whole[target] = self._worn[slot], self._whole[slot]
        self._reserved[target] = self._reserved.pop(slot)
        self.empty(slot)
        return True

    def leave(self, slot: int) -> None:
        """End the use of a slot; what it holds stays."""
        del self._reserved[slot]
        self._used[slot] = time.monotonic()

    def fed(self, slot: int, tokens: Tokens[int]) -> None:
        """Note what the engine has computed."""
        held = self.held[slot]
        if len(tokens) == self._grain and len(held) == self._whole[slot]:
            self._whole[slot] += self._grain
        held += tokens

    def cut(self, slot: int, length: int) -> int:
        """Take tokens back; returns how many are left, fewer than `length` where the engine cannot roll back so little."""
        kept = min(length, self._engine.keep(slot, length))
        self._forget(slot, kept)
        return kept

    def lost(self, slot: int) -> list[int]:
        """Note that the engine has lost what a slot held; returns that."""
        held, self.held[slot] = self.held[slot], []
        self._whole[slot] = 0
        return held

    def empty(self, slot: int) -> None:
        """Forget what a slot holds."""
        self._engine.keep(slot, 0)
        self._forget(slot, 0)

    def _forget(self, slot: int, length: int) -> None:
        del self.held[slot][length:]
        self._whole[slot] = min(self._whole[slot], length // self._grain * self._grain)

    def _common(self, slot: int, tokens: Tokens[int], worn: Worn | None) -> int:
        return overlap(tokens, self.held[slot]) if self._worn[slot] == worn else 0

    def _usable(self, slot: int, tokens: Tokens[int], worn: Worn | None) -> int:
        common = min(self._common(slot, tokens, worn), len(tokens) - 1)
        return common if self._grain == 1 else min(common, self._whole[slot]) // self._grain * self._grain

    def _lost(self, slot: int, kept: int) -> int:
        """Tokens that a slot would forget: a conversation waits for its next turn, a few last tokens do not matter."""
        lost = len(self.held[slot]) - kept
        return lost if lost >= WORTH_WAITING else 0

    def _make_room(self, extra: int = 0) -> None:
        """Forget what idle slots hold, the longest unused first, until all that may come, and `extra`, has its cells."""
        idle = sorted(self.free, key=lambda one: self._used[one])
        while idle and not self.fits(sum(len(self.held[slot]) for slot in idle) + extra):
            self.empty(idle.pop(0))

    # States that come from elsewhere, or go there.

    def known(self, tokens: Tokens[int], worn: Worn | None = None) -> int:
        """Return how many of a prompt's first tokens some slot holds, computed with this adapter."""
        return max(self._common(slot, tokens, worn) for slot in range(self._engine.slots))

    def adopt(self, tokens: Tokens[int], state: bytearray, worn: Worn | None = None) -> int:
        """Put a saved state into a slot that nobody uses, where the least is forgotten; returns how many tokens it holds.

        None when every slot is busy, the engine refuses the state, or only whole grains may be kept.
        """
        free = self.free if self._grain == 1 else []
        if not free:
            return 0
        slot = min(free, key=lambda one: (self._lost(one, 0), self._used[one]))
        self.empty(slot)
        self._reserved[slot] = len(tokens)
        self._make_room()
        self.leave(slot)
        if self._engine.restore(slot, state) != len(tokens):
            self.empty(slot)
            return 0
        self.held[slot], self._worn[slot] = list(tokens), worn
        return len(tokens)

    def saved(self, tokens: Tokens[int], *, whole: bool, worn: Worn | None = None) -> tuple[list[int], bytearray]:
        """Return what is computed of a prompt, as tokens and the engine's bytes; nothing where that is impossible.

        With `whole`, all that the slot holds which knows most of the prompt: mostly an answer as well.
        """
        slot = max(range(self._engine.slots), key=lambda one: self._common(one, tokens, worn))
        length = self._common(slot, tokens, worn)
        if whole and 2 * length >= len(self.held[slot]):  # less would be another conversation
            length = len(self.held[slot])
        if length == len(self.held[slot]):
            return self.held[slot][:], self._engine.save(slot)
        empty = [one for one in self.free if not self.held[one]]
        if not empty or self._engine.share(slot, empty[0], length) < length:
            return [], bytearray()
        state = self._engine.save(empty[0])
        self.empty(empty[0])
        return list(tokens[:length]), state


def overlap(left: Tokens[int], right: Tokens[int]) -> int:
    """Length of the longest common prefix."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
