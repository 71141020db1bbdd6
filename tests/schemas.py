"""Schemas as people write them, made by dice: each with values that satisfy it and values that do not.

In the spirit of JSONSchemaBench: configuration files, API payloads, records. One in five carries a keyword that llguidance
cannot enforce, which is about their share in the wild (MaskBench: 21 % of 11,306). jsonschema judges every value.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jsonschema

Make = Callable[[], Any]
Node = tuple[dict[str, Any], Make]

_NAMES = (
    "id name title description version enabled status type address city country email phone url tags labels items price "
    "currency quantity total created_at updated_at owner users roles permissions config settings timeout retries host port path "
    "method headers body query limit offset sort filter latitude longitude width height color size weight category author "
    "license dependencies scripts main files engines os cpu memory disk image command args env volumes networks ports replicas "
    "strategy schedule trigger steps needs outputs inputs matrix include exclude branch commit message date amount rate tax"
)
_WORDS = "alpha beta gamma delta blue red green small large north south open closed draft ready done new old fast"
NAMES, WORDS = _NAMES.split(), _WORDS.split()

PATTERNS: list[tuple[str, list[str]]] = [
    (r"^\d+\.\d+\.\d+$", ["1.2.3", "0.10.0"]),
    (r"^[a-z][a-z0-9-]*$", ["my-name", "a1"]),
    (r"^#[0-9a-fA-F]{6}$", ["#00ff7F"]),
    (r"^[A-Z]{2,3}-\d{4}$", ["AB-1234", "XYZ-0001"]),
    (r"^\+?[0-9 ]{7,15}$", ["+44 20 7946 0000"]),
    (r"^(GET|POST|PUT|DELETE)$", ["GET", "PUT"]),
    (r"^[A-Za-z_]\w*$", ["snake_case", "_x"]),
    (r"^/([^/]+/)*[^/]*$", ["/a/b/c", "/"]),
    (r"^[0-9a-f]{8}$", ["deadbeef"]),
    (r"^\$\{\{ .+ \}\}$", ["${{ env.X }}"]),
    (r"\.(json|ya?ml)$", ["a.json", "b.yml"]),
    (r"^(0|[1-9]\d{0,2})%$", ["0%", "100%"]),
]
FORMATS: dict[str, list[str]] = {
    "date": ["2024-02-29", "1999-12-31"],
    "date-time": ["2024-02-29T10:00:00Z", "2001-01-01T00:00:00+01:00"],
    "time": ["10:00:00Z"],
    "email": ["ann@example.org"],
    "uri": ["https://example.org/a?b=c"],
    "uuid": ["123e4567-e89b-42d3-a456-426614174000"],
    "ipv4": ["192.168.0.1"],
    "ipv6": ["2001:db8::1"],
    "hostname": ["node-1.example.org"],
    "duration": ["P3DT4H"],
}
HARD = {
    "uniqueItems": 25, "if": 14, "not": 12, "dependentRequired": 10, "oneOf": 12, "contains": 6, "propertyNames": 6,
    "unevaluatedProperties": 4, "format": 6, "pattern": 5,
}  # fmt: skip


class Case(NamedTuple):
    """A schema with values on both sides of it; `invalid` also says which keyword each breaks."""

    number: int
    schema: dict[str, Any]
    valid: list[Any]
    invalid: list[tuple[Any, str]]


def cases(start: int, stop: int) -> Iterator[Case]:
    """The cases of these numbers: the same on every machine."""
    for number in range(start, stop):
        yield case(number)


def case(number: int) -> Case:
    """Make one case."""
    dice = random.Random(f"schema {number}")
    schema, make = _Maker(dice).whole()
    judge = judge_of(schema)
    made = [make() for _ in range(3)]
    valid = [value for value in made if judge.is_valid(value)]
    assert valid, (number, schema, made)
    invalid: dict[str, tuple[Any, str]] = {}
    for _ in range(24):
        value = _spoilt(dice, copy.deepcopy(dice.choice(valid)))
        error = next(iter(judge.iter_errors(value)), None)
        if error is not None:
            invalid[json.dumps(value)] = (value, str(error.validator))
    return Case(number, schema, valid, list(invalid.values())[:8])


def judge_of(schema: dict[str, Any]) -> Any:
    """The validator that decides, formats included."""
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


class _Maker:
    """Makes schemas and, for each, a function that makes values."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.modern = dice.random() < 0.6
        self.shared: dict[str, Node] = {}
        self.words = "$defs" if self.modern else "definitions"
        self.hard = dice.choices(list(HARD), list(HARD.values()))[0] if dice.random() < 0.2 else None

    def whole(self) -> Node:
        """A schema with all it refers to."""
        for name in self.dice.sample(["address", "money", "range", "link"], self.dice.choice([0, 0, 1, 2])):
            self.shared[name] = self.record(1)
        schema, make = self.tree() if self.dice.random() < 0.08 else self.root()
        if self.hard:
            schema, make = getattr(self, f"hard_{self.hard.lower()}")(schema, make)
        draft = (
            "https://json-schema.org/draft/2020-12/schema" if self.modern else "http://json-schema.org/draft-07/schema#"
        )
        head = {"$schema": draft, "title": "T"} if self.dice.random() < 0.7 or not self.modern else {}
        defs = {name: node[0] for name, node in self.shared.items()}
        return {**head, **schema, **({self.words: {**schema.get(self.words, {}), **defs}} if defs else {})}, make

    def root(self) -> Node:
        if self.dice.random() < 0.12:
            item, make = self.record(2)
            return {"type": "array", "items": item}, lambda: [make() for _ in range(self.dice.randint(0, 2))]
        return self.record(self.dice.choice([1, 2, 2, 3]))

    def node(self, depth: int) -> Node:
        """Anything, of at most this depth."""
        if self.shared and self.dice.random() < 0.12:
            name = self.dice.choice(list(self.shared))
            return {"$ref": f"#/{self.words}/{name}"}, self.shared[name][1]
        if depth <= 0 or self.dice.random() < 0.55:
            return self.described(self.leaf())
        kind = self.dice.choice(
            [self.record, self.record, self.array, self.array, self.union, self.tagged, self.all_of, self.map]
        )
        return self.described(kind(depth - 1))

    def described(self, node: Node) -> Node:
        if self.dice.random() < 0.4:
            return {"description": self.dice.choice(WORDS), **node[0]}, node[1]
        return node

    # Leaves.

    def leaf(self) -> Node:
        kinds = [
            self.text,
            self.text,
            self.text,
            self.enum,
            self.number,
            self.number,
            self.boolean,
            self.nullable,
            self.const,
        ]
        return self.dice.choice(kinds)()

    def text(self) -> Node:
        roll = self.dice.random()
        if roll < 0.5:
            return {"type": "string"}, self.word
        if roll < 0.68:
            low = self.dice.choice([0, 1, 3])
            high = low + self.dice.choice([5, 20, 60])
            return {"type": "string", "minLength": low, "maxLength": high}, lambda: (self.word() * 3)[: max(3, low)][
                :high
            ]
        if roll < 0.84:
            pattern, samples = self.dice.choice(PATTERNS)
            return {"type": "string", "pattern": pattern}, lambda: self.dice.choice(samples)
        form = self.dice.choice(list(FORMATS))
        return {"type": "string", "format": form}, lambda: self.dice.choice(FORMATS[form])

    def word(self) -> str:
        return self.dice.choice([*WORDS, "a b", 'quo"te', "new\nline", "é中😀", "back\\slash"])

    def enum(self) -> Node:
        values: list[Any] = self.dice.sample(WORDS, self.dice.randint(2, 6))
        values += self.dice.choice([[], [], [None], [1, 2]])
        head = {} if not all(isinstance(one, str) for one in values) else self.dice.choice([{}, {"type": "string"}])
        return {**head, "enum": values}, lambda: self.dice.choice(values)

    def const(self) -> Node:
        value = self.dice.choice([*WORDS[:3], 1, True])
        return {"const": value}, lambda: value

    def boolean(self) -> Node:
        return {"type": "boolean"}, lambda: self.dice.random() < 0.5

    def nullable(self) -> Node:
        schema, make = self.dice.choice([self.text, self.number, self.boolean])()
        some = lambda: make() if self.dice.random() < 0.6 else None  # noqa: E731
        if self.dice.random() < 0.5:
            return {**schema, "type": [schema["type"], "null"]}, some
        return {"anyOf": [schema, {"type": "null"}]}, some

    def number(self) -> Node:
        low = self.dice.choice([0, 1, -10, 18, 1024])
        high = low + self.dice.choice([1, 9, 100, 65535])
        roll = self.dice.random()
        if roll < 0.3:
            return {"type": "integer"}, lambda: self.dice.randint(-5, 500)
        if roll < 0.6:
            return {"type": "integer", "minimum": low, "maximum": high}, lambda: self.dice.randint(low, high)
        if roll < 0.66:
            step = self.dice.choice([2, 5, 10])
            return {"type": "integer", "multipleOf": step}, lambda: step * self.dice.randint(0, 9)
        if roll < 0.85:
            return {"type": "number"}, lambda: self.dice.choice([0, 1.5, -2, 1e3])
        edge = self.dice.choice(["minimum", "exclusiveMinimum"])
        return {
            "type": "number",
            edge: low,
            "maximum": high,
        }, lambda: low + (high - low) * self.dice.choice([0.25, 0.5, 1])

    # What holds others.

    def record(self, depth: int, names: list[str] | None = None) -> Node:
        names = names or self.dice.sample(NAMES, self.dice.choice([1, 2, 3, 3, 4, 5, 6, 8]))
        nodes = {name: self.node(depth) for name in names}
        needed = [name for name in names if self.dice.random() < 0.6]
        schema: dict[str, Any] = {"type": "object", "properties": {name: node[0] for name, node in nodes.items()}}
        if needed or self.dice.random() < 0.3:
            schema["required"] = needed
        roll = self.dice.random()
        if roll < 0.55:
            schema["additionalProperties"] = False
        elif roll < 0.65:
            schema["additionalProperties"] = {"type": "string"}
        elif roll < 0.7:
            schema["patternProperties"] = {"^x-": {"type": "string"}}

        def make() -> Any:
            chosen = [name for name in names if name in needed or self.dice.random() < 0.5]
            return {name: nodes[name][1]() for name in chosen}

        return schema, make

    def map(self, depth: int) -> Node:
        inner, make = self.node(depth)
        keys = self.dice.sample(WORDS, 3)
        schema: dict[str, Any] = {"type": "object", "additionalProperties": inner}
        if self.dice.random() < 0.2:
            schema = {"type": "object", "patternProperties": {"^[a-z]+$": inner}, "additionalProperties": False}
        if self.dice.random() < 0.2:
            schema["minProperties"] = 1
        return schema, lambda: {key: make() for key in keys[: self.dice.randint(1, 3)]}

    def array(self, depth: int) -> Node:
        inner, make = self.node(depth)
        low = self.dice.choice([0, 0, 0, 1, 2])
        if self.dice.random() < 0.15:
            first, start = self.node(0)
            word = "prefixItems" if self.modern else "items"
            rest = "items" if self.modern else "additionalItems"
            return {"type": "array", word: [first, inner], rest: False}, lambda: [start(), make()][
                : self.dice.randint(0, 2)
            ]
        schema: dict[str, Any] = {"type": "array", "items": inner}
        if low:
            schema["minItems"] = low
        if self.dice.random() < 0.3:
            schema["maxItems"] = low + self.dice.choice([1, 3, 10])
        return schema, lambda: [make() for _ in range(self.dice.randint(low, low + 1))]

    def union(self, depth: int) -> Node:
        nodes = [self.leaf(), self.dice.choice([self.record, self.array])(depth)]
        return {"anyOf": [node[0] for node in nodes]}, lambda: self.dice.choice(nodes)[1]()

    def tagged(self, depth: int) -> Node:
        """Records told apart by a constant, under oneOf."""
        made = []
        for tag in self.dice.sample(WORDS, 2):
            schema, make = self.record(depth)
            schema["properties"] = {"kind": {"const": tag}, **schema["properties"]}
            schema["required"] = ["kind", *schema.get("required", [])]
            made.append((schema, lambda tag=tag, make=make: {"kind": tag, **make()}))
        return {"oneOf": [schema for schema, _ in made]}, lambda: self.dice.choice(made)[1]()

    def all_of(self, depth: int) -> Node:
        """A base, and what a record adds to it."""
        first, second = (self.dice.sample(NAMES[:40], 2), self.dice.sample(NAMES[40:], 2))
        (base, made), (more, added) = self.record(depth, first), self.record(depth, second)
        for schema in (base, more):
            schema.pop("additionalProperties", None)
            schema.pop("patternProperties", None)
        return {"allOf": [base, more]}, lambda: {**made(), **added()}

    def tree(self) -> Node:
        inner, make = self.leaf()
        place = {"$ref": f"#/{self.words}/node"}
        node = {
            "type": "object",
            "properties": {"value": inner, "children": {"type": "array", "items": place}},
            "required": ["value"],
            "additionalProperties": False,
        }

        def grow(depth: int = 2) -> Any:
            kids = [grow(depth - 1) for _ in range(self.dice.randint(0, 2))] if depth else []
            return {"value": make(), **({"children": kids} if kids else {})}

        return {**place, self.words: {"node": node}} if self.modern else {
            "allOf": [place],
            self.words: {"node": node},
        }, grow

    # One keyword that cannot be enforced while decoding, most often; sometimes it says nothing new, and can.

    def _beside(self, schema: dict[str, Any], make: Make, name: str, extra: Node) -> Node:
        """A record with one more property."""
        record = {
            "type": "object",
            "properties": {"payload": schema, name: extra[0]},
            "required": ["payload", name],
            "additionalProperties": False,
        }
        defs = schema.pop(self.words, None)
        return {**record, **({self.words: defs} if defs else {})}, lambda: {"payload": make(), name: extra[1]()}

    def hard_uniqueitems(self, schema: dict[str, Any], make: Make) -> Node:
        unique = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
        return self._beside(schema, make, "unique", (unique, lambda: self.dice.sample(WORDS, 2)))

    def hard_if(self, schema: dict[str, Any], make: Make) -> Node:
        rule = {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"type": "string"}},
            "if": {"properties": {"a": {"const": True}}},
            "then": {"required": ["b"]},
        }
        return self._beside(schema, make, "rule", (rule, lambda: {"a": True, "b": "x"}))

    def hard_not(self, schema: dict[str, Any], make: Make) -> Node:
        return self._beside(schema, make, "other", ({"type": "string", "not": {"enum": ["none"]}}, lambda: "some"))

    def hard_dependentrequired(self, schema: dict[str, Any], make: Make) -> Node:
        word = "dependentRequired" if self.modern else "dependencies"
        rule = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, word: {"a": ["b"]}}
        return self._beside(schema, make, "pair", (rule, lambda: {"a": "x", "b": "y"}))

    def hard_oneof(self, schema: dict[str, Any], make: Make) -> Node:
        rule = {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        }
        return self._beside(schema, make, "either", (rule, lambda: {self.dice.choice("ab"): "x"}))

    def hard_contains(self, schema: dict[str, Any], make: Make) -> Node:
        return self._beside(schema, make, "some", ({"type": "array", "contains": {"const": "x"}}, lambda: ["x", 1]))

    def hard_propertynames(self, schema: dict[str, Any], make: Make) -> Node:
        rule = {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}}
        return self._beside(schema, make, "named", (rule, lambda: {"abc": 1}))

    def hard_unevaluatedproperties(self, schema: dict[str, Any], make: Make) -> Node:
        rule = {"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False}
        return self._beside(schema, make, "closed", (rule, lambda: {"a": 1}))

    def hard_format(self, schema: dict[str, Any], make: Make) -> Node:
        form = self.dice.choice(["phone", "color", "iri", "json-pointer"])
        return self._beside(schema, make, "formed", ({"type": "string", "format": form}, lambda: "/a"))

    def hard_pattern(self, schema: dict[str, Any], make: Make) -> Node:
        return self._beside(schema, make, "looked", ({"type": "string", "pattern": "^(?!secret).*$"}, lambda: "open"))


def _spoilt(dice: random.Random, value: Any) -> Any:
    """The value with something wrong somewhere; perhaps."""
    places = list(_places(value))
    holder, key = dice.choice(places) if places and dice.random() < 0.93 else (None, None)
    if holder is None:
        return dice.choice([None, 1, "text", [], {}, [value]])
    old = holder[key]
    roll = dice.random()
    if roll < 0.25 and isinstance(holder, dict):
        del holder[key]
    elif roll < 0.4 and isinstance(holder, dict):
        holder[dice.choice(["unknown", "x-y", "0"])] = dice.choice([1, "x", None])
    elif roll < 0.5 and isinstance(holder, list):
        holder.extend([old] * dice.choice([1, 12]))
    elif isinstance(old, str):
        holder[key] = dice.choice(["", old * 40, old + "!", " " + old, old.upper(), old[:-1], 7, None, [old]])
    elif isinstance(old, bool) or old is None:
        holder[key] = dice.choice(["true", 0, [old], {}])
    elif isinstance(old, int | float):
        holder[key] = dice.choice([old + 0.5, -old - 1, old * 100_000 + 1, old - 1, old + 1, str(old), None])
    else:
        holder[key] = dice.choice(["text", 3, None, [], {}, [old]])
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield value, index
            yield from _places(one)
