"""Which adapters are opened with a model: what people write, `FILE[:SCALE]`, with a name, a strength and a hash for each."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edgellm.adapter.file import check, read
from edgellm.errors import UsageError
from edgellm.gguf import Header

Given: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]] | None"
)
"""One FILE[:SCALE], several, or several with names; a file's own name is the part before .gguf."""

NONE = "none"
"""What a request names that wants the base alone."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An adapter opened with a model."""

    name: str
    path: str
    scale: float
    sha256: str
    bytes: int
    default: bool = False  # used by every request that names none

    def label(self, scale: float) -> str:
        """How receipts name it: name, strength, and the beginning of its hash."""
        return f"{self.name}:{scale:g}@{self.sha256[:12]}"


def choose(given: Given, base: Header) -> tuple[Choice, ...]:
    """Read, check and hash the adapters for a base.

    Raises UsageError for names and scales nobody can use, ModelFileError for broken files, and AdapterRefused for those
    that the base cannot run.
    """
    found: dict[str, Choice] = {}
    for name, text in _named(given):
        path, scale = split(text)
        adapter = read(path)
        check(adapter, base)
        name = adapter.name if name is None else name
        if name in found:
            raise UsageError(f"two adapters are called {name!r}: give them names of their own.")
        if not name or name == NONE or ":" in name or not name.isprintable():
            raise UsageError(f"an adapter cannot be called {name!r}: give it another name.")
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        strength = 1.0 if scale is None else scale
        alone = isinstance(given, str | os.PathLike)
        found[name] = Choice(name, os.path.abspath(path), strength, digest, adapter.tensor_bytes, default=alone)
    return tuple(found.values())


def split(text: str) -> tuple[str, float | None]:
    """Cut `FILE[:SCALE]` or `NAME[:SCALE]` in two; the scale is None where none is given."""
    head, colon, tail = text.rpartition(":")
    try:
        scale = float(tail)
    except ValueError:
        return text, None
    if not colon or not head:
        return text, None
    if not math.isfinite(scale):
        raise UsageError(f"an adapter's scale is a number, such as 0.5, not {tail!r}.")
    return head, scale


def resolve(choices: Sequence[Choice], wanted: str | None) -> tuple[int, float] | None:
    """Return which adapter a request means by `NAME[:SCALE]`, as index and scale; None for the base alone.

    Without a name: the default one, if there is one. Raises UsageError for a name that was not opened.
    """
    if wanted is None:
        return next(((index, one.scale) for index, one in enumerate(choices) if one.default and one.scale), None)
    name, scale = split(wanted)
    if wanted == NONE:
        return None
    index = next((index for index, choice in enumerate(choices) if choice.name == name), None)
    if index is None:
        known = f"there are {', '.join(choice.name for choice in choices)}" if choices else "there are none"
        raise UsageError(f"no adapter called {name!r} was opened with this model: {known}.")
    scale = choices[index].scale if scale is None else scale
    return (index, scale) if scale else None


def _named(given: Given) -> list[tuple[str | None, str]]:
    if given is None:
        return []
    if isinstance(given, str | os.PathLike):
        return [(None, os.fspath(given))]
    if isinstance(given, Mapping):
        return [(str(name), os.fspath(path)) for name, path in given.items()]
    return [(None, os.fspath(path)) for path in given]
