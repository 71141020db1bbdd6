"""The only generation loop: sequences are added, every step moves all that can move, and events come out.

Continuous batching over an engine's slots, with prefixes shared between them. Knows no text format, no file, no process:
a chat turn is a batch of one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgellm.engines.base import Engine, Feed, Logits, Stopped
from edgellm.errors import EdgeError, EmptyText, PromptTooLong
from edgellm.prompt import Event, Finish, Reply
from edgellm.sampling import Sampling, choose, generator
from edgellm.text import TextStream

# Fewer computed tokens than this are not worth waiting for, or keeping.
_WORTH_WAITING = 32


class Constraint(Protocol):
    """What the loop asks of a grammar; `constraint.Constraint` is one."""

    def mask(self, logits: Logits) -> None: ...
    def allows(self, token: int) -> bool: ...
    def accept(self, token: int) -> None: ...
    def forced(self) -> list[int]: ...
    @property
    def complete(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way: prompt tokens in, answer tokens out."""

    id: int
    prompt: list[int]
    sampling: Sampling
    text: TextStream
    constraint: Constraint | None = None
    asked: float = field(default_factory=time.monotonic)
    slot: int = -1
    shared: int = 0
    answer: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # not yet in the slot; logits are wanted for the last one
    said: list[str] = field(default_factory=list)
    first: float = 0.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = generator(self.sampling.seed)

    def reply(self, finish: Finish) -> Reply:
        """Close the books."""
        now = time.monotonic()
        return Reply(
            text="".join(self.said),
            finish=finish,
            prompt_tokens=len(self.prompt),
            tokens=len(self.answer),
            shared_tokens=self.shared,
            first_token_s=(self.first or now) - self.asked,
            total_s=now - self.asked,
        )


class Loop:
    """Continuous batching: `add`, `step`, `cancel`, until `idle`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._held: list[list[int]] = [[] for _ in range(engine.slots)]  # tokens each slot holds, busy or not
        self._used = [0.0] * engine.slots

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not (self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises PromptTooLong when its prompt leaves no room for an answer, EmptyText without one."""
        size, context = len(sequence.prompt), self._engine.context
        if not size:
            raise EmptyText("the prompt is empty, and this model needs at least one token to begin.")
        if size >= context:
            raise PromptTooLong(
                f"the prompt has {size:,} tokens and the context {context:,}: shorten the text or raise --context.",
                size,
                context,
            )
        self._waiting.append(sequence)

    def cancel(self, id: int) -> Event | None:  # noqa: A002 - the noun of Event
        """End a sequence now, keeping what it said; None when it is unknown or already over."""
        for sequence in (*self._running, *self._waiting):
            if sequence.id == id:
                if sequence.slot < 0:
                    self._waiting.remove(sequence)
                return self._end(sequence, "cancelled")
        return None

    # States that come from elsewhere, or go there.

    def known(self, tokens: Tokens[int]) -> int:
        """Return how many of a prompt's first tokens some slot holds."""
        return max(overlap(tokens, held) for held in self._held)

    def adopt(self, tokens: Tokens[int], state: bytearray) -> int:
        """Put a saved state into a slot that nobody uses, where the least is forgotten; returns how many tokens it holds.

        None when every slot is busy, or the engine refuses the state.
        """
        free = self._free()
        if not free:
            return 0
        slot = min(free, key=lambda one: (self._lost(one, 0), self._used[one]))
        self._empty(slot)
        self._make_room({one.slot for one in self._running} | {slot}, len(tokens))
        if self._engine.restore(slot, state) != len(tokens):
            self._empty(slot)
            return 0
        self._held[slot], self._used[slot] = list(tokens), time.monotonic()
        return len(tokens)

    def saved(self, tokens: Tokens[int], *, whole: bool) -> tuple[list[int], bytearray]:
        """Return what is computed of a prompt, as tokens and the engine's bytes; nothing where that is impossible.

        With `whole`, all that the slot holds which knows most of the prompt: mostly an answer as well.
        """
        slot = max(range(self._engine.slots), key=lambda one: overlap(tokens, self._held[one]))
        length = overlap(tokens, self._held[slot])
        if whole and 2 * length >= len(self._held[slot]):  # less would be another conversation
            length = len(self._held[slot])
        if length == len(self._held[slot]):
            return self._held[slot][:], self._engine.save(slot)
        empty = [one for one in self._free() if not self._held[one]]
        if not empty or self._engine.share(slot, empty[0], length) < length:
            return [], bytearray()
        state = self._engine.save(empty[0])
        self._empty(empty[0])
        return list(tokens[:length]), state

    def step(self) -> list[Event]:
        """Move everyone who can move by one decode; returns what happened, [] when a stop interrupted it."""
        self._admit()
        feeds, moved = self._feeds()
        if not feeds:
            return []
        try:
            rows = iter(self._engine.decode(feeds))
        except Stopped as stopped:
            for sequence in moved:
                if sequence.slot in stopped.lost:
                    self._feed_again(sequence)
            return []
        except EdgeError as error:
            return [self._fail(sequence, error) for sequence in moved]
        events: list[Event] = []
        for sequence, feed in zip(moved, feeds, strict=True):
            self._held[feed.slot] += feed.tokens
            del sequence.pending[: len(feed.tokens)]
            if feed.logits:
                events += self._advance(sequence, next(rows))
        return events

    def _feed_again(self, sequence: Sequence) -> None:
        """Put back into `pending` what its slot has lost."""
        sequence.pending[:0] = self._held[sequence.slot]
        self._held[sequence.slot] = []

    def _feeds(self) -> tuple[list[Feed], list[Sequence]]:
        """Give every running sequence its part of this step: those that answer first, then prefill with what is left."""
        room = self._engine.batch
        feeds, moved = [], []
        for sequence in sorted(self._running, key=lambda one: not one.answer):
            tokens = sequence.pending[:room]
            if not tokens:
                continue
            room -= len(tokens)
            feeds.append(Feed(sequence.slot, tokens, int(len(tokens) == len(sequence.pending))))
            moved.append(sequence)
        return feeds, moved

    # Admission: a slot, cells for the whole answer, and the longest prefix that some slot already holds.

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._engine.slots:
            sequence = self._waiting[0]
            if self._running and not (self._has_room(sequence) and self._prefix_is_ready(sequence)):
                return
            self._place(self._waiting.popleft())

    def _has_room(self, sequence: Sequence) -> bool:
        needed = sum(self._reserve(one) for one in self._running) + self._reserve(sequence)
        return needed <= self._engine.cells

    def _reserve(self, sequence: Sequence) -> int:
        return min(len(sequence.prompt) + sequence.sampling.max_tokens, self._engine.context)

    def _prefix_is_ready(self, sequence: Sequence) -> bool:
        """Refuse to compute a prefix that a running prefill is about to have computed."""
        for other in self._running:
            if not other.answer:
                coming = overlap(sequence.prompt, other.prompt) - overlap(sequence.prompt, self._held[other.slot])
                if coming >= _WORTH_WAITING:
                    return False
        return True

    def _place(self, sequence: Sequence) -> None:
        """Put a sequence into a free slot, with the longest prefix that any slot holds, where the least is forgotten."""
        limit = len(sequence.prompt) - 1  # one token must be computed, for its logits
        common = [min(overlap(sequence.prompt, held), limit) for held in self._held]
        busy = {one.slot for one in self._running}
        free = self._free()
        source = max(range(self._engine.slots), key=lambda slot: common[slot])
        slot = min(free, key=lambda one: (self._lost(one, common[one]), -common[one], self._used[one]))
        if common[slot] >= common[source]:
            kept = self._engine.keep(slot, common[slot])
        else:
            kept = self._engine.share(source, slot, common[source])
        self._held[slot] = sequence.prompt[:kept]
        sequence.slot, sequence.shared, sequence.pending = slot, kept, sequence.prompt[kept:]
        self._running.append(sequence)
        self._make_room(busy | {slot})

    def _free(self) -> list[int]:
        busy = {one.slot for one in self._running}
        return [slot for slot in range(self._engine.slots) if slot not in busy]

    def _lost(self, slot: int, kept: int) -> int:
        """Tokens that a slot would forget: a conversation waits for its next turn, a few last tokens do not matter."""
        lost = len(self._held[slot]) - kept
        return lost if lost >= _WORTH_WAITING else 0

    def _make_room(self, busy: set[int], extra: int = 0) -> None:
        """Forget what idle slots hold, the longest unused first, until every running answer, and `extra`, has its cells."""
        idle = sorted((slot for slot in range(self._engine.slots) if slot not in busy), key=lambda one: self._used[one])
        while idle:
            kept = sum(len(self._held[slot]) for slot in idle)
            if sum(self._reserve(one) for one in self._running) + kept + extra <= self._engine.cells:
                return
            self._empty(idle.pop(0))

    def _empty(self, slot: int) -> None:
        self._engine.keep(slot, 0)
        self._held[slot] = []

    # After the logits: choose, constrain, show, end.

    def _advance(self, sequence: Sequence, rows: Logits) -> list[Event]:
        """Choose the next token from the last row, and take the ones that the constraint then forces."""
        try:
            token = self._choose(sequence, rows[-1])
            sequence.first = sequence.first or time.monotonic()
            if token in self._engine.vocab.ends:
                return [self._end(sequence, "stop")]
            tokens = [token]
            if sequence.constraint:
                sequence.constraint.accept(token)
                tokens += sequence.constraint.forced()
            return self._take(sequence, tokens)
        except EdgeError as error:
            return [self._fail(sequence, error)]

    def _choose(self, sequence: Sequence, row: Logits) -> int:
        if sequence.constraint:
            # Mostly the likeliest token is allowed: asking for one costs a fraction of masking the whole vocabulary.
            if sequence.sampling.temperature == 0 and sequence.sampling.repeat_penalty == 1:
                likeliest = int(row.argmax())
                if sequence.constraint.allows(likeliest):
                    return likeliest
            sequence.constraint.mask(row)
        return choose(row, sequence.sampling, sequence.rng, sequence.answer)

    def _take(self, sequence: Sequence, tokens: Tokens[int]) -> list[Event]:
        room = min(sequence.sampling.max_tokens, self._engine.context - len(sequence.prompt)) - len(sequence.answer)
        sequence.pending = list(tokens[:room])
        sequence.answer += sequence.pending
        pieces = self._engine.vocab.pieces
        shown = sequence.text.push(b"".join(pieces[token] for token in sequence.pending))
        sequence.said.append(shown)
        events = [Event(sequence.id, shown)] if shown else []
        if sequence.text.stopped:
            return [*events, self._end(sequence, "stop")]
        if len(tokens) <= room and sequence.constraint and sequence.constraint.complete:
            return [*events, self._end(sequence, "stop")]  # the value is finished: no step is spent on an end token
        if len(tokens) >= room:
            return [*events, self._end(sequence, "length")]
        return events

    def _end(self, sequence: Sequence, finish: Finish) -> Event:
        rest = sequence.text.finish()
        if finish == "length" and sequence.text.stopped:  # a stop text that was complete, but perhaps not the first
            finish = "stop"
        sequence.said.append(rest)
        self._release(sequence)
        return Event(sequence.id, rest, reply=sequence.reply(finish))

    def _fail(self, sequence: Sequence, error: EdgeError) -> Event:
        slot = sequence.slot
        self._release(sequence)
        self._empty(slot)
        return Event(sequence.id, error=error)

    def _release(self, sequence: Sequence) -> None:
        """Free the slot; what it holds stays, for the next prompt that begins the same way."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._used[sequence.slot] = time.monotonic()


def overlap(left: Tokens[int], right: Tokens[int]) -> int:
    """Length of the longest common prefix."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
