"""The short form of a schema, as people type it: `'name, age int, email?, tags [str]'`."""

from __future__ import annotations

import re
from typing import Any

from edgellm.errors import UsageError

_TYPES = {
    "str": "string",
    "string": "string",
    "text": "string",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
}
_RECORDS = re.compile(r"^\s*\[(.*)\]\s*$", re.DOTALL)
_FIELD = re.compile(
    r"""^(?P<name>[^\s\[\]?]+?) (?P<optional>\?)?
        (?:\s+(?: \[\s*(?P<items>\w+)\s*\] | (?P<kind>\w+) ) (?P<late>\?)? )?$""",
    re.VERBOSE,
)


def fields(short: str) -> dict[str, Any]:
    """Read the short form of a schema: `'name, age int, email?, tags [str]'`; in brackets, a list of such records.

    A field is `name`, `name TYPE` or `name [TYPE]` (a list); `?` makes it null when the text does not say. Types: str
    (the default), int, float, bool. Raises UsageError naming the field that cannot be read.
    """
    listed = _RECORDS.match(short)
    return {"type": "array", "items": _record(listed[1])} if listed else _record(short)


def _record(short: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for part in (piece.strip() for piece in short.split(",")):
        found = _FIELD.match(part)
        kind = found and (found["items"] or found["kind"] or "str")
        if not found or kind not in _TYPES:
            known = ", ".join(sorted(set(_TYPES) - {"string", "integer", "number", "boolean", "text"}))
            raise UsageError(
                f"cannot read field {part!r}: write `name`, `name TYPE`, `name [TYPE]` or `name?`, with TYPE one of {known}."
            )
        if found["name"] in properties:
            raise UsageError(f"field {found['name']!r} is named twice.")
        one: dict[str, Any] = {"type": _TYPES[kind]}
        if found["items"]:
            one = {"type": "array", "items": one}
        if found["optional"] or found["late"]:
            one["type"] = [one["type"], "null"]
        properties[found["name"]] = one
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
