"""Where in the source each value of an extraction stands: a verbatim quote and its characters, verified here.

What can be located is located; of a judgement (a boolean, a choice from an enum) that the text does not literally contain,
the model may quote what it goes by. Anything else has no evidence.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from edgellm.errors import SchemaUnsupported
from edgellm.tasks.positions import Position, escape, positions
from edgellm.tasks.written import find

How = Literal["exact", "loose", "number", "date", "model"]


@dataclass(frozen=True, slots=True)
class Quote:
    """`text` is literally `source[start:end]`; `how` says what was compared: `model` is the model's own word for it."""

    text: str
    start: int
    end: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """A value with what is known about it.

    `evidence` has, by JSON pointer, a quote for each leaf that says something, None where there is none. `warnings` is what
    a reader of the value must know, a sentence each; `examples` how many of the given ones were shown.
    """

    value: Any
    evidence: Mapping[str, Quote | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    examples: int = 0

    @property
    def unproven(self) -> tuple[str, ...]:
        """Pointers to the leaves without evidence."""
        return tuple(pointer for pointer, quote in self.evidence.items() if quote is None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `value` and `evidence`."""
        quotes = {pointer: asdict(quote) if quote else None for pointer, quote in self.evidence.items()}
        return {"value": self.value, "evidence": quotes}


def finished(found: Extracted, finish: Callable[[Any], Any], evidence: bool) -> Any:
    """What a caller gets: all of it when evidence was asked for, else the value; what that leaves unsaid is a warning."""
    if evidence:
        return replace(found, value=finish(found.value))
    for warning in found.warnings:
        warnings.warn(warning, stacklevel=3)
    return finish(found.value)


def leaves(value: Any) -> list[Position]:
    """The values that claim something about the text: not null, not "", no empty list."""
    found = positions(json.dumps(value))
    return [one for one in found if one.is_leaf and one.value not in (None, "", [], {})]


def located(value: Any, source: str) -> dict[str, Quote | None]:
    """A quote for each leaf that stands in the source."""
    return {one.pointer: _quote(one.value, source) for one in leaves(value)}


def _quote(value: Any, source: str) -> Quote | None:
    found = find(value, source)
    return Quote(source[found.start : found.end], found.start, found.end, found.how) if found else None


def quoted(words: Any, source: str) -> Quote | None:
    """The model's own quote, when it really is one."""
    found = find(words, source) if isinstance(words, str) and words.strip() else None
    if found is None or found.how != "exact":
        return None
    return Quote(source[found.start : found.end], found.start, found.end, "model")


def without(value: Any, pointers: tuple[str, ...]) -> Any:
    """The value with null in these places; an item of a list that may not be null is left out (see `refuse_strict`)."""
    return _without(value, "", frozenset(pointers))


def _without(value: Any, pointer: str, pointers: frozenset[str]) -> Any:
    if pointer in pointers:
        return None
    if isinstance(value, dict):
        return {key: _without(one, f"{pointer}/{escape(key)}", pointers) for key, one in value.items()}
    if isinstance(value, list):
        kept = [(index, _without(one, f"{pointer}/{index}", pointers)) for index, one in enumerate(value)]
        return [one for index, one in kept if f"{pointer}/{index}" not in pointers]
    return value


def refuse_strict(schema: Any) -> None:
    """Refuse, by pointer, a schema in which a value without evidence could not be taken out.

    A property must allow null; an item of a list is left out, so the list must not have a least length.
    """
    _Nullable(schema).check(schema, "", in_list=False)


class _Nullable:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._seen: set[int] = set()

    def check(self, part: Any, pointer: str, *, in_list: bool) -> None:
        """Raise for the first leaf that can neither be null nor be left out."""
        if not isinstance(part, Mapping) or id(part) in self._seen or not part:
            return
        self._seen.add(id(part))
        reference = part.get("$ref")
        if isinstance(reference, str):
            self.check(self._behind(reference), pointer, in_list=in_list)
            return
        branches = [one for key in ("anyOf", "oneOf", "allOf") for one in part.get(key, ())]
        if branches:
            null = any(isinstance(one, Mapping) and _allows_null(one) for one in branches)
            for one in branches:
                self.check(one, pointer, in_list=in_list or null)
        elif not in_list and not _allows_null(part) and (_kinds(part) - {"object", "array"} or "type" not in part):
            raise SchemaUnsupported(
                f"strict evidence must be able to take a value out, and {pointer or 'the root'} does not allow null: "
                "allow it (`name?` in the short form), or ask for evidence alone.",
                pointer,
            )
        self._inside(part, pointer)

    def _inside(self, part: Mapping[str, Any], pointer: str) -> None:
        for name, one in part.get("properties", {}).items():
            self.check(one, f"{pointer}/properties/{escape(name)}", in_list=False)
        self.check(part.get("additionalProperties"), f"{pointer}/additionalProperties", in_list=False)
        fixed = bool(part.get("minItems")) or "prefixItems" in part
        for index, one in enumerate(part.get("prefixItems", ())):
            self.check(one, f"{pointer}/prefixItems/{index}", in_list=False)
        self.check(part.get("items"), f"{pointer}/items", in_list=not fixed)

    def _behind(self, reference: str) -> Any:
        target = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target.get(key, {})
        return target


def _kinds(part: Mapping[str, Any]) -> set[str]:
    kind = part.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


def _allows_null(part: Mapping[str, Any]) -> bool:
    if "enum" in part:
        return None in part["enum"]
    if "const" in part:
        return part["const"] is None
    return "type" not in part or "null" in _kinds(part)
