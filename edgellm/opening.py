"""What must be known to open a model: the one value that goes down to a new worker. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellm.decision import Plan

if TYPE_CHECKING:
    from edgellm.adapter import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a worker must know to open a model."""

    engine: str
    paths: tuple[str, ...]
    plan: Plan
    metadata: Mapping[str, Any]  # of the file, without its long arrays
    template_hint: str | None = None
    margin_keys: Mapping[str, str] = field(default_factory=dict)  # GPU name -> under what to remember its margin
    adapters: tuple[Choice, ...] = ()
    deterministic: bool = False  # the same request gives the same bits, whatever else is asked
    costs: Mapping[int, float] = field(default_factory=dict)  # seconds of a step by its width, where that was measured

    @property
    def adapter_paths(self) -> tuple[str, ...]:
        """The adapters' files."""
        return tuple(one.path for one in self.adapters)
