"""A schema is enforced token by token: the valid may be said, the invalid cannot, and errors never pass as ends."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgellm.constraint import Constraint, Grammar, refusal, vocabulary
from edgellm.errors import NoWayOut, SchemaUnsupported

END = 257


class Bytes:
    """One token per byte, then <s> and </s>."""

    pieces: Sequence[bytes] = (*(bytes([value]) for value in range(256)), b"", b"")
    ends = frozenset({END})
    specials: Mapping[str, int] = {"<s>": 256, "</s>": END}

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Words(Bytes):
    """Bytes and a few longer tokens, chosen greedily; a blank comes first, as SentencePiece has it."""

    longer = (b' {"', b'{"', b"name", b'": "', b'": ', b'", "', b"age", b'"}', b" a", b"true", b"null", b"12")
    pieces = (*Bytes.pieces, *longer)
    prefix = " "

    def encode(self, text: str) -> list[int]:
        rest, tokens = (self.prefix + text).encode(), []
        order = sorted(range(258, 258 + len(self.longer)), key=lambda token: -len(self.pieces[token]))
        while rest:
            token = next((one for one in order if rest.startswith(self.pieces[one])), rest[0])
            tokens.append(token)
            rest = rest[len(self.pieces[token]) :]
        return tokens


VOCAB = Bytes()


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT, INTEGER = {"type": "string"}, {"type": "integer"}

# schema, texts that are allowed to the end, texts that are refused before it
CASES: list[tuple[Any, list[str], list[str]]] = [
    (True, ['"x"', "1", "[]", '{"a": null}', "-0.5e3"], ["", "nul", "01", "'x'", '{"a":1}', "[1,2]", " 1"]),
    (
        TEXT,
        ['""', '"a b"', '"é\u4e2d\U0001f600"', r'"\"\\\n\u0001"'],
        ['"\n"', '"\x01"', '"\x7f"', r'"\ud800"', '"a', "a"],
    ),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"é\U0001f600x"'], ['"a"', '"abcd"']),
    ({"type": "string", "pattern": "^[a-c]+$"}, ['"abc"'], ['""', '"abd"', '"xabc"']),
    ({"type": "string", "pattern": "b"}, ['"abc"', '"b"'], ['"ac"']),
    ({"type": "string", "enum": ["yes", "no", "n"]}, ['"yes"', '"n"', '"no"'], ['"ye"', '"nope"', "yes"]),
    ({"enum": [1, "1", None, [2], {"a": 1}]}, ["1", '"1"', "null", "[2]", '{"a": 1}'], ["2", "[ 2]", '{"a":1}']),
    ({"const": {"a": [1, 2]}}, ['{"a": [1, 2]}'], ['{"a": [1]}', '{"a": [1,2]}']),
    ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2024-13-01"', '"24-01-01"']),
    ({"type": "string", "format": "date-time"}, ['"2024-02-29T10:00:00Z"'], ['"2024-02-29"']),
    ({"type": "string", "format": "email"}, ['"a@example.org"'], ['"a"']),
    ({"type": "string", "format": "uuid"}, ['"123e4567-e89b-42d3-a456-426614174000"'], ['"123"']),
    ({"type": "string", "format": "ipv4"}, ['"127.0.0.1"'], ['"256.0.0.1"']),
    (INTEGER, ["0", "-7", "123456789012345678901"], ["1.5", "1e3", "+1", "007", "-", '"1"']),
    ({"type": "integer", "minimum": 5, "maximum": 12}, ["5", "12"], ["4", "13", "1", "-5"]),
    ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7}, ["6"], ["5", "7"]),
    ({"type": "integer", "multipleOf": 5}, ["0", "15", "-5"], ["7"]),
    ({"type": "number"}, ["0", "-1.5", "2e10", "1E-3"], ["NaN", "Infinity", ".5", "1.", "0x1"]),
    ({"type": "number", "minimum": 0, "maximum": 1}, ["0", "0.25", "1", "1.0"], ["-0.1", "1.1", "2"]),
    ({"type": "boolean"}, ["true", "false"], ["True", "0", "null"]),
    ({"type": ["integer", "null"]}, ["3", "null"], ['"3"', "3.5"]),
    (record(name=TEXT, age=INTEGER), ['{"name": "A", "age": 3}'], ['{"name": "A"}', '{"age": 3, "name": "A"}', "{}"]),
    (
        {"type": "object", "properties": {"a": TEXT, "b": INTEGER}, "required": ["b"], "additionalProperties": False},
        ['{"b": 1}', '{"a": "", "b": 1}'],
        ['{"a": ""}', '{"b": 1, "c": 2}', '{"b": 1, "b": 2}'],
    ),
    (
        {"type": "object", "properties": {"a": INTEGER}},
        ["{}", '{"a": 1, "z": null}'],
        ['{"a": "1"}', '{"a": 1, "a": 2}'],
    ),
    ({"type": "object", "additionalProperties": INTEGER}, ["{}", '{"x": 1}'], ['{"x": "1"}', '{"x": 1,}']),
    (
        {"type": "object", "patternProperties": {"^n_": INTEGER}, "additionalProperties": False},
        ["{}", '{"n_a": 1}'],
        ['{"n_a": ""}', '{"x": 1}'],
    ),
    (
        {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 2},
        ["[1]", "[1, 2]"],
        ["[]", "[1, 2, 3]", "[1,2]"],
    ),
    (
        {"type": "array", "prefixItems": [INTEGER, TEXT], "items": False, "minItems": 2},
        ['[1, "a"]'],
        ['["a", 1]', "[1]"],
    ),
    ({"anyOf": [INTEGER, record(a=TEXT)]}, ["1", '{"a": ""}'], ['""', '{"a": 1}']),
    ({"oneOf": [record(kind={"const": "x"}), record(kind={"const": "y"})]}, ['{"kind": "y"}'], ['{"kind": "z"}']),
    ({"allOf": [record(a=INTEGER), {"properties": {"a": {"maximum": 3}}}]}, ['{"a": 3}'], ['{"a": 4}']),
    (
        {
            "$defs": {"node": record(next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
            "$ref": "#/$defs/node",
        },
        ['{"next": null}', '{"next": {"next": null}}'],
        ['{"next": 1}', '{"next": {}}'],
    ),
    (
        {"definitions": {"size": {"enum": ["S", "L"]}}, "type": "array", "items": {"$ref": "#/definitions/size"}},
        ["[]", '["S", "L"]'],
        ['["M"]'],
    ),
    (record(**{'a "quoted" é': {"type": "null"}}), ['{"a \\"quoted\\" é": null}'], ['{"a": null}']),
]
IDS = [json.dumps(schema)[:60] for schema, _, _ in CASES]


def says(run: Constraint, text: str) -> bool:
    """Walk a text token by token; True when every token was allowed and the value may end there."""
    for token in VOCAB.encode(text):
        allowed = run.allows(token)
        assert allowed == (token in run.allowed().tolist())
        if not allowed:
            return False
        run.accept(token)
    return run.allows(END)


def walk(schema: Any, seed: int, limit: int = 2000) -> str | None:
    """Write a random value under the mask; None when it does not end in time."""
    dice = random.Random(seed)
    run, said = Grammar.compile(schema, VOCAB).start(), bytearray()
    while not run.complete and len(said) < limit:
        row = np.zeros(len(VOCAB.pieces), np.float32)
        run.mask(row)
        allowed = np.flatnonzero(np.isfinite(row)).tolist()
        closing = [token for token in allowed if token in (*b'"]}', END)]
        token = dice.choice(closing if closing and dice.random() < 0.25 else allowed)
        if token == END:
            return said.decode()
        run.accept(token)
        said += bytes([token, *run.forced()])
    return said.decode() if run.complete else None


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=IDS)
def test_a_schema_allows_what_is_valid_and_nothing_else(schema: Any, good: list[str], bad: list[str]) -> None:
    grammar = Grammar.compile(schema, VOCAB)
    assert [text for text in good if not says(grammar.start(), text)] == []
    assert [text for text in bad if says(grammar.start(), text)] == []
    led = Grammar.compile(schema, VOCAB, lead=" ")
    assert [text for text in good if not (says(led.start(), text) and says(led.start(), " " + text))] == []
    assert [text for text in bad if says(led.start(), " " + text) or says(led.start(), "  " + text)] == []


@pytest.mark.parametrize("schema", [schema for schema, _, _ in CASES], ids=IDS)
def test_whatever_is_written_under_the_mask_parses_and_validates(schema: Any) -> None:
    written = [text for text in (walk(schema, seed) for seed in range(8)) if text is not None]
    assert written
    for text in written:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@pytest.mark.parametrize("seed", range(20))
def test_separators_are_those_of_json_dumps(seed: int) -> None:
    schema = record(a={"type": "array", "items": {"enum": ["x", 1, True]}, "maxItems": 4}, b=record(c={"type": "null"}))
    text = walk(schema, seed)
    assert text is not None
    assert text == json.dumps(json.loads(text))


leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-99, 99),
        st.integers(0, 99),
    ),
    st.builds(
        lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=4)), min_size=1, unique_by=str),
    ),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda item, most: {"type": "array", "items": item, "maxItems": most}, inner, st.integers(0, 3)),
        st.builds(lambda names: record(**names), st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3)),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, st.integers())
def test_any_schema_made_of_the_common_keywords_is_obeyed(schema: dict[str, Any], seed: int) -> None:
    text = walk(schema, seed, limit=5000)
    assert text is not None
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


# The contract of one sequence.


def test_forced_tokens_are_already_accepted() -> None:
    run = Grammar.compile(record(name=TEXT), VOCAB).start()
    assert bytes(run.forced()) == b'{"name": "'
    assert run.forced() == []
    run.accept(ord('"'))
    assert bytes(run.forced()) == b"}"
    assert run.complete


def test_sequences_of_one_grammar_do_not_disturb_each_other() -> None:
    grammar = Grammar.compile({"enum": ["ab", "cd"]}, VOCAB)
    first, second = grammar.start(), grammar.start()
    first.accept(ord('"'))
    first.accept(ord("a"))
    assert bytes(second.allowed().tolist()) == b'"'
    assert says(second, '"cd"')


def test_mask_keeps_the_logits_of_allowed_ids_and_refuses_the_rest() -> None:
    run = Grammar.compile({"type": "boolean"}, VOCAB).start()
    row = np.arange(300, dtype=np.float32)  # a row may be wider than the vocabulary
    run.mask(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == [ord("f"), ord("t")]
    assert row[ord("t")] == ord("t")


def test_complete_only_when_nothing_but_an_end_can_follow() -> None:
    run = Grammar.compile({"enum": [1, 12]}, VOCAB).start()
    assert not run.complete
    run.accept(ord("1"))
    assert run.allows(END)
    assert not run.complete
    run.accept(ord("2"))
    assert run.complete
    assert run.allowed().tolist() == [END]


def test_an_end_token_completes_a_value_that_could_go_on() -> None:
    run = Grammar.compile(INTEGER, VOCAB).start()
    run.accept(ord("1"))
    run.accept(END)
    assert run.complete


def test_every_end_of_the_vocabulary_may_end_a_value() -> None:
    class Ends(Bytes):
        pieces = (*Bytes.pieces, b"<|eot|>")
        ends = frozenset({END, 258})

    run = Grammar.compile(INTEGER, Ends()).start()
    run.accept(ord("1"))
    assert {END, 258} <= set(run.allowed().tolist())
    assert not run.allows(256)


def test_a_vocabulary_without_ends_still_completes() -> None:
    class Endless(Bytes):
        ends: frozenset[int] = frozenset()

    run = Grammar.compile({"const": True}, Endless()).start()
    assert bytes(run.forced()) == b"true"
    assert run.complete
    with pytest.raises(NoWayOut, match="allows no token"):
        run.mask(np.zeros(258, np.float32))


def test_control_tokens_and_bytes_that_are_no_text_are_never_allowed() -> None:
    run = Grammar.compile(TEXT, VOCAB).start()
    run.accept(ord('"'))
    assert not {0, 10, 127, 128, 255, 256, END} & set(run.allowed().tolist())


def test_forced_text_is_tokenized_as_a_continuation() -> None:
    """SentencePiece puts a blank before a text; a grammar that forced it would refuse its own tokens."""
    vocab = Words()
    run = Grammar.compile(record(name={"type": "boolean"}), vocab).start()
    pieces = [vocab.pieces[token] for token in run.forced()]
    assert b'{"name": '.startswith(b"".join(pieces))
    assert pieces[:2] == [b'{"', b"name"]


def test_a_tokenizer_that_changes_the_text_forces_it_by_longest_match() -> None:
    class Shouting(Bytes):
        def encode(self, text: str) -> list[int]:
            return list(text.upper().encode())

    run = Grammar.compile({"const": "abc"}, Shouting()).start()
    assert bytes(run.forced()) == b'"abc"'
    assert run.complete


def test_a_tokenizer_that_swallows_the_guard_forces_by_longest_match() -> None:
    class Glued(Bytes):
        def encode(self, text: str) -> list[int]:
            return [ord(" "), *text.replace("\x02", "" if len(text) > 1 else "\x02").encode()]

    run = Grammar.compile({"const": "abc"}, Glued()).start()
    assert bytes(run.forced()) == b'"abc"'
    assert run.complete


def test_a_refused_token_closes_the_sequence_for_good() -> None:
    run = Grammar.compile(record(a=TEXT), VOCAB).start()
    with pytest.raises(NoWayOut, match="refuses token 120"):
        run.accept(ord("x"))
    for broken in (lambda: run.mask(np.zeros(258, np.float32)), run.allowed, lambda: run.allows(END), run.forced):
        with pytest.raises(NoWayOut):
            broken()
    with pytest.raises(NoWayOut):
        _ = run.complete


def test_an_early_end_is_refused() -> None:
    run = Grammar.compile(record(a=TEXT), VOCAB).start()
    assert not run.allows(END)
    with pytest.raises(NoWayOut):
        run.accept(END)


class Broken:
    """A matcher that fails while the sequence runs."""

    def __init__(self, *, forced: bool = False, empty: bool = False) -> None:
        self._forced, self._empty = forced, empty

    def compute_bitmask(self) -> bytes:
        return bytes(36) if self._empty else b"\xff" * 36

    def compute_ff_tokens(self) -> list[int]:
        return [1]

    def validate_tokens(self, tokens: list[int]) -> int:
        return len(tokens)

    def consume_tokens(self, tokens: list[int]) -> bool:
        return not self._forced

    def is_error(self) -> bool:
        return not (self._forced or self._empty)

    def get_error(self) -> str:
        return "too  many\nitems. <non-verbose/>" + "x" * 400


def test_an_error_inside_the_library_never_passes_as_an_end() -> None:
    with pytest.raises(NoWayOut, match=r"^the grammar has stopped: too many items\. x+…\.$"):
        Constraint(Broken(), frozenset({END})).mask(np.zeros(258, np.float32))
    with pytest.raises(NoWayOut, match="its own tokens"):
        Constraint(Broken(forced=True), frozenset({END})).forced()
    with pytest.raises(NoWayOut, match="allows no token"):
        Constraint(Broken(empty=True), frozenset({END})).allowed()
    with pytest.raises(NoWayOut, match="allows no token"):
        Constraint(Broken(empty=True), frozenset({END})).mask(np.zeros(258, np.float32))


def test_a_vocabulary_that_cannot_write_json_writes_nothing() -> None:
    class Letters(Bytes):
        pieces = (*(bytes([value]) if 97 <= value <= 122 else b"" for value in range(256)), b"", b"")

    run = Grammar.compile(record(a=TEXT), Letters()).start()
    with pytest.raises(NoWayOut):
        run.accept(int(run.allowed()[0]))


def test_the_vocabulary_is_read_once() -> None:
    class Counted(Bytes):
        reads = 0

        @property
        def pieces(self) -> Sequence[bytes]:  # type: ignore[override]
            Counted.reads += 1
            return Bytes.pieces

    vocab = Counted()
    for _ in range(3):
        Grammar.compile(TEXT, vocab)
    assert Counted.reads == 1
    for _ in range(3):
        Grammar.compile(TEXT, Bytes())  # others come and go
    assert len(vocabulary._tokenizers) <= 2


# What is refused, and how.

REFUSED: list[tuple[Any, str, str]] = [
    ({"not": {}}, "/not", "'not'"),
    ({"if": {}, "then": {}}, "/if", "'if'"),
    ({"properties": {"t": {"type": "array", "uniqueItems": True}}}, "/properties/t/uniqueItems", "'uniqueItems'"),
    ({"properties": {"a/b~c": {"items": {"contains": {}}}}}, "/properties/a~1b~0c/items/contains", "'contains'"),
    ({"anyOf": [INTEGER, {"type": "string", "pattern": "(?=a)"}]}, "/anyOf/1/pattern", "look-around"),
    ({"prefixItems": [{"type": "string", "pattern": "("}]}, "/prefixItems/0/pattern", "unclosed group"),
    ({"additionalProperties": {"format": "zork"}}, "/additionalProperties/format", "'format'"),
    ({"$defs": {"x": {"format": "zork"}}, "items": {"$ref": "#/$defs/x"}}, "/$defs/x/format", "Unknown format"),
    ({"$defs": {"x": {"format": "zork"}}, "$ref": "#/$defs/x"}, "/$defs/x/format", "Unknown format"),
    ({"items": {"$ref": "#/$defs/gone"}}, "/items/$ref", "does not exist"),
    ({"$ref": "https://example.org/x.json"}, "/$ref", "'$ref'"),
    ({"items": {"oneOf": [INTEGER, {"type": "number"}]}}, "/items/oneOf", "'oneOf'"),
    ({"type": "foo"}, "/type", "Invalid type"),
    ({"items": {"minLength": -1}}, "/items/minLength", "'minLength'"),
    ({"required": "a"}, "/required", "'required'"),
    ({"properties": []}, "/properties", "properties must be"),
    ({"enum": []}, "", "anyOf is empty"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "/minLength", "greater than maxLength"),
    ({"dependentRequired": {"a": ["b"]}}, "/dependentRequired", "'dependentRequired'"),
    ({"propertyNames": {"pattern": "a"}}, "/propertyNames", "'propertyNames'"),
    ({"unevaluatedProperties": False}, "/unevaluatedProperties", "'unevaluatedProperties'"),
    ({"x-guidance": {"lenient": True}, "not": {}}, "/not", "'not'"),
    (False, "", "accepts no value"),
    ([], "", "not list"),
    ("string", "", "not str"),
    (None, "", "not NoneType"),
    ({1: 2}, "", "not a string"),
    ({"const": float("nan")}, "/const", "not JSON"),
    ({"const": {1, 2}}, "/const", "not JSON"),
    ({"title": "\ud800"}, "/title", "not valid Unicode"),
    ({"$ref": "#"}, "", "no JSON value"),
    (
        {"$defs": {"a": record(x={"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
        "",
        "no JSON value",
    ),
]


@pytest.mark.parametrize(("schema", "pointer", "words"), REFUSED, ids=[str(schema)[:60] for schema, _, _ in REFUSED])
def test_what_cannot_be_enforced_is_refused_by_name_and_place(schema: Any, pointer: str, words: str) -> None:
    with pytest.raises(SchemaUnsupported) as caught:
        Grammar.compile(schema, VOCAB)
    assert caught.value.pointer == pointer
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_keywords_that_say_nothing_are_not_refused() -> None:
    schema = record(
        secret={"type": "string", "format": "password", "title": "Secret", "description": "d", "default": "x"},
        tags={"type": "array", "uniqueItems": False, "items": {"type": "integer", "format": "int32"}, "maxItems": 1},
    )
    given_schema = json.dumps(schema)
    assert says(Grammar.compile(schema, VOCAB).start(), '{"secret": "a", "tags": [1]}')
    assert json.dumps(schema) == given_schema  # the caller's schema is left alone


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = record(**{"not": INTEGER, "uniqueItems": {"const": False}, "format": {"const": "password"}})
    text = '{"not": 1, "uniqueItems": false, "format": "password"}'
    assert says(Grammar.compile(schema, VOCAB).start(), text)


def test_a_lead_is_allowed_once_and_never_asked_for() -> None:
    grammar = Grammar.compile(record(a={"type": "null"}), VOCAB, lead=" ")
    run = grammar.start()
    assert run.forced() == []
    assert bytes(run.allowed().tolist()) == b" {"
    run.accept(ord(" "))
    assert bytes(run.forced()) == b'{"a": null}'
    assert run.complete
    with pytest.raises(SchemaUnsupported, match="'not'"):
        Grammar.compile({"not": {}}, VOCAB, lead=" ")
    assert not says(Grammar.compile({"x-guidance": {"whitespace_flexible": True}}, VOCAB, lead=" ").start(), "[1,2]")


def test_tuples_and_mappings_are_as_good_as_lists_and_dicts() -> None:
    from types import MappingProxyType

    schema = MappingProxyType({"type": "object", "properties": MappingProxyType({"a": {"enum": ("x", "y")}})})
    assert says(Grammar.compile(schema, VOCAB).start(), '{"a": "y"}')


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = TEXT
    for _ in range(levels):
        schema = record(a=schema)
    return schema


def chain(levels: int, step: Any, last: Any) -> dict[str, Any]:
    return {
        "$defs": {**{f"d{i}": step(f"#/$defs/d{i + 1}") for i in range(levels)}, f"d{levels}": last},
        "$ref": "#/$defs/d0",
    }


BOMBS: dict[str, Any] = {
    "enum of 5,000": {"enum": [f"value number {index}" for index in range(5000)]},
    "enum of 50,000": {"enum": [f"value number {index}" for index in range(50_000)]},
    "1,000 alternatives": {"anyOf": [{"const": {"k": index}} for index in range(1000)]},
    "1,000 properties": {"type": "object", "properties": {f"p{index}": TEXT for index in range(1000)}},
    "20,000 properties": {"type": "object", "properties": {f"p{index}": TEXT for index in range(20_000)}},
    "maxLength": {"type": "string", "maxLength": 10**6},
    "minLength": {"type": "string", "minLength": 10**6},
    "maxItems": {"type": "array", "items": TEXT, "maxItems": 10**6},
    "minItems": {"type": "array", "items": record(a=TEXT), "minItems": 10**6},
    "minProperties": {"type": "object", "minProperties": 10**6},
    "60 levels": nested(40),
    "300 levels": nested(300),
    "3,000 levels": nested(3000),
    "30,000 levels of anyOf": eval("{'anyOf': [" * 60 + "{}" + "]}" * 60),
    "repetition": {"type": "string", "pattern": "^(((x{1,50}){1,50}){1,50})$"},
    "deep repetition": {"type": "string", "pattern": "^(((([a-z]{1,50}){1,50}){1,50}){1,50}){1,50}$"},
    "backtracking": {"type": "string", "pattern": "^(a+)+$"},
    "blow-up": {"type": "string", "pattern": "(a|b)*a(a|b){30}"},
    "long pattern": {"type": "string", "pattern": "|".join(f"abc{index}.*" for index in range(5000))},
    "Unicode class": {"type": "string", "pattern": "^[\\p{L}]{1,1000}$"},
    "12 patterns": {"type": "string", "allOf": [{"pattern": f"a{{{index}}}.*b.*c"} for index in range(12)]},
    "40 patterns": {"type": "string", "allOf": [{"pattern": f"a{{{index}}}.*b.*c"} for index in range(40)]},
    "40 patterns apart": {"anyOf": [{"pattern": f"a{{{index}}}.*b.*c"} for index in range(40)]},
    "patterns behind references": {"$defs": {"p": {"pattern": "a.*b.*c"}}, "allOf": [{"$ref": "#/$defs/p"}] * 40},
    "references to nothing": {"allOf": [{"$ref": "#/$defs/p"}, {"$ref": "#/a/b"}, {"$ref": 3}], "anyOf": 3},
    "self": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "pair": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "self with siblings": {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, TEXT]}}, "$ref": "#/$defs/a"},
    "tree": {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
    "doubling objects": chain(30, lambda ref: {"properties": {"a": {"$ref": ref}, "b": {"$ref": ref}}}, TEXT),
    "doubling allOf": chain(18, lambda ref: {"allOf": [{"$ref": ref}, {"$ref": ref}]}, TEXT),
    "product": {"allOf": [{"anyOf": [{"minLength": i * 10 + j} for j in range(10)]} for i in range(6)]},
    "large multipleOf": {"type": "integer", "multipleOf": 999_999_937},
    "fine multipleOf": {"type": "number", "multipleOf": 1e-9, "minimum": 0, "maximum": 1e18},
    "huge number": {"const": 10**4000},
    "beyond 64 bits": {"type": "integer", "minimum": -(2**80), "maximum": 2**80},
    "long name": record(**{"x" * 100_000: INTEGER}),
    "many parts": {"enum": list(range(300_000))},
}


LINKS: dict[str, Any] = {
    "$ref": lambda ref: {"$ref": ref},
    "items": lambda ref: {"type": "array", "items": {"$ref": ref}},
    "properties": lambda ref: record(a={"$ref": ref}),
    "allOf": lambda ref: {"allOf": [{"$ref": ref}, {"maxLength": 9}]},
    "anyOf": lambda ref: {"anyOf": [{"$ref": ref}, {"type": "null"}]},
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_long_chain_of_references_never_takes_the_process_along(kind: str) -> None:
    """3,000 references through `items` ended the process: the library recurses on a stack of fixed size."""
    assert Grammar.compile(chain(100, LINKS[kind], TEXT), VOCAB).start().allowed().size
    for length in (300, 600):
        with contextlib.suppress(SchemaUnsupported):
            Grammar.compile(chain(length, LINKS[kind], TEXT), VOCAB)
    for length in (1000, 3000):
        with pytest.raises(SchemaUnsupported, match=r"levels|too deeply"):
            Grammar.compile(chain(length, LINKS[kind], TEXT), VOCAB)


@pytest.mark.parametrize("named", ["#/anyOf/{}", "#a{}", "https://example.org/{}", "#/%61nyOf/{}"])
def test_references_by_index_anchor_or_name_are_counted_too(named: str) -> None:
    """What they point to may be invisible from here, but the library follows it all the same."""

    def link(index: int) -> dict[str, Any]:
        names = {"$anchor": f"a{index}", "$id": f"https://example.org/{index}"} if index else {}
        return {**names, "type": "array", "items": {"$ref": named.format(index + 1)}}

    schema = {"anyOf": [*(link(index) for index in range(3000)), {"$anchor": "a3000", **TEXT}]}
    with pytest.raises(SchemaUnsupported, match="levels"):
        Grammar.compile(schema, VOCAB)
    with contextlib.suppress(SchemaUnsupported):
        Grammar.compile({"anyOf": [*schema["anyOf"][:50], TEXT]}, VOCAB)


def test_the_search_for_a_culprit_survives_a_long_chain() -> None:
    with pytest.raises(SchemaUnsupported, match="not"):
        Grammar.compile(chain(200, LINKS["anyOf"], {"not": {}}), VOCAB)


def test_a_search_too_deep_for_the_interpreter_blames_the_whole_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(pointer: str, part: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(refusal, "_innermost", deep)
    with pytest.raises(SchemaUnsupported, match="cannot enforce the schema while decoding") as caught:
        Grammar.compile(record(a={"not": {}}), VOCAB)
    assert caught.value.pointer == ""


@pytest.mark.parametrize("schema", BOMBS.values(), ids=list(BOMBS))
def test_a_bomb_compiles_or_is_refused_within_two_seconds(schema: Any) -> None:
    start = time.process_time()
    with contextlib.suppress(SchemaUnsupported):
        run = Grammar.compile(schema, VOCAB).start()
        run.forced()
        assert run.allowed().size
    assert time.process_time() - start < 2


@pytest.mark.parametrize("schema", [{"enum": [2**53 + 1]}, {"type": "integer", "minimum": -(2**60)}])
def test_integers_that_a_double_would_round_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaUnsupported, match=r"beyond 2\^53"):
        Grammar.compile(schema, VOCAB)
