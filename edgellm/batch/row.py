"""The nouns of a batch: a row that asks for something, and the result that answers it. Plain data, no file, no format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgellm.errors import EdgeError
from edgellm.prompt import Finish

Id: TypeAlias = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the input, or the reason why it cannot be one."""

    id: Id  # unique within its input
    values: Mapping[str, Any] = field(default_factory=dict)
    error: EdgeError | None = None
    end_bytes: int = 0  # where in the input it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a row: a value or an error, and what it cost in tokens, over all prompts of its task."""

    row: Row
    value: Any = None
    error: EdgeError | None = None
    finish: Finish | None = None  # of its last answer; None when there was none
    prompt_tokens: int = 0
    tokens: int = 0
    tries: int = 1
