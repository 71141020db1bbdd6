"""A glossary: which of its terms a text holds, and whether the answer holds what they should have become."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping

from edgellm.errors import UsageError
from edgellm.tasks.keep import Loss
from edgellm.tasks.languages import known

_HEADS = {"source", "target", "term", "translation", "from", "to"}


def read(text: str, name: str = "the glossary") -> dict[str, str]:
    """Read CSV, with commas, semicolons or tabs: a term and what it is called in the other language.

    A first line of headings (source,target or two languages) is passed over. Raises UsageError naming the line.
    """
    first = text.lstrip("\ufeff\r\n").split("\n", 1)[0]
    mark = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    terms: dict[str, str] = {}
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=mark, strict=True)
    try:
        for number, row in enumerate(reader, 1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and all(map(_heads, cells[:2]))):
                continue
            if len(cells) < 2 or not (cells[0] and cells[1]):
                raise UsageError(f"{name}, line {reader.line_num}: need a term and its translation, not {row!r:.80}.")
            if terms.setdefault(cells[0], cells[1]) != cells[1]:
                raise UsageError(f"{name}, line {reader.line_num}: {cells[0]!r} has two translations.")
    except csv.Error as error:
        raise UsageError(f"{name}, line {reader.line_num}, is not CSV: {error}.") from error
    return terms


def _heads(cell: str) -> bool:
    return cell.casefold() in _HEADS or known(cell)


def occurring(terms: Mapping[str, str], text: str) -> dict[str, str]:
    """The terms that a text holds as whole words, in any case."""
    folded = text.casefold()
    return {
        term: wanted
        for term, wanted in terms.items()
        if term.casefold() in folded and re.search(_whole(term), text, re.IGNORECASE)
    }


def missing(terms: Mapping[str, str], answer: str) -> tuple[Loss, ...]:
    """The terms whose translation is not in the answer; endings may follow it."""
    folded = answer.casefold()
    return tuple(Loss("term", wanted) for wanted in dict.fromkeys(terms.values()) if wanted.casefold() not in folded)


def _whole(term: str) -> str:
    """A pattern for a term as a word; scripts without blanks have no edges of words."""
    before = r"(?<!\w)" if term[0].isascii() else ""
    after = r"(?!\w)" if term[-1].isascii() else ""
    return before + re.escape(term) + after
