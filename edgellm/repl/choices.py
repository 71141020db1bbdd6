"""What an argument of a command may be, for Tab: files, models, conversations, settings, languages."""

from __future__ import annotations

import os
from collections.abc import Callable

from edgellm.repl import session
from edgellm.repl.chat import Chat
from edgellm.repl.settings import FIELDS, SWITCHES


def files(chat: Chat, argument: str) -> list[str]:  # noqa: ARG001
    """List what a typed path may go on as; folders end in a separator."""
    head, tail = os.path.split(argument)
    try:
        with os.scandir(os.path.expanduser(head) or ".") as entries:
            found = [(one.name, one.is_dir()) for one in entries if one.name.startswith(tail)]
    except (OSError, ValueError):
        return []
    hidden = tail.startswith(".")
    return sorted(
        os.path.join(head, name) + (os.sep if folder else "")
        for name, folder in found
        if hidden or not name.startswith(".")
    )


def models(chat: Chat, argument: str) -> list[str]:
    """Offer the catalogue's names, and files."""
    from edgellm import catalog

    return [*(entry.name for entry in catalog.entries()), *(files(chat, argument) if argument else [])]


def conversations(chat: Chat, argument: str) -> list[str]:  # noqa: ARG001
    """Offer the saved conversations."""
    return session.names(session.folder())


def settings(chat: Chat, argument: str) -> list[str]:  # noqa: ARG001
    """Offer what can be set, and to what."""
    name, blank, _ = argument.partition(" ")
    return list(SWITCHES.get(name, ())) if blank else [*FIELDS, *SWITCHES]


def languages(chat: Chat, argument: str) -> list[str]:  # noqa: ARG001
    """Offer language codes."""
    from edgellm.tasks.languages import LANGUAGES

    return [] if " " in argument else sorted(LANGUAGES)


def words(*choices: str) -> Callable[[Chat, str], tuple[str, ...]]:
    """Offer always the same."""
    return lambda chat, argument: choices  # noqa: ARG005
