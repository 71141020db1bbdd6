"""A chat goes on where it ended, at once: what was computed is kept beside the conversation, and costs nothing when lost."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sitting
from sitting import Sitting, arguments

from edgellm import states
from edgellm.repl import session
from edgellm.repl.session import Transcript, Turn

tiny, sit = sitting.tiny, sitting.sit
LONG = "a long question " * 30


def kept(folder: Path | None = None) -> list[str]:
    return sorted(path.name for path in (folder or session.folder()).glob("*.kv"))


def shared(done: Sitting) -> int:
    found = re.search(r"(\d+) % of them already computed", done.err)
    assert found
    return int(found[1])


def test_a_resumed_conversation_is_not_computed_again(sit: Callable[..., Sitting]) -> None:
    sit(f"/save talk\n{LONG}\n")
    assert kept() == ["talk.kv"]
    assert shared(sit("and then?\n/stats\n", resume="talk")) > 80
    (session.folder() / "talk.kv").unlink()
    assert shared(sit("and then?\n/stats\n", resume="talk")) == 0


def test_short_conversations_and_no_history_leave_no_state(sit: Callable[..., Sitting], private_home: Path) -> None:
    sit("hi\n")
    assert kept() == []
    sit(f"{LONG}\n", history=False, system="be brief " * 60)
    assert list(private_home.rglob("*.kv")) == []


def test_a_damaged_state_costs_time_and_nothing_else(sit: Callable[..., Sitting]) -> None:
    sit(f"/save talk\n{LONG}\n")
    file = session.folder() / "talk.kv"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = sit("and then?\n/stats\n", resume="talk")
    assert (done.out.count("I have nothing to say."), done.code) == (2, 0)
    assert shared(done) == 0


@pytest.mark.parametrize("apart", [True])
def test_an_engine_that_dies_of_a_state_is_asked_again_without_it(
    apart: bool, sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    sit(f"/save talk\n{LONG}\n")
    script(otherwise="Hello", crash_restoring=True)
    done = sit("and then?\n", resume="talk", apart=apart)
    assert done.out.endswith("Hello\n")
    assert "died of what was kept on the disk" in done.err
    assert done.code == 0


def test_a_long_system_prompt_is_computed_once_for_all_conversations(sit: Callable[..., Sitting]) -> None:
    system = "Answer like a pirate who has read a lot. " * 12
    sit("hi\n", system=system)
    assert len(kept(states.folder())) == 1
    assert shared(sit("how are you?\n/stats\n", system=system)) > 80
    assert shared(sit("how are you?\n/stats\n", system="x" + system)) < 20


def test_what_is_kept_follows_names_and_goes_with_its_conversation(sit: Callable[..., Sitting]) -> None:
    sit(f"/save one\n{LONG}\n/clear\n{LONG} again\n/save two\n")
    assert kept() == ["one.kv", "two.kv"]
    session.resume(session.folder(), "one").rename("three")
    assert kept() == ["three.kv", "two.kv"]
    (session.folder() / "two.jsonl").unlink()
    sit(f"{LONG} more\n", resume="three")
    assert kept() == ["three.kv"]


def test_the_oldest_turns_are_summarized_when_someone_wants_that(
    sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(
        rules=[
            {"when": "Summarize", "say": "They spoke of numbers."},
            {"when": "in short: They spoke", "say": "I recall."},
        ],
        otherwise="no summary",
    )
    lines = "".join(f"question number {number} {'x' * 60}\n" for number in range(8))
    done = sit(f"/set overflow summarize-oldest\n/save talk\n{lines}/context\n", context=700, system="BE BRIEF")
    assert "summarized the oldest turns to make room" in done.err
    assert "with a summary of what was dropped" in done.err
    assert done.out.endswith("I recall.\n")
    again = session.resume(session.folder(), "talk")
    assert again.digest == "They spoke of numbers."
    assert 0 < again.digested < len(again.turns) == 8
    assert "I recall." in sit("once more\n", resume="talk", context=700).out
    again.undo(8)
    assert (again.digest, again.digested) == ("", 0)


def test_a_digest_survives_the_disk_and_a_branch(tmp_path: Path) -> None:
    talk = Transcript(tmp_path, name="one")
    for number in range(3):
        talk.ask(f"{number}")
        talk.answer(Turn("", "a"))
    talk.shorten("what was said", 2)
    for again in (session.resume(tmp_path, "one"), talk.branch("two"), session.resume(tmp_path, "two")):
        assert (again.digest, again.digested, len(again.turns)) == ("what was said", 2, 3)
    again.undo(2)
    assert again.digested == 0


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9_while_states_are_written_costs_time_at_most(
    kills: int, tiny: Path, sit: Callable[..., Sitting], script: Callable[..., None]
) -> None:
    script(otherwise="Hello there.")
    rng = random.Random(kills)
    for _ in range(kills):
        command = [sys.executable, *arguments(tiny)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as chat:
            assert chat.stdin
            assert chat.stderr
            chat.stdin.write(b"".join(b"question %d %s\n" % (number, b"x" * 150 * number) for number in range(6)))
            chat.stdin.flush()
            for line in chat.stderr:
                if b"tokens/s" in line:
                    break
            time.sleep(rng.uniform(0, 0.1))
            chat.kill()
        before = len(session.resume(session.folder()).turns)
        assert before >= 1
        done = sit("and now?\n/stats\n", resume="")
        assert done.out.endswith("Hello there.\n")
        assert len(session.resume(session.folder()).turns) == before + 1
        for path in session.folder().iterdir():
            path.unlink()
