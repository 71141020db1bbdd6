"""Tasks are pure: every test here sends the replies by hand, no model needed."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.errors import EmptyText, InvalidOutput, SchemaUnsupported, TruncatedOutput, UsageError
from edgellm.prompt import Prompt, Reply
from edgellm.tasks import extract, languages, summarize, translate


def reply(text: str, finish: Any = "stop") -> Reply:
    return Reply(text=text, finish=finish, prompt_tokens=1, tokens=7)


def ended(task: Generator[list[Prompt], list[Reply], Any], answer: Reply) -> Any:
    next(task)
    with pytest.raises(StopIteration) as done:
        task.send([answer])
    return done.value.value


def question(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def test_short_form_reads_types_lists_and_question_marks() -> None:
    schema = extract.fields("name, age int, email?, tags [str], price float?, paid bool")
    assert schema["properties"] == {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "email": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "price": {"type": ["number", "null"]},
        "paid": {"type": "boolean"},
    }
    assert schema["required"] == ["name", "age", "email", "tags", "price", "paid"]
    assert schema["additionalProperties"] is False


def test_short_form_accepts_names_with_dashes_and_other_letters() -> None:
    assert list(extract.fields("order-id int, prénom")["properties"]) == ["order-id", "prénom"]


@pytest.mark.parametrize(
    ("short", "named"),
    [
        ("", "''"),
        ("a,,b", "''"),
        ("age years", "age years"),
        ("a b c", "a b c"),
        ("tags [", "tags ["),
        ("x date", "x date"),
    ],
)
def test_unreadable_field_is_named_in_the_error(short: str, named: str) -> None:
    with pytest.raises(UsageError, match="cannot read field") as error:
        extract.fields(short)
    assert named in str(error.value)


def test_field_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'a' is named twice"):
        extract.fields("a, b, a int")


@given(st.text())
def test_short_form_never_fails_otherwise(short: str) -> None:
    try:
        schema = extract.fields(short)
    except UsageError:
        return
    assert schema["properties"]


def test_question_lists_keys_in_schema_order_and_says_what_names_do_not() -> None:
    schema = {
        "type": "object",
        "properties": {
            "zip": {"type": "integer"},
            "status": {"enum": ["open", "closed", None]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "any": {"type": "array"},
            "owner": {"type": ["string", "null"], "description": "Full name."},
            "size": {"type": ["integer", "number"]},
        },
    }
    asked = question(extract.ask(" text ", schema))
    assert asked == (
        "Extract these fields from the text as JSON: zip (integer), status (one of open, closed), tags (list of string), "
        "any (list), owner (or null; Full name), size (integer or number). Use null for what the text does not say."
        "\n\nText: text"
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}},
    ],
)
def test_nested_schema_is_shown_whole(schema: dict[str, Any]) -> None:
    assert json.dumps(schema) in question(extract.ask("text", schema))


def test_examples_become_earlier_turns() -> None:
    schema = extract.fields("name")
    prompt = extract.ask("three", schema, examples=[("one", {"name": "é"}), ("two", {"name": "b"})])
    assert [turn.role for turn in prompt.messages] == ["user", "assistant"] * 2 + ["user"]
    assert prompt.messages[1].content == '{"name": "é"}'
    assert question(prompt).endswith("Text: three")


def test_extract_returns_the_parsed_value() -> None:
    assert ended(extract.extract("t", extract.fields("age int")), reply('{"age": 3}')) == {"age": 3}


@pytest.mark.parametrize(
    "text", ['{"age": "3"}', '{"age": 3, "x": 1}', "{}", "[1", '{"age": 1e999}', f'{{"age": {"9" * 5000}}}']
)
def test_extract_validates_again(text: str) -> None:
    task = extract.extract("t", extract.fields("age int"))
    next(task)
    with pytest.raises(InvalidOutput) as error:
        task.send([reply(text)])
    assert error.value.text == text


def test_cut_answers_are_typed_and_carry_the_partial_text() -> None:
    for task in (
        translate.translate("t", "fr"),
        summarize.summarize("t"),
    ):
        next(task)
        with pytest.raises(TruncatedOutput, match="7 tokens") as error:
            task.send([reply('{"a": "b', "length")])
        assert error.value.partial == '{"a": "b'


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_empty_text_is_refused_before_a_prompt(text: str) -> None:
    for task in (extract.extract(text, {}), translate.translate(text, "fr"), summarize.summarize(text)):
        with pytest.raises(EmptyText):
            next(task)


@pytest.mark.parametrize("spoken", ["fr", "FR", "fr-FR", "fr_CA", "French", " french "])
def test_language_in_any_common_form(spoken: str) -> None:
    assert languages.language(spoken) == "French"


def test_language_aliases() -> None:
    assert [languages.language(one) for one in ("nb", "Farsi", "Mandarin", "zh-Hans")] == [
        "Norwegian",
        "Persian",
        "Chinese",
        "Chinese",
    ]


def test_unknown_language_suggests() -> None:
    with pytest.raises(UsageError, match="Did you mean French"):
        languages.language("Frensh")
    with pytest.raises(UsageError, match="Known codes: ar bg"):
        languages.language("Klingon!!")


def test_translation_names_both_languages_or_the_target_alone() -> None:
    assert "from English to French" in question(translate.ask("hi", "fr", "en"))
    assert "this text to Spanish." in question(translate.ask("hi", "es"))
    assert ended(translate.translate("hi", "es"), reply(" hola\n")) == "hola"


def test_summary_asks_for_the_length_it_was_given() -> None:
    assert "exactly 2 short sentences" in question(summarize.ask("t"))
    assert "exactly 1 short sentence." in question(summarize.ask("t", sentences=1))
    assert "at most 30 words" in question(summarize.ask("t", words=30))
    assert ended(summarize.summarize("t"), reply("s.")) == "s."


@pytest.mark.parametrize(("sentences", "words"), [(1, 2), (0, None), (None, -3)])
def test_impossible_summary_lengths_are_refused(sentences: int | None, words: int | None) -> None:
    with pytest.raises(UsageError):
        summarize.ask("t", sentences=sentences, words=words)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": [1]},
        {"type": "object", "properties": {"a": {"type": 3}}},
        {"type": "object", "properties": {"a": {"enum": 3}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": [{}]}}},
    ],
)
def test_a_schema_that_is_no_flat_object_is_shown_whole(schema: Any) -> None:
    assert json.dumps(schema) in question(extract.ask("t", schema))


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(SchemaUnsupported, match="not list"):
        extract.ask("t", [])  # type: ignore[arg-type]


def test_an_older_draft_is_validated_by_its_own_rules() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}, {"type": "integer"}],
        "additionalItems": False,
    }
    assert extract.read(reply('["a", 1]'), schema) == ["a", 1]
    with pytest.raises(InvalidOutput, match="breaks the schema"):
        extract.read(reply('["a", "b"]'), schema)


@pytest.mark.parametrize(
    ("text", "schema", "why"),
    [
        ('"A"', {"pattern": r"^\p{Lu}"}, "bad escape"),
        ('["a"]', {"items": [{"type": "string"}]}, "AttributeError"),
        ("1", {"$ref": "#/nowhere"}, "nowhere"),
        ("[" * 400 + "]" * 400, {"items": {"$ref": "#"}}, "RecursionError"),
        ("[" * 90_000 + "]" * 90_000, {}, "RecursionError"),
    ],
    ids=["pattern", "draft", "reference", "deep", "deeper"],
)
def test_an_answer_that_cannot_be_checked_is_invalid_output(text: str, schema: Any, why: str) -> None:
    with pytest.raises(InvalidOutput, match=f"cannot be checked.*{why}") as error:
        extract.read(reply(text), schema)
    assert error.value.text == text


def test_thoughts_of_a_model_are_no_part_of_what_it_found() -> None:
    thought = "<think>\nI should say hello.\n</think>\n\n"
    for task, said in (
        (translate.translate("Good morning", "fr"), "Bonjour"),
        (summarize.summarize("It rains."), "Rain."),
    ):
        next(task)
        with pytest.raises(StopIteration) as done:
            task.send([reply(thought + said)])
        assert done.value.value == said
