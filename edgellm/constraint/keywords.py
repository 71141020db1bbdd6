"""Keywords that llguidance would pass over, or get wrong at an edge: refused here, by name and place.

It refuses what it knows and cannot do; what it does not know it takes for an annotation, as JSON Schema says. These are the
words that people write as rules all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgellm.constraint.plain import children, escape
from edgellm.errors import SchemaUnsupported

_RULES = (
    "additionalItems additionalProperties allOf anyOf const contains dependencies dependentRequired dependentSchemas else enum "
    "exclusiveMaximum exclusiveMinimum format if items maxContains maximum maxItems maxLength maxProperties minContains minimum "
    "minItems minLength minProperties multipleOf not oneOf pattern patternProperties prefixItems properties propertyNames "
    "required then type unevaluatedItems unevaluatedProperties uniqueItems"
)
_KNOWN = {name.lower(): name for name in _RULES.split()}
# Draft 3 and OpenAPI 3.0, and how it is said since.
_OLD = {
    "divisibleBy": "multipleOf",
    "extends": "allOf",
    "disallow": "a list of the types that are allowed",
    "nullable": 'a list of types with "null"',
}


def check(schema: Any, pointer: str = "") -> None:
    """Raise SchemaUnsupported for the first keyword that would be ignored though it is meant as a rule."""
    if not isinstance(schema, dict):
        return
    for key, said in (found for found in _complaints(schema) if found):
        place = f"{pointer}/{escape(key)}"
        raise SchemaUnsupported(f"cannot enforce {key!r} at {place} while decoding: {said}.", place)
    for step, child in children(schema):
        check(child, pointer + step)


def _complaints(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in schema.items():
        plain = key.replace("_", "").replace("-", "").lower()
        if key in _OLD and value is not False:
            yield key, f"it is no keyword of JSON Schema since draft 4: write {_OLD[key]}"
        elif plain in _KNOWN and key != _KNOWN[plain]:
            yield key, f"it is no keyword: write {_KNOWN[plain]}"
        elif key == "required" and value is True:
            yield key, "it is a list of names, in the schema of the object"
    yield from _narrow(schema)


def _narrow(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A bound that excludes a whole number, with another one less than 1 away: llguidance 1.9 lets the number itself pass."""
    numbers = {key: value for key, value in schema.items() if isinstance(value, int | float) and value is not True}
    for key, others in (
        ("exclusiveMinimum", ("maximum", "exclusiveMaximum")),
        ("exclusiveMaximum", ("minimum", "exclusiveMinimum")),
    ):
        bound = numbers.get(key)
        if bound is not None and bound == int(bound) and schema.get("type") != "integer":
            near = [name for name in others if name in numbers and 0 < abs(numbers[name] - bound) < 1]
            if near:
                yield key, f"with {near[0]} less than 1 away; use one that is not excluded"
