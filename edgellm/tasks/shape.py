"""Whatever names the wanted value, as a JSON Schema, and how its parsed value becomes what the caller wants.

A JSON Schema dict, the short form, a pydantic class, a dataclass, a TypedDict, or a list of those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from edgellm.errors import UsageError
from edgellm.tasks import classes
from edgellm.tasks.short_form import fields as read_fields


class Shape(NamedTuple):
    """A schema, and what a value that satisfies it becomes."""

    schema: Mapping[str, Any]
    finish: Callable[[Any], Any]


def shape(wanted: Any = None, fields: str | None = None) -> Shape:
    """Read what is wanted, from a schema or type, or the short form in `fields`: one of the two.

    Dicts come back as they are parsed, classes as instances. Raises UsageError, naming the field that cannot be.
    """
    if (wanted is None) == (fields is None):
        raise UsageError("give a schema or fields, one of the two.")
    if fields is not None:
        return Shape(read_fields(fields), _same)
    if isinstance(wanted, Mapping):
        return Shape(wanted, _same)
    if not classes.is_type(wanted):
        raise UsageError(
            "a schema is a JSON Schema dict, or a pydantic class, dataclass, TypedDict or list of them, "
            f"not {type(wanted).__name__}."
        )
    kind = classes.read(wanted)
    return Shape(kind.schema, kind.build)


def _same(value: Any) -> Any:
    return value
