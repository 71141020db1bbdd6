"""What /set can change: the fields of `Sampling`, checked against the ranges written there, and a few switches."""

from __future__ import annotations

import dataclasses
import difflib
import math
import shlex
from typing import Any

from edgellm.errors import UsageError
from edgellm.repl.chat import OVERFLOW, Chat
from edgellm.repl.show import THOUGHTS
from edgellm.sampling import Sampling

FIELDS: dict[str, dataclasses.Field[Any]] = {one.name: one for one in dataclasses.fields(Sampling)}
SWITCHES = {"overflow": OVERFLOW, "thoughts": THOUGHTS, "stats": ("on", "off"), "markdown": ("on", "off")}
_SWITCH_WORDS = {
    "overflow": "when the context is full: stop, drop-oldest turns, or summarize-oldest",
    "thoughts": "what a model thinks before it answers: dim, or hidden",
    "stats": "a line of numbers after every answer",
    "markdown": "show answers as Markdown",
}
_NONE = ("none", "off", "-")


def change(chat: Chat, name: str, text: str) -> None:
    """Set one value. Raises UsageError that names the range, the choices, or the nearest name."""
    name = _known(name)
    if name in FIELDS:
        chat.sampling = dataclasses.replace(chat.sampling, **{name: parse(name, text)})
        return
    if text not in SWITCHES[name]:
        raise UsageError(f"{name} is {', '.join(SWITCHES[name][:-1])} or {SWITCHES[name][-1]}, not {text!r}.")
    if name == "overflow":
        chat.overflow = text  # type: ignore[assignment]  # one of OVERFLOW
    elif name == "thoughts":
        chat.screen.thoughts = text  # type: ignore[assignment]  # one of THOUGHTS
    elif name == "stats":
        chat.stats = text == "on"
    else:
        chat.screen.markdown = text == "on"


def parse(name: str, text: str) -> Any:
    """Read the value of a field of Sampling."""
    field = FIELDS[name]
    kind = str(field.type)
    if kind == "tuple[str, ...]":
        return () if text in _NONE else _quoted(text)
    if "None" in kind and text in _NONE:
        return None
    whole = kind.startswith("int")
    low, high = field.metadata["range"]
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        sort = "a whole number" if whole else "a number"
        raise UsageError(f"{name} is {sort} between {low:g} and {high:g}, not {text!r}.")
    return value


def values(chat: Chat) -> list[tuple[str, str]]:
    """List everything that can be set: name and value, and what it means."""
    rows = [(f"{name} {_value(chat, name)}", str(field.metadata.get("help", ""))) for name, field in FIELDS.items()]
    return rows + [(f"{name} {_value(chat, name)}", words) for name, words in _SWITCH_WORDS.items()]


def shown(chat: Chat, name: str) -> str:
    """Say what one value is."""
    return f"{_known(name)} = {_value(chat, _known(name))}"


def _value(chat: Chat, name: str) -> str:
    if name in FIELDS:
        value = getattr(chat.sampling, name)
        if isinstance(value, tuple):
            return " ".join(map(repr, value)) or "none"
        return "none" if value is None else f"{value}"
    if name in ("overflow", "thoughts"):
        return chat.overflow if name == "overflow" else chat.screen.thoughts
    return "on" if (chat.stats if name == "stats" else chat.screen.markdown) else "off"


def _known(name: str) -> str:
    asked = name.lower().lstrip("-").replace("-", "_")
    everything = [*FIELDS, *SWITCHES]
    if asked in everything:
        return asked
    near = difflib.get_close_matches(asked, everything, n=2)
    cure = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(everything)}."
    raise UsageError(f"there is no setting {name!r}. {cure}")


def _quoted(text: str) -> tuple[str, ...]:
    """Read stop texts: separated by blanks, quoted where they hold one; \\n is a new line."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"cannot read {text!r}: {str(error).lower()}.") from error
    return tuple(part.replace("\\n", "\n").replace("\\t", "\t") for part in parts if part)
