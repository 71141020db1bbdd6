"""Results into lines of JSON, one object each, and back into what a later run must know of them.

A row keeps its columns; a line depends on nothing but the row, the job and the answer, so that a run that was interrupted
writes the same bytes as one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edgellm.errors import InvalidOutput
from edgellm.rows import openai
from edgellm.rows.row import Id, Result, Row

_OURS = ("id", "result", "evidence", "error", "finish", "prompt_tokens", "tokens", "warnings", "receipt", "input")


class Entry(NamedTuple):
    """What a finished line says: whose it is, and whether it failed."""

    id: Id
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Makes lines; `created` is in seconds since 1970, `dropped` is the column that is not kept."""

    model: str
    created: int
    dropped: str | None = None
    ascii: bool = False  # for terminals, which might obey what they should show

    def line(self, result: Result) -> bytes:
        """One line, with its end."""
        try:
            return self._dump(self._record(result))
        except (ValueError, RecursionError) as error:  # an infinite number, a value nested a thousand deep
            words = f"the answer cannot be written as JSON ({type(error).__name__}: {error})."
            row = Row(id=result.row.id, values={"custom_id": 0, "body": 0} if openai.is_line(result.row.values) else {})
            return self._dump(self._record(replace(result, row=row, value=None, error=InvalidOutput(words, ""))))

    def _dump(self, record: Mapping[str, Any]) -> bytes:
        try:
            return json.dumps(record, ensure_ascii=self.ascii, allow_nan=False).encode() + b"\n"
        except UnicodeEncodeError:  # half a surrogate pair: JSON can say it, UTF-8 cannot
            return json.dumps(record, allow_nan=False).encode() + b"\n"

    def _record(self, result: Result) -> dict[str, Any]:
        if openai.is_line(result.row.values):
            return openai.answer(result, model=self.model, created=self.created)
        return self._plain(result)

    def _plain(self, result: Result) -> dict[str, Any]:
        """The id, the kept columns, ours; kept ones with the names of ours go below `input`."""
        kept = {
            name: value
            for name, value in result.row.values.items()
            if name != self.dropped and not (name == "id" and value == result.row.id)
        }
        ours = {
            "result": result.value,
            **({"evidence": dict(result.evidence)} if result.evidence is not None else {}),
            "error": _error(result),
            "finish": result.finish,
            "prompt_tokens": result.prompt_tokens,
            "tokens": result.tokens,
            **({"warnings": list(result.warnings)} if result.warnings else {}),
            **({"receipt": dict(result.receipt)} if result.receipt else {}),
        }
        hidden = {name: value for name, value in kept.items() if name in _OURS}
        shown = {name: value for name, value in kept.items() if name not in _OURS}
        return {"id": result.row.id, **shown, **ours, **({"input": hidden} if hidden else {})}


def entry(line: bytes) -> Entry:
    """Read a finished line. Raises ValueError for anything else."""
    record = json.loads(line)
    if not isinstance(record, dict) or "error" not in record:
        raise ValueError("not a line of a batch")
    found = record["id" if "result" in record else "custom_id"] if {"id", "custom_id"} & set(record) else None
    if not isinstance(found, str | int):
        raise ValueError("a line without an id")  # noqa: TRY004 - a wrong value of a file
    return Entry(found, record["error"] is not None)


def _error(result: Result) -> dict[str, Any] | None:
    error = result.error
    if error is None:
        return None
    told: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    partial = getattr(error, "partial", None) or getattr(error, "text", None)
    return {**told, "partial": partial} if partial else told
