"""Whatever names the wanted value becomes a JSON Schema, and the parsed value becomes what was named."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional, Required, TypedDict

import jsonschema
import pytest
from pydantic import BaseModel

import edgellm
from edgellm.errors import InvalidOutput, UsageError
from edgellm.tasks import extract
from edgellm.tasks.shape import shape


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(TypedDict, total=False):
    street: Required[str]
    zip: int


class Loose(TypedDict):
    a: str
    b: NotRequired[int]


@dataclasses.dataclass
class Node:
    value: int
    kids: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Person:
    name: Annotated[str, "full name"]
    age: int | None
    colour: Colour
    kind: Literal["a", "b", None]
    address: Address
    born: Optional[datetime.date]  # noqa: UP045
    tags: Sequence[str]
    pair: tuple[int, str]
    many: tuple[float, ...]
    scores: dict[str, float]
    other: Node | str
    anything: Any
    nick: str = dataclasses.field(default="none", metadata={"description": "short name"})


FULL: dict[str, Any] = {
    "name": "A",
    "age": 3,
    "colour": "red",
    "kind": None,
    "address": {"street": "s"},
    "born": "2020-01-02",
    "tags": ["t"],
    "pair": [1, "q"],
    "many": [1, 2.5],
    "scores": {"a": 1},
    "other": {"value": 1, "kids": [{"value": 2, "kids": []}]},
    "anything": [None],
}


class Line(BaseModel):
    item: str
    colour: Colour = Colour.RED


class Order(BaseModel):
    lines: list[Line]


def test_a_dataclass_comes_back_as_an_instance_all_the_way_down() -> None:
    schema, finish = shape(Person)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(FULL, schema)
    assert finish(FULL) == Person(
        name="A",
        age=3,
        colour=Colour.RED,
        kind=None,
        address={"street": "s"},
        born=datetime.date(2020, 1, 2),
        tags=["t"],
        pair=(1, "q"),
        many=(1.0, 2.5),
        scores={"a": 1.0},
        other=Node(1, [Node(2)]),
        anything=[None],
    )
    assert schema["properties"]["name"] == {"type": "string", "description": "full name"}
    assert schema["properties"]["nick"]["description"] == "short name"
    assert "nick" not in schema["required"]
    assert schema["$defs"].keys() == {"Node"}
    assert "full name" in extract.ask("text", schema).messages[-1].content


@pytest.mark.parametrize(
    ("wanted", "value", "built"),
    [
        (list[Node], [{"value": 1}], [Node(1)]),
        (Loose, {"a": "x"}, {"a": "x"}),
        (list[Order], [{"lines": [{"item": "x"}]}], [Order(lines=[Line(item="x")])]),
        (Order, {"lines": []}, Order(lines=[])),
        (int | None, None, None),
        (Colour | None, "blue", Colour.BLUE),
        (dict[str, Node], {"x": {"value": 1, "kids": []}}, {"x": Node(1)}),
        (list, [1, "a"], [1, "a"]),
        (str, "x", "x"),
    ],
)
def test_types_become_schemas_and_values_become_instances(wanted: Any, value: Any, built: Any) -> None:
    schema, finish = shape(wanted)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)
    assert finish(value) == built


def test_typed_dicts_know_what_is_required_though_annotations_are_text() -> None:
    assert shape(Address).schema["required"] == ["street"]
    assert shape(Loose).schema["required"] == ["a"]


def test_classes_take_no_properties_that_would_be_dropped() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"lines": [], "more": 1}, shape(Order).schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"value": 1, "more": 1}, shape(Node).schema)


@dataclasses.dataclass
class Bad:
    fine: str
    wrong: list[set[str]]


@dataclasses.dataclass
class Unknown:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Bad, r"Bad\.wrong\[\]: set cannot be written as JSON"),
        (Unknown, "annotations of Unknown"),
        (complex, "complex: complex cannot"),
        (dict[int, str], "cannot be written as JSON"),
        (list[complex], r"list\[\]: complex"),
        (3, "not int"),
        ("name, age", "not str"),
        ([Node], "not list"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_the_name_of_its_field(wanted: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shape(wanted)


def test_two_classes_of_one_name_are_not_mixed_up() -> None:
    def other() -> type:
        class Line(BaseModel):
            item: int

        class Bill(BaseModel):
            lines: list[Line]

        return Bill

    @dataclasses.dataclass
    class Both:
        one: Order
        two: Any

    Both.__annotations__ = {"one": Order, "two": other()}
    dataclasses.fields(Both)[1].type = other()
    with pytest.raises(UsageError, match="two classes are called 'Line'"):
        shape(Both)


def test_what_a_class_refuses_is_invalid_output() -> None:
    @dataclasses.dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError("odd")

    with pytest.raises(InvalidOutput, match="does not pass Even: odd"):
        shape(Even).finish({"n": 3})


def test_either_a_schema_or_fields() -> None:
    for both in ({}, {"wanted": {}, "fields": "a"}):
        with pytest.raises(UsageError, match="one of the two"):
            shape(**both)


def test_records_in_brackets_are_a_list() -> None:
    schema = extract.fields("[name, age int]")
    assert schema == {"type": "array", "items": extract.fields("name, age int")}
    asked = extract.ask("text", schema).messages[-1].content
    assert asked.startswith(
        "Extract every record in the text as a JSON list of objects with these fields: name, age (integer).\n"
    )


def test_a_model_takes_any_of_them(script: Any, tmp_path: Path) -> None:
    script(rules=[{"when": "Ada", "say": '[{"value": 3, "kids": []}]'}, {"when": "Bob", "say": '{"name": "Bob"}'}])
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(extract.fields("name")))
    with edgellm.load("demo", engine="scripted") as model:
        assert model.extract("Ada", list[Node]) == [Node(3)]
        assert model.extract(["Bob", "Bob"], file) == [{"name": "Bob"}] * 2
        file.write_text("{")
        with pytest.raises(UsageError, match="is not JSON"):
            model.extract("Bob", file)
        with pytest.raises(UsageError, match="cannot read"):
            model.extract("Bob", tmp_path / "gone.json")


def test_the_async_twin_takes_the_same(script: Any) -> None:
    script(rules=[{"when": "Ada", "say": '{"value": 3, "kids": []}'}])
    with edgellm.load("demo", engine="scripted") as model:
        found = asyncio.run(model.aextract("Ada, 3", Node, evidence=True))
        assert (found.value, found.unproven) == (Node(3), ())
        assert asyncio.run(model.aextract("Ada, 3", Node)) == Node(3)


def test_examples_fill_what_room_the_context_has(script: Any) -> None:
    script(rules=[{"when": "Bob", "say": '{"name": "Bob"}'}])
    examples = [("x" * 300, {"name": "y" * 300})] * 9
    with edgellm.load("demo", engine="scripted", context=2048, slots=1) as model:
        with pytest.warns(UserWarning, match=r"room for [1-4] of the 9 examples"):
            assert model.extract("Bob", fields="name", examples=examples) == {"name": "Bob"}
        found = model.extract("Bob", fields="name", examples=examples, evidence=True)
        assert 0 < found.examples < 9
        assert found.warnings
        assert model.extract("Bob", fields="name", examples=[("x", {"name": "y"})]) == {"name": "Bob"}
