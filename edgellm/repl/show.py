"""What the person sees: answers on stdout, everything else on stderr, and one gate before both.

On a terminal nothing passes that is not text: no control character of a model, a file or a path reaches it, and nothing
is read as rich markup. A pipe gets every byte of an answer as it was said.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from edgellm.repl.markdown import Flow, Span
from edgellm.text import plain
from edgellm.thoughts import Thoughts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A wait shorter than this needs no spinner.
_SHORT_S = 0.3
# Colouring one line of code knows this many lines before it: enough for a long docstring, and never slow.
_CODE_LINES = 150
_CODE_WIDTH = 500  # a longer line is data, which takes its time to colour
THOUGHTS = ("dim", "hidden")


class Screen:
    """The two streams of this process, as terminals or as pipes."""

    def __init__(self, *, markdown: bool = True) -> None:
        self.markdown = markdown
        self.thoughts: Literal["dim", "hidden"] = "dim"
        self.failures = 0
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)

    @property
    def interactive(self) -> bool:
        """Someone looks at the answers and types the questions."""
        return self._out is not None and sys.stdin is not None and sys.stdin.isatty()

    def answer(self) -> Answer:
        """Begin an answer."""
        return Answer(self._out, markdown=self.markdown, hidden=self.thoughts == "hidden")

    def result(self, text: str) -> None:
        """Show what a command worked out."""
        with self.answer() as page:
            page.push(text)

    def say(self, text: str = "", style: str = "") -> None:
        """Show a line or more of our own."""
        if self._err:
            from rich.text import Text

            self._err.print(Text(plain(text), style), highlight=False)  # broken between words, at the terminal's width
        else:
            print(plain(text), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something that may be overlooked."""
        self.say(text, "dim")

    def warn(self, text: str) -> None:
        """Say something that should not be overlooked."""
        self.say(text, "yellow")

    def fail(self, text: str) -> None:
        """Say what went wrong."""
        self.failures += 1
        self.say(text, "red")

    def columns(self, rows: list[tuple[str, str]]) -> None:
        """Show a list of names and what they mean."""
        if self._err is None:
            width = max((len(name) for name, _ in rows), default=0)
            for name, meaning in rows:
                self.say(f"  {name:<{width}}  {meaning}".rstrip())
            return
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(overflow="fold", max_width=max(16, self._err.width // 2))
        table.add_column(overflow="fold")
        for name, meaning in rows:
            table.add_row(Text("  " + plain(name)), Text(plain(meaning)))
        self._err.print(table)

    @contextmanager
    def busy(self, what: object) -> Iterator[None]:
        """Turn a spinner on stderr, and what `str` says of the work, while it takes longer than a moment."""
        if self._err is None:
            yield
            return
        status = self._err.status(_Now(what))
        timer = threading.Timer(_SHORT_S, status.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            try:
                timer.join()
            finally:
                status.stop()

    def control(self, sequence: str) -> None:
        """Send the terminal a sequence of our own making."""
        if self._out:
            sys.stdout.write(sequence)
            sys.stdout.flush()


class Answer:
    """One answer on its way out; a context manager that ends it on a line of its own."""

    def __init__(self, console: Console | None, *, markdown: bool, hidden: bool = False) -> None:
        self._console = console
        self._hidden = hidden
        self._told = False  # that thoughts are hidden
        self._thoughts = Thoughts() if hidden or (console and markdown) else None
        self._flow = _flow(console) if console and markdown else None
        self._painter = Painter()
        self._column = False  # something stands on the current line

    def push(self, piece: str) -> None:
        """Show the next piece."""
        self._show(self._thoughts.push(piece) if self._thoughts else [(piece, False)])

    def close(self) -> None:
        """End the answer."""
        if self._thoughts:
            self._show(self._thoughts.finish())
        if self._flow:
            self._spans(self._flow.finish())
        if self._column or self._console is None:
            self._write("\n")

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._column = not text.endswith("\n") if text else self._column

    def _show(self, parts: list[tuple[str, bool]]) -> None:
        for text, thinking in parts:
            if thinking and self._hidden:
                self._hide()
            elif self._flow is None:
                self._write(plain(text) if self._console else text)
            else:
                self._spans([Span(plain(text), "dim italic")] if thinking else self._flow.push(plain(text)))

    def _hide(self) -> None:
        """Say once that the model thinks, where someone looks on."""
        if self._console and not self._told:
            self._spans([Span("thinking…\n", "dim italic")])
        self._told = True

    def _spans(self, spans: list[Span]) -> None:
        assert self._console
        for text, style in spans:
            if style.startswith("code"):
                self._console.print(self._painter.paint(text, style[5:]), end="", soft_wrap=True)
            else:
                self._console.out(text, style=style or None, highlight=False, end="")
            self._column = not text.endswith("\n")


class Painter:
    """Colours for code, line by line."""

    def __init__(self) -> None:
        self._code: list[str] = []
        self._language = ""

    def paint(self, line: str, language: str) -> Text:
        """Colour the next line of a block of code; an unknown language gets one colour."""
        from rich.syntax import Syntax
        from rich.text import Text

        if not language or len(line) > _CODE_WIDTH:
            return Text(line, "cyan")
        if language != self._language or len(self._code) > _CODE_LINES:
            self._code, self._language = [], language
        self._code.append(line)
        painted = Syntax("", language, theme=_code_theme()).highlight("\n".join(self._code))
        return painted.split("\n", allow_blank=True)[len(self._code) - 1]


def gib(size_bytes: int) -> str:
    """Write a number of bytes for people."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _console(*, stderr: bool) -> Console | None:
    """Return a console for a terminal, None for a pipe (and then rich is never imported)."""
    stream = sys.stderr if stderr else sys.stdout
    if stream is None or not stream.isatty():
        return None
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _flow(console: Console) -> Flow:
    from rich.cells import cell_len

    return Flow(shutil.get_terminal_size((console.width, 24)).columns, cell_len)


def _code_theme() -> str:
    """Choose colours that can be read: some terminals say `foreground;background`, most are dark."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return "ansi_light" if background in ("7", "15") else "ansi_dark"


class _Now:
    """What an object has to say at this moment, for a display that is drawn again and again."""

    def __init__(self, what: object) -> None:
        self._what = what

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(plain(str(self._what)), "dim")
