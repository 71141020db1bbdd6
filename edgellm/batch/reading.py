"""Input into rows, one at a time: JSON lines, OpenAI batch lines, CSV, or plain lines.

A row that cannot be read is a row with an error, never the end of the reading. Nothing is held but the row at hand, so that
the size of the input does not matter.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from hashlib import blake2b
from math import isinf
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, NoReturn, TypeAlias

from edgellm.errors import RowUnreadable, UsageError
from edgellm.rows.given import Maker, kind
from edgellm.rows.ids import content_id
from edgellm.rows.row import Row

Format: TypeAlias = Literal["jsonl", "csv", "tsv", "txt"]

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
}
"""What the end of a file's name says about its format."""

# No text of this length fits any context; a file without line breaks must not end up in memory.
_LONGEST_BYTES = 32 << 20
_KEPT_BYTES, _SKIPPED_BYTES = 1 << 10, 1 << 18  # of one that is longer: what names it, and what is read at once


def format_of(name: str) -> Format:
    """Tell a format by the name of the file; `-` is JSON lines. Raises UsageError."""
    suffix = PurePath(name).suffix.lower()
    if name == "-":
        return "jsonl"
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"the name {name} does not tell its format (known: {known}): say it with --format.")
    return FORMATS[suffix]


def read(file: BinaryIO, format: Format, *, text_column: str = "text", id_column: str | None = None) -> Iterator[Row]:  # noqa: A002
    """Read rows from a binary file as they are asked for.

    Ids come from `id_column`, else from a column `custom_id` or `id`, else from the content. Blank lines are no rows.
    Raises UsageError for an input that has no readable row at all: UTF-16, a CSV header without the columns.
    """
    maker = Maker(id_column)
    lines = _Lines(file)
    if format == "jsonl":
        return _json_lines(lines, maker)
    if format == "txt":
        return _text_lines(lines, maker, text_column)
    needed = [column for column in (text_column, id_column) if column]
    return _table(lines, maker, "\t" if format == "tsv" else ",", needed)


class _Lines:
    """Lines of a binary file, and where the last one ended; of a monstrous one only the beginning is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0
        self.end_bytes = 0
        self.trouble: str | None = None  # what is wrong with the line at hand

    def __iter__(self) -> Iterator[bytes]:
        while data := self._file.readline(_LONGEST_BYTES):
            self.number += 1
            self.end_bytes += len(data)
            self.trouble = None
            if len(data) == _LONGEST_BYTES and not data.endswith(b"\n") and self._skip():
                data = data[:_KEPT_BYTES]
            if self.number == 1:
                data = self._begin(data)
            yield data

    def decode(self, data: bytes) -> str:
        """Decode a line; bytes that are not UTF-8 are noted, and replaced."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            byte, place = data[error.start], error.start + 1
            self.trouble = self.trouble or f"it is not UTF-8: byte {byte:#04x} at position {place:,}"
            return data.decode(errors="replace")

    def error(self, why: str) -> RowUnreadable:
        """Say what is wrong, and where."""
        return RowUnreadable(f"line {self.number:,} cannot be read: {why}.")

    def _skip(self) -> bool:
        """Read on to the end of a line; whether there was anything more."""
        while data := self._file.readline(_SKIPPED_BYTES):
            self.end_bytes += len(data)
            self.trouble = f"it is longer than {_LONGEST_BYTES >> 20} MiB"
            if data.endswith(b"\n"):
                break
        return self.trouble is not None

    def _begin(self, data: bytes) -> bytes:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UsageError("the input is UTF-16: convert it to UTF-8 first.")
        return data.removeprefix(b"\xef\xbb\xbf")


def _json_lines(lines: _Lines, maker: Maker) -> Iterator[Row]:
    for data in lines:
        raw = data.strip()
        if not raw:
            continue
        text = lines.decode(raw)
        try:
            values = _object(text, lines.trouble)
        except (ValueError, RecursionError) as error:
            yield maker.bad(lines.error(_words(error)), content_id(raw), lines.end_bytes)
        else:
            yield maker.row(values, content_id(raw), lines.end_bytes)


def _object(text: str, trouble: str | None) -> dict[str, Any]:
    if trouble:
        raise ValueError(trouble)
    values = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    if not isinstance(values, dict):
        raise ValueError(f"it is {kind(values)}, not an object")  # noqa: TRY004 - a wrong value of a file
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error.msg} at position {error.pos + 1:,}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def _text_lines(lines: _Lines, maker: Maker, column: str) -> Iterator[Row]:
    for data in lines:
        raw = data.rstrip(b"\r\n")
        if not raw.strip():
            continue
        values = {column: lines.decode(raw)}
        if lines.trouble:
            yield maker.bad(lines.error(lines.trouble), content_id(raw), lines.end_bytes)
        else:
            yield maker.row(values, content_id(raw), lines.end_bytes)


class _TableLines:
    """Lines for the CSV reader, which takes several for a row with line breaks; remembers what one row was made of."""

    def __init__(self, lines: _Lines) -> None:
        self._lines, self._iterator = lines, iter(lines)
        self.trouble: str | None = None
        self.begin()

    def __iter__(self) -> _TableLines:
        return self

    def __next__(self) -> str:
        data = next(self._iterator)
        self._hash.update(data.rstrip(b"\r\n") + b"\n")
        text = self._lines.decode(data)
        self.trouble = self.trouble or self._lines.trouble
        return text

    def begin(self) -> None:
        """Begin another row."""
        self._hash, self.trouble = blake2b(digest_size=8), None

    @property
    def name(self) -> str:
        """The row's content id."""
        return self._hash.hexdigest()


def _table(lines: _Lines, maker: Maker, delimiter: str, needed: list[str]) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_BYTES)  # Python's default of 128 KiB refuses long documents; there is no other way
    source = _TableLines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    header = _header(reader, source, needed)
    while header:
        source.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield maker.bad(lines.error(f"it is not CSV: {error}"), source.name, lines.end_bytes)
            continue
        if fields is None:
            return
        if source.trouble:
            yield maker.bad(lines.error(source.trouble), source.name, lines.end_bytes)
        elif fields and len(fields) != len(header):
            why = f"it has {len(fields):,} fields and the header {len(header):,}"
            yield maker.bad(lines.error(why), source.name, lines.end_bytes)
        elif fields:
            yield maker.row(dict(zip(header, fields, strict=True)), source.name, lines.end_bytes)


def _header(reader: Iterator[list[str]], source: _TableLines, needed: list[str]) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UsageError(f"the header of the table cannot be read: {error}.") from error
    if source.trouble:
        raise UsageError(f"the header of the table cannot be read: {source.trouble}.")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise UsageError(f"the table has the column {min(twice)!r} twice: rename one.")
    for column in needed:
        if header and column not in header:
            names = ", ".join(header)
            raise UsageError(
                f"the table has no column {column!r}, only {names}: name it with --text-column or --id-column."
            )
    return header
