"""Rows from what a program hands over: texts, or mappings with a text; and how any row gets its id.

Knows no file. Takes one row at a time, so that any number of them costs no memory but 12 to 24 bytes each, for its id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from edgellm.errors import EdgeError, RowUnreadable
from edgellm.rows.ids import Numbering, content_id
from edgellm.rows.row import Id, Row


def given(
    rows: Iterable[str | Mapping[str, Any]], *, text_column: str = "text", id_column: str | None = None
) -> Iterator[Row]:
    """Take rows from a program: texts, or mappings with a text column."""
    maker = Maker(id_column)
    for number, row in enumerate(rows, 1):
        values = {text_column: row} if isinstance(row, str) else row
        name = content_id(repr(values).encode(errors="replace"))
        if isinstance(values, Mapping):
            yield maker.row(values, name)
        else:
            yield maker.bad(RowUnreadable(f"row {number:,} is {kind(values)}, not a text or a mapping."), name)


class Maker:
    """Makes rows, each with an id of its own."""

    def __init__(self, id_column: str | None) -> None:
        self._id_column = id_column
        self._unique = Numbering()

    def row(self, values: Mapping[str, Any], name: str, end_bytes: int = 0) -> Row:
        """A row with the id it was given, or else `name`."""
        if self._id_column is None:
            known = [one for one in map(values.get, ("custom_id", "id")) if _usable(one)]
            return Row(id=self._unique(known[0] if known else name), values=values, end_bytes=end_bytes)
        if _usable(found := values.get(self._id_column)):
            return Row(id=self._unique(found), values=values, end_bytes=end_bytes)
        why = f"column {self._id_column!r} holds no id, which is a text or a whole number."
        return Row(id=self._unique(name), values=values, error=RowUnreadable(why), end_bytes=end_bytes)

    def bad(self, error: EdgeError, name: str, end_bytes: int = 0) -> Row:
        """A row that is nothing but an error."""
        return Row(id=self._unique(name), error=error, end_bytes=end_bytes)


def kind(value: Any) -> str:
    """Name the kind of a JSON value, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _usable(found: Any) -> TypeGuard[Id]:
    return (isinstance(found, str) and found != "") or (isinstance(found, int) and not isinstance(found, bool))
