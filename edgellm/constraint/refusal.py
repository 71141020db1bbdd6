"""Why llguidance refuses a schema, in words that help: which keyword, where, and what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from edgellm.constraint.library import json_grammar, matcher
from edgellm.constraint.plain import behind, children, escape
from edgellm.errors import SchemaUnsupported

# What llguidance says, and the keyword it means.
_MEANS = (
    (re.compile(r'Unimplemented keys: \["([^"]+)"'), None),
    (re.compile(r"Unknown format|Failed to parse format"), "format"),
    (re.compile(r"(?i)regex"), "pattern"),
    (re.compile(r"Invalid type"), "type"),
    (re.compile(r"Pointer|Resource|registry|circular reference|\$ref"), "$ref"),
    (re.compile(r"oneOf"), "oneOf"),
    (re.compile(r"for '(\w+)'|^(\w+) must be|^Unsatisfiable schema: (\w+)"), None),
)


def blame(schema: dict[str, Any], message: str) -> SchemaUnsupported:
    """Say which keyword, where, and what to do."""
    pointer, culprit = _Search(schema, message).find()
    keyword = _keyword(message)
    name = "the schema"
    if keyword in culprit:
        pointer, name = f"{pointer}/{escape(keyword)}", repr(keyword)
    where = f" at {pointer}" if pointer else ""
    return SchemaUnsupported(
        f"cannot enforce {name}{where} while decoding: {words(message)}. Change or remove it.", pointer
    )


class _Search:
    """Looks for the innermost subschema that fails alone with the same message, for half a second of computing at most.

    First among those that have the keyword which the message means; of a large schema these are few.
    """

    def __init__(self, schema: dict[str, Any], message: str) -> None:
        from llguidance import LLTokenizer

        self._schema, self._message = schema, message
        self._tokenizer = LLTokenizer("byte")
        self._shared = {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
        self._followed: set[str] = set()
        self._until = time.process_time() + 0.5

    def find(self) -> tuple[str, dict[str, Any]]:
        """Return the pointer and the subschema; the root when nothing smaller is to blame."""
        keyword = _keyword(self._message)
        try:
            having = [one for one in _innermost("", self._schema) if keyword in one[1]]
            return self._first(having) or self._within("", self._schema) or (having or [("", self._schema)])[0]
        except RecursionError:
            return "", self._schema

    def _first(self, parts: list[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]] | None:
        return next(
            (one for one in parts if one[0] and time.process_time() < self._until and self._fails(one[1])), None
        )

    def _fails(self, part: dict[str, Any]) -> bool:
        error = matcher(json_grammar({**part, **self._shared}), self._tokenizer).get_error()
        return bool(error == self._message)

    def _within(self, pointer: str, part: Any) -> tuple[str, dict[str, Any]] | None:
        if not isinstance(part, dict) or time.process_time() > self._until:
            return None
        for step, child in children(part):
            if found := self._within(pointer + step, child):
                return found
        if not pointer or not self._fails(part):
            return None
        reference = str(part.get("$ref"))
        target = behind(self._schema, reference)
        if target is None or reference in self._followed:
            return pointer, part
        self._followed.add(reference)
        return self._within(reference[1:], target) or (pointer, part)


def _innermost(pointer: str, part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema with its pointer, those inside before the one around them."""
    if isinstance(part, dict):
        for step, child in children(part):
            yield from _innermost(pointer + step, child)
        yield pointer, part


def _keyword(message: str) -> str:
    for pattern, keyword in _MEANS:
        if found := pattern.search(message):
            return keyword or next(filter(None, found.groups()))
    return ""


def words(message: str) -> str:
    """llguidance's message as one short line."""
    line = " ".join(message.replace("<non-verbose/>", "").split()).rstrip(".")
    return line if len(line) <= 300 else f"{line[:299]}…"
