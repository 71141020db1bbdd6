"""Where lines come from: a line editor on a terminal, plain reading anywhere else."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgellm.errors import UsageError

if TYPE_CHECKING:
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

QUOTES = '"""'
Complete = Callable[[str], list[tuple[str, str]]]


class Waited(Protocol):
    """Something that is on its way while the person types."""

    @property
    def done(self) -> bool: ...


class Lines(Protocol):
    """A source of messages and commands."""

    def read(self, waited: Waited | None = None, arrived: Callable[[], None] | None = None) -> str:
        """Return the next one. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C on an empty line."""

    def reword(self, text: str) -> str:
        """Let the person change a text; returns "" when they did not want to."""


class Piped:
    """Lines of a pipe or a file, read as they come."""

    def read(self, waited: Waited | None = None, arrived: Callable[[], None] | None = None) -> str:  # noqa: ARG002
        """Return the next line, or all that stands between two lines' triple quotes."""
        line = self._line()
        lines = [line]
        while open_quotes("\n".join(lines)):
            try:
                lines.append(self._line())
            except EOFError:
                raise UsageError(f"the text ended inside {QUOTES}.") from None
        return "\n".join(lines)

    def reword(self, text: str) -> str:  # noqa: ARG002
        """Nobody is there to change it."""
        raise UsageError("without a terminal, give the new text: /edit TEXT")

    def _line(self) -> str:
        if sys.stdin and sys.stdin.isatty():  # the answers go elsewhere
            print("> ", end="", file=sys.stderr, flush=True)
        data = sys.stdin.buffer.readline() if sys.stdin else b""
        if not data:
            raise EOFError
        try:
            return data.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"a line is not UTF-8 text (byte {error.start:,}) and was passed over: {data[:60]!r}"
            ) from None


class Keyboard:
    """A line editor: history, completion, several lines, the usual keys."""

    def __init__(self, complete: Complete, history: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.history import InMemoryHistory

        self._session: PromptSession[str] = PromptSession(
            history=_remembered(history) if history else InMemoryHistory(),
            completer=_completer(complete),
            complete_while_typing=False,
            multiline=Condition(lambda: open_quotes(self._session.default_buffer.text)),
            prompt_continuation=lambda width, number, wrapped: "" if wrapped else ". ",  # noqa: ARG005
            key_bindings=_bindings(),
            placeholder=[("ansibrightblack", "a message, or /help")],
            enable_open_in_editor=True,
            enable_suspend=True,
        )

    def read(self, waited: Waited | None = None, arrived: Callable[[], None] | None = None) -> str:
        """Let the person type; what is waited for is told below the line, and `arrived` is called when it is there."""
        watch = None
        if waited is not None and arrived is not None:
            self._session.bottom_toolbar = lambda: f" {waited}; you can type already "
            watch = functools.partial(self._watch, waited, arrived)
        try:
            return self._session.prompt("> ", pre_run=watch)
        finally:
            self._session.bottom_toolbar = None
            self._session.placeholder = None  # said once is enough

    def reword(self, text: str) -> str:
        """Let the person change a text; Ctrl-C on an emptied line and Ctrl-D leave it as it was."""
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            return unquoted(self._session.prompt("edit> ", default=text))
        return ""

    def _watch(self, waited: Waited, arrived: Callable[[], None]) -> None:
        """Draw the toolbar anew until what is waited for is there; runs beside the editor."""
        import asyncio

        from prompt_toolkit.application import get_app, run_in_terminal

        async def watch() -> None:
            app = get_app()
            while not waited.done:
                app.invalidate()
                await asyncio.sleep(0.1)
            self._session.bottom_toolbar = None
            try:
                await run_in_terminal(arrived)
            except Exception as error:  # the editor ends with it
                app.exit(exception=error)
            app.invalidate()

        get_app().create_background_task(watch())


def lines(complete: Complete, history: Callable[[], Path | None], *, interactive: bool) -> Lines:
    """Choose a source of lines; the history file is asked for only where it is used."""
    return Keyboard(complete, history()) if interactive else Piped()


def open_quotes(text: str) -> bool:
    """Say whether a text has begun with triple quotes that have not ended yet."""
    bare = text.lstrip()
    return bare.startswith(QUOTES) and QUOTES not in bare[len(QUOTES) :]


def unquoted(text: str) -> str:
    """Take the triple quotes off a text that stands between them."""
    bare = text.strip()
    if bare.startswith(QUOTES) and bare.endswith(QUOTES) and len(bare) >= 2 * len(QUOTES):
        return bare[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text


def overlap(before: str, choice: str) -> int:
    """Return how many characters before the cursor a completion replaces."""
    return next(size for size in range(min(len(before), len(choice)), -1, -1) if before.endswith(choice[:size]))


def _remembered(path: Path) -> Any:
    from prompt_toolkit.history import FileHistory

    class Remembered(FileHistory):
        """A history whose trouble (a full disk, a byte that is no text) never gets in the way of typing."""

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError, UnicodeError):
                super().store_string(string)

    return Remembered(str(path))


def _completer(complete: Complete) -> Any:
    from prompt_toolkit.completion import Completer, Completion

    class Table(Completer):
        def get_completions(self, document: Document, event: Any) -> Iterator[Completion]:  # noqa: ARG002
            before = document.text_before_cursor
            for text, meaning in complete(before):
                yield Completion(text, start_position=-overlap(before, text), display_meta=meaning)

    return Table()


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        """Clear what was typed; on an empty line, tell the caller."""
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys
