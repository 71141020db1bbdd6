"""Python types as JSON Schema and back: dataclasses, TypedDicts, pydantic classes and what they are made of.

A type that JSON cannot hold is refused by the name of its field. Knows no prompt and no text.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from edgellm.errors import InvalidOutput, UsageError
from edgellm.tasks.question import dump

_LISTS = (list, Sequence, typing.Iterable)
_FORMATS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    datetime.date: ("date", datetime.date.fromisoformat),
    datetime.datetime: ("date-time", datetime.datetime.fromisoformat),
    datetime.time: ("time", datetime.time.fromisoformat),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One type: its schema, which JSON values are of it, and the Python value that such a one becomes."""

    schema: dict[str, Any]
    fits: Callable[[Any], bool]
    build: Callable[[Any], Any] = lambda value: value

    def described(self, text: str | None) -> Kind:
        """The same with words for the prompt."""
        return dataclasses.replace(self, schema={**self.schema, "description": text}) if text else self


_PLAIN: dict[Any, Kind] = {
    str: Kind({"type": "string"}, lambda value: isinstance(value, str)),
    int: Kind({"type": "integer"}, lambda value: _is_number(value) and value == int(value), int),
    float: Kind({"type": "number"}, lambda value: _is_number(value), float),
    bool: Kind({"type": "boolean"}, lambda value: isinstance(value, bool)),
    type(None): Kind({"type": "null"}, lambda value: value is None),
    Any: Kind({}, lambda value: True),  # noqa: ARG005
    object: Kind({}, lambda value: True),  # noqa: ARG005
}


def read(wanted: Any) -> Kind:
    """Read a type. Raises UsageError that names the field which JSON cannot hold."""
    reader = _Reader()
    kind = reader.kind(wanted, getattr(wanted, "__name__", str(wanted)))
    if not reader.shared:
        return kind
    return dataclasses.replace(kind, schema={**kind.schema, "$defs": reader.shared})


def is_type(wanted: Any) -> bool:
    """Whether this is something that `read` reads, and no mapping, text or other value."""
    return isinstance(wanted, type) or get_origin(wanted) is not None or wanted in (Any, None)


class _Reader:
    """Reads one type; remembers the classes it is inside of, which may be met again."""

    def __init__(self) -> None:
        self.shared: dict[str, Any] = {}
        self._open: dict[type, Kind | None] = {}
        self._recursive: set[type] = set()

    def kind(self, wanted: Any, name: str) -> Kind:
        """The kind of a type; `name` is the field's, for errors."""
        wanted = type(None) if wanted is None else wanted
        if wanted in _PLAIN:
            return _PLAIN[wanted]
        if wanted in _FORMATS:
            form, build = _FORMATS[wanted]
            return Kind({"type": "string", "format": form}, lambda value: isinstance(value, str), build)
        if get_origin(wanted) is not None:
            return self._generic(wanted, name)
        if not isinstance(wanted, type):
            raise _refused(wanted, name)
        if issubclass(wanted, enum.Enum):
            return _enumeration(wanted, name)
        if hasattr(wanted, "model_json_schema"):
            return self._pydantic(wanted, name)
        if dataclasses.is_dataclass(wanted) or typing.is_typeddict(wanted):
            return self._class(wanted)
        if wanted in (list, dict):
            inner = {"type": "array" if wanted is list else "object"}
            return Kind(inner, lambda value: isinstance(value, wanted))
        raise _refused(wanted, name)

    def _generic(self, wanted: Any, name: str) -> Kind:
        origin, inner = get_origin(wanted), get_args(wanted)
        if origin is typing.Annotated:
            words = next((one for one in inner[1:] if isinstance(one, str)), None)
            return self.kind(inner[0], name).described(words)
        if origin in (typing.Required, typing.NotRequired):
            return self.kind(inner[0], name)
        if origin is Literal:
            return _choice(list(inner), name)
        if origin in (typing.Union, types.UnionType):
            return _union([self.kind(one, name) for one in inner])
        if origin in _LISTS or (origin is tuple and inner[1:] == (...,)):
            return _list(self.kind(inner[0], f"{name}[]"), tuple if origin is tuple else list)
        if origin is tuple:
            return _tuple([self.kind(one, f"{name}[{index}]") for index, one in enumerate(inner)])
        if origin in (dict, Mapping) and inner[0] is str:
            return _map(self.kind(inner[1], f"{name}[]"))
        raise _refused(wanted, name)

    def _class(self, wanted: type) -> Kind:
        """A dataclass or TypedDict: every field is required that has no default."""
        if wanted in self._open:
            self._recursive.add(wanted)
            late = Kind(
                {"$ref": f"#/$defs/{wanted.__name__}"},
                lambda value: self._built(wanted).fits(value),
                lambda value: self._built(wanted).build(value),
            )
            return self._open[wanted] or late
        self._open[wanted] = None
        try:
            hints = typing.get_type_hints(wanted, include_extras=True)
        except Exception as error:  # a name in an annotation that stands for nothing
            raise UsageError(f"the annotations of {wanted.__name__} cannot be read: {error}.") from error
        fields = _fields(wanted, hints)
        kinds = {
            name: self.kind(hints[name], f"{wanted.__name__}.{name}").described(one.words)
            for name, one in fields.items()
        }
        kind = _record(wanted, kinds, [name for name, one in fields.items() if one.needed])
        if wanted not in self._recursive:
            del self._open[wanted]
            return kind
        self._share(wanted.__name__, kind.schema, wanted.__name__)
        self._open[wanted] = dataclasses.replace(kind, schema={"$ref": f"#/$defs/{wanted.__name__}"})
        return self._built(wanted)

    def _built(self, wanted: type) -> Kind:
        kind = self._open[wanted]
        assert kind
        return kind

    def _pydantic(self, wanted: Any, name: str) -> Kind:
        schema = _closed(wanted.model_json_schema())
        for key, one in schema.pop("$defs", {}).items():
            self._share(key, one, name)
        return Kind(schema, lambda value: isinstance(value, dict), lambda value: _instance(wanted, value))

    def _share(self, key: str, schema: dict[str, Any], name: str) -> None:
        if self.shared.setdefault(key, schema) != schema:
            raise UsageError(f"{name}: two classes are called {key!r}, and are not the same.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    needed: bool
    words: str | None = None


def _fields(wanted: Any, hints: Mapping[str, Any]) -> dict[str, _Field]:
    if typing.is_typeddict(wanted):
        return {name: _Field(_is_required(one, name in wanted.__required_keys__)) for name, one in hints.items()}
    missing = dataclasses.MISSING
    return {
        one.name: _Field(one.default is missing and one.default_factory is missing, one.metadata.get("description"))
        for one in dataclasses.fields(wanted)
        if one.init
    }


def _is_required(hint: Any, otherwise: bool) -> bool:
    """Ask the annotation itself: Python overlooks it where annotations are written as text."""
    return {typing.Required: True, typing.NotRequired: False}.get(get_origin(hint), otherwise)


def _record(wanted: Any, kinds: dict[str, Kind], needed: list[str]) -> Kind:
    def fits(value: Any) -> bool:
        known = isinstance(value, dict) and value.keys() <= kinds.keys() and value.keys() >= set(needed)
        return known and all(kinds[name].fits(one) for name, one in value.items())

    def build(value: Any) -> Any:
        built = {name: kinds[name].build(one) for name, one in value.items()}
        try:
            return wanted(**built)
        except (TypeError, ValueError) as error:  # what its __post_init__ refuses
            raise InvalidOutput(f"the answer does not pass {wanted.__name__}: {error}", dump(value)) from error

    schema = {
        "type": "object",
        "properties": {name: kind.schema for name, kind in kinds.items()},
        "required": needed,
        "additionalProperties": False,
    }
    return Kind(schema, fits, build)


def _union(kinds: list[Kind]) -> Kind:
    plain = [
        kind.schema["type"] for kind in kinds if set(kind.schema) == {"type"} and isinstance(kind.schema["type"], str)
    ]
    schema: dict[str, Any] = {"anyOf": [kind.schema for kind in kinds]}
    if len(plain) == len(kinds):
        schema = {"type": plain}
    elif all("enum" in kind.schema or kind.schema == {"type": "null"} for kind in kinds):
        schema = {"enum": [value for kind in kinds for value in kind.schema.get("enum", [None])]}

    def build(value: Any) -> Any:
        return next(kind for kind in kinds if kind.fits(value)).build(value)

    return Kind(schema, lambda value: any(kind.fits(value) for kind in kinds), build)


def _list(item: Kind, kind: Callable[[Any], Any]) -> Kind:
    return Kind(
        {"type": "array", "items": item.schema},
        lambda value: isinstance(value, list) and all(map(item.fits, value)),
        lambda value: kind(item.build(one) for one in value),
    )


def _tuple(kinds: list[Kind]) -> Kind:
    count = len(kinds)
    places = {"prefixItems": [kind.schema for kind in kinds], "items": False, "minItems": count, "maxItems": count}
    return Kind(
        {"type": "array", **places},
        lambda value: (
            isinstance(value, list)
            and len(value) == count
            and all(k.fits(v) for k, v in zip(kinds, value, strict=True))
        ),
        lambda value: tuple(kind.build(one) for kind, one in zip(kinds, value, strict=True)),
    )


def _fits(kind: Kind, value: Any) -> bool:
    return kind.fits(value)


def _map(inner: Kind) -> Kind:
    return Kind(
        {"type": "object", "additionalProperties": inner.schema},
        lambda value: isinstance(value, dict) and all(map(inner.fits, value.values())),
        lambda value: {key: inner.build(one) for key, one in value.items()},
    )


def _choice(values: list[Any], name: str) -> Kind:
    for value in values:
        if not (value is None or isinstance(value, str | int | float | bool)) or isinstance(value, enum.Enum):
            raise _refused(value, name)
    return Kind({"enum": values}, lambda value: any(value == one and type(value) is type(one) for one in values))


def _enumeration(wanted: type[enum.Enum], name: str) -> Kind:
    kind = _choice([one.value for one in wanted], name)
    return dataclasses.replace(kind, build=wanted)


def _instance(wanted: Any, value: Any) -> Any:
    """Build the pydantic instance; what its own validators refuse is an answer that breaks its contract."""
    try:
        return wanted.model_validate(value)
    except ValueError as error:
        raise InvalidOutput(f"the answer does not pass {wanted.__name__}: {error}", dump(value)) from error


def _closed(schema: Any) -> Any:
    """A pydantic schema whose objects take no properties that the class would only drop."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: one if key in ("enum", "const", "default", "examples") else _closed(one) for key, one in schema.items()
    }
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(wanted: Any, name: str) -> UsageError:
    told = getattr(wanted, "__name__", None) or repr(wanted)
    return UsageError(
        f"{name}: {told} cannot be written as JSON; use str, int, float, bool, None, list, dict, tuple, Literal, an Enum, "
        "a date, or a dataclass, TypedDict or pydantic class."
    )
