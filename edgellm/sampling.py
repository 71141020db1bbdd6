"""How the next token is chosen from a row of logits: one dataclass of options, one function.

Knows numbers only: no text, no engine, no grammar (a constraint has already set refused logits to -inf).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Generation options and their defaults: the one place they are written. CLI flags are derived from these fields."""

    temperature: float = field(default=0.7, metadata={"help": "0 always takes the likeliest token", "range": (0.0, 10.0)})
    top_k: int = field(default=40, metadata={"help": "keep the K likeliest tokens; 0 keeps all", "range": (0, 2**31 - 1)})
    top_p: float = field(default=0.95, metadata={"help": "keep the smallest set with this probability", "range": (0.0, 1.0)})
    min_p: float = field(default=0.05, metadata={"help": "drop tokens below this fraction of the best", "range": (0.0, 1.0)})
    repeat_penalty: float = field(default=1.0, metadata={"help": "above 1 discourages repeated tokens", "range": (0.01, 10.0)})
    max_tokens: int = field(default=512, metadata={"help": "longest answer, in tokens", "range": (1, 2**31 - 1)})
    seed: int | None = field(default=None, metadata={"help": "same seed, same text", "range": (0, 2**63 - 1)})
    stop: tuple[str, ...] = field(default=(), metadata={"help": "end the answer before this text; repeatable"})
