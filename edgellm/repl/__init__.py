"""`edgellm chat`: read a line, stream an answer, keep the conversation.

Knows people and terminals; how models answer is known below.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from edgellm.errors import EdgeError
from edgellm.repl import commands, keys, session, table
from edgellm.repl.chat import Chat
from edgellm.repl.loading import Loading, Opener
from edgellm.repl.reading import dropped
from edgellm.repl.show import Screen
from edgellm.sampling import Sampling

# A model that is there within this time is introduced before the first prompt, a slower one while the person types.
_PATIENCE_S = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How someone wants to chat."""

    model: str | None = None
    system: str | None = None
    resume: str | None = None  # a name, or "" for the latest conversation
    safe: bool = False
    plain: bool = False
    history: bool = True
    sampling: Sampling = field(default_factory=Sampling)


def run(opener: Opener, wishes: Wishes) -> int:
    """Chat until the person leaves; returns the exit code: 0, or 1 when something failed and nobody was there to see.

    Raises what opening the model raises, and UsageError for a conversation that cannot be resumed.
    """
    began = time.monotonic()
    screen = Screen(markdown=not wishes.plain)
    folder = session.folder() if wishes.history else None
    if wishes.resume is not None:
        transcript = session.resume(session.folder(), wishes.resume, screen.warn, keep=wishes.history)
    else:
        transcript = session.Transcript(folder, screen.warn)
    loading = Loading(opener, wishes.model)
    chat = Chat(
        screen=screen,
        opener=opener,
        loading=loading,
        folder=folder,
        transcript=transcript,
        sampling=wishes.sampling,
        safe=wishes.safe,
    )
    try:
        lines = keys.lines(
            lambda text: table.complete(chat, text),
            lambda: _history(screen) if folder else None,
            interactive=screen.interactive,
        )
        chat.reword = lines.reword
        if wishes.system is not None:
            chat.transcript.instruct(wishes.system)
        _greet(chat, began, wishes.resume is not None)
        _converse(chat, lines)
        if screen.interactive and chat.transcript.saved:
            screen.note(f"Saved. To go on: edgellm chat --resume {shlex.quote(chat.transcript.name)}")
        with contextlib.suppress(KeyboardInterrupt):
            chat.leave()
    finally:
        chat.loading.abandon()
    return 1 if screen.failures and not screen.interactive else 0


def _greet(chat: Chat, began: float, resumed: bool) -> None:
    """Introduce the model if it is there already, or if nobody can type meanwhile."""
    if not chat.screen.interactive or chat.loading.wait(max(0.0, _PATIENCE_S - (time.monotonic() - began))):
        chat.introduce()
    if resumed:
        commands.recall(chat)


def _converse(chat: Chat, lines: keys.Lines) -> None:
    """Obey line after line, until the end of the input, /exit, or Ctrl-C twice."""
    hinted = False
    while True:
        try:
            line = lines.read(chat.loading, chat.introduce) if not chat.introduced else lines.read()
            hinted = False
            _obey(chat, line)
        except (EOFError, table.Leave):
            return
        except KeyboardInterrupt:
            if not chat.screen.interactive:
                raise
            if hinted:
                return
            hinted = True
            chat.screen.note("Ctrl-C again, Ctrl-D or /exit leaves; /help says what can be typed here.")
        except EdgeError as error:
            if chat.loading.failed:
                raise
            chat.screen.fail(str(error))


def _obey(chat: Chat, line: str) -> None:
    """Send a message, or do what a command says."""
    try:
        files, rest = dropped(line)
        for file in files:
            commands.attach(chat, file)
        if files and not rest:
            return
        if files:
            line = rest
        if not files and table.meant(line):
            table.perform(chat, line)
        else:
            if not chat.introduced:
                chat.introduce()
            chat.send(keys.unquoted(line))
    except KeyboardInterrupt:
        if not chat.screen.interactive:
            raise
        chat.screen.note("stopped.")


def _history(screen: Screen) -> Path | None:
    try:
        return session.history_file()
    except OSError as error:
        screen.warn(f"what you type is not remembered: {error}.")
        return None
