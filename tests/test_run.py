"""`edgellm run` answers prompts, conversations and raw texts, and wraps what it writes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edgellm.cli import edgellm
from edgellm.errors import EmptyText, UsageError
from edgellm.prompt import SAFETY
from edgellm.text import columns, wrapped

CONVERSATION = [
    {"role": "system", "content": "Answer with JSON."},
    {"role": "user", "content": "name: John"},
    {"role": "assistant", "content": '{"name": "John"}'},
]


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(
        edgellm, ["run", *arguments, "-m", "demo", "--engine", "scripted"], input=stdin, catch_exceptions=False
    )


@pytest.fixture
def conversation(tmp_path: Path) -> str:
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(CONVERSATION))
    return str(path)


def test_a_conversation_in_a_file_comes_before_the_prompt(conversation: str, script: Callable[..., None]) -> None:
    exact = '<s>[INST] Answer with JSON.\n\nname: John [/INST] {"name": "John"}</s> [INST] name: Ann [/INST]'
    sent = exact.replace("<s>", "").replace("</s>", "")
    script(rules=[{"when": sent, "say": "as it should be"}], otherwise="?")
    assert run("name: Ann", "--messages", conversation).stdout == "as it should be\n"
    assert run("name: Ann", "--messages", conversation, stdin="").stdout == "as it should be\n"
    assert run("--messages", conversation, stdin="name: Ann\n").stdout == "as it should be\n"


def test_the_file_may_hold_an_object_with_messages(tmp_path: Path, script: Callable[..., None]) -> None:
    script(rules=[{"when": "name: John", "say": "found"}])
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"messages": CONVERSATION[:2]}))
    assert run("--messages", str(path)).stdout == "found\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('"x"', "need a list"),
        ("[1]", "need a list"),
        ('[{"role": "user"}]', "a message is"),
        ('[{"role": "robot", "content": "x"}]', "a message is"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_file_that_is_no_conversation_is_said_so(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        run("hi", "--messages", str(path))


def test_a_file_that_is_not_there_is_said_so() -> None:
    with pytest.raises(UsageError, match=r"^cannot read missing.json: No such file"):
        run("--messages", "missing.json")


def test_the_safety_prompt_stands_before_the_system_prompt(script: Callable[..., None]) -> None:
    script(rules=[{"when": f"{SAFETY}\n\nBe brief.\n\nhi", "say": "guarded"}], otherwise="bare")
    assert run("hi", "-s", "Be brief.", "--safe").stdout == "guarded\n"
    assert run("hi", "-s", "Be brief.").stdout == "bare\n"


def test_a_raw_text_is_continued_as_it_is(script: Callable[..., None]) -> None:
    script(rules=[{"when": "[INST]", "say": "chat"}], otherwise=" and blue")
    assert run("  The sea is green", "--raw").stdout == " and blue\n"
    assert run("The sea", "--raw", stdin=" is green").stdout == " and blue\n"
    for option in (("-s", "x"), ("--safe",), ("--drop-oldest",), ("--messages", "x.json")):
        with pytest.raises(UsageError, match="for chat formats"):
            run("x", "--raw", *option)


def test_nothing_to_ask_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    for arguments in ((), ("",), ("--raw",), ("--messages", str(empty))):
        with pytest.raises(EmptyText):
            run(*arguments)


def test_what_was_left_out_is_said(tmp_path: Path, script: Callable[..., None]) -> None:
    script(otherwise="fine")
    path = tmp_path / "long.json"
    turns: list[dict[str, Any]] = []
    for _ in range(60):
        turns += [{"role": "user", "content": "x" * 50}, {"role": "assistant", "content": "y"}]
    path.write_text(json.dumps(turns))
    done = run("and now?", "--messages", str(path), "--drop-oldest", "--context", "1024", "--json")
    told = json.loads(done.stdout)
    assert told["dropped_messages"] > 60
    assert told["template"].startswith("the mistral format")
    assert "messages were left out" in done.stderr


def test_answers_are_wrapped_at_a_width(script: Callable[..., None]) -> None:
    script(otherwise="one two three four\n    five six seven eight nine")
    assert run("hi", "--width", "10").stdout == "one two\nthree four\n    five\nsix seven\neight nine\n"


words = st.text("ab 中\n\t é", max_size=60)


@given(words, st.integers(1, 12), st.lists(st.integers(0, 60), max_size=4))
def test_wrapping_changes_blanks_alone_and_does_not_care_how_a_stream_is_cut(
    text: str, width: int, cuts: list[int]
) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    parts = [text[low:high] for low, high in itertools.pairwise(edges)]
    lines = "".join(wrapped(parts, width))
    assert lines == "".join(wrapped([text], width))
    assert lines.split() == text.split()
    for line in lines.split("\n"):
        assert columns(line) <= width or len(line.split()) == 1
    wide = "".join(wrapped([text], 1000))
    assert [line.rstrip() for line in wide.split("\n")] == [line.rstrip() for line in text.split("\n")]
