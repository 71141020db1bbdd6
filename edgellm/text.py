"""Bytes of tokens into text that may be shown now: whole characters, nothing of a stop text, no leading blank.

Also the one place that makes somebody else's text safe for a terminal. Knows no token and no terminal.
"""

from __future__ import annotations

import codecs
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

# C0 but tab and newline, DEL, C1 (a terminal may take U+009B for ESC [), what turns text around, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class TextStream:
    """The text of one answer, from the bytes of its tokens; the same text however the bytes are cut.

    `stop`: texts that end the answer and are not shown; the first to begin counts. `lead`: dropped once if the answer
    begins with it (SentencePiece puts a blank before the first word). `head`: shown first, before all that comes (what
    the prompt has begun of the answer).
    """

    def __init__(self, stop: Sequence[str] = (), lead: str = "", head: str = "") -> None:
        self.stopped = False
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stop = tuple(stop)
        self._find = re.compile("|".join(map(re.escape, self._stop))).search if self._stop else None
        self._lead, self._held, self._head = lead, "", head

    def push(self, piece: bytes) -> str:
        """Take bytes in; return the text that may be shown now, "" once stopped."""
        return self._headed(self._flow(self._decode(piece), last=False))

    def finish(self) -> str:
        """Return the rest: what was held back, and a replacement character for an unfinished one."""
        rest = self._flow(self._decode(b"", True), last=True)
        return self._headed(rest) if rest else ""

    def _headed(self, text: str) -> str:
        head, self._head = self._head, ""
        return head + text

    def _flow(self, text: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        self._held += text
        if self._lead and not self._led(last):
            return ""
        length = self._safe(last)
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _led(self, last: bool) -> bool:
        """Drop the lead, once; False while it may still be coming."""
        if not last and len(self._held) < len(self._lead) and self._lead.startswith(self._held):
            return False
        self._held, self._lead = self._held.removeprefix(self._lead), ""
        return True

    def _safe(self, last: bool) -> int:
        """Length of the held text that no stop text can reach; notes a stop text that is certain to be the first."""
        if self._find is None:
            return len(self._held)
        found = self._find(self._held)
        open_end = len(self._held) if last else self._begun()
        if found and found.start() <= open_end:
            self.stopped = True
            return found.start()
        return open_end

    def _begun(self) -> int:
        """Where the longest end of the held text that begins a stop text starts."""
        size = len(self._held)
        begun = (
            length
            for stop in self._stop
            for length in range(min(len(stop) - 1, size), 0, -1)
            if self._held.endswith(stop[:length])
        )
        return size - max(begun, default=0)


def plain(text: str) -> str:
    """Make text of a model or a file safe to print: what could command a terminal or reorder a line becomes visible.

    Works character by character, so that a stream may be cut anywhere; carriage returns vanish.
    """
    return _UNSAFE.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x0D:
        return ""
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def wrapped(pieces: Iterable[str], width: int) -> Iterator[str]:
    """Break a stream of text into lines of at most `width` columns, at blanks; the same however it is cut.

    Line ends of the text stay. A word that is longer than a line keeps one for itself.
    """
    column, word, blanks = 0, "", ""
    for character in itertools.chain.from_iterable(pieces):
        if not character.isspace() or character in "\u00a0\u202f":
            word += character
            continue
        shown, column = _placed(blanks, word, column, width)
        yield shown
        blanks = character if word else blanks + character
        word = ""
        if character == "\n":
            yield "\n"
            column, blanks = 0, ""
    yield _placed(blanks, word, column, width)[0]


def _placed(blanks: str, word: str, column: int, width: int) -> tuple[str, int]:
    """Put a word behind the blanks before it, or onto a new line; returns what to write and the column then."""
    if not word:
        return "", column
    size = columns(word)
    if column and column + columns(blanks) + size > width:
        return f"\n{word}", size
    return f"{blanks}{word}", column + columns(blanks) + size


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: wide letters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )
