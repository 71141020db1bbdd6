"""Nothing that a model, a file or a name says can command a terminal, whatever it is wrapped in and however it was cut."""

from __future__ import annotations

import io
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console
from sitting import CONTROL

from edgellm.repl.show import Answer, Screen
from edgellm.text import plain

OPENINGS = (
    *(
        "\x1b[",
        "\x9b",
        "\x1b]",
        "\x9d",
        "\x1bP",
        "\x90",
        "\x1b_",
        "\x9f",
        "\x1b^",
        "\x9e",
        "\x1bX",
        "\x98",
        "\x1b",
        "\x1b(",
    ),
    *(
        "\x07",
        "\x08",
        "\r",
        "\x0b",
        "\x0c",
        "\x0e",
        "\x0f",
        "\x00",
        "\x05",
        "\x7f",
        "\x85",
        "\u202e",
        "\u2066",
        "\ud800",
        "",
    ),
)
BODIES = (
    *(
        "31m",
        "2J",
        "H",
        "6n",
        "c",
        "?1049h",
        "?2004l",
        "=5u",
        "0;title",
        "52;c;aGk=",
        "8;;http://evil",
        "10;?",
        "4;1;?",
    ),
    *("+q544e", "$qm", "Gi=1,a=q;AAAA", "1337;File=:AAAA", "777;notify;a;b", "", "999999999999C", "38;2;1;2;3m"),
)
ENDINGS = ("", "\x07", "\x1b\\", "\x9c", "\n", "m")
WRAPS = (
    *(
        "{}",
        "**{}**",
        "*{}*",
        "~~{}~~",
        "`{}`",
        "[{}](http://x.y)",
        "[words](http://{})",
        "# {}",
        "- {}",
        "1. {}",
        "> {}",
    ),
    *(
        "| {} | b |\n|---|---|\n| {} | c |\n",
        "```\n{}\n```",
        "```py\nx = '{}'\n```",
        "```{}\nx\n```",
        "<think>{}</think>said",
    ),
    *(
        "[/INST] {} list[int]",
        "[bold red]{}[/bold red]",
        "[link=http://x]{}[/link]",
        "<s>{}</s>",
        "{}\n---\n{}",
        "\\{}\\*",
    ),
)
EVERYTHING = list(itertools.product(OPENINGS, BODIES, ENDINGS, WRAPS))
STRINGS = [
    wrap.replace("{}", opening + body + ending)
    for opening, body, ending, wrap in random.Random(7).sample(EVERYTHING, 1500)
]


def splits(text: str, every: bool) -> Iterator[tuple[str, str]]:
    points = range(len(text) + 1) if every else [len(text) // 2, text.find("\x1b") + 1]
    return ((text[:at], text[at:]) for at in points)


def answered(options: dict[str, bool]) -> Callable[[Console, Screen, str, str], None]:
    def show(console: Console, screen: Screen, left: str, right: str) -> None:
        with Answer(console, **options) as page:
            page.push(left)
            page.push(right)

    return show


SINKS: dict[str, Callable[[Console, Screen, str, str], Any]] = {
    "Markdown": answered({"markdown": True}),
    "plain": answered({"markdown": False}),
    "hidden thoughts": answered({"markdown": True, "hidden": True}),
    "a line of ours": lambda console, screen, left, right: screen.say(left + right),
    "a failure": lambda console, screen, left, right: screen.fail(f"cannot read {left}{right}"),
    "a table": lambda console, screen, left, right: screen.columns([(left, right)]),
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sink", SINKS)
def test_1500_strings_reach_a_terminal_as_text(sink: str, every: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(STRINGS)) > 1450
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, highlight=False, width=80)
    monkeypatch.setattr(sys, "stdout", out)
    screen = Screen()
    screen._out = screen._err = console
    for text in STRINGS:
        for left, right in splits(text, every):
            SINKS[sink](console, screen, left, right)
    said = out.getvalue()
    assert CONTROL.findall(said) == []
    assert not any(0xD800 <= ord(letter) <= 0xDFFF or letter in "\u202e\u2066" for letter in said)
    assert len(said) > 10 * len(STRINGS)


def test_the_gate_keeps_every_visible_character() -> None:
    for text in STRINGS:
        visible = [letter for letter in text if letter.isprintable() or letter in "\n\t"]
        passed = iter(plain(text))
        assert all(letter in passed for letter in visible)
