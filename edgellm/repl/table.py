"""The table of a chat's commands: help, completion and suggestions come from it; what they do is in `commands`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgellm.errors import UsageError
from edgellm.repl.chat import Chat

Run = Callable[[Chat, str], None]
Choices = Callable[[Chat, str], Iterable[str]]


class Leave(Exception):
    """The person wants to go."""


@dataclass(frozen=True, slots=True)
class Command:
    """A word after a slash: what may follow it, what it does, and how Tab completes its argument."""

    name: str
    usage: str
    words: str
    run: Run
    choices: Choices | None = None


COMMANDS: dict[str, Command] = {}
ALIASES = {"?": "help", "quit": "exit", "bye": "exit", "regen": "retry", "load": "resume"}


def command(name: str, usage: str, words: str, choices: Choices | None = None) -> Callable[[Run], Run]:
    """Put a function into the table."""

    def register(run: Run) -> Run:
        COMMANDS[name] = Command(name, usage, words, run, choices)
        return run

    return register


def meant(line: str) -> bool:
    """Say whether a line is a command: it begins with a slash, and is no pasted text that happens to."""
    return line.startswith("/") and ("\n" not in line or _split(line)[0] in COMMANDS)


def perform(chat: Chat, line: str) -> None:
    """Do what a command's line says. Raises UsageError for an unknown command, Leave for /exit."""
    name, argument = _split(line)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.5)
        near += [other for other in COMMANDS if name and other.startswith(name) and other not in near]
        cure = f"Did you mean {' or '.join('/' + one for one in near)}?" if near else "/help lists all of them."
        raise UsageError(f"there is no command /{name}. {cure} A blank before the slash sends the line as a message.")
    COMMANDS[name].run(chat, argument)


def _split(line: str) -> tuple[str, str]:
    name, _, argument = line[1:].strip().partition(" ")
    return ALIASES.get(name.lower(), name.lower()), argument.strip()


def complete(chat: Chat, text: str) -> list[tuple[str, str]]:
    """Complete the text before the cursor: (what to put in place of its last word, what it means)."""
    if not text.startswith("/") or "\n" in text:
        return []
    name, blank, argument = text[1:].partition(" ")
    if not blank:
        return [(f"/{one.name}", one.words) for one in COMMANDS.values() if one.name.startswith(name.lower())]
    found = COMMANDS.get(ALIASES.get(name, name))
    if found is None or found.choices is None:
        return []
    word = argument.rpartition(" ")[2]
    return [(one, "") for one in found.choices(chat, argument) if one.startswith((word, argument))]
