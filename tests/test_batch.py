"""Batches: nothing lost, nothing twice, nothing torn, whatever kills a run; and no row that can end one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import edgellm
from edgellm import Sampling, UsageError
from edgellm.batch import Batch, Options, disk, reading, resume
from edgellm.batch.writing import Writer
from edgellm.drive import Drive
from edgellm.errors import (
    EngineCrashed,
    EngineFailed,
    OutputFailed,
    PromptTooLong,
    ResumeRefused,
    RowUnreadable,
    SchemaUnsupported,
)
from edgellm.opening import Opening
from edgellm.prompt import Event, Prompt, Reply
from edgellm.rows import Answers, Job, Result, Row, answers, sweep
from edgellm.rows import ids as naming
from edgellm.rows import receipt as receipts
from edgellm.rows.job import DEFAULTS
from edgellm.tasks import extract as extraction

WIDTH = 8
MAIN = "from edgellm import cli; cli.VERBS.setdefault('batch', 'batch'); cli.main()"


def say(text: str) -> str:
    """What the fake model says to a text: something short that depends on it."""
    return f"<{text[-20:]}>" if len(text) < 1000 else "long"


@dataclass
class FakeSession:
    """Answers the oldest prompt, or a random one; a text can ask it to die, to fail, to be slow, to break its contract."""

    model: FakeModel
    asked: deque[tuple[int, str]] = field(default_factory=deque)
    number: int = 0

    def submit(self, prompt: Prompt) -> int:
        text = prompt.messages[-1].content.split("Text: ", 1)[-1]
        self.asked.append((self.number, text))
        self.number += 1
        return self.number - 1

    def take(self) -> Event:
        running = [text for _, text in list(self.asked)[: self.model.slots]]
        if any("KILL" in text for text in running):
            self.model.deaths += 1
            self.asked.clear()
            raise EngineCrashed("the engine died while generating (killed by SIGSEGV).", signal=11, phase="generating")
        ready = [one for one in self.asked if "SLOW" not in one[1]] or list(self.asked)
        chosen = self.model.chance.choice(ready[: self.model.slots]) if self.model.chance else ready[0]
        self.asked.remove(chosen)
        number, text = chosen
        self.model.answered += 1
        if "TOO LONG" in text:
            return Event(number, error=PromptTooLong("the prompt has 9 tokens and the context 8.", 9, 8))
        if "FAIL ONCE" in text and text not in self.model.failed:
            self.model.failed.add(text)
            return Event(number, error=EngineFailed("no room in the cache."))
        if "UNSUPPORTED" in text:
            return Event(number, error=SchemaUnsupported("no uniqueItems.", "/uniqueItems"))
        said = (
            "9" * 5000 if "HUGE" in text else "1e999" if "INFINITE" in text else "not json" if "BREAK" in text else None
        )
        answer = said or (json.dumps({"name": text}) if self.model.json else say(text))
        finish: Any = "length" if "CUT" in text else "stop"
        return Event(number, reply=Reply(text=answer, finish=finish, prompt_tokens=len(text), tokens=len(answer)))

    def close(self) -> None:
        self.asked.clear()


@dataclass
class FakeModel:
    """An open model as far as a batch can see, in this process, at no cost."""

    path: Path | None = None
    chance: random.Random | None = None
    json: bool = False
    slots: int = 4
    name: str = "fake"
    template: str = "t"
    pid: None = None
    deaths: int = 0
    answered: int = 0
    failed: set[str] = field(default_factory=set)

    def drive(self, tasks: Iterable[Any]) -> Drive[Any]:
        return Drive(FakeSession(self), tasks, WIDTH)

    def bound(self, task: str) -> FakeModel:
        return self

    @property
    def opening(self) -> Opening:
        told = {"tokenizer.chat_template": self.template}
        return Opening(engine="llama_cpp", paths=(str(self.path),), plan=SimpleNamespace(), metadata=told)  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> FakeModel:
    path = tmp_path / "fake.gguf"
    path.write_bytes(b"weights" * 1000)
    return FakeModel(path)


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {number % 97}", "n": number} for number in range(count)]


CHAT = Job(task="chat")


def batch(model: Any, source: Path, target: Path, job: Job = CHAT, **options: Any) -> list[Result]:
    with Batch(job, str(source), str(target), Options(**options)) as ready:
        return list(ready.results(model))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run(model: Any, task: Any, rows: Iterable[Any], **options: Any) -> Answers:
    how = {name: options.pop(name) for name in ("id_column", "ordered", "receipt", "timeout_s") if name in options}
    if "fields" in options:
        options["schema"] = extraction.fields(options.pop("fields"))
    return answers(model, Job(task=task, **options), rows, **how)


def chat(model: Any, rows: Iterable[Any], **options: Any) -> Answers:
    return run(model, "chat", rows, **options)


# Rows and results, without a file.


def test_results_come_in_the_order_of_the_rows_or_as_they_finish(model: FakeModel) -> None:
    model.chance = random.Random(3)
    rows = [f"row {number}" for number in range(200)]
    expected = [say(row) for row in rows]
    assert [result.value for result in chat(model, rows)] == expected
    mixed = [result.value for result in chat(model, rows, ordered=False)]
    assert mixed != expected
    assert sorted(mixed) == sorted(expected)


def test_a_million_rows_are_pulled_only_as_slots_free_up(model: FakeModel) -> None:
    pulled = 0

    def endless() -> Iterator[str]:
        nonlocal pulled
        for pulled in range(1, 1_000_001):
            yield f"row {pulled}"

    results = chat(model, endless())
    for count in range(1, 50):
        next(results)
        assert pulled <= count + WIDTH
    results.close()
    assert pulled <= 50 + WIDTH


def test_a_slow_row_holds_back_a_bounded_number_of_others(model: FakeModel) -> None:
    pulled = 0

    def endless() -> Iterator[str]:
        nonlocal pulled
        for pulled in range(1, 1_000_001):
            yield "SLOW" if pulled == 1 else f"row {pulled}"

    results = chat(model, endless())
    assert next(results).value == say("SLOW")
    assert pulled <= 1024 + WIDTH + 1
    assert [next(results).value for _ in range(2000)] == [say(f"row {number}") for number in range(2, 2002)]


def test_the_row_that_kills_the_engine_twice_is_the_only_one_that_fails(model: FakeModel) -> None:
    rows = ["KILL me" if number in (0, 33, 34, 99) else f"row {number}" for number in range(100)]
    results = list(chat(model, rows))
    assert [result.value for result in results if not result.error] == [say(row) for row in rows if "KILL" not in row]
    failed = [result for result in results if result.error]
    assert [type(result.error) for result in failed] == [EngineCrashed] * 4
    assert "twice on this row" in str(failed[0].error)
    assert max(result.tries for result in results) == 2
    assert model.deaths <= 2 * 4


def test_a_row_that_the_engine_failed_on_gets_one_more_try(model: FakeModel) -> None:
    results = list(chat(model, ["a", "FAIL ONCE", "b"]))
    assert [(result.value, result.tries) for result in results] == [("<a>", 1), ("<FAIL ONCE>", 2), ("<b>", 1)]


def test_an_engine_that_dies_on_every_row_ends_the_run_and_says_so(model: FakeModel) -> None:
    results = chat(model, ["KILL"] * 1000)
    assert [type(next(results).error) for _ in range(20)] == [EngineCrashed] * 20
    with pytest.raises(EngineFailed, match="20 rows one after another"):
        next(results)


def test_an_engine_that_does_not_come_back_is_nobodys_row(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def drive(tasks: Iterable[Any]) -> Drive[Any]:
        if model.deaths:
            raise EngineCrashed("the engine died while loading.", phase="loading")
        return Drive(FakeSession(model), tasks, WIDTH)

    monkeypatch.setattr(model, "drive", drive)
    with pytest.raises(EngineCrashed, match="loading"):
        list(chat(model, ["a", "KILL"]))


@pytest.mark.parametrize(
    ("text", "words"), [("HUGE", "4300"), ("BREAK", "is not JSON"), ("CUT", "was cut"), ("", "no text")]
)
def test_whatever_is_wrong_with_an_answer_is_an_error_of_its_row(model: FakeModel, text: str, words: str) -> None:
    model.json = True
    results = list(run(model, "extract", ["a", text, "b"], fields="name"))
    assert [result.value for result in results] == [{"name": "a"}, None, {"name": "b"}]
    assert words in str(results[1].error)


def test_a_task_that_breaks_on_a_row_breaks_on_that_row_alone(model: FakeModel) -> None:
    def ask(row: Row) -> Any:
        yield from CHAT.ask(row)
        if row.id == 1:
            raise RecursionError("too deep")
        return "fine"

    results = list(sweep.over(model, [Row(id=n, values={"text": "a"}) for n in range(3)], ask))
    assert [result.value for result in results] == ["fine", None, "fine"]
    assert "could not be read (RecursionError: too deep)" in str(results[1].error)


def test_rows_of_a_program_may_be_texts_or_mappings(model: FakeModel) -> None:
    rows: list[Any] = ["a", {"text": "b", "id": 7}, {"text": "c", "id": 7}, 5, {"body": 1}, {"text": None}]
    results = list(run(model, "translate", rows, to="fr"))
    assert [result.value for result in results[:3]] == ["<a>", "<b>", "<c>"]
    assert [result.row.id for result in results[1:3]] == [7, "7#2"]
    assert [type(result.error) for result in results[3:]] == [RowUnreadable] * 3
    assert [result.value for result in run(model, "summarize", [{"t": "x"}], text_column="t", words=9)] == ["<x>"]


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("translate", {}, "needs to"),
        ("translate", {"to": "xx"}, "unknown language"),
        ("translate", {"to": "fr", "words": 3}, "no option of translate"),
        ("extract", {}, "needs schema"),
        ("extract", {"fields": "age years"}, "cannot read field"),
        ("summarize", {"words": 3, "sentences": 1}, "not both"),
        ("sing", {}, "not 'sing'"),
    ],
)
def test_an_impossible_job_is_refused_before_a_row_is_pulled(
    model: FakeModel, task: Any, options: Any, words: str
) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("pulled")
        yield

    with pytest.raises(UsageError, match=words):
        run(model, task, never(), **options)


def test_ids_are_unique_and_the_same_on_every_reading() -> None:
    def names(given: list[Any]) -> list[Any]:
        unique = naming.Numbering()
        return [unique(one) for one in given]

    assert names(["a", "a", "b", "a", 1, "1", "a#2"]) == ["a", "a#2", "b", "a#3", 1, "1", "a#2#2"]
    many = names([f"x{number % 5000}" for number in range(20_000)])
    assert len(set(many)) == 20_000


@given(st.sets(st.integers(0, 2**64 - 1), max_size=200), st.integers(0, 2**64 - 1))
def test_marks_are_a_set(numbers: set[int], other: int) -> None:
    marks = naming.Marks()
    assert all(marks.add(number) or number in (0, 1) for number in numbers)
    assert not any(marks.add(number) for number in numbers)
    assert all(number in marks for number in numbers)
    assert (other in marks) == (other in numbers or (other < 2 and bool(numbers & {0, 1})))


# Reading.


def rows_of(data: bytes | str, form: Any = "jsonl", **columns: Any) -> list[Row]:
    return list(reading.read(io.BytesIO(data.encode() if isinstance(data, str) else data), form, **columns))


BAD_LINES = [
    (b"nonsense", "not JSON"),
    (b"[1]", "a list, not an object"),
    (b"null", "null, not an object"),
    (b'"x"', "a text, not an object"),
    (b'{"text": "\xff"}', "not UTF-8: byte 0xff at position 11"),
    (b'{"text": NaN}', "NaN is not JSON"),
    (b'{"text": 1e999}', "too large a number"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"text": "x"', "not JSON"),
    (b'{"n": ' + b"1" * 5000 + b"}", "5000"),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES, ids=[words for _, words in BAD_LINES])
def test_a_line_that_cannot_be_read_is_one_bad_row(line: bytes, words: str) -> None:
    first, bad, last = rows_of(b'{"text": "a"}\n' + line + b'\n{"text": "b"}')
    assert (first.error, last.error, last.values) == (None, None, {"text": "b"})
    assert words in str(bad.error)
    assert "line 2" in str(bad.error)


def test_a_line_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LONGEST_BYTES", 1000)
    long, good = rows_of(b"x" * 100_000 + b'\n{"text": "a"}\n')
    assert "longer than" in str(long.error)
    assert (good.values, good.end_bytes) == ({"text": "a"}, 100_015)


@pytest.mark.parametrize("data", [b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}"])
def test_utf_16_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(UsageError, match="UTF-16"):
        rows_of(data)


def test_blank_lines_and_a_byte_order_mark_are_no_rows() -> None:
    assert [row.values for row in rows_of(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')] == [{"a": 1}, {"a": 2}]
    assert [row.values for row in rows_of("eins\r\n\n zwei \n", "txt")] == [{"text": "eins"}, {"text": " zwei "}]
    assert rows_of(b"") == rows_of(b"", "csv") == rows_of(b"\n\n", "txt") == []


def test_ids_are_found_where_they_are() -> None:
    found = rows_of('{"custom_id": "c", "id": "i"}\n{"id": 0}\n{"id": null}\n{"id": true}\n{"id": ""}\n')
    assert [row.id for row in found][:2] == ["c", 0]
    assert [len(str(row.id)) for row in found[2:]] == [16, 16, 16]
    good, bad = rows_of('{"sku": "s1", "id": "i"}\n{"id": "i"}\n', id_column="sku")
    assert (good.id, good.error) == ("s1", None)
    assert "column 'sku' holds no id" in str(bad.error)


def test_csv_keeps_line_breaks_and_counts_its_fields() -> None:
    table = 'id,text,city\n1,"two\nlines, one ""row""",Rome\n2,short\n\n3,"a"b,Ulm\n4,ok,Bonn'
    found = rows_of(table, "csv")
    assert found[0].values == {"id": "1", "text": 'two\nlines, one "row"', "city": "Rome"}
    assert "2 fields and the header 3" in str(found[1].error)
    assert "not CSV" in str(found[2].error)
    assert (found[3].id, found[3].end_bytes, len(found)) == ("4", len(table), 4)
    assert rows_of("text\tn\na\t1\n", "tsv")[0].values == {"text": "a", "n": "1"}
    assert "not UTF-8" in str(rows_of(b"text\n\xff\n", "csv")[0].error)
    assert "not CSV" in str(rows_of('text\n"never closed\nb\nc\n', "csv")[0].error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a,b\n1,2\n", "no column 'text', only a, b"),
        ("text,text\n1,2\n", "column 'text' twice"),
        ('text,"x"y\n', "header of the table"),
        (b"text\xff\n", "not UTF-8"),
    ],
)
def test_a_table_without_its_columns_is_refused(data: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rows_of(data, "csv")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([b"{", b"}", b'"', b",", b"\n", b"\r", b"text", b"\xff", b"\0", b'{"text":"a"}\n', b" "]))
)
def test_no_bytes_can_break_the_reading(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    for form in ("jsonl", "txt", "csv", "tsv"):
        try:
            found = rows_of(data, form, text_column="text")
        except UsageError:
            continue
        assert len({row.id for row in found}) == len(found)
        assert [row.id for row in found] == [row.id for row in rows_of(data, form, text_column="text")]
        if form == "txt":
            assert len(found) == len([line for line in data.split(b"\n") if line.strip()])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), max_size=8))
def test_what_csv_writes_is_what_is_read(rows: list[tuple[str, str]]) -> None:
    rows = [(a.replace("\r", "").replace("\0", ""), b.replace("\r", "").replace("\0", "")) for a, b in rows]
    rows = [(a, b) for a, b in rows if (a + b).isprintable()]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("text", "note"), *rows])
    found = rows_of(out.getvalue().encode("utf-8", "surrogatepass"), "csv")
    assert [tuple(row.values.values()) for row in found] == rows


@pytest.mark.parametrize(
    ("name", "form"),
    [("-", "jsonl"), ("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("x/b.csv", "csv"), ("c.txt", "txt")],
)
def test_the_name_tells_the_format(name: str, form: str) -> None:
    assert reading.format_of(name) == form


# OpenAI lines.


def request(custom_id: str = "r", /, url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def test_openai_lines_are_answered_in_their_own_shape(model: FakeModel, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = [request("one"), request("two", messages=[{"role": "user", "content": parts}]), request("bad", n=3)]
    batch(model, write_rows(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl")
    one, two, bad = lines(tmp_path / "out.jsonl")
    assert [line["custom_id"] for line in (one, two, bad)] == ["one", "two", "bad"]
    assert set(one) == {"id", "custom_id", "response", "error"}
    body = one["response"]["body"]
    assert (one["error"], one["response"]["status_code"], body["object"]) == (None, 200, "chat.completion")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "<hi>", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert body["model"] == "fake"
    assert two["response"]["body"]["choices"][0]["message"]["content"] == "<ab>"
    assert bad["response"]["status_code"] == 400
    assert bad["error"] == {"code": "RowUnreadable", "message": "n can only be 1 here, not 3."}
    assert bad["response"]["body"]["error"]["message"] == bad["error"]["message"]
    assert batch(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == []


def test_what_an_openai_line_asks_for_is_obeyed() -> None:
    asked = request(
        temperature=1,
        top_p=0.5,
        seed=4,
        stop="x",
        max_completion_tokens=9,
        frequency_penalty=0,
        user="u",
        logprobs=None,
    )
    [prompt] = next(CHAT.ask(Row(id="r", values=asked)))
    assert prompt.sampling == Sampling(temperature=1, top_p=0.5, seed=4, stop=("x",), max_tokens=9)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    for form, wanted in (
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, schema),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "text"}, None),
    ):
        [prompt] = next(CHAT.ask(Row(id="r", values=request(response_format=form))))
        assert prompt.schema == wanted
    led = Job(task="chat", system="be brief")
    [prompt] = next(led.ask(Row(id="r", values=request())))
    assert [message.role for message in prompt.messages] == ["system", "user"]
    own = [{"role": "developer", "content": "mine"}, {"role": "user", "content": "hi"}]
    [prompt] = next(led.ask(Row(id="r", values=request(messages=own))))
    assert [message.content for message in prompt.messages] == ["mine", "hi"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (request(tools=[{"type": "function"}]), "tools can only be"),
        (request(stream=True), "stream can only be"),
        (request(logit_bias={"5": 1}), "logit_bias"),
        (request(magic=1, wand=2), "not offered here: magic, wand"),
        (request(url="/v1/embeddings"), "known is POST"),
        (request(messages=[]), "no messages"),
        (request(messages="hi"), "no messages"),
        (request(messages=["hi"]), "a message is"),
        (request(messages=[{"role": "tool", "content": "x"}]), "role of a message"),
        (request(messages=[{"role": ["user"], "content": "x"}]), "role of a message"),
        (request(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "content of a message"),
        (request(messages=[{"role": "user"}]), "content of a message"),
        (request(messages=[{"role": "user", "content": "x", "name": "n"}]), "there is also name"),
        (request(response_format={"type": "xml"}), "response_format is"),
        (request(temperature=99), "temperature"),
        (request(max_tokens="many"), "max_tokens"),
        ({"custom_id": "r", "body": 5}, "not an object"),
        ({**request(), "extra": 1}, "unknown keys in the line: extra"),
    ],
)
def test_what_an_openai_line_asks_in_vain_is_refused_by_name(model: FakeModel, line: Any, words: str) -> None:
    [result] = chat(model, [line])
    assert words in str(result.error)


def test_an_openai_answer_that_must_be_json_is_json_or_an_error(model: FakeModel) -> None:
    asked = [
        request("a", response_format={"type": "json_object"}),
        request("b", response_format={"type": "json_object"}, messages=[{"role": "user", "content": "BREAK"}]),
    ]
    model.json = True
    good, bad = chat(model, asked)
    assert json.loads(good.value) == {"name": "hi"}
    assert "not JSON" in str(bad.error)


def test_openai_lines_are_for_chats_only(model: FakeModel) -> None:
    [result] = run(model, "summarize", [request()])
    assert "batch chat" in str(result.error)


def test_chat_rows_may_bring_their_messages(model: FakeModel) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert [result.value for result in chat(model, [{"messages": turns}, {"text": "d"}])] == ["<c>", "<d>"]


# The lines of the output.


def test_columns_are_kept_and_never_overwritten(model: FakeModel, tmp_path: Path) -> None:
    rows = [{"text": "a", "stars": 5, "result": "old", "tokens": 1, "id": "x"}, {"text": "b", "id": "x"}]
    source = write_rows(tmp_path / "in.jsonl", rows)
    batch(model, source, tmp_path / "out.jsonl")
    first, second = lines(tmp_path / "out.jsonl")
    counts = {"finish": "stop", "prompt_tokens": 1, "tokens": 3}
    assert first == {
        "id": "x",
        "stars": 5,
        "result": "<a>",
        "error": None,
        **counts,
        "input": {"result": "old", "tokens": 1},
    }
    assert second == {"id": "x#2", "result": "<b>", "error": None, **counts, "input": {"id": "x"}}
    batch(model, source, tmp_path / "kept.jsonl", keep_text=True)
    assert lines(tmp_path / "kept.jsonl")[0]["text"] == "a"
    batch(model, tmp_path / "out.jsonl", tmp_path / "again.jsonl", Job(task="chat", text_column="result"))
    assert lines(tmp_path / "again.jsonl")[0]["result"] == "<<a>>"
    assert lines(tmp_path / "again.jsonl")[0]["input"]["input"] == {"result": "old", "tokens": 1}


def test_a_line_is_json_whatever_it_must_say() -> None:
    writer = Writer(model="m", created=0)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for values, value in (({"a": "\ud800"}, "x"), ({}, float("inf")), ({"a": deep}, "x"), ({}, "\x1b[2J\x9b")):
        line = writer.line(Result(row=Row(id="r", values=values), value=value))
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert json.loads(line)["id"] == "r"
        assert b"Infinity" not in line
    shown = Writer(model="m", created=0, ascii=True)
    assert shown.line(Result(row=Row(id="r"), value="\x1b[2J\x9b")).isascii()
    while isinstance(deep, list):  # or else the interpreter recurses when it frees it
        [deep] = deep


def test_a_receipt_says_which_model_and_engine_answered_how(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "a"}, request("r", temperature=0.5), {"nothing": 1}])
    batch(model, source, tmp_path / "out.jsonl", receipt=True)
    plain, line, bad = lines(tmp_path / "out.jsonl")
    receipt = plain["receipt"]
    assert set(receipt) == {
        *("model", "sha256", "template", "engine", "llama_cpp", "edgellm"),
        *("task", "wording", "sampling", "prompt_tokens", "tokens", "finish"),
    }
    assert receipt["sha256"] == [hashlib.sha256(b"weights" * 1000).hexdigest()]
    assert (receipt["model"], receipt["task"], receipt["finish"]) == ("fake", "chat", "stop")
    assert (receipt["prompt_tokens"], receipt["tokens"]) == (1, 3)
    assert receipt["engine"].startswith("llama-cpp-python 0.")
    assert receipt["llama_cpp"].startswith("ggml 0.")
    assert receipt["sampling"]["temperature"] == 0
    drawn = line["response"]["body"]["receipt"]["sampling"]
    assert drawn["temperature"] == 0.5
    assert isinstance(drawn["seed"], int)
    assert "receipt" not in bad  # nothing was computed


def test_rows_that_draw_their_answer_get_seeds_of_their_own_that_stay(model: FakeModel) -> None:
    rows = ["a", "b", "a"]
    hot = Sampling(temperature=1.0)
    seeds = [one.sampling.seed for one in chat(model, rows, sampling=hot) if one.sampling]
    assert len(set(seeds)) == 3
    assert seeds == [one.sampling.seed for one in chat(model, rows, sampling=hot) if one.sampling]
    told = Sampling(temperature=1.0, seed=7)
    assert {one.sampling.seed for one in chat(model, rows, sampling=told) if one.sampling} == {7}
    assert {one.sampling.seed for one in chat(model, rows) if one.sampling} == {None}


def test_the_name_of_a_verified_file_is_its_hash(model: FakeModel, tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    assert model.path
    model.path.rename(blob)
    model.path.symlink_to(blob)
    assert receipts.identity(model.opening)["files"] == [{"bytes": 7000, "sha256": "ab" * 32}]
    assert receipts.about("fake", model.opening)["sha256"] == ["ab" * 32]
    model.path.rename(tmp_path / "elsewhere")
    model.path = tmp_path / "missing"
    with pytest.raises(edgellm.ModelFileError):
        receipts.about("fake", model.opening)
    assert receipts.engine("llama_cpp").startswith("llama")


def test_ended_rows_with_partial_text_keep_it(model: FakeModel, tmp_path: Path) -> None:
    batch(model, write_rows(tmp_path / "in.jsonl", [{"text": "CUT it"}]), tmp_path / "o", Job(task="summarize"))
    [line] = lines(tmp_path / "o")
    assert line["error"]["class"] == "TruncatedOutput"
    assert (line["error"]["partial"], line["finish"], line["result"]) == ("<CUT it>", "length", None)


# The ledger.


def test_25_poison_rows_in_500_cost_25_rows(model: FakeModel, tmp_path: Path) -> None:
    poison = [b"not json", b'{"text": "\xff"}', b'{"text": "KILL"}', b'{"text": "TOO LONG"}', b'{"text": "BREAK"}']
    rows = [json.dumps({"text": f"name {number}", "id": number}).encode() for number in range(500)]
    places = random.Random(5).sample(range(500), 25)
    for count, place in enumerate(places):
        rows[place] = poison[count % 5]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(rows))
    model.json = True
    job = Job(task="extract", schema={"type": "object", "properties": {"name": {"type": "string"}}})
    results = batch(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", job)
    found = lines(tmp_path / "out.jsonl")
    assert [line["result"] for line in found if not line["error"]] == [
        {"name": f"name {number}"} for number in range(500) if number not in places
    ]
    kinds = Counter(line["error"]["class"] for line in found if line["error"])
    assert kinds == {"RowUnreadable": 10, "EngineCrashed": 5, "PromptTooLong": 5, "InvalidOutput": 5}
    assert [number for number, line in enumerate(found) if line["error"]] == sorted(places)
    assert max(result.tries for result in results) == 2


@pytest.mark.parametrize("ordered", [True, False])
def test_a_run_cut_at_any_byte_goes_on_to_the_same_output(model: FakeModel, tmp_path: Path, ordered: bool) -> None:
    chance = random.Random(7)
    rows = [{"text": "KILL"} if number == 20 else row for number, row in enumerate(texts(60))]
    source = write_rows(tmp_path / "in.jsonl", rows)
    target = tmp_path / "out.jsonl"
    model.chance = random.Random(1)
    batch(model, source, target, ordered=ordered)
    whole = target.read_bytes()
    for _ in range(25):
        target.write_bytes(whole[: chance.randrange(len(whole) + 1)])
        batch(model, source, target, ordered=ordered)
        if ordered:
            assert target.read_bytes() == whole
        else:
            assert sorted(target.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("ordered", [True, False])
def test_failed_rows_are_tried_again_in_their_places(model: FakeModel, tmp_path: Path, ordered: bool) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "CUT" if n % 3 == 0 else f"t{n}"} for n in range(30)])
    target, job = tmp_path / "out.jsonl", Job(task="summarize")
    batch(model, source, target, job, ordered=ordered)
    before = lines(target)
    assert sum(line["error"] is not None for line in before) == 10
    with Batch(job, str(source), str(target), Options(ordered=ordered)) as ready:
        assert (ready.done, ready.failed) == (30, 10)
    still = batch(model, source, target, job, ordered=ordered, retry_failed=True)
    assert len(still) == 10
    assert lines(target) == before
    cured = Job(task="summarize", sampling=Sampling(temperature=0, max_tokens=2048))
    with pytest.raises(ResumeRefused, match="max_tokens was 512 and is 2048"):
        batch(model, source, target, cured, ordered=ordered)
    healed = FakeModel(model.path)
    healed_take = FakeSession.take

    def take(self: FakeSession) -> Event:
        self.asked = deque((number, text.replace("CUT", "cured")) for number, text in self.asked)
        return healed_take(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSession, "take", take)
        with Batch(cured, str(source), str(target), Options(ordered=ordered, retry_failed=True)) as ready:
            results = ready.results(healed)  # type: ignore[arg-type]
            for _ in range(4):
                next(results)
            results.close()  # interrupted: four are in the side file
        assert len(batch(healed, source, target, cured, ordered=ordered, retry_failed=True)) == 6
    after = lines(target)
    assert [line["id"] for line in after] == [line["id"] for line in before]
    assert {line["result"] for line in after if line["id"].startswith(before[0]["id"])} <= {
        "<cured>",
        *map(say, ["CUT"]),
    }
    assert not any(line["error"] for line in after)
    assert not list(tmp_path.glob("*.retry"))
    assert batch(model, source, target, cured, ordered=ordered) == []


def test_a_grown_input_is_gone_on_with(model: FakeModel, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    for count in (0, 10, 10, 25):
        write_rows(source, texts(count))
        batch(model, source, target)
        assert [line["n"] for line in lines(target)] == list(range(count))


REFUSALS: list[tuple[str, Any, str]] = [
    ("another task", {"job": Job(task="summarize")}, 'task was "chat" and is "summarize"'),
    ("other sampling", {"job": Job(task="chat", sampling=Sampling(temperature=0, top_k=3))}, "top_k was 40 and is 3"),
    ("another system prompt", {"job": Job(task="chat", system="be")}, 'system was unset and is "be"'),
    ("another column", {"job": Job(task="chat", text_column="n")}, 'text_column was "text" and is "n"'),
    ("another order", {"ordered": False}, "ordered was true and is false"),
    ("with the text", {"keep_text": True}, "keep_text was false and is true"),
    ("with a receipt", {"receipt": True}, "receipt was false and is true"),
    ("another wording", {"wording": "x"}, "how the task is put into words was"),
    ("another model", {"weights": b"weightz"}, "the model's file was"),
    ("another template", {"template": "u"}, "the model's chat template was"),
    ("a changed row", {"rows": [{"text": "b"}, *texts(9)[1:]]}, "row 1 of the output has the id"),
    ("fewer rows", {"rows": texts(4)}, "the output has more rows than the input, which ends after 4"),
    ("rows in between", {"rows": [*texts(3), {"text": "new"}, *texts(9)[3:]]}, "row 4 of the output"),
    ("a damaged line", {"damage": b"{}\n"}, "line 10 of .* is damaged"),
    ("an alien line", {"damage": b"hello\n"}, "line 10 of .* is damaged"),
    ("no meta", {"meta": None}, "is not the output of a batch"),
    ("a broken meta", {"meta": b"{"}, "meta.json cannot be read"),
    ("a meta of the future", {"meta": b'{"format": 2}'}, "is of another version"),
]


@pytest.mark.parametrize(("change", "words"), [one[1:] for one in REFUSALS], ids=[one[0] for one in REFUSALS])
def test_an_output_is_never_gone_on_with_from_something_else(
    model: FakeModel, tmp_path: Path, change: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, meta = write_rows(tmp_path / "in.jsonl", texts(9)), tmp_path / "out", tmp_path / "out.meta.json"
    batch(model, source, target)
    if "rows" in change:
        write_rows(source, change.pop("rows"))
    if "wording" in change:
        wording = change.pop("wording")
        monkeypatch.setattr(Job, "_wording", lambda self: wording)
    if "weights" in change:
        assert model.path
        model.path.write_bytes(change.pop("weights") * 1000)
    if "template" in change:
        model.template = change.pop("template")
    if "meta" in change:
        data = change.pop("meta")
        meta.unlink() if data is None else meta.write_bytes(data)
    target.write_bytes(target.read_bytes() + change.pop("damage", b""))
    before, answered = target.read_bytes(), model.answered
    with pytest.raises(ResumeRefused, match=words) as error:
        batch(model, source, target, change.pop("job", CHAT), **change)
    assert (target.read_bytes(), model.answered) == (before, answered)
    assert "Traceback" not in str(error.value)
    assert not list(tmp_path.glob("*.lock"))


def test_unordered_outputs_notice_another_input_too(
    model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_rows(tmp_path / "in.jsonl", texts(50)), tmp_path / "out"
    batch(model, source, target, ordered=False)
    write_rows(source, reversed(texts(60)))  # the same rows, and more, in another order: that is fine
    assert len(batch(model, source, target, ordered=False)) == 10
    write_rows(source, texts(60)[1:])
    with pytest.raises(ResumeRefused, match="1 rows of the output are not in the input"):
        batch(model, source, target, ordered=False)
    monkeypatch.setattr(resume, "_GAPS", 20)
    write_rows(source, [{"text": f"other {n}"} for n in range(100)])
    with pytest.raises(ResumeRefused, match="60 rows of the output"):
        batch(model, source, target, ordered=False)


def test_a_deleted_output_is_begun_anew(model: FakeModel, tmp_path: Path) -> None:
    source, target = write_rows(tmp_path / "in.jsonl", texts(5)), tmp_path / "out"
    batch(model, source, target)
    target.unlink()
    (tmp_path / "out.retry").write_text("stale")
    assert len(batch(model, source, target, Job(task="summarize"))) == 5
    assert not (tmp_path / "out.retry").exists()


def test_two_runs_do_not_write_one_output(model: FakeModel, tmp_path: Path) -> None:
    source, target = write_rows(tmp_path / "in.jsonl", texts(5)), tmp_path / "out"
    with Batch(CHAT, str(source), str(target)):
        with pytest.raises(UsageError, match="another run is writing"):
            Batch(CHAT, str(source), str(target))
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(UsageError, match="another run is writing"):
            Batch(CHAT, str(source), str(tmp_path / "link"))
    assert len(batch(model, source, target)) == 5


@pytest.mark.parametrize(
    ("source", "target", "options", "words"),
    [
        ("missing.jsonl", "out", {}, "cannot read .*missing.jsonl"),
        ("", "out", {"format": "jsonl"}, "cannot read .*directory"),
        ("in.xml", "out", {}, "does not tell its format"),
        ("in.jsonl", "in.jsonl", {}, "both input and output"),
        ("in.jsonl", "", {}, "is a folder"),
        ("in.jsonl", "no/such/out", {}, "there is no folder"),
        ("in.jsonl", "-", {"retry_failed": True}, "needs an output file"),
        ("other.jsonl", "out", {}, "no column 'text', only a, b"),
        ("in.csv", "out", {"id_column": "sku"}, "no column 'sku'"),
    ],
)
def test_impossible_files_are_refused_before_a_model_is_opened(
    tmp_path: Path, source: str, target: str, options: Any, words: str
) -> None:
    write_rows(tmp_path / "in.jsonl", texts(3))
    write_rows(tmp_path / "other.jsonl", [{"a": 1, "b": 2}] * 3)
    (tmp_path / "in.csv").write_text("text\na\n")
    (tmp_path / "in.xml").write_text("<x>")
    place = target if target == "-" else str(tmp_path / target)
    with pytest.raises(UsageError, match=words):
        Batch(CHAT, str(tmp_path / source), place, Options(**options))


def test_a_schema_that_cannot_be_enforced_ends_the_run_at_once(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "UNSUPPORTED"}] * 50)
    with pytest.raises(SchemaUnsupported):
        batch(model, source, tmp_path / "out", Job(task="extract", schema={"type": "array", "uniqueItems": True}))
    assert (tmp_path / "out").read_bytes() == b""


def test_a_full_disk_stops_cleanly_and_goes_on_later(model: FakeModel, tmp_path: Path) -> None:
    source, target = write_rows(tmp_path / "in.jsonl", texts(200)), tmp_path / "out"
    batch(model, source, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (3000, 5555, 9999):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OutputFailed, match=r"cannot write .*run the same command again"):
                batch(model, source, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert limit - 200 < target.stat().st_size <= limit
        assert whole.startswith(target.read_bytes())
        assert target.read_bytes().endswith(b"\n")
    batch(model, source, target)
    assert target.read_bytes() == whole


def test_an_output_that_may_not_be_written_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = write_rows(tmp_path / "in.jsonl", texts(3)), tmp_path / "out"
    target.write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputFailed, match="not yours to write"):
        Batch(CHAT, str(source), str(target))


def test_an_output_that_is_no_file_is_a_stream(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", texts(3))
    assert len(batch(model, source, Path("/dev/null"))) == 3
    with pytest.raises(OutputFailed, match="No space left"):
        batch(model, source, Path("/dev/full"))
    with pytest.raises(OutputFailed, match="cannot create"):
        batch(model, source, Path("/proc/output"))


def test_there_may_be_nothing_to_try_again(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", texts(3))
    assert len(batch(model, source, tmp_path / "out", retry_failed=True)) == 3
    assert batch(model, source, tmp_path / "out", retry_failed=True) == []


def test_a_failing_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    appender = disk.Appender(tmp_path / "out")
    monkeypatch.setattr(os, "fsync", broken)
    appender.append(b"a\n")
    time.sleep(0.1)
    with pytest.raises(OutputFailed, match="Input/output error"):
        appender.append(b"b\n")
    with pytest.raises(OutputFailed, match="Input/output error"):
        appender.close()


def test_every_line_is_on_the_disk_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[float] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (sync(fd), synced.append(time.monotonic())))
    with disk.Appender(tmp_path / "out") as appender:
        written = []
        for _ in range(100):
            appender.append(b"line\n")
            written.append(time.monotonic())
            time.sleep(0.005)
        last = written[-1]
        time.sleep(0.6)
        assert any(moment >= last for moment in synced)
        assert all(any(0 <= moment - line < 1.0 for moment in synced) for line in written)
        assert len(synced) < 20


def test_the_size_of_the_input_does_not_matter(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", ({"text": f"text {n}", "more": "x" * 4000} for n in range(1500)))
    assert source.stat().st_size > 6_000_000
    tracemalloc.start()
    try:
        for ordered in (True, False):
            with Batch(CHAT, str(source), str(tmp_path / f"{ordered}"), Options(ordered=ordered)) as ready:
                assert sum(1 for _ in ready.results(model)) == 1500  # type: ignore[arg-type]
            with Batch(CHAT, str(source), str(tmp_path / f"{ordered}"), Options(ordered=ordered)) as ready:
                assert ready.done == 1500
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# The scripted engine, in a process of its own.


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(**data: Any) -> None:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(data))
        monkeypatch.setenv("EDGELLM_SCRIPT", str(path))

    return write


def command(*arguments: Any, task: str = "chat") -> list[str]:
    return [
        *(sys.executable, "-c", MAIN, "batch", task, *map(str, arguments)),
        *("-m", "demo", "--engine", "scripted", "--context", "512"),
    ]


def test_a_real_engine_that_dies_now_and_then_costs_no_row(script: Any) -> None:
    script(otherwise="ok", crash_at=70)
    with edgellm.load("demo", engine="scripted", context=512) as model:
        results = list(chat(model, [f"row {number}" for number in range(150)]))
    assert [result.value for result in results] == ["ok"] * 150
    assert max(result.tries for result in results) == 2


def test_a_row_that_hangs_the_engine_twice_is_the_only_one_that_fails(script: Any) -> None:
    script(rules=[{"when": "hang", "say": "two steps"}], otherwise="", hang_at=2)
    with edgellm.load("demo", engine="scripted", context=512) as model:
        hung, *others = chat(model, ["hang", "one", "two"], timeout_s=1.0)
    assert "no answer within 1 s. It happened twice on this row" in str(hung.error)
    assert [(result.value, result.error) for result in others] == [("", None), ("", None)]


def test_ctrl_c_ends_a_run_within_a_second_and_the_next_goes_on(tmp_path: Path, script: Any) -> None:
    script(otherwise="ok " * 5, step_s=0.05)
    source, target = write_rows(tmp_path / "in.jsonl", texts(500)), tmp_path / "out.jsonl"
    with subprocess.Popen(command(source, target), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while (not target.exists() or not target.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, said = process.communicate(timeout=10)
        assert time.monotonic() - start < 1.0
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "The same command goes on from here." in said
    assert "interrupted." in said
    done = lines(target)
    assert 0 < len(done) < 500
    with Batch(CHAT, str(source), str(target)) as ready:
        assert ready.done == len(done)


def test_a_reader_that_has_gone_away_ends_the_run_in_words(script: Any) -> None:
    script(otherwise="ok")
    shell = f"{shlex.join(command('-', '-'))} | head -0"
    rows = b'{"text": "a"}\n' * 20
    gone = subprocess.run(["bash", "-o", "pipefail", "-c", shell], input=rows, capture_output=True, check=False)
    assert gone.returncode == 1
    assert b"the output was closed" in gone.stderr


# The command line, in this process.


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, model: FakeModel) -> Any:
    from contextlib import contextmanager

    from edgellm import cli
    from edgellm.cli import batch as verbs

    monkeypatch.setitem(cli.VERBS, "batch", "batch")

    @contextmanager
    def opened(**load: Any) -> Iterator[Any]:
        yield model

    monkeypatch.setattr(verbs, "opened", opened)

    def call(*arguments: Any, **options: Any) -> Any:
        return CliRunner().invoke(cli.edgellm, ["batch", *map(str, arguments)], standalone_mode=False, **options)

    return call


def test_the_verbs_of_a_batch_do_their_tasks_and_sum_up(line: Any, model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [*texts(5), {"n": 5}])
    (tmp_path / "schema.json").write_text('{"type": "object", "properties": {"name": {"type": "string"}}}')
    write_rows(tmp_path / "shots.jsonl", [{"input": "i", "output": {"name": "o"}}])
    for number, arguments in enumerate(
        (
            ["translate", "--to", "fr", "--from", "en"],
            ["summarize", "--words", "9"],
            ["extract", "--fields", "name"],
            ["extract", "--schema", tmp_path / "schema.json", "--examples", tmp_path / "shots.jsonl"],
            ["chat", "--system", "be brief", "--unordered", "--receipt"],
        )
    ):
        model.json = arguments[0] == "extract"
        done = line(arguments[0], source, tmp_path / f"out{number}", *arguments[1:])
        assert (done.exception, done.return_value) == (None, 3)
        assert "6 rows in" in done.stderr
        assert "5 ok, 1 failed. Failed: 1 RowUnreadable." in done.stderr
        assert len(lines(tmp_path / f"out{number}")) == 6
    again = line("translate", source, tmp_path / "out0", "--to", "fr", "--from", "en")
    assert again.return_value == 3
    assert "No row was left to do. Done before: 6, of which 1 failed. --retry-failed" in again.stderr
    with (tmp_path / "out1").open("ab") as torn:
        torn.write(b'{"torn')
    assert "Cut off 6 bytes" in line("summarize", source, tmp_path / "out1", "--words", "9").stderr
    write_rows(source, texts(5))
    assert line("chat", source, tmp_path / "good", "--timeout", "5").return_value == 0


def test_rows_flow_through_a_pipe(line: Any) -> None:
    done = line("translate", "-", "-", "--to", "fr", input=b'{"text": "a", "id": 1}\n{"text": "", "id": 2}\n')
    assert (done.exception, done.return_value) == (None, 3)
    found = [json.loads(one) for one in done.stdout.splitlines()]
    assert [(one["id"], one["result"]) for one in found] == [(1, "<a>"), (2, None)]
    assert "1 ok, 1 failed. Failed: 1 EmptyText" in done.stderr


def test_wrong_options_are_refused_before_anything_is_opened(line: Any, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", texts(5))
    for arguments, words in (
        (["extract", source, "o"], "give --fields or --schema"),
        (["extract", source, "o", "--fields", "a", "--schema", "b"], "give --fields or --schema"),
        (["translate", source, "o", "--to", "Frensh"], "Did you mean French"),
        (["translate", source, "o"], "Missing parameter: to"),
        (["summarize", source, "o", "--words", "1", "--sentences", "1"], "not both"),
        (["sing", source, "o"], "sing"),
    ):
        assert words in str(line(*arguments).exception)


def test_a_terminal_gets_a_bar_and_a_log_a_line_now_and_then(
    line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgellm.cli import batch as verbs

    source = write_rows(tmp_path / "in.jsonl", texts(50))
    monkeypatch.setattr(verbs, "_LOG_S", 0.0)
    assert "rows/s" in line("chat", source, tmp_path / "log").stderr.splitlines()[3]
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = line("chat", source, tmp_path / "bar").stderr
    assert "50 rows, " in shown
    assert "0:00:00 left" in shown


def test_flag_defaults_of_a_batch_are_those_of_its_tasks(line: Any) -> None:
    from edgellm.cli.batch import batch as verbs

    for task, defaults in DEFAULTS.items():
        found = {option.name: option.default for option in verbs.commands[task].params}
        for name in Sampling.__slots__:
            assert found[name] == getattr(defaults, name), (task, name)


def test_nothing_of_a_batch_outlives_it(model: FakeModel, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", texts(20))
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(3):
        batch(model, source, tmp_path / f"out{number}", timeout_s=5.0)
        results = chat(model, ["a"] * 100, timeout_s=5.0)
        next(results)
        results.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)
