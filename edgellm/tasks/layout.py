"""A text as units to translate and everything else, untouched: filled with translations, it has its old structure.

Plain text here, line by line; `markup` reads Markdown and `subtitles` SubRip into the same shape. Knows no language.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

# What would begin a block of Markdown, or a list in plain text, if it stood at the beginning of a line.
_BLOCK = re.compile(r"(?:[-+*>|]|#{1,6}|\d{1,9}[.)]|=+|-+|~{3,}|`{3,})(?:\s|$)|[|>]|~{3,}|`{3,}")
# A link, a code span and a tag are better not broken.
_WHOLE = re.compile(r"!?\[[^\[\]]*\]\([^()]*\)|`[^`]*`|<[^<>]*>")
_FENCE = re.compile(r"^[ \t]*```[^`\n]*\n[\s\S]*?^[ \t]*```[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unit:
    """One line to translate, and what stands before it."""

    text: str
    before: str = ""
    breaks: tuple[str, ...] = ()  # what stands between its lines, when it was broken into several
    cell: bool = False  # of a table, where a bar ends it
    part: bool = False  # of a longer line, which it goes on

    @property
    def far(self) -> bool:
        """Whether a paragraph ended before it."""
        return self.before.count("\n") > 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The units of a text, in order, and what follows the last; `skipped` says what was left out and why."""

    units: tuple[Unit, ...]
    after: str = ""
    skipped: tuple[str, ...] = ()
    markup: bool = False

    def fill(self, lines: Sequence[str]) -> str:
        """Put one line in the place of every unit."""
        pairs = zip(self.units, lines, strict=True)
        return "".join(unit.before + self._set(unit, line) for unit, line in pairs) + self.after

    def _set(self, unit: Unit, line: str) -> str:
        if self.markup and not _BLOCK.match(unit.text):
            line = _harmless(line)
        if unit.cell:
            line = re.sub(r"(?<!\\)\|", r"\\|", line)
        pieces = broken(line, len(unit.breaks) + 1)
        return "".join(piece + glue for piece, glue in zip(pieces, (*unit.breaks[: len(pieces) - 1], ""), strict=True))


def lines(text: str, *, fences: bool = True) -> Layout:
    """Read plain text: every line with something on it is a unit; indentation, blank lines and fenced code stay."""
    code = [match.span() for match in _FENCE.finditer(text)] if fences else []
    found = (match.span() for match in re.finditer(r"\S(?:[^\r\n]*\S)?", text))
    return parted(text, [place for place in found if not any(start <= place[0] < end for start, end in code)])


def parted(text: str, places: Sequence[tuple[int, int]]) -> Layout:
    """Make units of the given places of a text."""
    units, at = [], 0
    for start, end in places:
        units.append(Unit(text[start:end], text[at:start]))
        at = end
    return Layout(tuple(units), text[at:])


def joined(units: Sequence[Unit]) -> str:
    """Units as one text, one on each line; blanks as they were, markers and timings left out."""
    first, *rest = units
    return first.text + "".join((_between(unit) + unit.text) for unit in rest)


def _between(unit: Unit) -> str:
    if unit.before.isspace() and "\n" in unit.before:
        return unit.before
    return "\n\n" if unit.far else "\n"


def paragraphs(units: Sequence[Unit]) -> list[Sequence[Unit]]:
    """Cut where a paragraph ends."""
    cuts = [0, *(place for place in range(1, len(units)) if units[place].far), len(units)]
    return [units[start:end] for start, end in itertools.pairwise(cuts)]


def pieces(unit: Unit, texts: Sequence[str]) -> list[Unit]:
    """One unit as several that follow each other on its line; `texts` are its text, cut, with the blanks between."""
    found: list[Unit] = []
    blank = unit.before
    for text in texts:
        kept = text.strip()
        lead = text[: len(text) - len(text.lstrip())]
        found.append(replace(unit, text=kept, before=blank + lead, breaks=(), part=bool(found)))
        blank = text[len(text.rstrip()) :]
    return found


def broken(line: str, count: int) -> list[str]:
    """Break a line into so many of about the same length, at blanks; fewer where there are too few words."""
    found: list[str] = []
    while count > 1 and (cut := _cut(line, len(line) // count)):
        found.append(line[:cut].rstrip())
        line = line[cut:].lstrip()
        count -= 1
    return [*found, line]


def _cut(line: str, near: int) -> int:
    """The place nearest to `near` where a line can be broken; 0 where there is none."""
    whole = [match.span() for match in _WHOLE.finditer(line)]
    spots = [
        match.end()
        for match in re.finditer(r"\s+(?=\S)", line)
        if not _BLOCK.match(line, match.end()) and not any(start < match.start() < end for start, end in whole)
    ]
    if not spots and not line.isascii() and not re.search(r"\s", line):
        return near  # a script without blanks
    return min(spots, key=lambda spot: abs(spot - near), default=0)


def _harmless(line: str) -> str:
    """Escape what would make a heading, a list or a quotation of a line that is none."""
    if not _BLOCK.match(line) or line.startswith(("`", "~")):
        return line
    return re.sub(r"^(\d*)(\W)", r"\1\\\2", line)
