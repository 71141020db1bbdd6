"""What must be known to open a model: the one value that goes down to a new worker. Plain data, no behaviour."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgellm.adapter import Choice
from edgellm.errors import UsageError
from edgellm.plan import Plan

_HANG_S = 600.0  # prompts are read in chunks of some seconds: nothing that still computes takes as long


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


def longest_step_s() -> float:
    """The seconds after which a step counts as hung: $EDGELLM_HANG_S, else ten minutes; 0 waits forever.

    Raises UsageError when that is no number of seconds.
    """
    text = os.environ.get("EDGELLM_HANG_S", "")
    try:
        seconds = float(text) if text else _HANG_S
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"EDGELLM_HANG_S is a number of seconds, 0 for no limit, not {text!r}.")
    return seconds
