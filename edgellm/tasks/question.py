"""How extraction is asked for: the wanted fields in one line, or the whole schema, then the text.

The embedded model was trained on these words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


_FIELDS = "these fields from the text as JSON: "


def dump(value: Any) -> str:
    """Write JSON the way answers are written: one line, `, ` and `: ` as separators, real characters."""
    return json.dumps(value, ensure_ascii=False)


def question(text: str, schema: Schema) -> str:
    """What is asked about a text."""
    wanted, nullable = _wanted(schema)
    hint = " Use null for what the text does not say." if nullable else ""
    return f"Extract {wanted}.{hint}\n\nText: {text.strip()}"


def _wanted(schema: Schema) -> tuple[str, bool]:
    """Name the wanted fields in one line, or show the whole schema when it is no flat record, and no list of those."""
    items = schema.get("items") if schema.get("type") == "array" and "prefixItems" not in schema else None
    if isinstance(items, Mapping) and items.get("type") == "object":
        wanted, nullable = _wanted(items)
        if wanted.startswith(_FIELDS):
            named = wanted.removeprefix(_FIELDS)
            return f"every record in the text as a JSON list of objects with these fields: {named}", nullable
    properties = schema.get("properties") if schema.get("type") == "object" else None
    if not isinstance(properties, Mapping) or not properties or not all(map(_flat, properties.values())):
        return f"JSON from the text that obeys this JSON Schema: {dump(schema)}", "null" in dump(schema)
    nullable = any("null" in _kinds(one) for one in properties.values())
    fields = ", ".join(f"{name}{_note(one)}" for name, one in properties.items())
    return f"{_FIELDS}{fields}", nullable


def _flat(one: Any) -> bool:
    if not isinstance(one, Mapping) or not isinstance(one.get("enum", []), list | tuple):
        return False
    items = one.get("items", {})
    return (
        bool(_kinds(one)) and "object" not in _kinds(one) and isinstance(items, Mapping) and (not items or _flat(items))
    )


def _kinds(one: Schema) -> list[str]:
    kind = one.get("type", "string" if "enum" in one else [])
    return [kind] if isinstance(kind, str) else list(kind) if isinstance(kind, list | tuple) else []


def _note(one: Schema) -> str:
    """Say in brackets what a name alone does not: type, allowed values, description."""
    kinds = [kind for kind in _kinds(one) if kind != "null"]
    parts = []
    if "enum" in one:
        parts.append("one of " + ", ".join(str(value) for value in one["enum"] if value is not None))
    elif kinds == ["array"]:
        items = _kinds(one.get("items", {}))
        parts.append(f"list of {items[0]}" if items else "list")
    elif kinds != ["string"]:
        parts.append(" or ".join(kinds))
    if "null" in _kinds(one):
        parts.append("or null")
    if one.get("description"):
        parts.append(str(one["description"]).rstrip("."))
    return f" ({'; '.join(parts)})" if parts else ""
