"""On a real pseudo-terminal: every command, the keys around them, and how long Ctrl-C keeps anybody waiting."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sitting
from sitting import CONTROL, POSIX, asked, prompted

from edgellm.repl import session, table

tiny, terminals = sitting.tiny, sitting.terminals
pytestmark = POSIX
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "chat.py"
SLOW = pytest.mark.slow

TOUR = (
    ("help", "/help read", r"/read FILE +put a text"),
    ("set", "/set max_tokens 30", r"max_tokens = 30"),
    ("system", "/system Be brief.", r"System prompt: Be brief\."),
    ("safe", "/safe on", r"The safety prompt is on\."),
    ("retry", "/retry", r"nothing to answer again"),
    ("", "Hello, who are you?", r"tokens · .*context \d+ %"),
    ("retry", "/retry", r"tokens · .*context \d+ %"),
    ("edit", "/edit Good morning!", r"tokens · .*context \d+ %"),
    ("read", "/read notes.md", r"notes\.md: 12 characters, \d+ tokens"),
    ("context", "/context", r"used +[█░]{20} .*tokens[\s\S]*system +\d+ tokens[\s\S]*attached +\d+ tokens  notes\.md"),
    ("read", "/read -", r"no file goes in"),
    ("translate", "/translate fr Good morning", r"\w+"),
    ("summarize", "/summarize 1 The train left late. The train arrived late.", r"\w+"),
    ("extract", "/extract name -- My name is Ada.", r'\{"name": '),
    ("stats", "/stats", r"answers +3: [\s\S]*tasks +\d+: "),
    ("copy", "/copy", r"copied|asked the terminal"),
    ("model", "/model", r"parameters"),
    ("show", "/show", r"vocabulary"),
    ("plan", "/plan", r"Everything runs on the processor"),
    ("save", "/save tour", r"tour: saved as it happens"),
    ("branch", "/branch aside", r"aside goes on from here; tour stays"),
    ("undo", "/undo", r"took back 1 turn; 0 turns left"),
    ("sessions", "/sessions", r"tour +[-\d]+ [:\d]+ +1 turn +Good morning!"),
    ("resume", "/resume tour", r"tour: 1 turn\.[\s\S]*> Good morning!"),
    ("export", "/export tour.md", r"tour\.md: 1 turn"),
    ("clear", "/clear", r"A new conversation\. The last one is kept: /resume tour"),
    ("", "/nosuch", r"there is no command /nosuch"),
)


@pytest.mark.parametrize("model", ["scripted", "embedded"])
def test_every_command_works_on_a_terminal(
    model: str,
    terminals: Callable[..., Any],
    script: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script(
        rules=[{"when": "Extract these fields", "say": '{"name": "Ada"}'}, {"when": "Summarize", "say": "Late."}],
        otherwise="Hello.",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no clipboard program
    Path("notes.md").write_text("Ada is here.")
    child = terminals(embedded=model == "embedded")
    for _, typed, wanted in TOUR:
        shown = asked(child, typed + "\r").split(typed, 1)[-1]
        assert re.search(wanted, shown), (typed, shown)
    child.send("/exit\r")
    child.wait()
    assert child.exitstatus == 0
    assert {name for name, _, _ in TOUR if name} | {"exit"} == set(table.COMMANDS)
    assert "# tour" in Path("tour.md").read_text()
    assert sorted(session.names(session.folder())) == ["aside", "tour"]


def test_paths_dropped_onto_the_terminal_are_read(
    terminals: Callable[..., Any], script: Callable[..., None], tmp_path: Path
) -> None:
    script(rules=[{"when": "the secret is 42", "say": "It is 42."}], otherwise="?")
    path = tmp_path / "my notes (1).md"
    path.write_text("the secret is 42")
    child = terminals()
    for dropped in (
        str(path).replace(" ", "\\ ").replace("(", "\\(").replace(")", "\\)"),
        f"'{path}'",
        path.as_uri(),
        str(path),
    ):
        assert "my notes (1).md: 16 characters" in asked(child, f"{dropped}\r"), dropped
        asked(child, "/read -\r")
    assert "It is 42." in asked(child, f"'{path}' what is it?\r")


def test_tab_completes_commands_files_and_settings(
    terminals: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes and more.md").write_text("hello")
    child = terminals()
    for typed, completed in (("/rea\t", "d"), (" no\t", "and more.md")):  # the terminal is sent what changes
        child.send(typed)
        child.expect_exact(completed)
    assert "notes and more.md: 5 characters" in asked(child, "\r")
    for typed, completed in (("/set ov\t", "flow"), (" su\t", "oldest")):
        child.send(typed)
        child.expect_exact(completed)
    assert "overflow = summarize-oldest" in asked(child, "\r")


def test_the_editor_of_choice_writes_a_message(
    terminals: Callable[..., Any], script: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "written elsewhere" > "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    script(rules=[{"when": "written elsewhere", "say": "I read it."}])
    child = terminals()
    child.send("\x18\x05")  # Ctrl-X Ctrl-E
    child.expect("written elsewhere")
    child.send("\r")
    child.expect("I read it.")


def test_hidden_thoughts_are_told_of_and_not_shown(terminals: Callable[..., Any], script: Callable[..., None]) -> None:
    script(otherwise="<think>secret plans</think>\nYes.")
    child = terminals()
    assert "secret plans" in asked(child, "hi\r")
    asked(child, "/set thoughts hidden\r")
    shown = asked(child, "and?\r")
    assert "secret" not in shown
    assert "thinking" in shown
    assert "Yes." in shown


def test_one_types_while_the_model_loads(terminals: Callable[..., Any], script: Callable[..., None]) -> None:
    script(otherwise="Hello.", open_s=1.5)
    child = terminals(loaded=False)
    child.send("typed early\r")
    shown = prompted(child)
    assert shown.index("typed early") < shown.index("parameters") < shown.index("Hello.")


# --- how long it takes, as `benchmarks/chat.py` measures it: here with bounds
# that a busy machine keeps: 10 s, 2 s; and, among the slow tests, twice what that command is held against --------------


@pytest.fixture(scope="module")
def pace() -> ModuleType:
    pytest.importorskip("pexpect")
    if not BENCHMARK.exists():
        pytest.skip("benchmarks/ is not part of an installed package")
    spec = importlib.util.spec_from_file_location("chat_benchmark", BENCHMARK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("runs", "bound_s"), [(2, 2.0), pytest.param(50, 0.4, marks=SLOW)])
def test_ctrl_c_brings_the_prompt_back_at_once(runs: int, bound_s: float, pace: ModuleType, tmp_path: Path) -> None:
    random.seed(1)
    measured = {"load": pace.load(tmp_path, runs), **pace.stop(tmp_path, runs, "-m", "demo")}
    assert set(measured) == {"load", "prefill", "decode", "grammar"}
    for phase, seconds in measured.items():
        assert len(seconds) == runs, phase
        assert pace.p95(seconds) <= bound_s, phase


@pytest.mark.parametrize(("tokens", "share"), [(900, 0.7), pytest.param(1900, 0.2, marks=SLOW)])
def test_a_resumed_conversation_answers_in_a_fraction_of_its_prefill(
    tokens: int, share: float, pace: ModuleType, tmp_path: Path
) -> None:
    full_s, restored_s, used = pace.resume(tmp_path, tokens)
    assert used >= tokens
    assert restored_s <= share * full_s


@pytest.mark.parametrize("bounds", [(10.0, 10.0), pytest.param((2.0, 1.0), marks=SLOW)])
def test_the_prompt_and_the_first_token_come_soon(bounds: tuple[float, float], pace: ModuleType) -> None:
    prompts, firsts = pace.start(1 if bounds[0] > 1 else 5)
    assert sorted(prompts)[len(prompts) // 2] <= bounds[0]
    assert sorted(firsts)[len(firsts) // 2] <= bounds[1]


def test_nothing_but_text_and_our_own_sequences_reaches_the_terminal(
    terminals: Callable[..., Any], script: Callable[..., None]
) -> None:
    script(otherwise="\x1b]0;owned\x07\x9b31m[/INST] list[int]\x1b[2J")
    child = terminals()
    child.send("hi\r")
    child.expect_exact("\x1b[?2004l")
    child.expect(r"tokens · ")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)  # colours and the cursor are ours
    assert CONTROL.findall(shown.replace("\r", "")) == []
    assert "\\x1b]0;owned\\x07\\x9b31m[/INST] list[int]\\x1b[2J" in shown
    assert sys.platform != "win32"
