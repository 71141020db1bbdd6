"""Files that people bring, record by record, each with its line: JSON lines, a JSON list, CSV, plain text.

A record that cannot be read is a fault with its line and one sentence, never the end of the reading. Knows nothing of what
the records are for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isinf
from pathlib import Path
from typing import Any, NoReturn

from edgellm.errors import UsageError

LONGEST_BYTES = 32 << 20
"""No text of this length fits any context; a file without line breaks must not end up in memory."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md")
"""Ends of names that are read here."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\3\4": "zip", b"BZh": "bzip2", b"\xfd7zX": "xz", b"(\xb5/\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its values, or the fault that keeps it from having any."""

    line: int  # where it begins, from 1
    values: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""  # continues "line 7 "


def read(path: Path) -> Iterator[Record]:
    """Read a file, its format told by its name. Plain text gives one record `text` for each paragraph.

    Raises UsageError for a file of which nothing can be read: missing, of an unknown format, UTF-16, compressed.
    """
    readers = {".json": _json, ".csv": _csv, ".tsv": _tsv, ".txt": _paragraphs, ".md": _paragraphs}
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"the name {path.name} does not tell a format that is read here: {', '.join(SUFFIXES)}.")
    try:
        with open(path, "rb") as file:
            _refuse_strangers(file.read(4), path)
        return readers.get(suffix, _json_lines)(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error


def kind(value: Any) -> str:
    """Name the kind of a JSON value as people do."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def loads(text: str) -> Any:
    """Parse strict JSON: no NaN, no key twice, no number beyond a double. Raises ValueError with words."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at position {error.pos + 1:,}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"holds {constant}, which is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError(f"holds {digits[:40]}, which is too large a number")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _refuse_strangers(head: bytes, path: Path) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{path.name} is UTF-16: convert it to UTF-8 first.")
    if name := next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None):
        raise UsageError(f"{path.name} is compressed ({name}): unpack it first.")


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, text and fault of every line; of a monstrous one only the beginning is kept."""
    with open(path, "rb") as file:
        number = 0
        while data := file.readline(LONGEST_BYTES):
            number += 1
            fault = ""
            if len(data) == LONGEST_BYTES and not data.endswith(b"\n"):
                fault = f"is longer than {LONGEST_BYTES >> 20} MiB"
                while (more := file.readline(LONGEST_BYTES)) and not more.endswith(b"\n"):
                    pass
                data = data[:1]
            data = data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
            yield number, *_decoded(data, fault)


def _decoded(data: bytes, fault: str) -> tuple[str, str]:
    if not fault and 0 in data:
        fault = f"holds a zero byte at position {data.index(0) + 1:,}: this is not text"
    try:
        return data.decode(), fault
    except UnicodeDecodeError as error:
        where = f"byte {data[error.start]:#04x} at position {error.start + 1:,}"
        return data.decode(errors="replace"), fault or f"is not UTF-8: {where}"


def _json_lines(path: Path) -> Iterator[Record]:
    for number, text, fault in _lines(path):
        if text.strip():
            yield _parsed(number, text, fault)


def _parsed(number: int, text: str, fault: str) -> Record:
    if fault:
        return Record(number, fault=fault)
    try:
        values = loads(text)
    except ValueError as error:
        return Record(number, fault=str(error))
    if not isinstance(values, dict):
        return Record(number, fault=f"is {kind(values)}, not an object")
    return Record(number, values)


def _json(path: Path) -> Iterator[Record]:
    """A list of objects; what does not begin as a list is read as JSON lines."""
    if path.stat().st_size > 8 * LONGEST_BYTES:
        raise UsageError(
            f"{path.name} is a JSON file of {path.stat().st_size:,} bytes: write it as JSON lines (.jsonl)."
        )
    text, fault = _decoded(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), "")
    if not text.lstrip().startswith("["):
        return _json_lines(path)
    return iter([Record(1, fault=fault)]) if fault else _elements(text)


def _elements(text: str) -> Iterator[Record]:
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_object)
    place, line, closed = text.index("[") + 1, 1, False
    counted = 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        line, counted = line + text.count("\n", counted, place), place
        if place >= len(text) or (closed := text[place] == "]"):
            break
        try:
            values, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            yield Record(error.lineno, fault=f"is not JSON: {error.msg} at column {error.colno:,}")
            return
        except (ValueError, RecursionError) as error:
            yield Record(line, fault="is nested too deeply" if isinstance(error, RecursionError) else str(error))
            return
        yield (
            Record(line, values)
            if isinstance(values, dict)
            else Record(line, fault=f"is {kind(values)}, not an object")
        )
    if not closed:
        yield Record(line, fault="ends before the list does")


def _csv(path: Path) -> Iterator[Record]:
    return _table(path, ",")


def _tsv(path: Path) -> Iterator[Record]:
    return _table(path, "\t")


def _table(path: Path, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(LONGEST_BYTES)  # Python's default of 128 KiB refuses long documents; there is no other way
    faults: list[str] = []

    def texts() -> Iterator[str]:
        for _, text, fault in _lines(path):
            faults.append(fault)
            yield text

    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        begun = len(faults)
        try:
            fields = next(rows, None)
        except csv.Error as error:
            yield Record(begun + 1, fault=f"is not CSV: {error}")
            if not header:
                return
            continue
        if fields is None:
            return
        fault = next(filter(None, faults[begun:]), "")
        if header or fault:
            if fields or fault:
                yield _row(begun + 1, header, fields, fault)
            continue
        header = fields
        if twice := [name for name in header if header.count(name) > 1]:
            yield Record(1, fault=f"names the column {twice[0]!r} twice")
            return


def _row(line: int, header: list[str], fields: list[str], fault: str) -> Record:
    if not fault and len(fields) != len(header):
        fault = f"has {len(fields):,} fields, and the header {len(header):,}"
    return Record(line, fault=fault) if fault else Record(line, dict(zip(header, fields, strict=True)))


def _paragraphs(path: Path) -> Iterator[Record]:
    begun, held = 0, list[str]()
    for number, text, fault in _lines(path):
        if fault:
            yield Record(number, fault=fault)
        elif text.strip():
            begun = begun if held else number
            held.append(text)
        elif held:
            yield Record(begun, {"text": "".join(held).rstrip("\r\n")})
            held = []
    if held:
        yield Record(begun, {"text": "".join(held).rstrip("\r\n")})
