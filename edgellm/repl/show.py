"""What the person sees: answers on stdout, everything else on stderr, and one gate before both.

On a terminal nothing passes that is not text: no control character of a model, a file or a path reaches it, and nothing
is read as rich markup. A pipe gets every byte of an answer as it was said.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from edgellm.repl.markdown import Flow, Span
from edgellm.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A wait shorter than this needs no spinner.
_SHORT_S = 0.3
# Colouring one line of code knows this many lines before it: enough for a long docstring, and never slow.
_CODE_LINES = 150
_OPEN, _CLOSE = "<think>", "</think>"


class Screen:
    """The two streams of this process, as terminals or as pipes."""

    def __init__(self, *, markdown: bool = True) -> None:
        self.markdown = markdown
        self.failures = 0
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)

    @property
    def interactive(self) -> bool:
        """Someone looks at the answers and types the questions."""
        return self._out is not None and sys.stdin is not None and sys.stdin.isatty()

    def answer(self) -> Answer:
        """Begin an answer."""
        return Answer(self._out, markdown=self.markdown)

    def result(self, text: str) -> None:
        """Show what a command worked out."""
        with self.answer() as page:
            page.push(text)

    def say(self, text: str = "", style: str = "") -> None:
        """Show a line or more of our own."""
        if self._err:
            self._err.out(plain(text), style=style or None, highlight=False)
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
        width = max((len(name) for name, _ in rows), default=0)
        for name, meaning in rows:
            self.say(f"  {name:<{width}}  {meaning}".rstrip())

    @contextmanager
    def busy(self, words: str) -> Iterator[None]:
        """Turn a spinner on stderr while the work inside takes longer than a moment."""
        if self._err is None:
            yield
            return
        status = self._err.status(f"[dim]{_escaped(words)}[/dim]")
        timer = threading.Timer(_SHORT_S, status.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            status.stop()

    def control(self, sequence: str) -> None:
        """Send the terminal a sequence of our own making."""
        if self._out:
            sys.stdout.write(sequence)
            sys.stdout.flush()


class Answer:
    """One answer on its way out; a context manager that ends it on a line of its own."""

    def __init__(self, console: Console | None, *, markdown: bool) -> None:
        self._console = console
        self._thoughts = Thoughts() if markdown else None
        self._flow = _flow(console) if console and markdown else None
        self._painter = Painter()
        self._column = False  # something stands on the current line

    def push(self, piece: str) -> None:
        """Show the next piece."""
        if self._console is None:
            self._write(piece)
        elif self._flow is None or self._thoughts is None:
            self._write(plain(piece))
        else:
            self._show(self._thoughts.push(piece))

    def close(self) -> None:
        """End the answer."""
        if self._flow and self._thoughts:
            self._show(self._thoughts.finish())
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
        assert self._flow
        for text, thinking in parts:
            self._spans([Span(plain(text), "dim italic")] if thinking else self._flow.push(plain(text)))

    def _spans(self, spans: list[Span]) -> None:
        assert self._console
        for text, style in spans:
            if style.startswith("code"):
                self._console.print(self._painter.paint(text, style[5:]), end="", soft_wrap=True)
            else:
                self._console.out(text, style=style or None, highlight=False, end="")
            self._column = not text.endswith("\n")


class Thoughts:
    """Tell what a model thinks aloud, between <think> tags at the start of its answer, from what it says."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, gap (blanks after a thought), said

    def push(self, text: str) -> list[tuple[str, bool]]:
        """Take the next piece; returns (text, thinking) of what is certain."""
        self._held += text
        parts: list[tuple[str, bool]] = []
        while (part := self._part()) is not None:
            parts.append(part)
        return [part for part in parts if part[0]]

    def finish(self) -> list[tuple[str, bool]]:
        """Return the rest."""
        rest, self._held = self._held, ""
        return [(rest, self._state == "thinking")] if rest and self._state != "gap" else []

    def _part(self) -> tuple[str, bool] | None:
        held = self._held
        if not held:
            return None
        if self._state == "thinking":
            return self._thought(held)
        bare = held.lstrip()
        if self._state == "start" and _OPEN.startswith(bare[: len(_OPEN)]):
            if len(bare) < len(_OPEN):
                return None
            self._state, self._held = "thinking", bare[len(_OPEN) :].lstrip("\n")
            return "", True
        if self._state == "gap":
            if not bare:
                return None
            held = "\n" + bare
        self._state, self._held = "said", ""
        return held, False

    def _thought(self, held: str) -> tuple[str, bool] | None:
        text, tag, rest = held.partition(_CLOSE)
        if tag:
            self._state, self._held = "gap", rest
            return text.rstrip() + "\n", True
        keep = next((size for size in range(len(_CLOSE) - 1, 0, -1) if held.endswith(_CLOSE[:size])), 0)
        self._held = held[len(held) - keep :]
        return (held[: len(held) - keep], True) if len(held) > keep else None


def spoken(text: str) -> str:
    """Return an answer without the thoughts before it."""
    thoughts = Thoughts()
    said = "".join(part for part, thinking in (*thoughts.push(text), *thoughts.finish()) if not thinking)
    return said.lstrip("\n") if said != text else text


class Painter:
    """Colours for code, line by line."""

    def __init__(self) -> None:
        self._code: list[str] = []
        self._language = ""

    def paint(self, text: str, language: str) -> Text:
        """Colour the next lines of a block of code; an unknown language gets one colour."""
        from rich.syntax import Syntax
        from rich.text import Text

        if language != self._language or len(self._code) > _CODE_LINES:
            self._code, self._language = [], language
        painted = Text()
        for line in text.split("\n")[:-1] if text.endswith("\n") else text.split("\n"):
            self._code.append(line)
            if language:
                whole = Syntax("", language, theme="ansi_dark").highlight("\n".join(self._code))
                painted.append_text(whole.split("\n", allow_blank=True)[len(self._code) - 1])
            else:
                painted.append(line, "cyan")
            painted.append("\n")
        return painted


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


def _escaped(words: str) -> str:
    from rich.markup import escape

    return escape(plain(words))
