"""Markdown as it comes: text in pieces in, styled spans out, append-only and the same however the text was cut.

A word is shown as soon as it has ended, a construct (`**bold**`, a table, a line of code) as soon as it has closed;
what never closes is shown as it was written, so that no character of an answer is lost. Knows no terminal: a span's
style is a rich style by name, and the width is a number of cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

# A marker whose partner has not come within so many characters is ordinary text.
_REACH = 400

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_TABLE = re.compile(r"[ \t]*\|")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*")
_BULLET = re.compile(r"([ \t]*)[-*+][ \t]+")
_NUMBER = re.compile(r"([ \t]*\d{1,9}[.)])[ \t]+")
_QUOTE = re.compile(r" {0,3}(?:> ?)+")
# Beginnings of a line that could still become any of these.
_UNDECIDED = re.compile(r"[-*_+#>~` \t]*|[ \t]*\d{1,9}[.)]?[ \t]*")
_WHOLE_LINE = re.compile(r"[ \t]*(?:`{3}|~{3}|\|)")  # needs its end before it can be shown

_MARK = re.compile(r"[\\`*~\[]")
_LINK = re.compile(r"\[([^\[\]]{1,300})\]\(([^()\s]{1,1000})\)")
_PART_OF_LINK = re.compile(r"\[[^\[\]]{0,300}(?:\](?:\([^()\s]{0,1000})?)?")
_EMPHASIS = {"***": "bold italic", "**": "bold", "*": "italic", "~~": "strike"}
# East Asian text has no blanks between words: a line may end after any of these.
_IDEOGRAPH = re.compile(r"[⺀-〿぀-ヿ㐀-鿿가-힯豈-﫿＀-￯]")


class Span(NamedTuple):
    """Text in one style."""

    text: str
    style: str = ""


class Flow:
    """An answer on its way to a terminal `width` cells wide."""

    def __init__(self, width: int, cells: Callable[[str], int] = len) -> None:
        self._lines = _Lines(max(width, 20), cells)
        self._cells = cells
        self._rest = ""  # of the current line: not yet shown
        self._style: str | None = None  # of the current line; None while its kind is unknown
        self._fence = ""
        self._language = ""
        self._table: list[str] = []

    def push(self, text: str) -> list[Span]:
        """Take the next piece; returns what can be shown now."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._line(line, complete=True)
        self._rest = self._line(self._rest, complete=False)
        return self._lines.take()

    def finish(self) -> list[Span]:
        """Show the rest; the answer ends on a line of its own."""
        if self._rest or self._style is not None:
            self._line(self._rest, complete=True)
        self._rest = ""
        self._end_table()
        return self._lines.take()

    def _line(self, rest: str, *, complete: bool) -> str:
        """Show what is certain of the current line; returns what is not."""
        if self._fence:
            return self._code(rest, complete)
        if self._style is None:
            rest = self._begin(rest, complete)
        if self._style is not None:
            rest = self._prose(rest, complete)
        return rest

    def _prose(self, rest: str, complete: bool) -> str:
        assert self._style is not None
        spans, rest = inline(rest, self._style, complete=complete)
        for span in spans:
            self._lines.write(span)
        if complete:
            self._lines.end()
            self._style = None
        return rest

    def _begin(self, line: str, complete: bool) -> str:
        """Find out what kind of line this is; sets its style unless it must wait or is done."""
        if not complete and (_UNDECIDED.fullmatch(line) or _WHOLE_LINE.match(line)):
            return line
        if _TABLE.match(line):
            self._table.append(line)
            return ""
        self._end_table()
        if (match := _FENCE.match(line)) and "`" not in line[match.end() :]:
            self._fence, self._language = match[1], "".join(line[match.end() :].split()[:1])
            self._lines.verbatim(line, "dim")
        elif _RULE.fullmatch(line):
            self._lines.verbatim("─" * self._lines.width, "dim")
        else:
            return self._begin_prose(line)
        return ""

    def _begin_prose(self, line: str) -> str:
        self._style = ""
        if match := _HEADING.match(line):
            self._style = "bold underline" if len(match[1]) == 1 else "bold"
        elif match := _BULLET.match(line):
            self._lines.begin(_indent(match[1]) + "• ")
        elif match := _NUMBER.match(line):
            self._lines.begin(_indent(match[1]) + " ")
        elif match := _QUOTE.match(line):
            self._style = "italic"
            self._lines.begin("│ " * match[0].count(">"), repeat=True)
        else:
            blanks = line[: len(line) - len(line.lstrip(" \t"))]
            self._lines.begin(_indent(blanks))
            return line[len(blanks) :]
        return line[match.end() :]

    def _code(self, line: str, complete: bool) -> str:
        if not complete:
            return line
        closing = line.strip(" \t")
        if closing.startswith(self._fence) and not closing.strip(self._fence[0]):
            self._fence = ""
            self._lines.verbatim(line, "dim")
        else:
            self._lines.verbatim(line, f"code {self._language}")
        return ""

    def _end_table(self) -> None:
        if self._table:
            for spans in _table(self._table, self._lines.width, self._cells):
                self._lines.verbatim_spans(spans)
            self._table = []


class _Lines:
    """Words in, lines of at most `width` cells out."""

    def __init__(self, width: int, cells: Callable[[str], int]) -> None:
        self.width = width
        self._cells = cells
        self._out: list[Span] = []
        self._word: list[Span] = []
        self._word_cells = 0
        self._column = 0
        self._gap = 0  # blanks before the coming word
        self._gap_style = ""
        self._hang = ""  # what continuation lines begin with

    def take(self) -> list[Span]:
        """Return what has been written since the last call, neighbours of one style as one span."""
        spans, self._out = merged(self._out), []
        return spans

    def begin(self, prefix: str, *, repeat: bool = False) -> None:
        """Start a line; its continuations hang below the text, or repeat the prefix."""
        prefix = prefix if self._cells(prefix) <= self.width // 2 else ""
        self._out.append(Span(prefix, "dim"))
        self._column = self._cells(prefix)
        self._hang = prefix if repeat else " " * self._column

    def write(self, span: Span) -> None:
        """Append text."""
        for letter in span.text:
            if letter in " \t":
                self._end_word()
                self._gap += 1 if letter == " " else 4
                self._gap_style = span.style
            elif _IDEOGRAPH.match(letter):
                self._end_word()
                self._add(letter, span.style)
                self._end_word()
            else:
                self._add(letter, span.style)

    def end(self) -> None:
        """End the line."""
        self._end_word()
        self._out.append(Span("\n"))
        self._column, self._gap, self._hang = 0, 0, ""

    def verbatim(self, line: str, style: str) -> None:
        """Append a whole line as it is."""
        self.verbatim_spans([Span(line, style)])

    def verbatim_spans(self, spans: Iterable[Span]) -> None:
        """Append a whole line as it is."""
        self._out += [*spans, Span("\n")]

    def _add(self, letter: str, style: str) -> None:
        self._word.append(Span(letter, style))
        self._word_cells += self._cells(letter)
        if self._word_cells >= self.width:  # an endless word: the terminal may break it where it likes
            self._end_word()

    def _end_word(self) -> None:
        if not self._word:
            return
        indent = self._cells(self._hang)
        if self._column + self._gap + self._word_cells > self.width and self._column > indent:
            self._out += [Span("\n"), Span(self._hang, "dim")]
            self._column, self._gap = indent, 0
        if self._gap:
            self._out.append(Span(" " * self._gap, self._gap_style))
        self._out += self._word
        self._column = (self._column + self._gap + self._word_cells) % (self.width + 1)
        self._word, self._word_cells, self._gap = [], 0, 0


def inline(text: str, style: str = "", *, complete: bool = True) -> tuple[list[Span], str]:
    """Style what is certain of a line; returns its spans, and the rest that has to wait (none when it is complete)."""
    spans: list[Span] = []
    at = 0
    while match := _MARK.search(text, at):
        spans.append(Span(text[at : match.start()], style))
        at = match.start()
        found = _construct(text, at, style, complete)
        if found is None:
            return spans, text[at:]
        at, styled = found
        spans += styled
    return [*spans, Span(text[at:], style)], ""


def _construct(text: str, at: int, style: str, complete: bool) -> tuple[int, list[Span]] | None:
    """Read what begins at a mark: where it ends and its spans; None when that is not known yet."""
    mark = text[at]
    run = len(text) - at - len(text[at:].lstrip(mark)) if mark in "`*~" else 1
    if not complete and at + run == len(text):
        return None
    if mark == "\\":
        literal = text[at + 1 : at + 2]
        return (at + 2, [Span(literal, style)]) if literal and literal in "`*~_[" else (at + 1, [Span(mark, style)])
    if mark == "[":
        return _link(text, at, style, complete)
    return _pair(text, at, run, style, complete)


def _link(text: str, at: int, style: str, complete: bool) -> tuple[int, list[Span]] | None:
    if match := _LINK.match(text, at):
        # The address is shown, never hidden behind the words.
        address = [] if match[1] == match[2] else [Span(f" ({match[2]})", _joined(style, "dim"))]
        return match.end(), [*inline(match[1], style)[0], *address]
    if not complete and _PART_OF_LINK.fullmatch(text, at):
        return None
    return at + 1, [Span("[", style)]


def _pair(text: str, at: int, run: int, style: str, complete: bool) -> tuple[int, list[Span]] | None:
    mark = text[at : at + run]
    end = at + run
    if not (mark[0] == "`" or (mark in _EMPHASIS and end < len(text) and not text[end].isspace())):
        return end, [Span(mark, style)]
    close = re.escape(mark[0])
    before = rf"(?<!{close})" if mark[0] == "`" else rf"(?<![\s\\{close}])"
    match = re.compile(rf"{before}{re.escape(mark)}(?!{close})").search(text, end + 1, end + _REACH)
    certain = complete or (match.end() < len(text) if match else len(text) >= end + _REACH)
    if not certain:
        return None
    if not match:
        return end, [Span(mark, style)]
    inner = text[end : match.start()]
    if mark[0] == "`":
        return match.end(), [Span(inner, _joined(style, "cyan"))]
    return match.end(), inline(inner, _joined(style, _EMPHASIS[mark]))[0]


def _joined(*styles: str) -> str:
    return " ".join(dict.fromkeys(" ".join(styles).split()))


def _indent(blanks: str) -> str:
    return blanks.replace("\t", "    ")


def _table(lines: list[str], width: int, cells: Callable[[str], int]) -> Iterable[list[Span]]:
    """Align a table's columns; one that is too wide, or no table, stays as it was written."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    head = len(rows) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
    count = max(map(len, rows))
    shown = [[inline(cell, "bold" if head and not index else "")[0] for cell in row] for index, row in enumerate(rows)]
    if head:
        del shown[1]
    sizes = [
        max((_size(row[column], cells) for row in shown if column < len(row)), default=0) for column in range(count)
    ]
    if not head or sum(sizes) + 3 * (count - 1) > width:
        return [[Span(line)] for line in lines]
    drawn = [_row(row, sizes, cells) for row in shown]
    return [drawn[0], [Span("─┼─".join("─" * size for size in sizes), "dim")], *drawn[1:]]


def _row(row: list[list[Span]], sizes: list[int], cells: Callable[[str], int]) -> list[Span]:
    spans: list[Span] = []
    for column, size in enumerate(sizes):
        cell = row[column] if column < len(row) else []
        gap = " " * (size - _size(cell, cells)) if column < len(sizes) - 1 else ""
        spans += [*([Span(" │ ", "dim")] if column else []), *cell, Span(gap)]
    return spans


def _size(spans: list[Span], cells: Callable[[str], int]) -> int:
    return sum(cells(span.text) for span in spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Join neighbours of one style, and drop what is empty."""
    out: list[Span] = []
    for span in spans:
        if out and out[-1].style == span.style:
            out[-1] = Span(out[-1].text + span.text, span.style)
        elif span.text:
            out.append(span)
    return out
