"""One request on its way through the loop: prompt tokens in, answer tokens out, and the books that are kept about it.

Knows how it is sampled, constrained and shown; not which slot computes it, nor who else runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgellm.engines.base import Logits, Worn
from edgellm.lookup import Draft, Index
from edgellm.prompt import Finish, Reply
from edgellm.sampling import Sampling, choose, generator
from edgellm.text import TextStream


class Constraint(Protocol):
    """What the loop asks of a grammar; `constraint.Constraint` is one."""

    def mask(self, logits: Logits) -> None: ...
    def prepare(self) -> None: ...
    def allows(self, token: int) -> bool: ...
    def agrees(self, tokens: Tokens[int]) -> int: ...
    def accept(self, token: int) -> None: ...
    def forced(self) -> list[int]: ...
    def affords(self, room: int) -> bool: ...
    def closing(self) -> list[int]: ...
    @property
    def complete(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """One request. While it runs, what its slot holds and `pending` together are the prompt and the answer so far."""

    id: int
    prompt: list[int]
    sampling: Sampling
    text: TextStream
    constraint: Constraint | None = None
    priority: int = 0  # a higher one goes first
    silent: bool = False  # only its reply is wanted
    worn: Worn | None = None  # the adapter it is computed with
    adapter: str = ""  # and how its reply names it
    asked: float = field(default_factory=time.monotonic)
    slot: int = -1
    shared: int = 0
    answer: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # not yet in the slot; logits are wanted for the last one
    said: list[str] = field(default_factory=list)
    closed_chars: int | None = None  # of the answer's end, written to close a value whose budget was used up
    first: float = 0.0
    drafted: int = 0
    accepted: int = 0
    order: int = 0  # of being asked, among all
    reading: bool = True  # its prompt, or after a suspension what it had said, is not in the slot yet
    misses: bool = False  # the last likeliest token was refused: then a mask is made ahead
    greedy: bool = field(init=False)  # the likeliest token is taken, if it is allowed
    rng: np.random.Generator | None = field(init=False)
    _index: Index | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.greedy = self.sampling.temperature == 0 and self.sampling.repeat_penalty == 1
        self.rng = generator(self.sampling.seed) if self.sampling.temperature else None

    @property
    def rank(self) -> tuple[int, int]:
        """Who goes first: the higher priority, then who asked first."""
        return -self.priority, self.order

    def budget(self, context: int) -> int:
        """Tokens that the answer may still have."""
        return min(self.sampling.max_tokens, context - len(self.prompt)) - len(self.answer)

    def choose(self, row: Logits) -> int:
        """Choose the next token that the constraint allows."""
        if self.greedy:
            likeliest = int(row.argmax())
            # Mostly the likeliest token is allowed: asking for one costs a fraction of masking the whole vocabulary.
            if self.constraint:
                self.misses = not self.constraint.allows(likeliest)
                if not self.misses:
                    return likeliest
            elif -math.inf < row[likeliest] < math.inf:
                return likeliest
        if self.constraint:
            self.constraint.mask(row)
        return choose(row, self.sampling, self.rng, self.answer)

    def say(self, token: int, pieces: Tokens[bytes], context: int) -> Finish | None:
        """Take a chosen token, and those the constraint then forces, into `pending`; say how that ends the answer, if."""
        tokens, room = [token], self.budget(context)
        if self.constraint:
            self.constraint.accept(token)
            tokens += self.constraint.forced()
            if not self.constraint.affords(room - len(tokens)):
                return self._close(self.constraint.closing(), pieces)
        self.pending = tokens[:room]
        self.answer += self.pending
        self.said.append(self.text.push(b"".join(pieces[one] for one in self.pending)))
        if self.text.stopped:
            return "stop"
        if len(tokens) <= room and self.constraint and self.constraint.complete:
            return "stop"  # the value is finished: no step is spent on an end token
        return "length" if len(tokens) >= room else None

    def _close(self, tokens: list[int], pieces: Tokens[bytes]) -> Finish:
        """End a value in the shortest way, because its budget ends: no step is spent on these tokens."""
        end = b"".join(pieces[one] for one in tokens)
        self.pending, self.closed_chars = tokens, len(end.decode(errors="ignore"))
        self.answer += tokens
        self.said.append(self.text.push(end))
        return "length"

    def draft(self, longest: int) -> Draft:
        """Return what may come next, because it followed the same tokens before; no more than the constraint allows."""
        if self._index is None:
            self._index = Index(self.prompt)
        self._index.extend(self.answer[len(self._index) - len(self.prompt) :])
        found = self._index.draft(longest)
        if not (found.tokens and self.constraint):
            return found
        allowed = self.constraint.agrees(found.tokens)
        return Draft(found.tokens[:allowed], found.match if allowed else 0)

    def reply(self, finish: Finish) -> Reply:
        """Close the books."""
        now, text = time.monotonic(), "".join(self.said)
        return Reply(
            text=text,
            finish=finish,
            prompt_tokens=len(self.prompt),
            tokens=len(self.answer),
            shared_tokens=self.shared,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            first_token_s=(self.first or now) - self.asked,
            total_s=now - self.asked,
            said_chars=None if self.closed_chars is None else max(0, len(text) - self.closed_chars),
            adapter=self.adapter,
        )
