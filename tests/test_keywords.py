"""No keyword is passed over: each is enforced, or refused by its name and place before the first token."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from edgellm.constraint import Grammar
from edgellm.engines.scripted import Script, Scripted
from edgellm.errors import InvalidOutput, SchemaUnsupported
from edgellm.prompt import Reply
from edgellm.tasks import extract

VOCAB = Scripted(Script()).vocab
D4, D7 = "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"
D19 = "https://json-schema.org/draft/2019-09/schema"
OBJECT = {"type": "object"}

# A schema for every keyword of every draft, and a value that breaks that keyword alone.
MATRIX: list[tuple[Any, Any]] = [
    ({"type": "string"}, 1),
    ({"enum": ["a", 1]}, "b"),
    ({"const": "a"}, "b"),
    ({"type": "string", "minLength": 2}, "a"),
    ({"type": "string", "maxLength": 2}, "abc"),
    ({"type": "string", "pattern": "^a"}, "b"),
    ({"type": "string", "pattern": "^(a)\\1$"}, "ab"),
    ({"type": "string", "pattern": "^(?!b)"}, "b"),
    ({"type": "string", "format": "phone"}, None),
    ({"type": "number", "minimum": 2}, 1),
    ({"type": "number", "maximum": 2}, 3),
    ({"type": "number", "exclusiveMinimum": 2}, 2),
    ({"type": "number", "exclusiveMaximum": 2}, 2),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, 0),
    ({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0}, 0),
    ({"$schema": D4, "type": "integer", "minimum": 3, "exclusiveMinimum": True}, 3),
    ({"$schema": D4, "type": "integer", "maximum": 3, "exclusiveMaximum": True}, 3),
    ({"type": "integer", "multipleOf": 2}, 3),
    ({"type": "integer", "divisibleBy": 2}, 3),
    ({"type": "array", "items": {"type": "integer"}}, ["a"]),
    ({"type": "array", "prefixItems": [{"type": "integer"}]}, ["a"]),
    ({"type": "array", "prefixItems": [{}], "items": False}, [1, 2]),
    ({"$schema": D7, "type": "array", "items": [{}], "additionalItems": False}, [1, 2]),
    ({"type": "array", "minItems": 1}, []),
    ({"type": "array", "maxItems": 1}, [1, 2]),
    ({"type": "array", "uniqueItems": True}, [1, 1]),
    ({"type": "array", "contains": {"type": "integer"}}, []),
    ({"type": "array", "contains": {}, "minContains": 2}, [1]),
    ({"type": "array", "contains": {}, "maxContains": 1}, [1, 2]),
    ({"type": "array", "prefixItems": [{}], "unevaluatedItems": False}, [1, 2]),
    ({**OBJECT, "properties": {"a": {"type": "integer"}}}, {"a": "x"}),
    ({**OBJECT, "properties": {"a": {"type": "string", "required": True}}}, {}),
    ({**OBJECT, "required": ["a"]}, {}),
    ({**OBJECT, "properties": {"a": {}}, "additionalProperties": False}, {"b": 1}),
    ({**OBJECT, "additionalProperties": {"type": "integer"}}, {"b": "x"}),
    ({**OBJECT, "patternProperties": {"^a": {"type": "integer"}}}, {"ab": "x"}),
    ({**OBJECT, "propertyNames": {"pattern": "^a"}}, {"b": 1}),
    ({**OBJECT, "minProperties": 1}, {}),
    ({**OBJECT, "maxProperties": 1}, {"a": 1, "b": 2}),
    ({**OBJECT, "dependentRequired": {"a": ["b"]}}, {"a": 1}),
    ({**OBJECT, "dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}),
    ({"$schema": D7, **OBJECT, "dependencies": {"a": ["b"]}}, {"a": 1}),
    ({**OBJECT, "properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}),
    ({"allOf": [{"type": "string"}, {"maxLength": 1}]}, "ab"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 3),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, None),
    ({"not": {"type": "integer"}}, 1),
    ({"if": {"type": "integer"}, "then": {"minimum": 2}}, 1),
    ({"if": {"type": "integer"}, "else": {"type": "null"}}, "a"),
    ({"extends": {"type": "string"}}, 1),
    ({"disallow": "string"}, "a"),
    ({"type": "string", "nullable": True}, 1),
    ({"$ref": "#/$defs/x", "maxLength": 1, "$defs": {"x": {"type": "string"}}}, "ab"),
    ({"$ref": "#x", "$defs": {"x": {"$anchor": "x", "type": "string"}}}, 1),
    ({"$ref": "x.json", "$defs": {"x": {"$id": "x.json", "type": "string"}}}, 1),
    ({"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", "type": "string"}}}, 1),
    ({"$schema": D19, **OBJECT, "properties": {"a": {"$recursiveRef": "#"}}}, {"a": 1}),
]


@pytest.mark.parametrize(("schema", "bad"), MATRIX, ids=[json.dumps(schema)[:70] for schema, _ in MATRIX])
def test_every_keyword_is_enforced_or_refused(schema: Any, bad: Any) -> None:
    try:
        run = Grammar.compile(schema, VOCAB).start()
    except SchemaUnsupported as error:
        assert error.pointer  # noqa: PT017 - a refusal is one of two good answers
        return
    for token in json.dumps(bad).encode():
        if not run.allows(token):
            return
        run.accept(token)
    assert not run.allows(257), "the value is accepted"


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"properties": {"a": {"maxlength": 3}}}, "/properties/a/maxlength", "write maxLength"),
        ({"items": {"min_items": 3}}, "/items/min_items", "write minItems"),
        ({"anyOf": [{"nullable": True, "type": "string"}]}, "/anyOf/0/nullable", "null"),
        ({"$defs": {"x": {"divisibleBy": 3}}, "$ref": "#/$defs/x"}, "/$defs/x/divisibleBy", "write multipleOf"),
        ({"properties": {"a": {"required": True}}}, "/properties/a/required", "a list of names"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1.5}, "/exclusiveMinimum", "less than 1 away"),
    ],
)
def test_what_is_meant_as_a_rule_is_never_taken_for_a_remark(schema: Any, pointer: str, words: str) -> None:
    with pytest.raises(SchemaUnsupported, match=words) as caught:
        Grammar.compile(schema, VOCAB)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "remark",
    [
        {
            "title": "t",
            "description": "d",
            "default": 1,
            "examples": [1],
            "$comment": "c",
            "deprecated": True,
            "readOnly": True,
        },
        {"x-order": 1, "propertyOrder": 2, "markdownDescription": "m", "discriminator": {"propertyName": "k"}},
        {"nullable": False, "required": False, "uniqueItems": False, "contentEncoding": "base64"},
    ],
)
def test_remarks_are_not_refused(remark: dict[str, Any]) -> None:
    schema = {**OBJECT, "properties": {"a": {"type": "string", **remark}}, "required": ["a"]}
    Grammar.compile(schema, VOCAB)


def test_a_property_may_be_called_like_a_misspelt_keyword() -> None:
    schema = {**OBJECT, "properties": {"maxlength": {"type": "integer"}, "nullable": {"const": True}}}
    Grammar.compile(schema, VOCAB)


def test_a_name_that_is_said_twice_in_one_object_is_no_answer() -> None:
    reply = Reply(text='{"a": 1, "a": 2}', finish="stop", prompt_tokens=1, tokens=1)
    jsonschema.validate({"a": 2}, OBJECT)
    with pytest.raises(InvalidOutput, match="'a' is said twice"):
        extract.read(reply, OBJECT)
