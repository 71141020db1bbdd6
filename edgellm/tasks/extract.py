"""Extraction: text and a schema in, a value that parses and validates out.

Knows how to read the short form of a schema and how to ask; enforcing it while decoding is `constraint`'s work.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edgellm.errors import EmptyText, InvalidOutput, SchemaUnsupported, TruncatedOutput, UsageError
from edgellm.prompt import Message, Prompt, Reply, Task
from edgellm.sampling import Sampling
from edgellm.tasks.positions import cut_off
from edgellm.tasks.quoting import unquoted

Schema = Mapping[str, Any]
GREEDY = Sampling(temperature=0.0)

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
_FIELD = re.compile(
    r"""^(?P<name>[^\s\[\]?]+?) (?P<optional>\?)?
        (?:\s+(?: \[\s*(?P<items>\w+)\s*\] | (?P<kind>\w+) ) (?P<late>\?)? )?$""",
    re.VERBOSE,
)


def fields(short: str) -> dict[str, Any]:
    """Read the short form of a schema: `'name, age int, email?, tags [str]'`.

    A field is `name`, `name TYPE` or `name [TYPE]` (a list); `?` makes it null when the text does not say. Types: str
    (the default), int, float, bool. Raises UsageError naming the field that cannot be read.
    """
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


def ask(
    text: str,
    schema: Schema,
    *,
    examples: Sequence[tuple[str, Any]] = (),
    sampling: Sampling = GREEDY,
    verbatim: bool = False,
) -> Prompt:
    """Build the prompt: the wanted keys in schema order, earlier examples as turns, the text last."""
    if not isinstance(schema, Mapping):
        raise SchemaUnsupported(f"a JSON Schema is an object, not {type(schema).__name__}.")
    turns = [
        message
        for given, wanted in examples
        for message in (Message("user", _question(given, schema)), Message("assistant", dump(wanted)))
    ]
    return Prompt(
        messages=(*turns, Message("user", _question(text, schema))),
        sampling=sampling,
        schema=schema,
        quotes=text.strip() if verbatim else None,
    )


def extract(
    text: str,
    schema: Schema,
    *,
    examples: Sequence[tuple[str, Any]] = (),
    sampling: Sampling = GREEDY,
    verbatim: bool = False,
) -> Task[Any]:
    """Extract from one text. Returns the parsed value; with `verbatim`, its free texts are literally in the text.

    A text is free when its schema gives no enum, const, pattern or format; it may also be empty. Raises EmptyText,
    TruncatedOutput (the token budget ended first; carries the partial text) or InvalidOutput.
    """
    if not text.strip():
        raise EmptyText("there is no text to extract from.")
    [reply] = yield [ask(text, schema, examples=examples, sampling=sampling, verbatim=verbatim)]
    value = read(reply, schema)
    if verbatim and (path := unquoted(value, schema, text)):
        raise InvalidOutput(f"the answer's {path} is not literally in the text.", reply.text)
    return value


def read(reply: Reply, schema: Schema) -> Any:
    """Parse and validate a finished answer, always: enforcement while decoding is not proof."""
    if reply.finish != "stop":
        raise _truncated(reply, schema)
    from jsonschema import ValidationError

    try:
        return _checked(reply.text, schema)
    except ValidationError as error:
        raise InvalidOutput(
            f"the answer breaks the schema at {error.json_path}: {error.message}.", reply.text
        ) from error
    except ValueError as error:  # not JSON, a number too long for Python, or one that is not finite
        raise InvalidOutput(f"the answer is not JSON: {error}.", reply.text) from error
    except (
        Exception
    ) as error:  # a pattern that Python's re cannot read, a keyword's form of another draft, too deep a value
        raise InvalidOutput(
            f"the answer cannot be checked against the schema ({type(error).__name__}: {error}).", reply.text
        ) from error


def _checked(text: str, schema: Schema) -> Any:
    from jsonschema import validators

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    kind(schema).validate(value)
    return value


def _truncated(reply: Reply, schema: Schema) -> TruncatedOutput:
    """What can be said of an answer whose budget ended: what is whole, where it was cut, and what only closes it."""
    cure = "raise --max-tokens or --context"
    told = f"the answer was cut after {reply.tokens} tokens"
    try:
        partial = _checked(reply.text, schema)
        cut, filled = cut_off(reply.text, len(reply.text) if reply.said_chars is None else reply.said_chars)
    except Exception:  # it was cut where nothing could close it
        return TruncatedOutput(f"{told}, inside the JSON: {cure}.", text=reply.text)
    places = ", ".join(filled[:3]) + (f" and {len(filled) - 3} more" if len(filled) > 3 else "")
    made_up = f"; {places} only fill the form" if filled else ""
    return TruncatedOutput(
        f"{told}, at {cut or 'its end'}{made_up}: {cure}.", partial, text=reply.text, cut=cut, filled=filled
    )


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a finite number")


def dump(value: Any) -> str:
    """Write JSON the way answers are written: one line, `, ` and `: ` as separators, real characters."""
    return json.dumps(value, ensure_ascii=False)


def _question(text: str, schema: Schema) -> str:
    wanted, nullable = _wanted(schema)
    hint = " Use null for what the text does not say." if nullable else ""
    return f"Extract {wanted}.{hint}\n\nText: {text.strip()}"


def _wanted(schema: Schema) -> tuple[str, bool]:
    """Name the wanted fields in one line, or show the whole schema when it is not a flat object."""
    properties = schema.get("properties") if schema.get("type") == "object" else None
    if not isinstance(properties, Mapping) or not properties or not all(map(_flat, properties.values())):
        return f"JSON from the text that obeys this JSON Schema: {dump(schema)}", "null" in dump(schema)
    nullable = any("null" in _kinds(one) for one in properties.values())
    fields = ", ".join(f"{name}{_note(one)}" for name, one in properties.items())
    return f"these fields from the text as JSON: {fields}", nullable


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
