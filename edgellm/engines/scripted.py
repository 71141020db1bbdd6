"""An engine that says what it is told: byte vocabulary, no weights. For tests, ours and those of edgellm's users.

A script is a list of rules; the first whose `when` occurs in the prompt answers. It can also be told to be slow, to hang
or to crash, so that a pipeline's behaviour on a bad day can be tried on a good one.
"""

from __future__ import annotations

import json
import os
import signal
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgellm.engines.base import Feed, Logits, Stopped, Worn
from edgellm.errors import UsageError

_BOS, _END = 256, 257


@dataclass(frozen=True, slots=True)
class Rule:
    """Answer `say` when the prompt contains `when`."""

    when: str
    say: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What to answer, and what to suffer: counted in decode calls of this process, None for never."""

    rules: tuple[Rule, ...] = ()
    otherwise: str = "I have nothing to say."
    open_s: float = 0.0  # seconds until the engine is open
    step_s: float = 0.0
    crash_at: int | None = None
    hang_at: int | None = None
    crash_when: str | None = None  # die of every prompt that contains it
    crash_restoring: bool = False  # die when a saved state is restored

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Script:
        """Build a script from JSON data; unknown keys are errors."""
        unknown = set(data) - set(cls.__slots__)
        if unknown:
            raise UsageError(f"unknown keys in the script: {', '.join(sorted(unknown))}.")
        return cls(**{**data, "rules": tuple(Rule(**rule) for rule in data.get("rules", ()))})

    def answer(self, prompt: str) -> str:
        """What to say to this prompt."""
        return next((rule.say for rule in self.rules if rule.when in prompt), self.otherwise)


@dataclass(frozen=True, slots=True)
class ByteVocab:
    """One token per byte, then <s> and </s>."""

    pieces: tuple[bytes, ...] = (*(bytes([value]) for value in range(256)), b"", b"")
    ends: frozenset[int] = frozenset({_END})
    bos: int | None = _BOS
    specials: dict[str, int] = field(default_factory=lambda: {"<s>": _BOS, "</s>": _END})
    strips: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        """Turn text into its UTF-8 bytes."""
        return list(text.encode())


class Scripted:
    """The engine over a `Script`: a slot's first logits end its prompt, every later token is one step of the answer."""

    def __init__(self, script: Script | None = None, *, context: int = 4096, slots: int = 4) -> None:
        self.vocab, self.likeness = ByteVocab(), "scripted"
        self.context, self.slots, self.cells, self.batch = context, slots, context * slots, 512
        self.even = False
        self.breaks_off = True
        self.drafts = 0  # what it says is counted in steps, and no step is taken back
        self._script = script or Script()
        self._held: list[list[int]] = [[] for _ in range(slots)]
        self._said: list[tuple[int, list[int]]] = [(0, [])] * slots  # where the prompt ended, and the answer to it
        self._calls = 0
        self._stop = False
        self.worn: Worn | None = None

    def decode(self, feeds: Sequence[Feed]) -> list[Logits]:
        """Append tokens; one row per position asked for, favouring the script's next byte."""
        self._suffer()
        rows = []
        for feed in feeds:
            self._held[feed.slot] += feed.tokens
            if feed.logits:
                rows.append(self._rows(feed.slot, feed.logits))
        return rows

    def keep(self, slot: int, length: int) -> int:
        """Forget all but the first `length` tokens."""
        del self._held[slot][length:]
        self._said[slot] = (0, [])
        return len(self._held[slot])

    def share(self, source: int, target: int, length: int) -> int:
        """Copy a prefix between slots."""
        self._held[target] = self._held[source][:length]
        self._said[target] = (0, [])
        return length

    def save(self, slot: int) -> bytearray:
        """Return the tokens of a slot: its whole state."""
        return bytearray(array("i", self._held[slot]).tobytes())

    def restore(self, slot: int, state: bytearray) -> int:
        """Make a slot hold saved tokens."""
        self._suffer_restoring()
        self._held[slot] = array("i", bytes(state)).tolist()
        self._said[slot] = (0, [])
        return len(self._held[slot])

    def wear(self, worn: Worn | None) -> None:
        """Remember the adapter; the script decides what is said."""
        self.worn = worn

    def stop(self) -> None:
        """Abort a running decode."""
        self._stop = True

    def close(self) -> None:
        """Nothing to free."""

    def _suffer_restoring(self) -> None:
        if self._script.crash_restoring:
            os.kill(os.getpid(), signal.SIGABRT)

    def _suffer(self) -> None:
        self._calls += 1
        if self._calls == self._script.crash_at:
            os.kill(os.getpid(), signal.SIGABRT)
        hang = self._calls == self._script.hang_at
        until = time.monotonic() + self._script.step_s
        while hang or time.monotonic() < until:
            if self._stop and not hang:
                break
            time.sleep(min(0.01, self._script.step_s or 0.01))
        if self._stop:
            self._stop = False
            raise Stopped

    def _rows(self, slot: int, rows: int) -> Logits:
        held = self._held[slot]
        if not self._said[slot][0]:
            text = bytes(token for token in held if token < 256).decode("utf-8", "replace")
            if self._script.crash_when is not None and self._script.crash_when in text:
                os.kill(os.getpid(), signal.SIGABRT)
            self._said[slot] = (len(held), [*self._script.answer(text).encode(), _END])
        start, answer = self._said[slot]
        logits = np.zeros((rows, len(self.vocab.pieces)), np.float32)
        for row in range(rows):
            step = len(held) - rows + row + 1 - start
            logits[row, answer[step] if 0 <= step < len(answer) else _END] = 30.0
        return logits


def from_environment(*, context: int, slots: int) -> Scripted:
    """Open the engine with the script in the JSON file that $EDGELLM_SCRIPT names, or the default one."""
    path = os.environ.get("EDGELLM_SCRIPT")
    if not path:
        return Scripted(context=context, slots=slots)
    try:
        with open(path, encoding="utf-8") as file:
            script = Script.read(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"cannot read the script {path}: {error}.") from error
    time.sleep(script.open_s)
    return Scripted(script, context=context, slots=slots)
