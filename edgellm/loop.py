"""The only generation loop: sequences are added, every step moves all that can move, and events come out.

Continuous batching over an engine's slots: each step carries what every answer needs next, its forced tokens and its draft,
and a chunk of the prompts that still have to be read. Knows no text format, no file, no process: a chat turn is a batch of one.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgellm.engines.base import Engine, Feed, Logits, Stopped, Worn
from edgellm.errors import EdgeError, EmptyText, PromptTooLong
from edgellm.lookup import Outcome, Pace
from edgellm.prompt import Event, Finish
from edgellm.sequence import Constraint, Sequence
from edgellm.slots import WORTH_WAITING, Slots, overlap

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# Prompts are read in chunks of about this time, shorter while somebody waits for the next word: and llama.cpp looks for a
# stop between the nodes of its graph only, of which the largest takes about a fiftieth of a step.
_CHUNK_S, _BESIDE_S, _BELOW_S = 4.0, 1.0, 0.25  # alone, beside answers, beside answers of a higher priority
_UNBROKEN_S = 0.15  # where a step that has begun cannot be broken off
_FIRST_CHUNK, _LEAST_CHUNK, _LEAST_BELOW = 64, 64, 16  # tokens; below 64 the products of matrices lose their speed
_GRAIN = 128  # with `deterministic`: prompts are read, and kept, in pieces of exactly this size
_DRAFTERS = 4  # more sequences at once use the machine well without drafts
# A batch is computed with one adapter, and switching it costs llama.cpp a new graph: so many steps before the next.
_STEPS_WORN = 8
_AHEAD_S = 0.002  # in shorter steps there is no time to make masks ahead


@dataclass(slots=True)
class _Move:
    """What one sequence does in one step."""

    sequence: Sequence
    tokens: list[int]
    last: bool  # nothing is left to feed: logits are wanted
    reads: bool = False  # a prompt, not its own last words
    draft: list[int] = field(default_factory=list)
    match: int = 0
    guess: int = -1  # the draft's first token, where it was not worth a row

    @property
    def feed(self) -> Feed:
        return Feed(self.sequence.slot, self.tokens + self.draft, 1 + len(self.draft) if self.last else 0)


class Loop:
    """Continuous batching: `add`, `step`, `cancel`, until `idle`.

    `deterministic`, on an engine with one slot: a prompt is read in the same pieces whatever ran before, so that the same
    request gives the same bits. `pace` may know what steps cost on this machine.
    """

    def __init__(self, engine: Engine, *, deterministic: bool = False, pace: Pace | None = None) -> None:
        self._engine = engine
        self._grain = min(_GRAIN, engine.batch) if deterministic else 0
        self.slots = Slots(engine, self._grain or 1)
        self._waiting: list[Sequence] = []  # by rank
        self._running: list[Sequence] = []
        self._conversed: set[int] = set()  # slots that somebody left who was in a hurry, as the turns of a chat are
        self._wearing: Worn | None = None
        self._steps_worn = 0
        self._turns: dict[Worn | None, int] = {}  # in which order adapters were put on
        self._asked = 0
        self._pace = pace or Pace()
        wide = [seconds / width for width, seconds in self._pace.seconds.items() if width >= _LEAST_BELOW]
        self._token_s = min(wide, default=0.0)  # of a prompt that is read; 0: not known yet
        self._step_s = 0.0
        self._helper: ThreadPoolExecutor | None = None

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
        self._asked += 1
        sequence.order = self._asked
        self._wait(sequence)

    def cancel(self, id: int) -> Event | None:  # noqa: A002 - the noun of Event
        """End a sequence now, keeping what it said; None when it is unknown or already over."""
        for sequence in (*self._running, *self._waiting):
            if sequence.id == id:
                if sequence.slot < 0:
                    self._waiting.remove(sequence)
                return self._end(sequence, "cancelled")
        return None

    def step(self) -> list[Event]:
        """Move everyone who can move by one decode; returns what happened, [] when a stop interrupted it."""
        # What is not needed is not even called: after a decode the processor's caches are full of weights, and each function
        # or generator comes from memory again, which takes microseconds.
        if self._waiting:
            self._admit()
        if self._engine.even and not self._waiting:
            self._close_ranks()
        moves = self._moves()
        if not moves:
            return []
        start = time.perf_counter()
        if self._engine.drafts:
            self._draft(moves)
        try:
            rows = iter(self._decode(moves))
        except Stopped as stopped:
            for move in moves:
                if move.sequence.slot in stopped.lost:
                    self._feed_again(move.sequence)
            return []
        except EdgeError as error:
            return self._apart(moves, error)
        events: list[Event] = []
        outcomes: list[Outcome] = []
        for move in moves:
            events += self._moved(move, next(rows) if move.last else None, outcomes)
        self._timed(moves, time.perf_counter() - start, outcomes)
        return events

    def _close_ranks(self) -> None:
        """Move the last into the gaps, once nobody comes to fill them: only neighbouring slots share a pass.

        A gap where a conversation waits for its next turn stays one; what a batch leaves, nobody comes back to.
        """
        active = sorted(self._running, key=lambda one: one.slot)
        taken = [one.slot for one in active]
        between = sorted(set(range(taken[0], taken[-1])) - set(taken)) if taken else []
        gaps = iter([slot for slot in between if slot not in self._conversed or not self.slots.held[slot]])
        for sequence in reversed(active):
            gap = next(gaps, sequence.slot)
            if gap >= sequence.slot or not self.slots.move(sequence.slot, gap):
                return
            sequence.slot = gap

    # Before the decode: who moves, with what.

    def _moves(self) -> list[_Move]:
        """Give every running sequence its part of this step: those that answer first, then prompts, by rank."""
        running = self._turn()
        best = None
        if len(running) > 1:
            running.sort(key=lambda one: (one.reading, one.rank))
            best = max((one.priority for one in running if not one.reading), default=None)
        even = self._engine.even and len(running) > 1
        moves, room = list[_Move](), self._engine.batch
        for sequence in running:
            if sequence.reading:
                room = min(
                    room, self._chunk(best, sequence.priority) - sum(len(one.tokens) for one in moves if one.reads)
                )
            # Where unequal steps are several passes, what a constraint forces goes with the others' next words.
            tokens = sequence.pending[: 1 if even and not sequence.reading and room else max(0, room)]
            if tokens:
                room -= len(tokens)
                moves.append(_Move(sequence, tokens, len(tokens) == len(sequence.pending), sequence.reading))
        return moves

    def _turn(self) -> list[Sequence]:
        """Return the running sequences whose adapter's turn it is: a few steps for each that is wanted, in rotation.

        A higher priority has its adapter put on, and lower ones wait that want another.
        """
        for one in self._running:
            if one.worn != self._wearing:
                break
        else:
            return self._running[:]
        best = max(one.priority for one in self._running)
        wanted = {one.worn for one in self._running if one.priority == best}
        if wanted - {self._wearing}:
            self._steps_worn += 1
            if self._wearing not in wanted or self._steps_worn > _STEPS_WORN:
                self._turns = {worn: self._turns.get(worn, 0) for worn in wanted}
                worn = min(wanted - {self._wearing}, key=lambda one: self._turns[one])
                self._turns[worn] = max(self._turns.values()) + 1
                self.wear(worn)
        return [one for one in self._running if one.worn == self._wearing]

    def wear(self, worn: Worn | None) -> None:
        """Let the engine compute with this adapter, or with none."""
        if worn != self._wearing:
            self._engine.wear(worn)
        self._wearing, self._steps_worn = worn, 1

    def _chunk(self, answering: int | None, priority: int) -> int:
        """Tokens of prompts that this step may have; `answering` is the highest priority of those that wait for a word."""
        if self._grain:
            return self._grain
        if not self._token_s:
            return _FIRST_CHUNK
        seconds, least = _CHUNK_S, _LEAST_CHUNK
        if answering is not None:
            seconds, least = (_BELOW_S, _LEAST_BELOW) if answering > priority else (_BESIDE_S, _LEAST_CHUNK)
        if not self._engine.breaks_off:
            seconds = min(seconds, _UNBROKEN_S)
        return max(least, int(seconds / self._token_s))

    def _draft(self, moves: list[_Move]) -> None:
        """Add to each answer what may follow it, as far as checking that pays; only while few answer and nobody reads."""
        rows, plain = len(moves), sum(len(move.tokens) for move in moves)
        room = min(self._engine.drafts, self._engine.batch - plain) // rows
        even = self._engine.even and rows > 1
        if self._grain or even or rows > _DRAFTERS or room < 1 or any(move.reads or not move.last for move in moves):
            return
        found = [
            one.draft(min(room, one.budget(self._engine.context) - 1)) for one in (move.sequence for move in moves)
        ]
        length = self._pace.length([draft.match for draft in found], plain, room)
        for move, draft in zip(moves, found, strict=True):
            if draft.tokens:
                move.draft, move.match, move.guess = draft.tokens[:length], draft.match, draft.tokens[0]

    def _decode(self, moves: list[_Move]) -> list[Logits]:
        """Compute, and meanwhile make the masks that the choices after it will surely need."""
        constrained = [move for move in moves if move.sequence.constraint]
        waiting = self._make_masks(constrained) if constrained else None
        try:
            return list(self._engine.decode([move.feed for move in moves]))
        finally:
            if waiting:
                waiting.result()

    def _make_masks(self, moves: list[_Move]) -> Future[None] | None:
        choosing = [move.sequence for move in moves if move.last and not move.draft]
        wanted = [one.constraint for one in choosing if one.constraint and (one.misses or not one.greedy)]
        if not wanted or self._step_s < _AHEAD_S:
            return None
        if self._helper is None:
            from concurrent.futures import ThreadPoolExecutor

            self._helper = ThreadPoolExecutor(1)
        return self._helper.submit(_prepare, wanted)

    # After the decode: choose, show, end.

    def _moved(self, move: _Move, rows: Logits | None, outcomes: list[Outcome]) -> list[Event]:
        """Take in what was computed for one sequence."""
        sequence = move.sequence
        self.slots.fed(sequence.slot, move.tokens + move.draft)
        del sequence.pending[: len(move.tokens)]
        if rows is None:
            return []
        sequence.reading = False
        said, before = len(sequence.said), len(sequence.answer)
        finish: Finish | None = None
        error: EdgeError | None = None
        right = 0
        try:
            right, finish = self._confirm(sequence, rows, move.draft)
        except EdgeError as mishap:
            error = mishap
        if move.draft:
            self._take_back(sequence, len(move.draft) - right)
            sequence.drafted += len(move.draft)
            sequence.accepted += right
            outcomes.append(Outcome(move.match, right if finish or error else len(move.draft), right, tried=True))
        elif move.guess >= 0 and len(sequence.answer) > before:
            outcomes.append(Outcome(move.match, 1, int(sequence.answer[before] == move.guess), tried=False))
        text = "".join(sequence.said[said:])
        events = [Event(sequence.id, text)] if text and not sequence.silent else []
        if error:
            return [*events, self._fail(sequence, error)]
        return [*events, self._end(sequence, finish)] if finish else events

    def _confirm(self, sequence: Sequence, rows: Logits, draft: list[int]) -> tuple[int, Finish | None]:
        """Choose token after token as long as the draft foretold them; returns how many it did, and how that ended."""
        vocab, right = self._engine.vocab, 0
        while True:
            token = sequence.choose(rows[right])
            sequence.first = sequence.first or time.monotonic()
            if token in vocab.ends:
                return right, "stop"
            finish = sequence.say(token, vocab.pieces, self._engine.context)
            if not draft:
                return 0, finish
            foretold = overlap(sequence.pending, draft[right:])
            right += foretold
            del sequence.pending[:foretold]
            if finish or sequence.pending:
                return right, finish

    def _take_back(self, sequence: Sequence, count: int) -> None:
        """Take the wrong part of a draft out of the slot; where the engine must forget more, that is fed again."""
        if count:
            right = self.slots.held[sequence.slot][:-count]
            kept = self.slots.cut(sequence.slot, len(right))
            sequence.pending[:0] = right[kept:]
            sequence.reading = kept < len(right)

    def _timed(self, moves: list[_Move], seconds: float, outcomes: list[Outcome]) -> None:
        """Learn from a step what steps cost."""
        self._step_s = seconds
        plain = drafted = 0
        reads = False
        for move in moves:
            plain += len(move.tokens)
            drafted += len(move.draft)
            reads = reads or move.reads
        if not reads:
            self._pace.stepped(len(moves), plain, plain + drafted, seconds, outcomes)
        elif plain >= _LEAST_BELOW:
            self._token_s += (seconds / plain - self._token_s) * (0.5 if self._token_s else 1.0)
            self._pace.read(plain, seconds)

    # Admission: the waiting by rank, a slot, cells for the whole answer, and a prefix that is ready to be shared.

    def _wait(self, sequence: Sequence) -> None:
        bisect.insort(self._waiting, sequence, key=lambda one: one.rank)

    def _admit(self) -> None:
        while self._waiting:
            sequence = self._waiting[0]
            if not self._has_room(sequence):
                if not self._suspend_for(sequence):
                    return
            elif self._running and not self._prefix_is_ready(sequence):
                return
            else:
                self._place(self._waiting.pop(0))

    def _has_room(self, sequence: Sequence) -> bool:
        if not self._running:
            return True
        return bool(self.slots.free) and self.slots.fits(self._reserve(sequence))

    def _reserve(self, sequence: Sequence) -> int:
        return min(len(sequence.prompt) + sequence.sampling.max_tokens, self._engine.context)

    def _suspend_for(self, sequence: Sequence) -> bool:
        """Make the last of those with a lower priority wait again, to go on later; False where that would not help."""
        lower = [one for one in self._running if one.priority < sequence.priority]
        if (
            self._grain
            or not lower
            or not self.slots.fits(self._reserve(sequence), without=[one.slot for one in lower])
        ):
            return False
        last = max(lower, key=lambda one: one.rank)
        self._release(last)
        last.pending = []
        self._wait(last)
        return True

    def _prefix_is_ready(self, sequence: Sequence) -> bool:
        """Refuse to compute a prefix that a running prefill is about to have computed."""
        for other in self._running:
            if other.reading and other.worn == sequence.worn:
                held = self.slots.held[other.slot]
                if overlap(sequence.prompt, other.prompt) - overlap(sequence.prompt, held) >= WORTH_WAITING:
                    return False
        return True

    def _place(self, sequence: Sequence) -> None:
        tokens = sequence.prompt + sequence.answer
        slot, kept = self.slots.take(tokens, self._reserve(sequence), sequence.worn)
        sequence.slot, sequence.pending, sequence.reading = slot, tokens[kept:], True
        if not sequence.answer:
            sequence.shared = kept
        self._running.append(sequence)

    # Ends.

    def _end(self, sequence: Sequence, finish: Finish) -> Event:
        rest = sequence.text.finish()
        if finish == "length" and sequence.text.stopped:  # a stop text that was complete, but perhaps not the first
            finish = "stop"
        sequence.said.append(rest)
        self._release(sequence)
        return Event(sequence.id, rest, reply=sequence.reply(finish))

    def _apart(self, moves: list[_Move], error: EdgeError) -> list[Event]:
        """A step failed: compute each sequence alone, so that only the one that provokes it fails."""
        if len(moves) == 1:
            return [self._fail(moves[0].sequence, error)]
        events: list[Event] = []
        for move in moves:
            sequence, move.draft = move.sequence, []
            held = len(self.slots.held[sequence.slot])
            if self._engine.keep(sequence.slot, held) < held:
                self._feed_again(sequence)
                continue
            try:
                rows = self._engine.decode([move.feed])
            except Stopped as stopped:
                if stopped.lost:
                    self._feed_again(sequence)
                return events
            except EdgeError as alone:
                events.append(self._fail(sequence, alone))
            else:
                events += self._moved(move, rows[0] if move.last else None, [])
        return events

    def _feed_again(self, sequence: Sequence) -> None:
        """Put back into `pending` what its slot has lost."""
        sequence.pending[:0] = self.slots.lost(sequence.slot)
        sequence.reading = True

    def _fail(self, sequence: Sequence, error: EdgeError) -> Event:
        slot = sequence.slot
        self._release(sequence)
        self.slots.empty(slot)
        return Event(sequence.id, error=error)

    def _release(self, sequence: Sequence) -> None:
        """Free the slot; what it holds stays, for the next prompt that begins the same way."""
        if sequence in self._running:
            self._running.remove(sequence)
            self.slots.leave(sequence.slot)
            (self._conversed.add if sequence.priority else self._conversed.discard)(sequence.slot)
            sequence.slot = -1


def _prepare(constraints: list[Constraint]) -> None:
    for one in constraints:
        one.prepare()
