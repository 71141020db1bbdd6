"""A grammar in which every free text is quoted: a verbatim piece of a given source, of whole words and numbers.

A text is free when its schema gives no enum, const, pattern or format; it may be empty. The structure around free texts is
written here as Lark rules; whatever holds none stays the library's own. Objects take no properties but the named ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from edgellm.constraint.library import embedded, lark_grammar
from edgellm.constraint.plain import behind, escape
from edgellm.errors import SchemaUnsupported

# 0.2 s to compile and 100 MiB at this size (llguidance 1.9.1, one core); it grows in proportion.
LONGEST = 100_000
_TYPES = ("string", "object", "array", "number", "boolean", "null")
_TEXT = {"minLength", "maxLength"}
_FIXED = {"enum", "const", "pattern", "format"}
_OBJECT = {"properties", "required", "additionalProperties"}
_ARRAY = {"items", "prefixItems", "additionalItems", "minItems", "maxItems"}
_CHOICE = {"anyOf", "oneOf", "allOf", "$ref"}
_NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_RULES = (
    {"type", "patternProperties", "minProperties", "maxProperties"}
    | _TEXT | _FIXED | _OBJECT | _ARRAY | _CHOICE | _NUMBER
)  # fmt: skip
# Words and numbers are not cut, as a small model would: "aster" out of "toaster". Scripts written without blanks between
# words (Thai, Lao, Burmese, Khmer, Chinese, Japanese), and Korean with its endings, go letter by letter.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_CHUNK = re.compile(rf"[^\W\d_{_UNSPACED}]+|\d+|.", re.DOTALL)
_COMMA = '", "'
_LETTER = r'([^"\\\x00-\x1f]|\\(["\\bfnrt\/]|u[0-9a-fA-F]{4}))'


def grammar(schema: dict[str, Any], source: str, lead: str) -> str:
    """Write the grammar of a plain schema that compiles, with free texts quoted from `source`.

    Raises SchemaUnsupported, with a JSON pointer, for a form of schema that cannot be combined with quoting.
    """
    if len(source) > LONGEST:
        raise SchemaUnsupported(
            f"the text to quote from has {len(source):,} characters, more than {LONGEST:,}: split it, or leave verbatim out."
        )
    return lark_grammar(_Rules(schema, source).lines(lead))


def is_free(part: Any, root: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a value of this schema may hold a text that the schema leaves free."""
    if part is True or id(part) in seen:
        return part is True
    if not isinstance(part, dict):
        return False
    seen |= {id(part)}
    if _FIXED & part.keys() and ("enum" in part or "const" in part or _kinds(part) <= {"string", "null"}):
        return False
    if "$ref" in part:
        target = _target(root, part["$ref"])
        return target is None or is_free(target, root, seen)  # what cannot be found is refused later
    choices = [one for key in ("allOf", "anyOf", "oneOf") for one in part.get(key, ())]
    if choices:
        return any(is_free(one, root, seen) for one in choices) or ("type" in part and "string" in _kinds(part))
    return ("string" in _kinds(part) and not _FIXED & part.keys()) or any(
        is_free(one, root, seen) for one in _inner(part)
    )


def _target(root: Any, reference: Any) -> Any:
    return root if reference == "#" else behind(root, reference)


def _kinds(part: dict[str, Any]) -> set[str]:
    kind = part.get("type", list(_TYPES))
    return {kind} if isinstance(kind, str) else set(kind)


def _inner(part: dict[str, Any]) -> Iterator[Any]:
    """Schemas of the values inside an object or an array."""
    if "object" in _kinds(part):
        yield from part.get("properties", {}).values()
        yield from part.get("patternProperties", {}).values()
        yield part.get("additionalProperties", "properties" not in part)
    if "array" in _kinds(part):
        yield from _first(part)
        yield _rest(part)


def _first(part: dict[str, Any]) -> list[Any]:
    """Schemas of the first items, one for each."""
    found = part.get("prefixItems", part.get("items") if isinstance(part.get("items"), list) else [])
    return found if isinstance(found, list) else []


def _rest(part: dict[str, Any]) -> Any:
    """The schema of all other items."""
    return part.get("additionalItems", True) if isinstance(part.get("items"), list) else part.get("items", True)


class _Rules:
    """Lark rules, one per subschema that holds free texts."""

    def __init__(self, schema: dict[str, Any], source: str) -> None:
        self._root, self._source = schema, source
        self._shared: dict[str, Any] = {
            key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema
        }
        self._named: dict[str, str] = {}  # pointer -> rule
        self._rules: list[str] = []
        self._texts: dict[tuple[int, int | None], str] = {}  # length -> terminal

    def lines(self, lead: str) -> str:
        """Everything, from `start` to the source itself."""
        value = self._rule("", self._root)
        start = f"start: {json.dumps(lead) + '? ' if lead else ''}{value}"
        chunks = [json.dumps(chunk, ensure_ascii=False)[1:-1] for chunk in _CHUNK.findall(self._source)]
        texts = [self._terminal(name, *length) for length, name in self._texts.items()]
        piece = [f"PIECE: %regex {json.dumps({'substring_chunks': chunks})}"] if chunks else ['PIECE: ""']
        return "\n".join([start, *self._rules, *texts, *piece])

    def _terminal(self, name: str, least: int, most: int | None) -> str:
        if (least, most) == (0, None):
            return f'{name}: "\\"" PIECE "\\""'
        span = f"{{{least},{'' if most is None else most}}}"
        return f'{name}: "\\"" {name}_PIECE "\\""\n{name}_PIECE: PIECE & {name}_LONG\n{name}_LONG: /{_LETTER}{span}/'

    def _rule(self, pointer: str, part: Any) -> str:
        """The name of the rule for a subschema, written when it is first asked for: schemas may refer to themselves."""
        if part is True or (isinstance(part, dict) and not _RULES & part.keys()):
            pointer, part = "any", {}  # one rule for them all: its values may hold more of the kind
        if pointer not in self._named:
            self._named[pointer] = name = f"r{len(self._named)}"
            self._rules.append(f"{name}: {self._body(pointer, part)}")
        return self._named[pointer]

    def _body(self, pointer: str, part: Any) -> str:
        if not is_free(part, self._root):
            return self._leaf(pointer, part)
        plain: dict[str, Any] = {} if part is True else part
        for key in ("$ref", "allOf", "anyOf", "oneOf"):
            if key in plain:
                return self._choice(pointer, plain, key)
        kinds = [kind for kind in (*_TYPES, "integer") if kind in _kinds(plain)]
        return " | ".join(self._kind(pointer, plain, kind) for kind in kinds)

    def _leaf(self, pointer: str, part: Any) -> str:
        """A value without free texts, left to the library."""
        for place in _references(part):
            if not place.startswith(("#/$defs/", "#/definitions/")):
                raise _refused(f"the reference {place!r}", pointer)
        return embedded({**(part if isinstance(part, dict) else {"not": {}}), **self._shared})

    def _choice(self, pointer: str, part: dict[str, Any], key: str) -> str:
        others = (_RULES - {key}) & part.keys()
        if others == {"type"} and key in ("anyOf", "oneOf"):
            others = set()  # narrowed below
        if others:
            raise _refused(f"{min(others)!r} beside {key!r}", f"{pointer}/{min(others)}")
        if key == "$ref":
            place, target = str(part["$ref"]), _target(self._root, part["$ref"])
            if target is None:
                raise _refused(f"the reference {place!r}", f"{pointer}/$ref")
            return self._rule(place[1:], target)
        branches = part[key]
        if key == "allOf" and len(branches) > 1:
            raise _refused("'allOf' of several schemas", f"{pointer}/allOf")
        if "type" in part:
            branches = [_narrowed(one, part, f"{pointer}/{key}/{index}") for index, one in enumerate(branches)]
        return " | ".join(self._rule(f"{pointer}/{key}/{index}", one) for index, one in enumerate(branches))

    def _kind(self, pointer: str, part: dict[str, Any], kind: str) -> str:
        if kind == "string" and not _FIXED & part.keys():
            length = part.get("minLength", 0), part.get("maxLength")
            return self._texts.setdefault(length, f"TEXT{len(self._texts)}")
        if kind == "object":
            return self._object(pointer, part)
        if kind == "array":
            return self._array(pointer, part)
        plain = {key: value for key, value in part.items() if key not in _OBJECT | _ARRAY | {"patternProperties"}}
        return embedded({**plain, "type": kind, **self._shared})

    def _object(self, pointer: str, part: dict[str, Any]) -> str:
        for key in ("patternProperties", "minProperties", "maxProperties"):
            if key in part:
                raise _refused(repr(key), f"{pointer}/{key}")
        named = part.get("properties", {})
        if not named:
            return self._map(pointer, part)
        if part.get("additionalProperties", False) is not False:
            raise _refused("'additionalProperties' beside 'properties'", f"{pointer}/additionalProperties")
        if missing := [name for name in part.get("required", ()) if name not in named]:
            raise _refused(f"the required property {missing[0]!r}, which has no schema,", f"{pointer}/required")
        return f'"{{" {self._members(pointer, part)} "}}"'

    def _members(self, pointer: str, part: dict[str, Any]) -> str:
        """The named properties in their order; `head` is what follows when none was written yet, `tail` after one."""
        head = tail = '""'
        for name, one in reversed(part["properties"].items()):
            key = json.dumps(f"{json.dumps(name, ensure_ascii=False)}: ", ensure_ascii=False)
            member = f"{key} {self._rule(f'{pointer}/properties/{escape(name)}', one)}"
            needed = name in part.get("required", ())
            head = self._new(f"{member} {tail}" + ("" if needed else f" | {head}"))
            tail = self._new(f'", " {member} {tail}' if needed else f'(", " {member})? {tail}')
        return head

    def _new(self, body: str) -> str:
        self._rules.append(f"m{len(self._rules)}: {body}")
        return self._rules[-1].partition(":")[0]

    def _map(self, pointer: str, part: dict[str, Any]) -> str:
        """An object of any names: the names are not quoted, the values are."""
        if part.get("required"):
            raise _refused("'required' without 'properties'", f"{pointer}/required")
        inner = part.get("additionalProperties", "properties" not in part)
        if inner is False:
            return '"{}"'
        value = self._rule(f"{pointer}/additionalProperties", inner)
        pair = f'{embedded({"type": "string"})} ": " {value}'
        return f'"{{" ({pair} (", " {pair})*)? "}}"'

    def _array(self, pointer: str, part: dict[str, Any]) -> str:
        first, rest = _first(part), _rest(part)
        word = "prefixItems" if "prefixItems" in part else "items"
        least, most = part.get("minItems", 0), part.get("maxItems")
        items = [self._rule(f"{pointer}/{word}/{index}", one) for index, one in enumerate(first)][:most]
        more = ""
        if rest is not False and (most is None or most > len(items)):
            end = "" if most is None else most - len(items)
            more = f"({_COMMA} {self._rule(f'{pointer}/items', rest)}){{{max(0, least - len(items))},{end}}}"
        if not items:  # the same, without a first comma
            return self._list(pointer, rest, least, most)
        return f'"[" {_nested(items, least, more)} "]"'

    def _list(self, pointer: str, part: Any, least: int, most: int | None) -> str:
        if part is False or most == 0:
            return '"[]"'
        item = self._rule(f"{pointer}/items", part)
        more = "" if most == 1 else f"({_COMMA} {item}){{{max(0, least - 1)},{'' if most is None else most - 1}}}"
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'


def _nested(items: list[str], least: int, more: str) -> str:
    """The first items, those beyond `least` optional from the right."""
    text = f"({more})?" if more and least <= len(items) else more
    for index in reversed(range(len(items))):
        text = f"{_COMMA if index else ''} {items[index]} {text}"
        text = text if index < least else f"({text})?"
    return text


def _narrowed(branch: Any, part: dict[str, Any], pointer: str) -> Any:
    """A branch of a choice whose parent names the types."""
    if isinstance(branch, dict) and "type" in branch and _kinds(branch) <= _kinds(part):
        return branch
    if isinstance(branch, dict) and "type" not in branch and not _CHOICE & branch.keys():
        return {**branch, "type": part["type"]}
    raise _refused("'type' beside a choice", pointer)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from _references(one)
    elif isinstance(part, list):
        for one in part:
            yield from _references(one)


def _refused(what: str, pointer: str) -> SchemaUnsupported:
    where = f" at {pointer}" if pointer else ""
    return SchemaUnsupported(
        f"verbatim cannot be combined with {what}{where}: change it, or leave verbatim out.", pointer
    )
