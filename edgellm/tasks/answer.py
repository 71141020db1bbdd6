"""A finished answer, parsed and validated: always, because enforcement while decoding is not proof."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from edgellm.errors import InvalidOutput, TruncatedOutput
from edgellm.prompt import Reply
from edgellm.tasks.positions import cut_off
from edgellm.tasks.question import Schema


def read(reply: Reply, schema: Schema) -> Any:
    """Parse and validate a finished answer, always: enforcement while decoding is not proof."""
    if reply.finish != "stop":
        raise _truncated(reply, schema)
    return valid(reply.text, schema)


def valid(text: str, schema: Schema) -> Any:
    """The value of a JSON text that satisfies its schema. Raises InvalidOutput otherwise."""
    from jsonschema import ValidationError

    try:
        return _checked(text, schema)
    except ValidationError as error:
        raise InvalidOutput(f"the answer breaks the schema at {error.json_path}: {error.message}.", text) from error
    except ValueError as error:  # not JSON, a number too long for Python, or one that is not finite
        raise InvalidOutput(f"the answer is not JSON: {error}.", text) from error
    except (
        Exception
    ) as error:  # a pattern that Python's re cannot read, a keyword's form of another draft, too deep a value
        raise InvalidOutput(
            f"the answer cannot be checked against the schema ({type(error).__name__}: {error}).", text
        ) from error


def _checked(text: str, schema: Schema) -> Any:
    from jsonschema import validators

    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are said once: of two, the first would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is said twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a finite number")
