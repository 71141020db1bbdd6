"""Every value of an extraction can say where it stands in the text, and what cannot is marked or taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgellm
from edgellm.errors import InvalidOutput, SchemaUnsupported
from edgellm.prompt import Reply
from edgellm.tasks import extract
from edgellm.tasks.evidence import Extracted, Quote, refuse_strict, without
from edgellm.tasks.written import find

LETTER = """Ann Lee paid $1,234.56 on 5 March 2024 for three boxes (1.5 kg each).
The 1.2 million is due March 7th, 2025; order 03/04/21 took twenty-one people from New
York, 7 % of -3, 2 thousand, 1.000 pieces in room 12B. 東京都 went to the party."""


@pytest.mark.parametrize(
    ("value", "quote", "how"),
    [
        ("Ann Lee", "Ann Lee", "exact"),
        ("ann  lee", "Ann Lee", "loose"),
        ("New York", "New\nYork", "loose"),
        ("東京", "東京", "exact"),
        (1234.56, "1,234.56", "number"),
        (3, "three", "number"),
        (-3, "-3", "exact"),
        (1.5, "1.5", "exact"),
        (1_200_000, "1.2 million", "number"),
        (21, "twenty-one", "number"),
        (2000, "2 thousand", "number"),
        (1000, "1.000", "number"),
        (7, "7", "exact"),
        ("2024-03-05", "5 March 2024", "date"),
        ("2024-03-05T00:00:00Z", "5 March 2024", "date"),
        ("2025-03-07", "March 7th, 2025", "date"),
        ("2021-04-03", "03/04/21", "date"),
        ("2021-03-04", "03/04/21", "date"),
    ],
)
def test_a_value_is_found_in_its_written_forms(value: Any, quote: str, how: str) -> None:
    found = find(value, LETTER)
    assert found
    assert (LETTER[found.start : found.end], found.how) == (quote, how)


@pytest.mark.parametrize(
    "value", ["art", "An", "", " ", None, True, False, 999, 4, 12.5, "2020-01-01", "Ann\nPaid", "2024-13-45"]
)
def test_what_the_text_does_not_say_is_not_found(value: Any) -> None:
    assert find(value, LETTER) is None


@given(
    st.text(min_size=1), st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.dates().map(str))
)
def test_looking_for_anything_in_anything_gives_a_place_in_the_text_or_nothing(text: str, value: Any) -> None:
    found = find(value, text)
    assert found is None or 0 <= found.start < found.end <= len(text)
    shown = f"so {value} it is"
    if str(value).split() and not isinstance(value, float):
        again = find(value, shown)
        assert again is None or shown[again.start : again.end]


def answered(task: Any, *texts: str) -> tuple[Extracted, list[Any]]:
    """Drive a task by hand, one reply for each prompt; returns its result and all prompts."""
    asked, replies = [], iter(texts)
    try:
        prompts = next(task)
        while True:
            asked += prompts
            prompts = task.send([Reply(text=next(replies), finish="stop", prompt_tokens=1, tokens=1) for _ in prompts])
    except StopIteration as done:
        return done.value, asked


SCHEMA = extract.fields("name?, age int?, married bool?, tags [str]")


def test_each_leaf_has_a_quote_with_its_place_or_none() -> None:
    text = "  Ann, aged 36, likes jazz."
    task = extract.extracted(text, SCHEMA, evidence=True)
    found, asked = answered(task, '{"name": "ann", "age": 36, "married": null, "tags": ["jazz", "polo"]}')
    assert len(asked) == 1
    assert found.evidence == {
        "/name": Quote("Ann", 2, 5, "loose"),
        "/age": Quote("36", 12, 14, "exact"),
        "/tags/0": Quote("jazz", 22, 26, "exact"),
        "/tags/1": None,
    }
    assert found.unproven == ("/tags/1",)
    assert all(quote is None or text[quote.start : quote.end] == quote.text for quote in found.evidence.values())
    shown = json.loads(json.dumps(found.as_dict()))
    assert shown["evidence"]["/name"] == {"text": "Ann", "start": 2, "end": 5, "how": "loose"}


def test_of_a_judgement_the_model_quotes_what_it_goes_by_and_the_quote_is_verified() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["good", "bad"]}, "c": {"type": "boolean"}},
    }
    task = extract.extracted("She has a husband.", schema, evidence=True)
    found, asked = answered(
        task, '{"a": true, "b": "good", "c": false}', '{"quote": "a husband"}', '{"quote": "a wife"}', '{"quote": null}'
    )
    assert found.evidence == {"/a": Quote("a husband", 8, 17, "model"), "/b": None, "/c": None}
    assert [prompt.quotes for prompt in asked] == [None, *["She has a husband."] * 3]
    assert "the words which say that a is true" in asked[1].messages[-1].content


def test_strict_evidence_takes_out_what_has_none_and_says_so() -> None:
    task = extract.extracted("Ann likes jazz.", SCHEMA, evidence="strict")
    found, _ = answered(task, '{"name": "Ann", "age": 36, "married": null, "tags": ["polo", "jazz"]}')
    assert found.value == {"name": "Ann", "age": None, "married": None, "tags": ["jazz"]}
    assert found.unproven == ()
    assert found.evidence["/tags/0"] == Quote("jazz", 10, 14, "exact")
    assert found.warnings == (
        "/age was 36 and had no evidence: taken out.",
        '/tags/0 was "polo" and had no evidence: taken out.',
    )


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (extract.fields("name?, age int"), "/properties/age"),
        ({"type": "string"}, ""),
        ({"properties": {"a": {"enum": ["x"]}}}, "/properties/a"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "/additionalProperties"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "/items"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, "/prefixItems/0"),
        (
            {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "/items/properties/a",
        ),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}}, "/properties/a"),
    ],
)
def test_a_schema_from_which_a_value_cannot_be_taken_is_refused_before_decoding(schema: Any, pointer: str) -> None:
    with pytest.raises(SchemaUnsupported, match="does not allow null") as caught:
        next(extract.extracted("text", schema, evidence="strict"))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        extract.fields("[name?, age int?]"),
        {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"properties": {"a": {"enum": ["x", None]}, "b": {"$ref": "#"}}},
        {},
    ],
)
def test_a_schema_whose_values_may_be_null_can_be_strict(schema: Any) -> None:
    refuse_strict(schema)


def test_taking_out_values_leaves_the_rest_alone() -> None:
    value = {"a/b": [1, 2, {"c": "x"}], "d": {"e": True}}
    assert without(value, ("/a~1b/0", "/a~1b/2/c", "/d/e")) == {"a/b": [2, {"c": None}], "d": {"e": None}}


def test_a_value_that_breaks_the_schema_without_what_was_taken_out_is_an_error() -> None:
    schema = {**extract.fields("a?"), "if": {"properties": {"a": {"type": "null"}}}, "then": False}
    with pytest.raises(InvalidOutput):
        answered(extract.extracted("nothing", schema, evidence="strict"), '{"a": "x"}')


def test_the_embedded_model_gives_evidence_for_what_it_found() -> None:
    text = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"
    with edgellm.load("demo") as model:
        found = model.extract(text, fields="name, company, address", evidence=True)
    assert isinstance(found, Extracted)
    assert {pointer: quote and text[quote.start : quote.end] for pointer, quote in found.evidence.items()} == {
        "/name": "Suvojit Hore",
        "/company": "AB",
        "/address": "AZ Street NY",
    }
