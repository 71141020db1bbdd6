"""The chat: what reaches a terminal, what is kept on the disk, and what every key and command does."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import sitting
from hypothesis import given, settings
from hypothesis import strategies as st
from sitting import CONTROL, POSIX, Sitting, arguments, asked, prompted

from edgellm.errors import ModelUnknown, UsageError
from edgellm.prompt import SAFETY
from edgellm.repl import keys, session, table
from edgellm.repl import settings as repl_settings
from edgellm.repl.clipboard import last_code, put
from edgellm.repl.export import written
from edgellm.repl.loading import Brake, Loading
from edgellm.repl.markdown import Flow, Span, merged
from edgellm.repl.session import Transcript, Turn
from edgellm.repl.show import Answer, Painter, Screen
from edgellm.sampling import Sampling
from edgellm.thoughts import Thoughts, spoken

tiny, sit, terminals = sitting.tiny, sitting.sit, sitting.terminals

# --- Markdown that comes in pieces ------------------------------------------------------------------------------------

ANSWER = """# Title
Some **bold text** and *it* with `code [x]` and list[int] [/INST] 2 * 3 * 4 a*b snake_case \\*literal\\*.

- an item that is long enough to be wrapped at the edge of the terminal because it has so many words
  - nested **never closed
1. first
> quoted text that is rather long and must be wrapped as well, if I am not wrong
| a | b |
|---|:-:|
| 1 | **two** |
after
```python
def f(x): return x * 2
```
---
[words](http://x.y/z) ends ** here ** 日本語の文章は空白がないので途中で折り返す必要があります
unclosed `code"""
LETTERS = st.text(st.sampled_from("ab *`~[]()#->|1.\\\n\t:日é"), max_size=60)


def flowed(pieces: list[str], width: int = 40) -> list[Span]:
    flow = Flow(width)
    spans = [span for piece in pieces for span in flow.push(piece)]
    return merged([*spans, *flow.finish()])


def text_of(spans: list[Span]) -> str:
    return "".join(span.text for span in spans)


def cut(text: str, rng: random.Random) -> list[str]:
    at = sorted(rng.sample(range(len(text) + 1), min(len(text), rng.randint(1, 20))))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


def test_an_answer_looks_the_same_however_it_was_cut() -> None:
    rng, whole = random.Random(1), flowed([ANSWER])
    assert flowed(list(ANSWER)) == whole
    for _ in range(100):
        assert flowed(cut(ANSWER, rng)) == whole


@settings(max_examples=300, deadline=None)
@given(LETTERS, st.integers(20, 50), st.randoms(use_true_random=False))
def test_any_text_looks_the_same_however_it_was_cut(text: str, width: int, rng: random.Random) -> None:
    assert flowed(list(text), width) == flowed([text], width) == flowed(cut(text, rng) if text else [], width)


@settings(max_examples=300, deadline=None)
@given(LETTERS)
def test_no_letter_of_an_answer_is_lost(text: str) -> None:
    shown = text_of(flowed([text]))
    assert re.findall(r"\w", shown) == re.findall(r"\w", text)


def test_markup_of_other_tools_is_shown_as_it_is() -> None:
    text = "[/INST] list[int] [bold]x[/bold] [link=http://x]y[/link] <s> </s> {x!r} %s :smile:"
    assert text_of(flowed([text], 200)) == text + "\n"


def test_constructs_are_styled() -> None:
    styles = {span.text.strip(): span.style for span in flowed([ANSWER], 200)}
    assert styles["Title"] == "bold underline"
    assert (styles["bold text"], styles["it"], styles["code [x]"]) == ("bold", "italic", "cyan")
    assert styles["def f(x): return x * 2"] == "code python"
    assert "• " in text_of(flowed([ANSWER]))
    assert "words (http://x.y/z)" in text_of(flowed([ANSWER], 200))


def test_a_word_is_shown_as_soon_as_it_has_ended() -> None:
    flow = Flow(40)
    shown = [text_of(flow.push(piece)) for piece in ("Hel", "lo wor", "ld, how", " are")]
    assert shown == ["", "Hello", " world,", " how"]


def test_a_line_of_code_is_shown_as_soon_as_it_has_ended() -> None:
    flow = Flow(40)
    flow.push("```\n")
    assert text_of(flow.push("x = 1\ny")) == "x = 1\n"


def test_lines_keep_within_the_width_and_hang() -> None:
    shown = text_of(flowed(["- " + "word " * 30, "\n日本" * 1 + "本" * 60], 30)).splitlines()
    assert all(len(line) <= 30 for line in shown)
    assert shown[0].startswith("• word")
    assert shown[1].startswith("  word")


def test_a_table_that_is_too_wide_stays_as_it_was_written() -> None:
    text = "| a | " + "b" * 60 + " |\n|---|---|\n| 1 | 2 |\n"
    assert text_of(flowed([text])) == text


def test_thoughts_are_told_from_the_answer_however_they_were_cut() -> None:
    text, rng = "<think>\nfirst </thi\n second\n</think>\n\nIt is <think> four.", random.Random(1)
    for _ in range(200):
        thoughts = Thoughts()
        parts = [part for piece in cut(text, rng) for part in thoughts.push(piece)] + thoughts.finish()
        assert "".join(part for part, thinking in parts if not thinking) == "It is <think> four."
        assert "".join(part for part, thinking in parts if thinking).strip() == "first </thi\n second"
    assert spoken("no <think>thoughts</think>") == "no <think>thoughts</think>"
    assert spoken("<think>endless") == ""


def test_code_keeps_its_text_in_every_language() -> None:
    code = 'def f():\n    """a\n    [b]\n    """\n    return [/x]\n'
    for language in ("python", "", "nosuchlanguage", "c++", "[/bold]"):
        painter = Painter()
        assert [painter.paint(line, language).plain for line in code.splitlines()] == code.splitlines()


# --- nothing but text reaches a terminal ------------------------------------------------------------------------------

ATTACKS = (
    "\x1b]52;c;aGk=\x07",
    "\x1b]0;title\x1b\\",
    "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1b[6n",
    "\x1bc",
    "\x1bP+q544e\x1b\\",
    "\x1b_Gi=1\x1b\\",
    "\x9b31m",
    "\x9d52;c;aGk=\x9c",
    "\x90x\x9c",
    "\x1b[31munterminated",
    "a\rb\bc\x07d\x00e\x7ff",
    "\x0e\x0f\x05\x1a",
    "\u202egnp.exe\u202c",
    "[/INST] [bold red]x[/bold red] [link=http://x]y[/link]",
    "```\x1b[2J\n\x1b]0;x\x07\n```",
    "| \x1b[31m | b |\n|---|---|\n| \x9b2J | \x07 |",
    "**\x1b[31mbold\x1b**`\x1b[0m`[\x1b](\x1b]8;;x\x07)",
    "<think>\x1b[2J</think>\x1b]0;x\x07",
    "# \x1b[1mhead\n> \x1b[2mquote\n- \x1b[3mitem",
)


def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, io.StringIO]:
    """A console that takes itself for a terminal without colours: every escape in its output is somebody else's."""
    from rich.console import Console

    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    return Console(file=out, force_terminal=True, color_system=None, highlight=False), out


@pytest.mark.parametrize("markdown", [True, False])
def test_no_control_character_reaches_the_terminal_at_any_split(
    markdown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, out = terminal(monkeypatch)
    tried = 0
    for attack in ATTACKS:
        text = f"before {attack} after\n\n{attack}"
        for at in range(1, len(text), max(1, len(text) // 72)):
            with Answer(console, markdown=markdown) as page:
                page.push(text[:at])
                page.push(text[at:])
            tried += 1
    assert tried > 750  # twice, once for each way to show
    assert CONTROL.findall(out.getvalue()) == []


def test_our_own_lines_carry_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    for attack in ATTACKS:
        screen.fail(f"cannot read {attack}")
        screen.columns([(attack, attack)])
    assert CONTROL.findall(capsys.readouterr().err) == []


def test_a_pipe_gets_every_byte(sit: Callable[..., Sitting], script: Callable[..., None]) -> None:
    said = "".join(ATTACKS[:12]) + "\r\n# not **Markdown** [/INST]\n```\ncode\n```"
    script(otherwise=said)
    assert sit("hello\nagain\n", history=False).out == f"{said}\n{said}\n"


# --- the transcript ---------------------------------------------------------------------------------------------------


def talk(folder: Path | None, turns: int = 2, **options: Any) -> Transcript:
    transcript = Transcript(folder, **options)
    transcript.instruct("be brief")
    for number in range(turns):
        transcript.ask(f"question {number}\nwith a second line  é\ud800")
        transcript.answer(Turn("", f"answer {number}", "stop", 10 + number, 3, "tiny"))
    return transcript


def state(transcript: Transcript) -> Any:
    return transcript.system, transcript.turns, transcript.pending


def test_a_conversation_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = talk(tmp_path, 3)
    kept.undo(2)
    kept.ask("not answered")
    again = session.resume(tmp_path)
    assert state(again) == state(kept)
    assert again.turns == [Turn("question 0\nwith a second line  é\ud800", "answer 0", "stop", 10, 3, "tiny")]
    again.answer(Turn("", "now"))
    assert session.resume(tmp_path, kept.name).turns[-1] == Turn("not answered", "now")


def test_an_answer_is_kept_until_another_one_replaces_it(tmp_path: Path) -> None:
    kept = talk(tmp_path, 2)
    kept.ask("once more", instead=1)
    again = session.resume(tmp_path)
    assert [turn.assistant for turn in again.turns] == ["answer 0", "answer 1"]
    assert [turn.assistant for turn in again.past] == ["answer 0"]
    again.answer(Turn("", "better"))
    assert [turn.assistant for turn in session.resume(tmp_path).turns] == ["answer 0", "better"]
    again.ask("worse", instead=1)
    again.ask("something else")
    assert len(session.resume(tmp_path).past) == 2
    again.ask("too much", instead=9)
    again.undo()
    assert (again.instead, len(again.past)) == (0, 1)


@POSIX
def test_conversations_are_private(tmp_path: Path) -> None:
    kept = talk(tmp_path / "sessions")
    assert kept.path
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(session.history_file().stat().st_mode) == 0o600


def test_nothing_is_written_before_something_is_asked_nor_without_a_folder(tmp_path: Path) -> None:
    Transcript(tmp_path).instruct("be brief")
    talk(None)
    assert list(tmp_path.iterdir()) == []


def test_reading_on_without_keeping_writes_nothing(tmp_path: Path) -> None:
    kept = talk(tmp_path)
    assert kept.path
    data = kept.path.read_bytes() + b"{torn"
    kept.path.write_bytes(data)
    again = session.resume(tmp_path, keep=False)
    assert state(again) == state(kept)
    again.ask("more")
    again.undo()
    assert kept.path.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == [kept.path.name]


def test_a_tail_torn_at_any_byte_costs_one_record_at_most(tmp_path: Path) -> None:
    kept = talk(tmp_path, 2)
    assert kept.path
    data = kept.path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    for end in [*range(start, len(data), 5), len(data) - 1, len(data)]:
        for junk in (b"", b"\0" * 7):
            kept.path.write_bytes(data[:end] + junk)
            said: list[str] = []
            again = session.resume(tmp_path, "", said.append)
            whole = end == len(data) or (not junk and end == len(data) - 1)
            assert len(again.turns) == (2 if whole else 1)
            assert (again.pending is None) == whole
            torn = bool(junk) or start < end < len(data) - 1  # NULs after a whole line are a torn line too
            assert [("torn" in words) for words in said] == ([True] if torn else [])
            assert session.resume(tmp_path).turns == again.turns
            again.ask("goes on")
            assert session.resume(tmp_path).pending == "goes on"


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    kept = talk(tmp_path, 3)
    assert kept.path
    lines = kept.path.read_bytes().split(b"\n")
    lines[4:6] = [b"\xff{", b"[" * 100_000]
    kept.path.write_bytes(b"\n".join(lines))
    said: list[str] = []
    assert len(session.resume(tmp_path, "", said.append).turns) == 2
    assert "2 damaged records" in said[0]
    assert "line 5" in said[0]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"hello\n", b'{"a": 1}\n', b'{"edgellm": "conversation", "version": 2}\n', b"\0\n"]
)
def test_what_is_no_conversation_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(UsageError, match=r"x\.jsonl"):
        session.resume(tmp_path, "x")
    assert (tmp_path / "x.jsonl").read_bytes() == data
    assert session.summary(tmp_path / "x.jsonl").title == "(cannot be read)"


def test_an_unknown_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no conversation to resume"):
        session.resume(tmp_path)
    talk(tmp_path, name="holidays")
    with pytest.raises(UsageError, match="holidays"):
        session.resume(tmp_path, "hollidays")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\\b", "x\0", "a\n", "-x", "x.", "é" * 81])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    talk(tmp_path)
    for attempt in (lambda: session.resume(tmp_path, name or "."), lambda: Transcript(tmp_path).rename(name)):
        with pytest.raises(UsageError):
            attempt()


def test_naming_and_branching_overwrite_nothing(tmp_path: Path) -> None:
    one, two = talk(tmp_path, name="one"), talk(tmp_path, name="two")
    with pytest.raises(UsageError, match="already"):
        one.rename("two")
    with pytest.raises(UsageError, match="already"):
        one.branch("two")
    twin = one.branch()
    assert twin.name == "one-2"
    assert state(twin) == state(one)
    twin.undo()
    assert len(session.resume(tmp_path, "one").turns) == 2
    assert len(session.resume(tmp_path, "one-2").turns) == 1
    two.rename("three")
    two.undo()
    assert len(session.resume(tmp_path, "three").turns) == 1
    assert sorted(session.names(tmp_path)) == ["one", "one-2", "three"]


def test_two_chats_in_one_conversation_part_ways(tmp_path: Path) -> None:
    talk(tmp_path, name="one")
    said: list[str] = []
    left, right = session.resume(tmp_path, "one", said.append), session.resume(tmp_path, "one", said.append)
    left.ask("left")
    right.ask("right")
    right.answer(Turn("", "said"))
    assert "goes on as one-2" in said[0]
    assert session.resume(tmp_path, "one").pending == "left"
    assert session.resume(tmp_path, "one-2").turns[-1].user == "right"


def test_a_full_disk_does_not_end_the_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    kept = talk(tmp_path, 1, warn=said.append)
    assert kept.path
    before, write = kept.path.read_bytes(), os.write

    def full(handle: int, data: Any) -> int:
        if len(data) > 20:
            return write(handle, bytes(data[:20]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    path = kept.path
    kept.ask("a question")
    kept.answer(Turn("", "an answer"))
    assert len(said) == 1
    assert "No space left" in said[0]
    assert path.read_bytes() == before
    assert kept.turns[-1].assistant == "an answer"
    talk(tmp_path, 1, warn=said.append, name="new")
    assert len(said) == 2
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_exports_hold_everything(tmp_path: Path) -> None:
    kept = talk(None, 1)
    kept.ask("q")
    kept.answer(Turn("", "half", "cancelled"))
    told = json.loads(written(kept, ".json"))
    assert [one["role"] for one in told["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert told["answers"][1]["finish"] == "cancelled"
    text = written(kept, ".md")
    assert "## System\n\nbe brief\n\n## You\n\nquestion 0" in text
    assert "half\n\n*(stopped)*" in text
    with pytest.raises(UsageError, match=r"\.pdf"):
        written(kept, ".pdf")


# --- talking ----------------------------------------------------------------------------------------------------------


def sessions() -> list[str]:
    return session.names(session.folder())


def test_a_piped_chat_answers_every_line_and_keeps_the_conversation(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(rules=[{"when": "name is Ada", "say": "Hello Ada."}], otherwise="Who are you?")
    done = sit('\ufeffhello\n\nmy name is Ada\n"""\ntwo\n/lines\n"""\n')
    assert (done.code, done.out) == (0, "Who are you?\nHello Ada.\nHello Ada.\n")
    assert "context" in done.err
    assert "tiny" in done.err.splitlines()[0]
    kept = session.resume(session.folder())
    assert [turn.user for turn in kept.turns] == ["hello", "my name is Ada", "two\n/lines"]
    again = sit("who am I?\n", resume="", model="other")
    assert again.out.endswith("Hello Ada.\n")
    assert "last held with tiny: /model tiny" in again.err
    assert len(session.resume(session.folder()).turns) == 4
    assert len(sessions()) == 1


def test_without_history_nothing_is_written(sit: Callable[..., Sitting], private_home: Path) -> None:
    done = sit("hello\n/branch\n/branch x\n/save x\n/system be brief\n/undo\n/clear\n", history=False)
    assert "--no-history" in done.err
    assert [path for path in private_home.rglob("*") if path.is_file()] == []


def test_the_system_prompt_and_the_safety_prompt_are_sent(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(
        rules=[{"when": f"{SAFETY}\n\nSay Moin.", "say": "safe"}, {"when": "Say Moin.", "say": "Moin"}], otherwise="?"
    )
    assert sit("hi\n", system="Say Moin.", history=False).out == "Moin\n"
    assert sit("hi\n", system="Say Moin.", safe=True, history=False).out == "safe\n"
    assert sit("hi\n/system Say Moin.\nhi\n/system -\n/undo 2\nhi\n", history=False).out == "?\nMoin\n?\n"


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(sit: Callable[..., Sitting]) -> None:
    done = sit("x" * 300 + "\nshort\n", context=256)
    assert done.out == "I have nothing to say.\n"
    assert done.code == 1
    assert re.search(r"the prompt has (at least )?\d+ tokens and the context 256", done.err)
    for cure in ("/clear", "/undo", "drop-oldest", "--context"):
        assert cure in done.err
    assert [turn.user for turn in session.resume(session.folder()).turns] == ["short"]


def test_a_full_context_is_told_before_and_after_it_is_full(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(otherwise="y" * 100)
    done = sit("x" * 110 + "\nmore\n", context=256)
    assert "% full" in done.err
    script(otherwise="y" * 400)
    assert "the context of 256 tokens is full" in sit("hi\n", context=256).err
    assert "cut after 7 tokens: /set max_tokens" in sit("hi\n", sampling=Sampling(max_tokens=7)).err


def test_dropping_the_oldest_turns_says_so_and_keeps_the_system_prompt(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(rules=[{"when": "BE BRIEF", "say": "brief"}], otherwise="the system prompt is gone")
    lines = "".join(f"question number {number} {'x' * 30}\n" for number in range(20))
    done = sit("/set overflow drop-oldest\n" + lines, context=400, system="BE BRIEF")
    assert done.out == "brief\n" * 20
    dropped = [int(count) for count in re.findall(r"dropped the oldest turns to make room \((\d+) of", done.err)]
    assert sum(dropped) > 10
    assert len(session.resume(session.folder()).turns) == 20
    assert done.code == 0
    hopeless = sit("/set overflow drop-oldest\nhi\n" + "x" * 500 + "\n/context\n", context=400)
    assert "/edit shortens" in hopeless.err
    assert "1 of 1 are sent" in hopeless.err


def test_an_engine_that_dies_is_told_and_the_next_message_works(
    sit: Callable[..., Sitting], script: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(otherwise="Hello there, how are you?", crash_at=12)
    done = sit("hi\n/set max_tokens 5\nonce more\n", apart=True)
    assert "SIGABRT" in done.err
    assert done.out == "Hello there\nHello\n"  # ten letters and a bit, then a new engine
    turns = session.resume(session.folder()).turns
    assert [(turn.user, turn.finish) for turn in turns] == [("hi", "failed"), ("once more", "length")]


def test_an_engine_that_dies_before_a_word_leaves_the_question(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(crash_at=1)
    done = sit("hi\n", apart=True)
    assert "/retry sends it again" in done.err
    assert session.resume(session.folder()).pending == "hi"
    script(otherwise="Hello")
    assert sit("/retry\n", resume="", apart=True).out == "Hello\n"


def test_an_engine_that_dies_while_asked_again_leaves_the_earlier_answer(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(otherwise="Hello", crash_at=9)
    done = sit("hi\n/retry\n/context\n", apart=True)
    assert "The earlier answer stays" in done.err
    kept = session.resume(session.folder())
    assert [(turn.assistant, turn.finish) for turn in kept.turns] == [("Hello", "stop")]
    assert kept.pending == "hi"


# --- commands ---------------------------------------------------------------------------------------------------------


def test_help_completion_and_suggestions_come_from_one_table(sit: Callable[..., Sitting]) -> None:
    done = sit("/help\n/help set\n/nosuch\n/sesions\n/HELP read\n", history=False)
    for name, command in table.COMMANDS.items():
        assert f"/{name}" in done.err
        assert command.words in done.err
    assert "/set [NAME VALUE]" in done.err
    assert "there is no command /nosuch" in done.err
    assert "Did you mean /sessions" in done.err


def test_set_takes_every_option_within_its_range(sit: Callable[..., Sitting]) -> None:
    for field in fields(Sampling):
        if field.name == "stop":
            continue
        low, high = field.metadata["range"]
        assert repl_settings.parse(field.name, str(high)) == high
        for wrong in (str(high * 2), str(low - 1), "nan", "many", ""):
            with pytest.raises(UsageError, match=f"{field.name} is a .*between .* and "):
                repl_settings.parse(field.name, wrong)
    assert repl_settings.parse("seed", "none") is None
    done = sit("/set temperature 11\n/set temprature 1\n/set overflow sometimes\n/set top-k 3\n/set\n/set stop '\n")
    for words in (
        "between 0 and 10, not '11'",
        "Did you mean temperature",
        "stop, drop-oldest or summarize-oldest",
        "top_k = 3",
        "No closing",
    ):
        assert words.lower() in done.err.lower()


def test_stop_texts_keep_their_blanks_and_lines() -> None:
    assert repl_settings.parse("stop", r"'a b' '\n\n' c") == ("a b", "\n\n", "c")
    assert repl_settings.parse("stop", "none") == ()


def test_undo_retry_edit_and_branch(sit: Callable[..., Sitting], script: Callable[..., None]) -> None:
    script(rules=[{"when": "three", "say": "3"}, {"when": "two", "say": "2"}], otherwise="1")
    done = sit("/undo\n/retry\n/edit x\none\ntwo\n/undo\none again\n/branch aside\n/edit three\n/retry\n/edit\n")
    assert done.out == "1\n2\n1\n3\n3\n"
    assert "aside goes on from here" in done.err
    assert "give the new text" in done.err
    assert [turn.user for turn in session.resume(session.folder(), "aside").turns] == ["one", "three"]
    other = next(name for name in sessions() if name != "aside")
    assert [turn.user for turn in session.resume(session.folder(), other).turns] == ["one", "one again"]


def test_save_clear_sessions_and_resume(sit: Callable[..., Sitting]) -> None:
    done = sit(
        "first\n/save one\n/clear\nsecond\n/save two\n/save one\n/sessions\n/resume one\n/resume three\n/resume\n"
    )
    assert sorted(sessions()) == ["one", "two"]
    assert "/resume one" in done.err
    assert "there is a conversation 'one' already" in done.err
    assert re.search(r"\* two +[-\d]+ [:\d]+ +1 turn +second", done.err)
    assert "there is no conversation 'three'" in done.err
    assert done.err.rstrip().endswith("second")
    assert done.out.count("I have nothing to say.") == 4  # two answers, two shown again


def test_reading_a_file_says_its_size_and_refuses_what_is_no_text(
    sit: Callable[..., Sitting], script: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text("The secret is ```42```.")
    Path("a.pdf").write_bytes(b"%PDF-1.7 \xff")
    Path("a.bin").write_bytes(b"\0\1\2")
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("empty.txt").write_text(" ")
    Path("folder").mkdir()
    script(
        rules=[{"when": "File notes.md:\n````\nThe secret is ```42```.\n````\n\nWhat is it?", "say": "42"}],
        otherwise="?",
    )
    done = sit(
        "/read a.pdf\n/read a.bin\n/read latin.txt\n/read empty.txt\n/read folder\n/read fifo\n/read none.txt\n"
        "/read x\0y\n/read notes.md\n/read -\n/read\n/read notes.md\nWhat is it?\nWhat is it?\n"
    )
    assert done.out == "42\n42\n"  # it stays in the conversation
    for words in (
        "is a PDF",
        "a.bin is not UTF-8",
        "latin.txt is not UTF-8",
        "is empty",
        "is a folder",
        "No such file",
    ):
        assert words in done.err
    assert "notes.md: 23 characters, 24 tokens (1 % of the context)" in done.err


def test_tasks_answer_beside_the_conversation(
    sit: Callable[..., Sitting], script: Callable[..., None], tmp_path: Path
) -> None:
    file = tmp_path / "report.txt"
    file.write_text("Ada is 36.")
    script(
        rules=[
            {"when": "Extract these fields", "say": '{"name": "Ada", "age": 36}'},
            {"when": "Summarize this text in exactly 1 short sentence.\n\nText: Ada is 36.", "say": "Ada: 36."},
            {"when": "to French. Reply with the translation only.\n\nText: Good morning", "say": "Bonjour"},
            {"when": "to German", "say": "Guten Morgen"},
        ],
        otherwise="Hello",
    )
    done = sit(
        f"/translate fr\n/translate fr Good morning\nhi\n/translate German\n/read {file}\n/summarize 1\n"
        "/extract name, age int\n/extract name, age int -- Ada is 36.\n/extract\n/extract a b c d\n/translate xx Good\n"
    )
    data = '{"name": "Ada", "age": 36}\n'
    assert done.out == f"Bonjour\nHello\nGuten Morgen\nAda: 36.\n{data}{data}"
    for words in ("there is no answer yet", "name the fields", "cannot read field", "unknown language"):
        assert words in done.err
    assert len(session.resume(session.folder()).turns) == 1


def test_facts_are_shown(sit: Callable[..., Sitting], tiny: Path) -> None:
    done = sit("/show\n/plan\nhi\n/stats\n/context\n/model\n/safe on\n/safe maybe\n", history=False)
    for words in (
        str(tiny),
        "llama, 2 layers",
        "Everything runs on the processor",
        "answers",
        "1 of 1 are sent",
        "on or off",
    ):
        assert words in done.err, words


def test_another_model_goes_on_with_the_conversation(sit: Callable[..., Sitting], script: Callable[..., None]) -> None:
    script(rules=[{"when": "first", "say": "I heard it."}])
    done = sit("first\n/model other\nsecond\n/model missing\nthird\n/retry\n", sampling=Sampling(seed=1))
    assert done.out == "I heard it.\n" * 4
    assert "no model is called 'missing'" in done.err
    assert "other comes back" in done.err
    assert "expect the same answer" in done.err
    assert [turn.model for turn in session.resume(session.folder()).turns] == ["tiny", "other", "other"]


@POSIX
def test_ctrl_c_while_waiting_for_a_model_leaves_it_loading() -> None:
    go = threading.Event()
    loading = Loading(lambda name, progress: go.wait(10), "slow")  # type: ignore[arg-type,return-value]  # any model
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        loading.wait(10)
    timer.join()
    assert not loading.done
    go.set()
    assert loading.wait(10)
    assert not loading.failed
    assert "slow" in str(loading)


@POSIX
def test_ctrl_c_waits_until_a_word_is_printed() -> None:
    done = []

    def pressed() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with Brake() as brake:
        os.kill(os.getpid(), signal.SIGINT)
        done.append("printed")
        with pytest.raises(KeyboardInterrupt), brake.on():
            done.append("waited")
        with brake.on():
            done.append("on")
        with pytest.raises(KeyboardInterrupt), brake.on():
            pressed()
        os.kill(os.getpid(), signal.SIGINT)
        done.append("saved")
    assert done == ["printed", "on", "saved"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_model_that_nobody_wants_any_more_is_closed() -> None:
    class Opened:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    go, model = threading.Event(), Opened()
    loading = Loading(lambda name, progress: go.wait(10) and model, None)  # type: ignore[arg-type,return-value]
    loading.abandon()
    go.set()
    assert loading.wait(10)
    assert model.closed == 1


def test_a_model_that_cannot_be_opened_ends_the_chat(sit: Callable[..., Sitting]) -> None:
    with pytest.raises(ModelUnknown):
        sit("hi\n", model="missing")


def test_export_writes_no_file_twice(sit: Callable[..., Sitting], tmp_path: Path) -> None:
    names = ("a.json", "a.json", "a.pdf", "no/a.md")
    done = sit("hi\n" + "".join(f"/export {tmp_path}/{name}\n" for name in names))
    assert json.loads((tmp_path / "a.json").read_text())["messages"][0] == {"role": "user", "content": "hi"}
    for words in ("not overwritten", "exported to .md or .json", "No such file"):
        assert words in done.err


def test_copying_finds_the_last_block_of_code() -> None:
    assert last_code("```py\na\n```\ntext\n  ~~~\n  b\n  ```\n  ~~~\n") == "  b\n  ```\n"
    with pytest.raises(UsageError):
        last_code("`none`")


@POSIX
def test_copying_takes_a_program_or_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Screen):
        interactive = True
        sent = ""

        def control(self, sequence: str) -> None:
            self.sent += sequence

    screen, program = Seen(), tmp_path / "xclip"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "asked the terminal" in put("h\x1b\u00e9", screen)
    assert screen.sent == "\x1b]52;c;aBvDqQ==\x07"
    with pytest.raises(UsageError, match="too many"):
        put("x" * 80_000, screen)
    program.write_text(f"#!/bin/sh\nexec /bin/cat > {tmp_path}/clipboard\n")
    program.chmod(0o700)
    assert put("h\u00e9", screen) == "copied 2 characters."
    assert (tmp_path / "clipboard").read_text() == "h\u00e9"
    program.write_text("#!/bin/sh\nexit 1\n")
    screen.interactive = False
    with pytest.raises(UsageError, match="no clipboard"):
        put("x", screen)


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("notes and more.md").touch()
    Path("folder").mkdir()
    Path(".hidden").touch()
    talk(session.folder(), name="holidays")

    def choices(text: str) -> list[str]:
        return [choice for choice, _ in table.complete(None, text)]  # type: ignore[arg-type]  # nothing asks the chat

    assert choices("/se") == ["/set", "/sessions"]
    assert choices("/read no") == ["notes and more.md"]
    assert choices("/read notes and") == ["notes and more.md"]
    assert choices("/read ") == ["folder" + os.sep, "notes and more.md"]
    assert choices(f"/export {here}{os.sep}.h") == [f"{here}{os.sep}.hidden"]
    assert "demo" in choices("/model de")
    assert choices("/set overflow d") == ["drop-oldest"]
    assert choices("/set temp") == ["temperature"]
    assert choices("/resume h") == choices("/load h") == ["holidays"]
    assert "fr" in choices("/translate f")
    assert choices("/safe o") == ["on", "off"]
    assert choices("hello /re") == choices("/nosuch x") == choices("/read x\ny") == choices("/read /nosuch/x") == []
    assert [keys.overlap("/read no", "notes"), keys.overlap("/set temp", "temperature"), keys.overlap("x", "y")] == [
        2,
        4,
        0,
    ]


def test_thoughts_are_not_sent_again(sit: Callable[..., Sitting], script: Callable[..., None]) -> None:
    script(rules=[{"when": "SECRET", "say": "it was sent"}], otherwise="<think>SECRET</think>\nYes.")
    assert sit("hi\nand?\n").out == "<think>SECRET</think>\nYes.\n" * 2


def test_bad_input_is_told_and_passed_over(sit: Callable[..., Sitting]) -> None:
    done = sit('hi\n"""\nnever closed\n')
    assert "the text ended inside" in done.err
    assert done.out == "I have nothing to say.\n"
    done = sit(b"caf\xe9\nhi\n")
    assert "not UTF-8" in done.err
    assert (done.out, done.code) == ("I have nothing to say.\n", 1)


def test_no_line_ends_a_chat_with_a_traceback(
    sit: Callable[..., Sitting], script: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text("text [/INST]")
    Path("b.bin").write_bytes(b"\0\xff")
    script(rules=[{"when": "Extract", "say": '{"name": "x"}'}], otherwise="# Hi **there**\n<think>\n```py\nx\n```")
    rng = random.Random(1)
    messages = ["hi", "x" * 200, "[/INST] <s>", '"""\na\nb\n"""', "  ", "\u202e", "//", "/", '"""']
    given = [
        "",
        "-",
        "1",
        "9" * 30,
        "-1",
        "on",
        "off",
        "a.md",
        "b.bin",
        "~",
        "..",
        "\0",
        "fr",
        "fr hello",
        "xx hi",
        "name",
    ]
    given += ["name, age int -- Ada", "a b c", "temperature 1", "temperature nan", "stop 'a b'", 'stop "', "stats off"]
    given += [
        "overflow drop-oldest",
        "out.md",
        "out.json",
        "x.pdf",
        "one",
        "two",
        "code",
        "3 words",
        "\x1b]0;x\x07",
        "x" * 300,
    ]
    verbs = [name for name in table.COMMANDS if name not in ("exit", "copy")]
    for number in range(8):
        lines = [
            rng.choice(messages) if rng.random() < 0.3 else f"/{rng.choice(verbs)} {rng.choice(given)}"
            for _ in range(40)
        ]
        done = sit("\n".join(lines), context=rng.choice([256, 4096]), history=number % 4 > 0)
        assert CONTROL.findall(done.err) == []


# --- the line editor --------------------------------------------------------------------------------------------------


class Arriving:
    """Something that is there when `done` is set."""

    done = False

    def __str__(self) -> str:
        return "loading"


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Callable[[str], keys.Keyboard]]:
    """A line editor, and what someone types into it."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):

        def give(text: str) -> keys.Keyboard:
            pipe.send_text(text)
            return keys.Keyboard(lambda before: [("/help", "")] if before == "/he" else [], tmp_path / "history")

        yield give


def test_one_can_type_while_the_model_loads(typed: Callable[[str], keys.Keyboard]) -> None:
    waited, heard = Arriving(), []

    def arrived() -> None:
        heard.append("arrived")

    editor = typed("typed early\r")
    assert editor.read(waited, arrived) == "typed early"
    assert heard == []
    waited.done = True
    editor = typed("")

    def typing() -> None:
        arrived()
        typed("late\r")

    assert editor.read(waited, typing) == "late"
    assert heard == ["arrived"]


def test_a_model_that_never_arrives_ends_the_prompt(typed: Callable[[str], keys.Keyboard]) -> None:
    waited = Arriving()
    waited.done = True

    def arrived() -> None:
        raise ModelUnknown("no such model")

    with pytest.raises(ModelUnknown):
        typed("").read(waited, arrived)


def test_keys_of_the_editor(typed: Callable[[str], keys.Keyboard]) -> None:
    assert typed('"""a\rb"""\r').read() == '"""a\nb"""'
    assert typed("a\x1b\rb\r").read() == "a\nb"
    assert typed("gone\x03kept\r").read() == "kept"
    assert typed("\x1b[A\x1b[A\r").read() == "a\nb"  # what was typed before
    for key, end in (("\x03", KeyboardInterrupt), ("\x04", EOFError)):
        with pytest.raises(end):
            typed(key).read()
    assert typed(" twice\r").reword("once") == "once twice"
    assert typed("\x03\x04").reword("once") == ""


# --- a chat of its own process ----------------------------------------------------------------------------------------


def test_the_command_works_in_a_pipe(tiny: Path, script: Callable[..., None]) -> None:
    script(otherwise="Hello.")
    command = [sys.executable, *arguments(tiny, "--no-history", "--max-tokens", "3", "-s", "x", "--safe", "--plain")]
    done = subprocess.run(command, input=b"hi\n/exit\nnever\n", capture_output=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == (b"Hel\n", 0), done.stderr


@POSIX
def test_ctrl_c_in_a_pipe_ends_it_and_keeps_what_was_said(tiny: Path, script: Callable[..., None]) -> None:
    script(otherwise="word " * 100, step_s=0.01)
    command = [sys.executable, *arguments(tiny)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as chat:
        assert chat.stdin
        assert chat.stdout
        chat.stdin.write(b"hi\nagain\n")
        chat.stdin.flush()
        assert chat.stdout.read(9) == b"word word"
        chat.send_signal(signal.SIGINT)
        assert chat.wait(10) == 130
    [turn] = session.resume(session.folder()).turns
    shown = subprocess.run(
        [*command, "--resume", "-m", str(tiny)], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert shown.stdout.decode() == turn.assistant + "\n"
    assert b"(stopped)" in shown.stderr
    assert turn.finish == "cancelled"
    assert turn.assistant.startswith("word word")


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9_loses_the_running_answer_at_most(kills: int, tiny: Path, script: Callable[..., None]) -> None:
    script(otherwise="Hello there.", step_s=0.01)
    for kill in range(kills):
        wanted = 1 + 3 * kill % 5
        command = [sys.executable, *arguments(tiny)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as chat:
            assert chat.stdin
            assert chat.stdout
            assert chat.stderr
            chat.stdin.write(b"".join(b"question %d\n" % number for number in range(100)))
            chat.stdin.flush()
            finished = 0
            for line in chat.stderr:  # one line of numbers for every answer that is kept
                finished += b"tokens/s" in line
                if finished == wanted:
                    break
            time.sleep(0.0131 * kill % 0.15)
            chat.kill()
            said = chat.stdout.read()
        kept = session.resume(session.folder())
        assert finished <= len(kept.turns) <= finished + 1
        assert said.count(b"Hello there.\n") <= len(kept.turns) + 1
        assert {turn.assistant for turn in kept.turns} == {"Hello there."}
        assert kept.pending in (None, f"question {len(kept.turns)}")


@POSIX
def test_keys_and_commands_on_a_terminal(terminals: Callable[..., Any], script: Callable[..., None]) -> None:
    script(
        rules=[
            {"when": "one\ntwo", "say": "# Two **lines**\nlist[int] [/INST] \x1b]0;owned\x07"},
            {"when": "slow", "say": "word " * 200},
        ],
        otherwise="Hello.",
        step_s=0.005,
    )
    child = terminals()
    assert "Hello." in asked(child, "hi\r")
    shown = asked(child, '"""one\rtwo\r"""\r')
    assert "Two **lines**" not in shown
    assert "Two lines" in shown
    assert "list[int] [/INST] \\x1b]0;owned\\x07" in shown
    assert "tokens/s" in shown
    asked(child, "/clear\r")
    assert "Two lines" in asked(child, "one\x1b\rtwo\r")  # Alt-Enter
    asked(child, "/clear\r")
    assert "Two lines" in asked(child, "\x1b[200~one\ntwo\x1b[201~\r")  # a paste
    asked(child, "/clear\r")
    child.send("slow\r")
    child.expect("word word")
    assert "stopped; what was said so far is kept" in asked(child, "\x03")
    child.send("/hel\t")
    child.expect("/help")
    assert "/branch" in asked(child, "\r")
    asked(child, "/clear\r")
    assert "Hello." in asked(child, "hi again\r")
    assert "> hi again" in asked(child, "\x1b[A\x1b[A\x1b[A\x1b[B\x1b[B\r")  # Up brings back what was typed
    assert "Did you mean" in asked(child, "/hlep\r")
    child.send("thrown away\x03")
    assert "Ctrl-C again" in asked(child, "\x03")
    child.send("\x03")
    child.expect("To go on: edgellm chat --resume")
    child.wait()
    assert child.exitstatus == 0
    state_folder = session.history_file()
    assert stat.S_IMODE(state_folder.stat().st_mode) == 0o600
    assert "+hi again" in state_folder.read_text()
    stopped = [
        turn for name in sessions() for turn in session.resume(session.folder(), name).turns if turn.user == "slow"
    ]
    assert stopped[0].finish == "cancelled"
    assert stopped[0].assistant.startswith("word word")


@POSIX
def test_a_terminal_without_colour_or_history(
    terminals: Callable[..., Any], script: Callable[..., None], monkeypatch: pytest.MonkeyPatch, private_home: Path
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    script(otherwise="# A **title**\n`code`", step_s=0.001)
    child = terminals("--no-history", "--plain")
    child.send("hi\r")
    child.expect_exact("# A **title**\r\n`code`\r\n")
    child.expect("context")
    prompted(child)
    child.send("/edit\r")
    child.expect("edit> ")
    assert "hi you" in asked(child, " you\r")
    child.sendeof()
    child.wait()
    assert child.exitstatus == 0
    assert [path for path in private_home.rglob("*") if path.is_file()] == []
