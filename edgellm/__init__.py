"""Translate, summarize, extract JSON and chat with quantized language models on your own machine.

`load(name)` opens a model; everything else here is what it takes and gives. Importing this touches no GPU, no backend and no
logging, and the heavier rooms are opened only when a name of theirs is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgellm.errors import (
    DoesNotFit,
    DownloadFailed,
    EdgeError,
    EmptyText,
    EngineCrashed,
    EngineFailed,
    EngineMissing,
    InvalidOutput,
    ModelFileError,
    ModelUnknown,
    PromptTooLong,
    SchemaUnsupported,
    TemplateError,
    TruncatedOutput,
    UsageError,
)

if TYPE_CHECKING:
    from edgellm.drive import Outcome, Stream
    from edgellm.loading import load
    from edgellm.mapper import Mapper
    from edgellm.model import Model
    from edgellm.plan import Plan
    from edgellm.prompt import Message, Prompt, Reply
    from edgellm.sampling import Sampling
    from edgellm.tasks.evidence import Extracted
    from edgellm.tasks.summarize import Summary
    from edgellm.tasks.translate import Translation

_ROOMS = {
    "Extracted": "tasks.evidence",
    "Mapper": "mapper",
    "Message": "prompt",
    "Model": "model",
    "Outcome": "drive",
    "Plan": "decision",
    "Prompt": "prompt",
    "Reply": "prompt",
    "Sampling": "sampling",
    "Stream": "drive",
    "Summary": "tasks.summarize",
    "Translation": "tasks.translate",
    "load": "loading",
}

__all__ = [
    "DoesNotFit",
    "DownloadFailed",
    "EdgeError",
    "EmptyText",
    "EngineCrashed",
    "EngineFailed",
    "EngineMissing",
    "Extracted",
    "InvalidOutput",
    "Mapper",
    "Message",
    "Model",
    "ModelFileError",
    "ModelUnknown",
    "Outcome",
    "Plan",
    "Prompt",
    "PromptTooLong",
    "Reply",
    "Sampling",
    "SchemaUnsupported",
    "Stream",
    "Summary",
    "TemplateError",
    "Translation",
    "TruncatedOutput",
    "UsageError",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'edgellm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgellm.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
