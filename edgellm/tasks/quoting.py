"""Which texts of a value its schema leaves free, and whether each is a verbatim piece of the source.

The check after `constraint.verbatim`, made another way: it walks the finished value, not the grammar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIXED = {"enum", "const", "pattern", "format"}


def unquoted(value: Any, schema: Any, source: str) -> str | None:
    """The path of the first free text that is not in the source, as `$.name`; None when all are.

    `value` satisfies `schema`. Of a choice, one branch that the value satisfies must be all verbatim.
    """
    return _Check(schema, source).of(value, schema, "$", 0)


class _Check:
    def __init__(self, root: Any, source: str) -> None:
        import jsonschema

        self._root, self._source = root, source
        self._validator = jsonschema.validators.validator_for(root, default=jsonschema.Draft202012Validator)(root)

    def of(self, value: Any, part: Any, path: str, depth: int) -> str | None:
        if not isinstance(part, Mapping):
            part = {}
        if "enum" in part or "const" in part or depth > 100:
            return None if depth <= 100 else path
        if "$ref" in part:
            return self.of(value, self._behind(part["$ref"]), path, depth + 1)
        for key in ("anyOf", "oneOf"):
            if key in part:
                fitting = [one for one in part[key] if self._validator.evolve(schema=one).is_valid(value)]
                found = [self.of(value, one, path, depth + 1) for one in fitting]
                return None if None in found else next(iter(found), path)
        if "allOf" in part:
            return next((bad for one in part["allOf"] if (bad := self.of(value, one, path, depth + 1))), None)
        if isinstance(value, str):
            return None if _FIXED & part.keys() or value in self._source else path
        return self._inside(value, part, path, depth + 1)

    def _behind(self, reference: str) -> Any:
        """What a reference points to: grammars that quote know those inside the same schema alone."""
        target = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
        return target

    def _inside(self, value: Any, part: Mapping[str, Any], path: str, depth: int) -> str | None:
        bad: str | None = None
        if isinstance(value, Mapping):
            named, other = part.get("properties", {}), part.get("additionalProperties", {})
            for key, one in value.items():
                bad = bad or self.of(one, named.get(key, other), f"{path}.{key}", depth)
        elif isinstance(value, list):
            items = part.get("items", {})
            first = part.get("prefixItems", items if isinstance(items, list) else [])
            rest = part.get("additionalItems", {}) if isinstance(items, list) else items
            for index, one in enumerate(value):
                bad = bad or self.of(one, first[index] if index < len(first) else rest, f"{path}[{index}]", depth)
        return bad
