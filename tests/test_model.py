"""The Python API, on the scripted engine in its own process: what a user's program relies on."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ggufs
import pytest
from pydantic import BaseModel, field_validator

import edgellm
from edgellm import EmptyText, InvalidOutput, Message, ModelUnknown, Prompt, Sampling, TruncatedOutput, UsageError
from edgellm.model import Model
from edgellm.tasks import extract, translate

GREEDY = Sampling(temperature=0)


HI = [{"role": "user", "content": "hi"}]


class Person(BaseModel):
    name: str
    age: int


class Minor(Person):
    @field_validator("age")
    @classmethod
    def young(cls, age: int) -> int:
        if age >= 18:
            raise ValueError("is of age")
        return age


def nested(levels: int) -> Any:
    schema: Any = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.fixture
def model(script: Any) -> Iterator[Model]:
    script(
        rules=[
            {"when": "one", "say": "un"},
            {"when": "two", "say": "deux"},
            {"when": "three", "say": "trois"},
            {"when": "Ada", "say": '{"name": "Ada", "age": 36}'},
            {"when": "Bob", "say": '{"name": "Bob", "age": 41}'},
            {"when": "forever", "say": "and on " * 500},
        ],
        otherwise="hello",
    )
    with edgellm.load("demo", engine="scripted") as opened:
        yield opened


def test_chat_answers_with_counts(model: Model) -> None:
    reply = model.chat([{"role": "user", "content": "hi"}], sampling=GREEDY)
    assert (reply.text, reply.finish, reply.tokens) == ("hello", "stop", 5)
    assert reply.prompt_tokens > 0
    assert model.chat([Message("system", "be"), Message("user", "hi")], sampling=GREEDY).text == "hello"


def test_stream_yields_pieces_and_ends_with_the_reply(model: Model) -> None:
    stream = model.stream([{"role": "user", "content": "hi"}], sampling=GREEDY)
    assert "".join(stream) == stream.text == stream.reply.text == "hello"


def test_a_closed_stream_stops_and_keeps_what_came(model: Model) -> None:
    with model.stream(
        [{"role": "user", "content": "forever"}], sampling=Sampling(temperature=0, max_tokens=3000)
    ) as stream:
        first = next(stream)
    assert stream.text.startswith(first)
    assert next(stream, None) is None
    with pytest.raises(UsageError, match="stopped"):
        _ = stream.reply
    assert model.chat([{"role": "user", "content": "hi"}], sampling=GREEDY).text == "hello"


def test_list_in_list_out_in_order(model: Model) -> None:
    texts = ["one", "two", "three"] * 10
    assert model.translate(texts, to="fr") == ["un", "deux", "trois"] * 10
    assert model.translate("two", to="French", source="en") == "deux"
    assert model.summarize(["one", "x"], sentences=1) == ["un", "hello"]


def test_extract_returns_plain_values_or_instances(model: Model) -> None:
    assert model.extract("Ada", fields="name, age int") == {"name": "Ada", "age": 36}
    assert model.extract("Ada", Person) == Person(name="Ada", age=36)
    assert model.extract(["Ada", "Bob"], Person) == [Person(name="Ada", age=36), Person(name="Bob", age=41)]
    assert model.extract("Bob", Person.model_json_schema())["age"] == 41


def test_texts_may_come_in_any_sequence_and_a_schema_in_any_mapping(model: Model) -> None:
    assert model.extract(("Ada", "Bob"), Person) == [Person(name="Ada", age=36), Person(name="Bob", age=41)]
    frozen = MappingProxyType({"type": "string", "enum": ("hello",)})
    assert model.chat(HI, sampling=GREEDY, schema=frozen).text == '"hello"'


def test_an_answer_that_a_class_refuses_is_invalid_output(model: Model) -> None:
    with pytest.raises(InvalidOutput, match="is of age") as error:
        model.extract("Ada", Minor)
    assert json.loads(error.value.text) == {"name": "Ada", "age": 36}


def test_a_model_shows_itself_in_one_line_and_may_be_a_key(model: Model) -> None:
    assert len(repr(model)) < 1000
    assert {model: 1}[model] == 1


def test_complete_continues_raw_text_without_a_template(model: Model) -> None:
    reply = model.complete("one", sampling=GREEDY)
    assert (reply.text, reply.prompt_tokens) == ("un", 4)


def test_count_is_what_a_reply_says_its_prompt_had(model: Model) -> None:
    asked = [Message("system", "be brief"), Message("user", "hi")]
    assert model.count(asked) == model.chat(asked, sampling=GREEDY).prompt_tokens
    assert model.count("one") == model.complete("one", sampling=GREEDY).prompt_tokens == 4
    assert model.count("") == 1  # where a text begins


def test_counting_knows_no_context_and_computes_nothing(model: Model) -> None:
    [reply] = model.ask([Prompt(completion="x" * 50_000, count=True)])
    assert (reply.prompt_tokens, reply.tokens, reply.text) == (50_001, 0, "")
    assert reply.context_tokens == model.plan.context
    assert model.count(HI * 3) > model.count(HI)


def test_counts_are_answered_while_others_are_decoded(model: Model) -> None:
    long = Prompt(messages=(Message("user", "forever"),), sampling=Sampling(temperature=0, max_tokens=2000))
    with model.follow(long) as stream:
        next(stream)
        assert model.count("one") == 4
        assert stream.text == "" or len(stream.text) < 2000


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda m: m.translate("", to="fr"), EmptyText, "no text"),
        (lambda m: m.translate("x", to="xx"), UsageError, "unknown language"),
        (lambda m: m.extract("x"), UsageError, "schema or fields"),
        (lambda m: m.extract("x", Person, fields="a"), UsageError, "schema or fields"),
        (lambda m: m.extract("x", 3), UsageError, "not int"),
        (lambda m: m.chat([{"role": "user"}]), UsageError, "a message is"),
        (lambda m: m.chat([{"role": "robot", "content": "x"}]), UsageError, "a message is"),
        (lambda m: m.chat([{"role": "user", "content": "\ud800"}]), UsageError, "lone surrogate at character 0"),
        (lambda m: m.summarize("x", sentences=1, words=1), UsageError, "not both"),
        (lambda m: m.chat("hello"), UsageError, "a message is .* not 'h'"),
        (lambda m: m.chat([{"role": "user", "content": None}]), UsageError, "a message is"),
        (lambda m: m.chat([Message("user", 3)]), UsageError, "is a text, not int"),
        (lambda m: m.chat([Message("robot", "x")]), UsageError, "role is one of .* not 'robot'"),
        (lambda m: m.ask([Prompt(messages=(Message("user", "x"),), completion="y")]), UsageError, "not both"),
        (lambda m: m.chat(HI, schema={"enum": {1, 2}}), UsageError, "schema is not JSON"),
        (lambda m: m.chat(HI, schema={("a", "b"): 1}), UsageError, "schema is not JSON"),
        (lambda m: m.chat(HI, schema=nested(5000)), UsageError, "too deep"),
        (lambda m: m.chat(HI, schema=nested(300)), UsageError, "deeper than 100"),
        (lambda m: m.chat(HI, schema={"const": float("nan")}), UsageError, "nan at /const is not JSON"),
        (lambda m: m.extract("x", {"uniqueItems": True, "type": "array"}), UsageError, "uniqueItems"),
    ],
)
def test_wrong_calls_are_typed_errors_and_the_model_lives_on(model: Model, call: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        call(model)
    assert model.translate("two", to="fr") == "deux"


def test_a_budget_that_ends_inside_json_is_truncated_output(model: Model) -> None:
    with pytest.raises(TruncatedOutput) as error:
        model.extract("Ada", Person, sampling=Sampling(temperature=0, max_tokens=12))
    assert error.value.needed_tokens == len('{"name": "", "age": 0}')
    with pytest.raises(TruncatedOutput) as error:
        model.extract("Ada", Person, sampling=Sampling(temperature=0, max_tokens=24))
    assert (error.value.partial, error.value.cut) == ({"name": "Ad", "age": 0}, "/name")
    assert error.value.filled == ["/age"]


def test_one_failed_task_of_many_is_an_outcome_of_its_own(model: Model) -> None:
    tasks = [translate.translate(text, "fr") for text in ("one", "", "three")]
    tasks.append(extract.extract("y" * 50_000, extract.fields("name")))
    outcomes = {outcome.index: outcome for outcome in model.drive(tasks)}
    assert [outcomes[index].result for index in (0, 2)] == ["un", "trois"]
    assert isinstance(outcomes[1].error, EmptyText)
    assert isinstance(outcomes[3].error, edgellm.PromptTooLong)


def test_tasks_are_pulled_only_as_slots_free_up(model: Model) -> None:
    pulled = 0

    def tasks() -> Iterator[Any]:
        nonlocal pulled
        for _ in range(1000):
            pulled += 1
            yield translate.translate("one", "fr")

    with model.drive(tasks()) as drive:
        for count, outcome in enumerate(drive, 1):
            assert outcome.value == "un"
            if count == 5:
                break
    assert pulled <= 5 + 3 * model.plan.slots


def test_async_twins_give_the_same(model: Model) -> None:
    async def story() -> None:
        assert (await model.achat([{"role": "user", "content": "hi"}], sampling=GREEDY)).text == "hello"
        both = await asyncio.gather(model.atranslate("one", "fr"), model.atranslate("two", "fr"))
        assert both == ["un", "deux"]
        assert await model.asummarize("three") == "trois"
        assert await model.aextract("Ada", Person) == Person(name="Ada", age=36)
        assert (
            "".join([piece async for piece in model.astream([{"role": "user", "content": "hi"}], sampling=GREEDY)])
            == "hello"
        )

    asyncio.run(story())


def test_cancelling_in_the_middle_of_a_slow_step_stops_it_and_spares_the_engine(script: Any) -> None:
    script(otherwise="slow " * 50, step_s=0.4)

    async def story(model: Model) -> None:
        async def listen() -> None:
            async for _ in model.astream(HI, sampling=GREEDY):
                pass

        for wait in (model.achat(HI, sampling=GREEDY), listen(), model.atranslate("x", "fr")):
            task = asyncio.create_task(wait)
            await asyncio.sleep(0.2)
            task.cancel()
            start = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - start < 1.5

    for in_process in (False, True):
        with edgellm.load("demo", engine="scripted", in_process=in_process) as model:
            pid = model.pid
            asyncio.run(story(model))
            assert model.pid == pid


@pytest.mark.parametrize("in_process", [False, True])
def test_threads_that_share_a_model_and_stop_at_will_never_change_a_text(in_process: bool, script: Any) -> None:
    said = "some words " * 12
    script(otherwise=said)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            question = [{"role": "user", "content": "x" * rng.randrange(1, 300)}]
            with model.stream(question, sampling=GREEDY) as stream:
                for count, _ in enumerate(stream):
                    if count == seed * 4:
                        break
            reply = model.chat(question, sampling=GREEDY)
            wrong.extend(text for text in (reply.text, stream.text) if not said.startswith(text))
            wrong.extend([reply] if reply.text != said else [])

    with edgellm.load("demo", engine="scripted", in_process=in_process) as model:
        pid, threads = model.pid, [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert (wrong, model.pid) == ([], pid)


def test_a_stream_that_crashed_is_over(script: Any) -> None:
    script(crash_at=2, otherwise="never said")
    with edgellm.load("demo", engine="scripted") as model:
        stream = model.stream(HI)
        with pytest.raises(edgellm.EngineCrashed):
            "".join(stream)
        assert next(stream, None) is None
        with pytest.raises(UsageError, match="no reply"):
            _ = stream.reply


def test_a_path_opens_as_its_name_does(script: Any) -> None:
    script(otherwise="hello")
    demo = Path(edgellm.__file__).parent / "demo" / "demo.gguf"
    with edgellm.load(demo, engine="scripted") as model:
        assert model.chat(HI, sampling=GREEDY).text == "hello"


def test_a_crash_is_typed_and_the_next_call_works(script: Any) -> None:
    script(crash_at=2, otherwise="never said")
    with edgellm.load("demo", engine="scripted") as model:
        with pytest.raises(edgellm.EngineCrashed):
            model.translate("one", to="fr")
        script(otherwise="back")
        assert model.translate("one", to="fr") == "back"


def test_unknown_models_and_options_are_refused() -> None:
    with pytest.raises(ModelUnknown, match="Did you mean"):
        edgellm.load("mistral-7b-instruct-v2")
    with pytest.raises(TypeError, match="n_gpu_layer"):
        edgellm.load("demo", n_gpu_layer=3)  # type: ignore[call-arg]


def test_a_closed_model_says_so(model: Model) -> None:
    model.close()
    with pytest.raises(edgellm.EngineFailed, match="closed"):
        model.translate("one", to="fr")


def test_in_process_gives_the_same(script: Any) -> None:
    script(rules=[{"when": "one", "say": "un"}], otherwise="hello")
    with edgellm.load("demo", engine="scripted", in_process=True) as model:
        assert model.translate(["one", "x"], to="fr") == ["un", "hello"]


def test_thoughts_that_the_prompt_opens_are_part_of_the_answer(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}[A]<think>\n"
    path = ggufs.write_model(tmp_path / "thinks.gguf", chat_template=template)
    with edgellm.load(path, in_process=True) as model:
        sampling = edgellm.Sampling(max_tokens=3)
        asked = [{"role": "user", "content": "<think>"}]
        assert model.chat(asked, sampling=sampling).text.startswith("<think>\n")
        schema = {"type": "integer", "minimum": 1, "maximum": 9}
        assert model.chat(asked, sampling=sampling, schema=schema).text.isdigit()
