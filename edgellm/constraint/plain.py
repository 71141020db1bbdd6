"""A JSON Schema made plain before llguidance sees it: only JSON, not too deep, not too much, without words that say nothing.

Refuses with a JSON pointer whatever would crash the library, or take it more than a moment. Knows no grammar.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from edgellm.errors import SchemaUnsupported

# serde_json, which reads the grammar, stops at 128 levels; every schema level takes one or two of them.
_MAX_DEPTH = 100
_MAX_NODES = 200_000
_MAX_LEVELS, _MAX_PATTERNS = 1_000, 12
# Formats of OpenAPI and pydantic that name a use or a type and restrict no text; any other is enforced or refused.
_FREE_FORMATS = frozenset({"password", "binary", "path", "file-path", "directory-path", "text", "html", "markdown"})
_ONE = ("additionalProperties", "additionalItems", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAP = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")  # definitions last: maybe unused


def made_plain(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """Copy a schema as plain JSON; refuses, with a pointer, what cannot be one, is too deep, or too much."""
    if schema is True:
        return {}
    if schema is False:
        raise SchemaUnsupported("the schema `false` accepts no value.")
    if not isinstance(schema, Mapping):
        raise SchemaUnsupported(f"a JSON Schema is an object or a boolean, not {type(schema).__name__}.")
    found: dict[str, Any] = _plain(schema, "", 0, [0])
    _tidy(found)
    try:
        _check_levels(found)
        _check_patterns(found)
    except RecursionError as error:
        raise SchemaUnsupported("the schema is nested too deeply, counting what it refers to.") from error
    found.pop("x-guidance", None)  # llguidance's own switches, one of which ignores keywords
    return found


def _plain(value: Any, pointer: str, depth: int, seen: list[int]) -> Any:
    """Copy `value` as plain JSON data; refuse what JSON cannot say, what is too deep, and what is too much."""
    seen[0] += 1
    if depth > _MAX_DEPTH:
        raise SchemaUnsupported(f"the schema is nested deeper than {_MAX_DEPTH} levels at {pointer[:200]}…", pointer)
    if seen[0] > _MAX_NODES:
        raise SchemaUnsupported(f"the schema has more than {_MAX_NODES:,} parts.", pointer)
    if isinstance(value, Mapping):
        return {
            _string(key, pointer): _plain(one, f"{pointer}/{escape(str(key))}", depth + 1, seen)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{pointer}/{index}", depth + 1, seen) for index, one in enumerate(value)]
    if isinstance(value, str):
        return _string(value, pointer)
    if isinstance(value, int) and abs(value) > 2**53:  # llguidance computes with doubles, which round from here on
        raise SchemaUnsupported(f"the integer {str(value)[:40]} at {pointer or 'the root'} is beyond 2^53.", pointer)
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise SchemaUnsupported(f"{value!r} at {pointer or 'the root'} is not JSON.", pointer)


def _string(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise SchemaUnsupported(f"the key {value!r} at {pointer or 'the root'} is not a string.", pointer)
    if not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
        raise SchemaUnsupported(f"{value!r} at {pointer or 'the root'} is not valid Unicode.", pointer)
    return value


def _tidy(schema: Any) -> None:
    """Remove the keywords that say nothing, so that they are not refused: `uniqueItems: false`, formats of no form."""
    if not isinstance(schema, dict):
        return
    for key, value in list(schema.items()):
        old = key in ("required", "nullable") and value is False  # as draft 3 and OpenAPI say it
        free = key == "format" and isinstance(value, str) and value in _FREE_FORMATS
        if old or free or (key == "uniqueItems" and value is False):
            del schema[key]
    for _, child in children(schema):
        _tidy(child)


def _check_levels(schema: dict[str, Any]) -> None:
    """Refuse what llguidance could only compile with a deeper stack than it has: it crashes, and takes the process along.

    Counts the levels of the schema and of everything that is referred to, as if each stood inside the one before.
    """
    heights: dict[int, int] = {}

    def height(part: Any) -> int:
        heights[id(part)] = 1 + max((height(child) for _, child in children(part)), default=0)
        return heights[id(part)]

    levels = highest = height(schema)
    todo: list[Any] = [schema]
    seen: set[str] = set()
    while todo:
        part = todo.pop()
        todo += [child for _, child in children(part)]
        reference = part.get("$ref") if isinstance(part, dict) else None
        if reference is not None and str(reference) not in seen:
            seen.add(str(reference))
            target = behind(schema, reference)  # unknown: an anchor, a name; at worst it is the highest of all
            levels += highest if target is None else heights.get(id(target)) or height(target)
    if levels > _MAX_LEVELS:
        raise SchemaUnsupported(f"the schema has {levels:,} levels with all it refers to, more than {_MAX_LEVELS:,}.")


def _check_patterns(schema: dict[str, Any]) -> None:
    """Refuse texts that must match many patterns at once: finding out whether one exists doubles with each."""
    counts: dict[int, int] = {}

    def count(part: Any) -> int:
        if not isinstance(part, dict) or id(part) in counts:
            return counts.get(id(part), 0)
        counts[id(part)] = 0  # a cycle adds nothing
        every = [*_listed(part, "allOf"), behind(schema, part.get("$ref"))]
        either = max(map(count, [*_listed(part, "anyOf"), *_listed(part, "oneOf")]), default=0)
        counts[id(part)] = ("pattern" in part) + sum(map(count, every)) + either
        return counts[id(part)]

    todo: list[tuple[str, Any]] = [("", schema)]
    while todo:
        pointer, part = todo.pop()
        if count(part) > _MAX_PATTERNS:
            raise SchemaUnsupported(
                f"a text at {pointer or 'the root'} must match more than {_MAX_PATTERNS} patterns at once.",
                pointer,
            )
        todo += [(pointer + step, child) for step, child in children(part)]


def _listed(part: dict[str, Any], key: str) -> list[Any]:
    found = part.get(key)
    return found if isinstance(found, list) else []


def behind(schema: dict[str, Any], reference: Any) -> Any:
    """What a reference inside the same schema points to; None when it is none, or points nowhere."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = schema
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(key)] if key.isdecimal() and int(key) < len(target) else None
        else:
            target = target.get(key) if isinstance(target, dict) else None
    return target


def children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Subschemas one level down, with their pointers relative to `schema`."""
    if not isinstance(schema, dict):
        return
    for key in _LIST:
        if isinstance(schema.get(key), list):
            yield from ((f"/{key}/{index}", one) for index, one in enumerate(schema[key]))
    for key in _ONE:
        if isinstance(schema.get(key), dict):
            yield f"/{key}", schema[key]
    for key in _MAP:
        if isinstance(schema.get(key), dict):
            yield from ((f"/{escape(key)}/{escape(name)}", one) for name, one in schema[key].items())


def escape(key: str) -> str:
    """Write a key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")
