"""Everything that can go wrong here, as one tree; each message says what happened, the numbers, and what to do.

EdgeError
├── UsageError(ValueError)              an argument nobody can obey: exit code 2
│   ├── EmptyText                       there is nothing to work on
│   ├── ResumeRefused                   an output was begun from something else than what is given now
│   └── SchemaUnsupported               a schema keyword that cannot be enforced; carries its JSON pointer
├── RowUnreadable(ValueError)           a row of a batch that asks for nothing one could do
├── DataRefused(ValueError)             training data with faults; carries how many
├── OutputFailed(OSError)               an output could not be written; what was written before is whole
├── ModelUnknown(LookupError)           no such model; suggests near names
├── DownloadFailed(OSError)             the file could not be had
│   ├── Offline                         no network, or none allowed
│   ├── Gated                           the hub wants a token or an accepted licence
│   ├── NotOnHub                        no such repository, revision or file
│   ├── DiskFull                        it would not fit; carries both numbers
│   └── HashMismatch                    bytes came, but not the promised ones
├── ModelFileError(ValueError)          not a usable GGUF; carries path, offset and field
├── AdapterRefused(ValueError)          an adapter that cannot be converted, or that its base cannot run
├── DoesNotFit(MemoryError)             needed and available bytes, and the nearest wish that would fit
├── EngineMissing(ImportError)          the backend is not installed; the message is the cure
├── EngineFailed(RuntimeError)          the backend refused
│   └── EngineCrashed                   its process died or hung; carries signal and phase
├── TemplateError(ValueError)           the chat template is missing, broken, or would lose a message
├── PromptTooLong(ValueError)           tokens and context, both
├── TruncatedOutput(ValueError)         the token budget ended inside a structured answer; carries what there is of the result
├── InvalidOutput(ValueError)           the finished answer breaks its contract; carries the text
└── NoWayOut(RuntimeError)              a constraint allows no token: a bug, never an answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class EdgeError(Exception):
    """Root of every error raised on purpose by edgellm."""


class UsageError(EdgeError, ValueError):
    """An argument nobody can obey."""


class EmptyText(UsageError):
    """There is nothing to work on."""


class ResumeRefused(UsageError):
    """An output was begun from something else than what is given now."""


class SchemaUnsupported(UsageError):
    """A schema that cannot be enforced while decoding; `pointer` is the JSON pointer to the keyword."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class RowUnreadable(EdgeError, ValueError):
    """A row of a batch that asks for nothing one could do."""


class DataRefused(EdgeError, ValueError):
    """Training data with faults: nothing was trained."""

    def __init__(self, message: str, faults: int) -> None:
        super().__init__(message)
        self.faults = faults


class OutputFailed(EdgeError, OSError):
    """An output could not be written; what was written before is whole."""


class ModelUnknown(EdgeError, LookupError):
    """No model has this name."""


class DownloadFailed(EdgeError, OSError):
    """The file could not be had."""


class Offline(DownloadFailed):
    """There is no network, or using it was forbidden."""


class Gated(DownloadFailed):
    """The hub wants a token, or its licence accepted."""


class NotOnHub(DownloadFailed):
    """No such repository, revision or file."""


class DiskFull(DownloadFailed):
    """The file would not fit on the disk."""

    def __init__(self, message: str, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes


class HashMismatch(DownloadFailed):
    """Bytes came, but not the promised ones."""


class ModelFileError(EdgeError, ValueError):
    """Not a usable GGUF file: where, and what was read against what was expected."""

    def __init__(self, path: str, reason: str, *, offset: int | None = None, field: str | None = None) -> None:
        where = "".join(
            (f", field {field!r}" if field is not None else "", f", offset {offset:,}" if offset is not None else "")
        )
        super().__init__(f"{path}{where}: {reason}")
        self.path, self.reason, self.offset, self.field = path, reason, offset, field


class AdapterRefused(EdgeError, ValueError):
    """An adapter that cannot be converted, or that its base cannot run."""


class DoesNotFit(EdgeError, MemoryError):
    """The model does not fit this machine as wished."""

    def __init__(self, message: str, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes


class EngineMissing(EdgeError, ImportError):
    """The backend is not installed."""


class EngineFailed(EdgeError, RuntimeError):
    """The backend refused to do what it was asked."""


class EngineCrashed(EngineFailed):
    """The engine's process died or hung; the next request starts a new one."""

    def __init__(self, message: str, *, signal: int | None = None, phase: str = "") -> None:
        super().__init__(message)
        self.signal, self.phase = signal, phase


class TemplateError(EdgeError, ValueError):
    """The chat template is missing, broken, or would lose a message."""


class PromptTooLong(EdgeError, ValueError):
    """The prompt does not fit the context."""

    def __init__(self, message: str, tokens: int, context: int) -> None:
        super().__init__(message)
        self.tokens, self.context = tokens, context


class TruncatedOutput(EdgeError, ValueError):
    """The token budget ended inside a structured answer.

    `partial` is what there is of the result: of a text, its beginning; of a value, one that satisfies its schema, closed in
    the shortest way, None when there is none. `cut` is the JSON pointer to where the model's own words end, `filled` has
    those to the values that were only made up to close it. `text` is the answer as it came, `needed_tokens` the shortest
    that any answer can be, where that is what was missing.
    """

    def __init__(
        self,
        message: str,
        partial: Any = None,
        *,
        text: str = "",
        cut: str | None = None,
        filled: Sequence[str] = (),
        needed_tokens: int | None = None,
    ) -> None:
        super().__init__(message)
        self.partial, self.text, self.cut, self.filled = partial, text, cut, list(filled)
        self.needed_tokens = needed_tokens


class InvalidOutput(EdgeError, ValueError):
    """The finished answer breaks its contract."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class NoWayOut(EdgeError, RuntimeError):
    """A constraint allows no token. Never an answer: fail closed."""


def to_wire(error: EdgeError) -> dict[str, object]:
    """Describe an error as plain data, so that it can leave the worker's process."""
    return {"kind": type(error).__name__, "message": str(error), "facts": dict(vars(error))}


def from_wire(wire: Mapping[str, object]) -> EdgeError:
    """Rebuild the error that `to_wire` described; an unknown kind becomes EngineFailed with the same words."""
    kinds = {kind.__name__: kind for kind in _descendants(EdgeError)}
    kind = kinds.get(str(wire["kind"]), EngineFailed)
    error = kind.__new__(kind)
    Exception.__init__(error, wire["message"])
    facts = wire["facts"]
    assert isinstance(facts, Mapping)
    vars(error).update(facts)
    return error


def _descendants(kind: type[EdgeError]) -> list[type[EdgeError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _descendants(child))]
