"""The nouns that travel between the floors: what is asked, what comes back, and what a task is.

Plain data, no behaviour that needs a model. Everything here survives a trip through JSON, because the worker's process
boundary lies between the asking and the answering.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from edgellm.sampling import Sampling

Role = Literal["system", "user", "assistant"]
Overflow = Literal["error", "drop_oldest"]
Finish = Literal["stop", "length", "cancelled"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request: messages (or raw text to continue), how to sample, and the JSON Schema the answer must obey."""

    messages: tuple[Message, ...] = ()
    completion: str | None = None  # raw text to continue, without a chat template; excludes messages
    sampling: Sampling = field(default_factory=Sampling)
    schema: Mapping[str, Any] | None = None
    # Files that may hold the model's state after a beginning of this prompt: then that need not be computed again.
    saved: tuple[str, ...] = ()
    # Only write what is computed of this prompt, and the answer after it, to this file; of a lone system message, what
    # every conversation under it begins with. The reply's `shared_tokens` says how many tokens that are.
    keep: str | None = None
    priority: int = 0  # a higher one goes first, and may make lower ones wait
    silent: bool = False  # only the reply is wanted, no text on its way: nothing crosses the pipe at every step
    # NAME[:SCALE] of an adapter opened with the model, "none" for the base alone; without one, the default.
    adapter: str | None = None
    score: bool = False  # only measure how surprised the model is by `completion`: nothing is generated
    overflow: Overflow = "error"  # what to do with a conversation that is too long
    count: bool = False  # only count the prompt's tokens: answered at once, whatever the context
    quotes: str | None = None  # with a schema: its free texts are verbatim pieces of this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A finished answer with its counts (tokens) and times (seconds)."""

    text: str
    finish: Finish  # "length": max_tokens or the context ended it
    prompt_tokens: int
    tokens: int
    shared_tokens: int = 0  # prompt tokens that were already computed
    drafted_tokens: int = 0  # tokens that were guessed ahead from the text before them, and checked
    accepted_tokens: int = 0  # of these: right
    first_token_s: float = 0.0  # from being asked to the first token
    total_s: float = 0.0
    # Characters of `text` that the model said itself, when the budget ended inside a value that obeys a schema: the rest is
    # the shortest end, so that the text still parses.
    said_chars: int | None = None
    nats: float = 0.0  # of a prompt that is scored: -log p of its `tokens` tokens, summed
    adapter: str = ""  # the adapter it was computed with: name, scale, and the beginning of its SHA-256
    template: str = ""  # the chat template that wrote the prompt: where it came from, and its sha256
    dropped_messages: int = 0  # the oldest messages, left out because the prompt allowed it
    context_tokens: int = 0  # what prompt and answer may have together; told by a reply that counts, 0 otherwise

    @property
    def tokens_per_s(self) -> float:
        """Rate of the answer's tokens after the first one."""
        span = self.total_s - self.first_token_s
        return (self.tokens - 1) / span if self.tokens > 1 and span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to request `id`: new text, its end (`reply`), or its failure (`error`)."""

    id: int
    text: str = ""
    reply: Reply | None = None
    error: Exception | None = None


Task: TypeAlias = Generator[list[Prompt], list[Reply], T]
"""A pure conversation: yields prompts (decoded together), is sent their replies, returns the result."""


SAFETY = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. "
    "Avoid harmful, unethical, prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
"""The system prompt that Mistral's `safe_prompt` adds (https://docs.mistral.ai/capabilities/guardrailing)."""


def guarded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the safety prompt first, before the system prompt where there is one."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{SAFETY}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", SAFETY), *messages)
