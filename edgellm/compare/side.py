"""Who answers, and how: `MODEL` or `MODEL+adapter.gguf[:scale]`, with generation options. Words only; nothing is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm.errors import UsageError
from edgellm.sampling import Sampling

DEFAULTS = Sampling(temperature=0.0)
"""Without chance, so that what differs comes from the models."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two."""

    model: str
    adapter: str | None = None
    sampling: Sampling = DEFAULTS

    @property
    def name(self) -> str:
        """For a heading: file names without their folders."""
        model = Path(self.model).name if self.model.endswith(".gguf") else self.model
        return model + (f" + {Path(self.adapter).name}" if self.adapter else "")

    @property
    def parameters(self) -> str:
        """The options in words: those that are not the usual, the temperature always."""
        usual = Sampling()
        told = [("temperature", self.sampling.temperature)]
        for one in dataclasses.fields(Sampling):
            value = getattr(self.sampling, one.name)
            if one.name != "temperature" and value != getattr(usual, one.name):
                told.append((one.name, value))
        return ", ".join(f"{name} {value!r}" if isinstance(value, tuple) else f"{name} {value}" for name, value in told)


def read(text: str, options: Sequence[str], defaults: Sampling = DEFAULTS) -> Side:
    """Read `MODEL[+ADAPTER]` and `name=value` options, of which the later ones win. Raises UsageError."""
    model, mark, adapter = _split(text)
    if mark and not (model and adapter):
        raise UsageError(f"{text!r} is not MODEL or MODEL+adapter.gguf[:scale].")
    return Side(model, adapter or None, settings(options, defaults))


def _split(text: str) -> tuple[str, str, str]:
    """Cut at the plus between model and adapter; folders of a model's path may have one of their own."""
    model, mark, adapter = text.partition(".gguf+")
    if mark:
        return model + ".gguf", "+", adapter
    if text.startswith(("/", ".", "~")) or Path(text).exists():
        return text, "", ""
    return text.partition("+")


def settings(options: Sequence[str], defaults: Sampling = DEFAULTS) -> Sampling:
    """Read generation options as `temperature=0.7`. Raises UsageError for names and values that are none."""
    fields = {one.name: one for one in dataclasses.fields(Sampling)}
    given: dict[str, Any] = {}
    for option in options:
        name, mark, value = option.partition("=")
        name = name.strip().replace("-", "_")
        if not mark or name not in fields:
            raise UsageError(f"{option!r} is no option: write NAME=VALUE with one of {', '.join(fields)}.")
        if name == "stop":
            given["stop"] = (*given.get("stop", ()), value)
            continue
        number = float if str(fields[name].type) == "float" else int
        try:
            given[name] = number(value)
        except ValueError as error:
            raise UsageError(f"{name} is a number, not {value!r}.") from error
    return dataclasses.replace(defaults, **given)
