"""A free text is a verbatim piece of the source, enforced while decoding and checked again on the finished value."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import jsonschema
import numpy as np
import pytest

import edgellm
from edgellm.constraint import Grammar, verbatim
from edgellm.errors import InvalidOutput, SchemaUnsupported, UsageError
from edgellm.prompt import Prompt, Reply
from edgellm.tasks import extract
from edgellm.tasks.quoting import unquoted

END = 257
SOURCE = 'Ann said "hi\\there"\nin Köln, 12 times. 😀\t東京都 x\u0301'


class Bytes:
    """One token per byte, then <s> and </s>."""

    pieces = (*(bytes([value]) for value in range(256)), b"", b"")
    ends = frozenset({END})
    specials = {"<s>": 256, "</s>": END}  # noqa: RUF012

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


VOCAB = Bytes()
TEXT, INTEGER = {"type": "string"}, {"type": "integer"}
MAYBE = {"type": ["string", "null"]}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def says(grammar: Grammar, text: str) -> bool:
    run = grammar.start()
    for token in text.encode():
        if not run.allows(token):
            return False
        run.accept(token)
    return run.allows(END)


TREE = {
    "$defs": {"node": record(v=TEXT, kids={"type": "array", "items": {"$ref": "#/$defs/node"}})},
    "$ref": "#/$defs/node",
}
# schema, texts that are allowed to the end, texts that are refused before it
CASES: list[tuple[Any, list[str], list[str]]] = [
    (
        TEXT,
        ['"Ann"', '""', '"😀\\t東"', '"said \\"hi\\\\there\\"\\nin Köln"'],
        ['"An"', '"nn"', '"Bob"', '"K\\u00f6ln"'],
    ),
    (TEXT, ['"東京"', '"都"', '"x"', '"12"'], ['"1"', '"ann"', '"Ann  said"', "null"]),
    (
        record(name=TEXT, n=INTEGER, tags={"type": "array", "items": TEXT, "maxItems": 2}),
        ['{"name": "Ann", "n": 3, "tags": ["Köln", "😀"]}', '{"name": "", "n": 3, "tags": []}'],
        ['{"name": "Anna", "n": 3, "tags": []}', '{"name": "Ann", "n": 3, "tags": ["in", "in", "in"]}'],
    ),
    (
        {"type": "object", "properties": {"a": TEXT, "b": MAYBE, "c": {"enum": ["x", "y"]}}, "required": ["b"]},
        ['{"b": null}', '{"a": "Ann", "b": "said", "c": "x"}', '{"b": null, "c": "y"}', '{"a": "", "b": ""}'],
        ['{"a": "Ann"}', '{"b": null, "c": "Ann"}', "{}", '{"b": null, "z": 1}', '{"b": "x", "a": "x"}'],
    ),
    ({"type": "object", "properties": {"a": TEXT, "b": TEXT}}, ["{}", '{"a": "in"}', '{"b": "in"}'], ['{"c": 1}']),
    (
        TREE,
        ['{"v": "Ann", "kids": [{"v": "hi", "kids": []}, {"v": "Köln", "kids": []}]}'],
        ['{"v": "Ann", "kids": [{"v": "Bob", "kids": []}]}'],
    ),
    ({}, ['"Ann"', "1", '{"a": "Ann"}', '[["Ann"]]', "true"], ['"Bob"', '{"a": "Bob"}', '[["Bob"]]']),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ['"Ann"', '"12"', '"said"'], ['"x"', '""', '"times"']),
    (
        {"anyOf": [TEXT, {"type": "null"}, {"type": "string", "pattern": "^z+$"}, {"const": "other"}]},
        ['"Ann"', '"zz"', "null", '"other"'],
        ['"q"', "1"],
    ),
    (
        {"type": "array", "prefixItems": [TEXT, INTEGER], "items": TEXT, "minItems": 1, "maxItems": 4},
        ['["in"]', '["in", 1]', '["in", 1, "said", "hi"]'],
        ["[]", '["in", 1, "in", "in", "in"]', '["in", "in"]', "[1]"],
    ),
    (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "array",
            "items": [TEXT, INTEGER],
            "additionalItems": False,
        },
        ["[]", '["in", 1]'],
        ['["in", 1, 1]', '["no", 1]'],
    ),
    ({"type": "array", "items": TEXT, "minItems": 1, "maxItems": 1}, ['["in"]'], ["[]", '["in", "in"]']),
    ({"type": "array", "items": TEXT, "maxItems": 0}, ["[]"], ['["in"]']),
    ({"type": "object", "additionalProperties": TEXT}, ["{}", '{"zz": "Ann"}'], ['{"zz": "Bob"}']),
    ({"allOf": [{"$ref": "#/$defs/t"}], "$defs": {"t": TEXT}}, ['"Ann"'], ['"Bob"']),
    ({"type": ["string", "null"], "anyOf": [{"minLength": 3}, {"type": "null"}]}, ['"Ann"', "null"], ['"in"', "1"]),
]
IDS = [json.dumps(schema)[:60] for schema, _, _ in CASES]


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=IDS)
def test_free_texts_are_pieces_of_the_source_and_nothing_else(schema: Any, good: list[str], bad: list[str]) -> None:
    for lead in ("", " "):
        grammar = Grammar.compile(schema, VOCAB, quotes=SOURCE, lead=lead)
        assert [text for text in good if not says(grammar, lead + text)] == []
        assert [text for text in bad if says(grammar, lead + text)] == []


@pytest.mark.parametrize("schema", [schema for schema, _, _ in CASES], ids=IDS)
def test_whatever_is_written_passes_the_second_check(schema: Any) -> None:
    grammar, written = Grammar.compile(schema, VOCAB, quotes=SOURCE), 0
    for seed in range(12):
        dice, run, said = random.Random(seed), grammar.start(), bytearray()
        while not run.complete and len(said) < 1500:
            row = np.zeros(258, np.float32)
            run.mask(row)
            allowed = np.flatnonzero(np.isfinite(row)).tolist()
            closing = [token for token in allowed if token in (*b'"]}', END)]
            token = dice.choice(closing if closing and dice.random() < 0.3 else allowed)
            if token == END:
                break
            run.accept(token)
            said += bytes([token, *run.forced()])
        if run.allows(END):
            value = json.loads(said)
            jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema).validate(value)
            assert unquoted(value, schema, SOURCE) is None
            written += 1
    assert written


@pytest.mark.parametrize(
    ("value", "schema", "path"),
    [
        ("Bob", TEXT, "$"),
        ({"a": ["Ann", "Bob"]}, record(a={"type": "array", "items": TEXT}), "$.a[1]"),
        (["Ann", "Bob"], {"prefixItems": [TEXT, TEXT]}, "$[1]"),
        ({"z": "Bob"}, {"additionalProperties": TEXT}, "$.z"),
        ("Bob", {"anyOf": [TEXT, {"type": "null"}]}, "$"),
        ({"v": "Ann", "kids": [{"v": "Bob", "kids": []}]}, TREE, "$.kids[0].v"),
        ("Bob", {"allOf": [{"$ref": "#/$defs/t"}], "$defs": {"t": TEXT}}, "$"),
        ("Bob", {"enum": ["Bob"]}, None),
        ("Bob", {"pattern": "B"}, None),
        ("Bob", {"anyOf": [{"pattern": "B"}, TEXT]}, None),
        (3, {}, None),
    ],
)
def test_the_second_check_names_the_text_that_is_not_in_the_source(value: Any, schema: Any, path: str | None) -> None:
    assert unquoted(value, schema, SOURCE) == path


REFUSED: list[tuple[Any, str, str]] = [
    ({"allOf": [TEXT, {"minLength": 1}]}, "/allOf", "several"),
    (record(a={"type": "object", "patternProperties": {"^a": TEXT}}), "/properties/a/patternProperties", "pattern"),
    ({"properties": {"a": TEXT}, "additionalProperties": TEXT}, "/additionalProperties", "additionalProperties"),
    ({"properties": {"a": TEXT}, "required": ["b"]}, "/required", "'b'"),
    ({"type": "object", "required": ["b"]}, "/required", "required"),
    ({"$defs": {"t": TEXT}, "$ref": "#/$defs/t", "minLength": 3}, "/minLength", "beside"),
    ({"items": {"$ref": "#/%24defs/t"}, "$defs": {"t": TEXT}}, "/items/$ref", "reference"),
    ({"properties": {"a": {"not": {}}}}, "/properties/a/not", "'not'"),
]


@pytest.mark.parametrize(("schema", "pointer", "words"), REFUSED)
def test_what_cannot_be_quoted_is_refused_by_name_and_place(schema: Any, pointer: str, words: str) -> None:
    with pytest.raises(SchemaUnsupported, match=words) as caught:
        Grammar.compile(schema, VOCAB, quotes=SOURCE)
    assert caught.value.pointer == pointer


def test_a_long_source_compiles_in_a_moment_and_a_longer_one_is_refused() -> None:
    dice = random.Random(3)
    source = " ".join("".join(dice.choices("abcdefghij", k=dice.randint(1, 9))) for _ in range(2000))
    start = time.process_time()
    assert says(Grammar.compile(record(a=TEXT, b=TEXT), VOCAB, quotes=source), json.dumps({"a": source, "b": ""}))
    assert time.process_time() - start < 2
    with pytest.raises(SchemaUnsupported, match="100,001 characters"):
        Grammar.compile(TEXT, VOCAB, quotes="x" * (verbatim.LONGEST + 1))


def test_an_empty_source_leaves_the_empty_text() -> None:
    grammar = Grammar.compile(TEXT, VOCAB, quotes="")
    assert says(grammar, '""')
    assert not says(grammar, '"a"')


def test_the_prompt_carries_the_source_and_the_answer_is_checked_again() -> None:
    task = extract.extract(" Ann, 3 ", extract.fields("name"), verbatim=True)
    [prompt] = next(task)
    assert prompt.quotes == "Ann, 3"
    with pytest.raises(InvalidOutput, match=r"\$\.name is not literally"):
        task.send([Reply(text='{"name": "Bob"}', finish="stop", prompt_tokens=1, tokens=1)])


def test_the_embedded_model_quotes_whatever_it_is_asked() -> None:
    text = 'The zeppelin Ångström\u00a07 "flew" over Gent.'
    with edgellm.load("demo") as model:
        found = model.extract(text, fields="vessel, town, pilot?, parts [str]", verbatim=True)
        assert found["vessel"] in text
        assert found["town"] in text
        assert all(part in text for part in found["parts"])
        with pytest.raises(UsageError, match="quotes"):
            model.ask([Prompt(completion="x", quotes="y")])
        with pytest.raises(UsageError, match="surrogate"):
            model.ask([Prompt(completion="x", quotes="\ud800", schema={})])
