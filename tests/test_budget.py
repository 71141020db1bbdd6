"""A value whose token budget ends still parses: it is closed in the shortest way, and flagged."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgellm
from edgellm.constraint import Grammar, closing, library
from edgellm.constraint.plain import made_plain
from edgellm.engines.base import Feed, Logits
from edgellm.engines.scripted import Script, Scripted
from edgellm.errors import InvalidOutput, TruncatedOutput
from edgellm.loop import Loop
from edgellm.prompt import Reply
from edgellm.sampling import Sampling
from edgellm.sequence import Sequence
from edgellm.tasks import extract
from edgellm.tasks.positions import cut_off, positions
from edgellm.text import TextStream

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


NODE = {
    "$defs": {"node": record(v=INTEGER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
    "$ref": "#/$defs/node",
}
PERSON = record(
    name=TEXT,
    age={"type": ["integer", "null"]},
    tags={"type": "array", "items": record(x={"enum": ["aa", "b"]}, y={"type": "number", "minimum": 12.5})},
)
# schema, what is written, what closes it, and what does where null is preferred
ENDS: list[tuple[Any, str, str, str | None]] = [
    (PERSON, "", '{"name": "", "age": 0, "tags": []}', '{"name": "", "age": null, "tags": []}'),
    (PERSON, '{"name": "x\\', '"", "age": 0, "tags": []}', '"", "age": null, "tags": []}'),
    (PERSON, '{"name": "x\\u00', '0a", "age": 0, "tags": []}', '0a", "age": null, "tags": []}'),
    (PERSON, '{"name": "é', '", "age": 0, "tags": []}', '", "age": null, "tags": []}'),
    (PERSON, '{"name": "", "age": -', '0, "tags": []}', None),
    (PERSON, '{"name": "", "age": 7', ', "tags": []}', None),
    (PERSON, '{"name": "", "age": 7, "tags": [', "]}", None),
    (PERSON, '{"name": "", "age": 7, "tags": [{"x": "', 'b", "y": 13}]}', None),
    (PERSON, '{"name": "", "age": 7, "tags": [{"x": "aa", "y": 1', "3}]}", None),
    ({"type": "string", "format": "date"}, "", '"0000-01-01"', None),
    ({"type": "string", "pattern": "^(ab|c+d)z$"}, '"c', 'dz"', None),
    ({"type": "string", "pattern": "z$"}, "", '"z"', None),
    ({"type": "string", "minLength": 12}, '"abc', 'aaaaaaaaa"', None),
    ({"type": "integer", "minimum": 500}, "", "1000", None),
    ({"type": "integer", "multipleOf": 7, "minimum": 1}, "", "7", None),
    ({"enum": [f"number {index}" for index in range(999)]}, "", '"number 0"', None),
    ({"enum": ["a long value", "b"]}, "", '"b"', None),
    ({}, "", "0", "null"),
    ({}, '[[{"a": [1, "x', '"]}]]', None),
    ({"anyOf": [record(a=TEXT, b=TEXT), {"type": "null"}]}, "", "null", None),
    ({"anyOf": [record(a=TEXT), {"const": "a very long text, longer than that"}]}, "", '{"a": ""}', None),
    (
        {"type": "array", "minItems": 2, "items": {"anyOf": [{"type": "boolean"}, {"const": "x"}]}},
        "",
        '["x", "x"]',
        None,
    ),
    ({"type": "object", "properties": {"a": TEXT, "b": INTEGER}, "required": ["b"]}, "", '{"a": "", "b": 0}', None),
    (NODE, "", '{"v": 0, "next": null}', None),
    (NODE, '{"v": 0, "next": {"v": 1', ', "next": null}}', None),
    ({"const": True}, "t", "rue", None),
    (INTEGER, "12", "", None),
]


@pytest.mark.parametrize(("schema", "written", "end", "with_nulls"), ENDS)
def test_the_shortest_end_is_found_from_wherever_a_value_stands(
    schema: Any, written: str, end: str, with_nulls: str | None
) -> None:
    start = closing.begin(library.json_grammar(made_plain(schema)))
    assert start
    place = start.after(written.encode())
    assert place
    found = closing.shortest(place, 400)
    # an optional property that comes first may be written: leaving it out is longer to find, not to say
    assert found is not None
    assert len(found.decode()) <= len(end)
    assert found.decode() == end or len(found) < len(end)
    assert place.ends_with(found)
    other = closing.shortest(place, 400, nulls=True)
    assert other is not None
    assert other.decode() == (with_nulls or found.decode())


def test_an_end_beyond_reach_is_not_found_and_costs_little() -> None:
    start = closing.begin(library.json_grammar({"type": "string", "minLength": 500}))
    assert start
    assert closing.shortest(start, 400) is None
    long = closing.shortest(start, 600)
    assert long is not None
    assert len(long) == 502


class Dice(Scripted):
    """Every token is as likely as every other, on any prompt."""

    def __init__(self, seed: int) -> None:
        super().__init__(Script(), context=4096, slots=4)
        self._dice = np.random.default_rng(seed)

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        rows = super().decode(feeds)
        return [self._dice.normal(size=row.shape).astype(np.float32) * 3 for row in rows]


def written(schema: Any, seeds: range, *, quotes: str | None = None) -> list[tuple[int, Reply]]:
    """Answers of dice, each with its budget: 1 to 64 tokens, never less than the shortest value takes."""
    engine = Dice(seeds.start)
    grammar = Grammar.compile(schema, engine.vocab, quotes=quotes)
    loop, budgets = Loop(engine), {}
    for seed in seeds:
        budgets[seed] = max(seed % 64 + 1, grammar.least or 0)
        sampling = Sampling(temperature=1.0, max_tokens=budgets[seed], seed=seed)
        loop.add(Sequence(seed, [1, 2, 3], sampling, TextStream(), grammar.start()))
    replies = {event.id: event.reply for _ in iter(lambda: loop.idle, True) for event in loop.step() if event.reply}
    return [(budgets[seed], replies[seed]) for seed in seeds]


def judged(schema: Any, reply: Reply) -> str:
    """How an answer is flagged, after making sure that the flag is right."""
    kind = jsonschema.Draft202012Validator(schema)
    try:
        finite = "inf" not in repr(json.loads(reply.text))
    except ValueError:
        finite = True
    with contextlib.ExitStack() as stack:
        error = InvalidOutput if reply.finish == "stop" and not finite else None
        error = TruncatedOutput if reply.finish == "length" else error
        caught = stack.enter_context(pytest.raises(error)) if error else None
        kind.validate(extract.read(reply, schema))
    if caught is None or not finite:  # 1e999 obeys the schema, and is no number that could be returned
        return "ok" if caught is None else "not finite"
    assert isinstance(caught.value, TruncatedOutput)
    assert json.loads(reply.text) == caught.value.partial
    kind.validate(caught.value.partial)
    assert caught.value.cut is not None
    return "cut"


@pytest.mark.parametrize(
    "schema", [PERSON, NODE, TEXT, {}, {"type": "array", "items": {"format": "uuid", "type": "string"}}]
)
def test_whatever_the_budget_every_answer_parses_and_validates(schema: Any) -> None:
    found = written(schema, range(64))
    flags = [judged(schema, reply) for _, reply in found]
    assert all(reply.tokens <= budget for budget, reply in found)
    assert "cut" in flags


def test_quoted_texts_are_cut_after_a_whole_word() -> None:
    source = "Ann Applebaum said nothing, then Bartholomew spoke."
    for budget, reply in written(record(a=TEXT, b=TEXT), range(64), quotes=source):
        assert reply.tokens <= budget
        assert all(text in source for text in json.loads(reply.text).values())


leaves = st.sampled_from(
    [
        TEXT,
        INTEGER,
        {"type": "boolean"},
        {"type": ["number", "null"]},
        {"enum": ["one", "two", 3, None]},
        {"type": "string", "pattern": "^[a-c]{2,5}-\\d+$"},
        {"type": "string", "minLength": 3, "maxLength": 6},
        {"type": "integer", "minimum": 17, "maximum": 99},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda item, least: {"type": "array", "items": item, "minItems": least}, inner, st.integers(0, 2)),
        st.builds(
            lambda names: record(**names), st.dictionaries(st.text("abé ", min_size=1, max_size=4), inner, max_size=3)
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, st.integers(0, 10_000))
def test_any_schema_made_of_the_common_keywords_can_be_closed(schema: dict[str, Any], seed: int) -> None:
    for budget, reply in written(schema, range(seed, seed + 8)):
        judged(schema, reply)
        assert reply.tokens <= budget


def test_a_budget_below_the_shortest_value_is_refused_before_decoding() -> None:
    with edgellm.load("demo") as model:
        with pytest.raises(TruncatedOutput, match="the shortest value of this schema takes") as caught:
            model.extract("Ann, 3", fields="name, age int", sampling=Sampling(temperature=0, max_tokens=1))
        needed = caught.value.needed_tokens
        assert needed
        assert caught.value.partial is None
        with pytest.raises(TruncatedOutput) as caught:
            model.extract("Annabella, 3", fields="name, age int", sampling=Sampling(temperature=0, max_tokens=needed))
        assert set(caught.value.partial) == {"name", "age"}
        assert caught.value.filled == ["/age"]
        with pytest.raises(TruncatedOutput) as caught:  # `fields` of all sizes are begun where there is room
            model.extract(
                "Annabella, 3", {"minLength": 9000, "type": "string"}, sampling=Sampling(max_tokens=20, seed=1)
            )
        assert caught.value.partial is None


def test_an_unfinished_value_without_an_end_is_flagged_with_its_text() -> None:
    reply = Reply(text='{"a": "b', finish="length", prompt_tokens=1, tokens=7)
    with pytest.raises(TruncatedOutput, match="cut after 7 tokens, inside the JSON") as caught:
        extract.read(reply, record(a=TEXT))
    assert (caught.value.partial, caught.value.text) == (None, '{"a": "b')


def test_positions_say_where_every_value_stands() -> None:
    text = ' {"a/b": [1, "x\\"y", {}], "é~": {"c": null}}'
    found = {one.pointer: text[one.start : one.end] for one in positions(text)}
    assert found == {
        "/a~1b/0": "1",
        "/a~1b/1": '"x\\"y"',
        "/a~1b/2": "{}",
        "/a~1b": '[1, "x\\"y", {}]',
        "/é~0/c": "null",
        "/é~0": '{"c": null}',
        "": text[1:],
    }
    assert cut_off(text, text.index("y")) == ("/a~1b/1", ["/a~1b/2", "/é~0/c"])
    assert cut_off(text, len(text)) == ("", [])


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_positions_agree_with_the_parser(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    for one in positions(text):
        assert json.loads(text[one.start : one.end]) == one.value
        found = value
        for step in one.pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert found == one.value
