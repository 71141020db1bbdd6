"""Markdown: headings, paragraphs, items and cells are units; code, HTML blocks, links' targets and markers stay.

markdown-it finds the blocks, and reads the translation again: what does not come out with the same structure is told.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgellm.tasks.layout import Layout, Unit

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT = re.compile(r"\A---[ \t]*\r?\n[\s\S]*?\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_NEWLINE = re.compile(r"\r\n?|\n")
_HARD = re.compile(r"(?: {2,}|\\)$")


def blocks(text: str) -> Layout:
    """Read Markdown: CommonMark with tables."""
    front = _FRONT.match(text)
    start = front.end() if front else 0
    source = _Source(text, _starts(text, start))
    units: list[Unit] = []
    at = 0
    for unit, begin, end in source.units(_parser().parse(text[start:])):
        units.append(replace(unit, before=text[at:begin]))
        at = end
    return Layout(tuple(units), text[at:], tuple(source.skipped), markup=True)


def changes(source: str, answer: str) -> str | None:
    """The first thing of the structure that is not the same; None when all is."""
    before, after = (list(_outline(text)) for text in (source, answer))
    for one, other in zip(before, after, strict=False):
        if one != other:
            return f"{one} became {other}"
    if len(before) != len(after):
        return f"{len(before)} pieces became {len(after)}"
    return None


@dataclass(slots=True)
class _Source:
    """A text whose lines are found by their numbers."""

    text: str
    starts: list[int]
    skipped: list[str] = field(default_factory=list)
    _at: int = 0  # where the last unit ended

    def units(self, tokens: list[Token]) -> Iterator[tuple[Unit, int, int]]:
        """Every unit with its place."""
        cell = False
        for token in tokens:
            cell = token.type in ("th_open", "td_open") or (cell and token.type == "inline")
            if token.type == "inline" and token.map and token.content.strip():
                places = self._places(token, cell)
                if places is None:
                    self.skipped.append(f"line {token.map[0] + 1} could not be found again and was left as it is")
                else:
                    yield from self._runs(places, cell)

    def _places(self, token: Token, cell: bool) -> list[tuple[int, int]] | None:
        """Where each line of a block's content stands; None when it is not there as it was read."""
        assert token.map
        places = []
        for number, content in enumerate(token.content.split("\n"), token.map[0]):
            low, high = max(self.starts[number], self._at), self.starts[number + 1]
            content = content.strip() if not cell else content.strip().replace("|", "\\|")
            found = self.text.find(content, low, high) if cell else self.text.rfind(content, low, high)
            if found < 0 and cell:
                found = self.text.find(content.replace("\\|", "|"), low, high)
                content = content.replace("\\|", "|")
            if found < 0:
                return None
            places.append((found, found + len(content)))
        return places

    def _runs(self, places: list[tuple[int, int]], cell: bool) -> Iterator[tuple[Unit, int, int]]:
        """Units of one block: lines that flow are one unit, a hard break ends it."""
        run: list[tuple[int, int]] = []
        for index, (start, end) in enumerate(places):
            following = places[index + 1][0] if index + 1 < len(places) else end
            line = _NEWLINE.split(self.text[start:following])[0] if following > end else self.text[start:end]
            hard = bool(_HARD.search(line)) and following > end
            kept = end - 1 if hard and self.text[end - 1] == "\\" else end
            run.append((start, kept))
            if hard or index + 1 == len(places):
                self._at = run[-1][1]
                yield self._unit(run, cell), run[0][0], run[-1][1]
                run = []

    def _unit(self, run: list[tuple[int, int]], cell: bool) -> Unit:
        breaks = tuple(self.text[left[1] : right[0]] for left, right in itertools.pairwise(run))
        return Unit(" ".join(self.text[start:end] for start, end in run), breaks=breaks, cell=cell)


def _starts(text: str, start: int) -> list[int]:
    """Where each line begins, as markdown-it counts them, and the end."""
    begins = [start, *(match.end() for match in _NEWLINE.finditer(text, start))]
    return [*begins, len(text)]


def _outline(text: str) -> Iterator[str]:
    """One word for every block, with what its text is marked up with."""
    front = _FRONT.match(text)
    for token in _parser().parse(text[front.end() :] if front else text):
        if token.type == "inline":
            marks = Counter(_mark(child) for child in token.children or () if child.type in _MARKS)
            yield "text" + "".join(f" + {count} {mark}" for mark, count in sorted(marks.items()))
        elif token.nesting >= 0 and token.type not in ("thead_open", "tbody_open"):
            yield " ".join(filter(None, (token.type.removesuffix("_open").replace("_", " "), token.info.strip())))


_MARKS = {"link_open", "image", "strong_open", "em_open", "s_open"}


def _mark(token: Token) -> str:
    target = token.attrGet("href") or token.attrGet("src") or ""
    return " ".join(filter(None, (token.type.removesuffix("_open"), str(target))))


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])
