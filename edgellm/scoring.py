"""How surprised a model is by a text: the number behind its perplexity, measured window by window.

Knows tokens and logits; not what they say. It needs an engine that nobody uses at the moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgellm.engines.base import Engine, Feed, Logits, Worn
from edgellm.prompt import Finish, Reply

WINDOW = 512
"""Tokens a model sees at once while it is measured: llama.cpp's own choice (tools/perplexity), so that figures compare."""


@dataclass(slots=True, eq=False)
class Scoring:
    """One text on its way through slot 0: windows that overlap by half, each token scored once, after half a window at least.

    Every window begins with the token that begins a text, where the vocabulary has one. The first window scores all it has.
    """

    id: int
    tokens: list[int]  # without the token that begins a text
    worn: Worn | None = None
    adapter: str = ""
    asked: float = field(default_factory=time.monotonic)
    nats: float = 0.0
    scored: int = 0  # tokens of the text that have been
    at: int = 0  # the next token to score

    def step(self, engine: Engine) -> bool:
        """Measure one window; says whether the text has ended. Raises Stopped, after which the window can be repeated."""
        engine.keep(0, 0)
        head = [] if engine.vocab.bos is None else [engine.vocab.bos]
        room = min(WINDOW, engine.context)
        start = max(0, self.at - room // 2)
        window = [*head, *self.tokens[start : start + room - len(head)]]
        first = max(1, self.at - start + len(head))  # the first one that is scored: something must stand before it
        nats = self._measure(engine, window, first)
        self.nats += nats
        self.scored += max(0, len(window) - first)
        self.at = start + len(window) - len(head)
        engine.keep(0, 0)
        return self.at >= len(self.tokens)

    def reply(self, finish: Finish) -> Reply:
        """Close the books: `tokens` is how many were scored."""
        return Reply(
            text="",
            finish=finish,
            prompt_tokens=len(self.tokens),
            tokens=self.scored,
            total_s=time.monotonic() - self.asked,
            adapter=self.adapter,
            nats=self.nats,
        )

    def _measure(self, engine: Engine, window: Sequence[int], first: int) -> float:
        """Feed a window in as many rows of logits as the engine has; the last token's own are of no use."""
        rows, nats, at = engine.slots + engine.drafts, 0.0, 0
        while at < len(window) - 1:
            silent = at < first - 1
            end = min(first - 1, at + engine.batch) if silent else min(len(window) - 1, at + min(rows, engine.batch))
            found = engine.decode([Feed(0, window[at:end], 0 if silent else end - at)])
            if not silent:
                nats += surprise(found[0], window[at + 1 : end + 1])
            at = end
        return nats


def surprise(logits: Logits, targets: Sequence[int]) -> float:
    """Return -log p of the targets, summed, in nats: log-sum-exp in double precision."""
    rows = logits.astype(np.float64)
    most = rows.max(axis=1)
    whole = most + np.log(np.exp(rows - most[:, None]).sum(axis=1))
    return float((whole - rows[np.arange(len(targets)), list(targets)]).sum())
