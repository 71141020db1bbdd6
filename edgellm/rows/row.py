"""The nouns of a batch: a row that asks for something, and the result that answers it. Plain data, no file, no format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from edgellm.errors import EdgeError
from edgellm.prompt import Finish
from edgellm.sampling import Sampling

Id: TypeAlias = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the input, or the reason why it cannot be one."""

    id: Id  # unique within its input
    values: Mapping[str, Any] = field(default_factory=dict)
    error: EdgeError | None = None
    end_bytes: int = 0  # where in the input it ends


class Noted(NamedTuple):
    """A value with what its reader must know, one sentence each: what a task about a row may return."""

    value: Any
    warnings: tuple[str, ...]
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a row: a value or an error, and what it cost in tokens, over all prompts of its task."""

    row: Row
    value: Any = None
    error: EdgeError | None = None
    warnings: tuple[str, ...] = ()  # what the reader of the value must know, one sentence each
    evidence: Mapping[str, Any] | None = None  # by JSON pointer, a quote with its place in the text, or None
    finish: Finish | None = None  # of its last answer; None when there was none
    prompt_tokens: int = 0
    tokens: int = 0
    tries: int = 1
    sampling: Sampling | None = None  # as its first prompt was asked; None when nothing was
    adapter: str = ""  # that computed its last answer: name, scale, and the beginning of its hash
    receipt: Mapping[str, Any] | None = None  # which model and engine answered how, where that was wanted

    @property
    def id(self) -> Id:
        """The row's id: its own, or a hash of what it says."""
        return self.row.id
