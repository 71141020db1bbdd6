"""Canned answers over a real engine: every step is computed, and then the next token of a known answer is made the likeliest.

Random weights say noise, which no schema accepts and nothing copies. Replaying a valid answer gives constraints and drafts the
work they have with a trained model, at the cost of the real steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgellm.engines.base import Engine, Feed, Logits, Stopped


class Replay:
    """An engine that answers known prompts with known tokens; everything else is passed on."""

    def __init__(self, engine: Engine, answers: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        self._engine, self._answers = engine, answers
        self._held: list[list[int]] = [[] for _ in range(engine.slots)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def decode(self, feeds: Sequence[Feed]) -> Sequence[Logits]:
        """Compute, and put the known answers on top."""
        try:
            rows = self._engine.decode(feeds)
        except Stopped as stopped:
            for slot in stopped.lost:
                self._held[slot] = []
            raise
        for feed in feeds:
            self._held[feed.slot] += feed.tokens
        for feed, found in zip((feed for feed in feeds if feed.logits), rows, strict=True):
            self._foretell(self._held[feed.slot], found)
        return rows

    def keep(self, slot: int, length: int) -> int:
        """Forget all but the first `length` tokens of a slot."""
        kept = self._engine.keep(slot, length)
        del self._held[slot][kept:]
        return kept

    def share(self, source: int, target: int, length: int) -> int:
        """Copy a prefix between slots."""
        kept = self._engine.share(source, target, length)
        self._held[target] = self._held[source][:kept]
        return kept

    def restore(self, slot: int, state: bytearray) -> int:  # noqa: ARG002 - the contract's
        """Refuse: what a state holds is not known here."""
        return 0

    def _foretell(self, held: list[int], rows: Logits) -> None:
        prompt = next((one for one in self._answers if tuple(held[: len(one)]) == one), None)
        if prompt is None:
            return
        answer, start = self._answers[prompt], len(held) - len(prompt) - len(rows) + 1
        for place, row in enumerate(rows, start):
            said = held[len(prompt) : len(prompt) + place]
            if place < len(answer) and said == list(answer[:place]):
                row[answer[place]] = row.max() + 10
