"""Computed prompts on the disk: what comes back is what was computed, and nothing torn, foreign or changed reaches C."""

from __future__ import annotations

import os
import random
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ggufs import write_model
from test_engine_llama_cpp import PLAN, PROMPT
from test_loop import finished, sequence

import edgellm
from edgellm import EngineCrashed, Message, Sampling, states
from edgellm.engines.base import Feed
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.engines.scripted import Script, Scripted
from edgellm.loop import Loop
from edgellm.prompt import Prompt, Reply
from edgellm.states import State

STATE = State(list(range(-3, 400)), bytearray(range(256)) * 10)
KEY = "a key"


def lent(path: Path, key: str = KEY) -> State | None:
    with states.lent(path, key) as state:
        return state


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.kv"
    size = states.write(path, KEY, STATE)
    assert size == path.stat().st_size
    assert states.peek(path, KEY) == STATE.tokens
    assert lent(path) == lent(path) == STATE
    assert [one.name for one in path.parent.iterdir()] == ["a.kv"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_states_are_private(tmp_path: Path) -> None:
    path = tmp_path / "states" / "a.kv"
    states.write(path, KEY, STATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_state_of_another_model_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.kv"
    states.write(path, "another key", STATE)
    assert states.peek(path, KEY) == []
    assert lent(path) is None
    assert lent(path, "another key") == STATE


def test_no_damage_at_any_byte_gets_through(tmp_path: Path) -> None:
    path = tmp_path / "a.kv"
    states.write(path, KEY, STATE)
    data, rng = path.read_bytes(), random.Random(1)
    ends = [*range(200), *rng.sample(range(len(data)), 30), len(data) - 1]
    for end in ends:
        for damaged in (data[:end], data[:end] + b"\0" * (len(data) - end), data[:end] + data):
            path.write_bytes(damaged)
            states.peek(path, KEY)
            assert lent(path) == (STATE if damaged == data else None)
    for _ in range(200):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        assert lent(path) in (None, STATE)  # a bit of the header may be one that says nothing, such as a blank
        if lent(path):
            assert bytes(changed).split(b"\n", 2)[2] == data.split(b"\n", 2)[2]


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0" * 5000, b"edgellm state 1\n", b"edgellm state 1\n[]\n", b"edgellm state 1\n" + b"[" * 9000]
    + [
        b'edgellm state 1\n{"key": "a key", %s}\n' % facts
        for facts in (
            b'"tokens": -1, "data_bytes": 4',
            b'"tokens": 1e400, "data_bytes": 4',
            b'"tokens": null, "data_bytes": []',
            b'"tokens": 4611686018427387904, "data_bytes": 4611686018427387904',
        )
    ],
)
def test_what_is_no_state_is_none(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "a.kv"
    path.write_bytes(junk)
    assert states.peek(path, KEY) == []
    assert lent(path) is None
    assert states.peek(tmp_path, KEY) == []
    assert lent(tmp_path / "none.kv") is None


def test_whoever_dies_of_a_state_meets_it_once(tmp_path: Path) -> None:
    path = tmp_path / "a.kv"
    states.write(path, KEY, STATE)
    with pytest.raises(MemoryError), states.lent(path, KEY):
        raise MemoryError
    assert lent(path) is None
    [left] = tmp_path.iterdir()
    os.utime(left, (1, 1))
    states.prune(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_states_used_longest_ago_make_room(tmp_path: Path) -> None:
    now = time.time()
    for age in range(6):
        path = tmp_path / f"{age}.kv"
        size = states.write(path, KEY, STATE)
        os.utime(path, (now - age, now - age))
    for name in ("talk.jsonl", "a talk about.kv.jsonl", "kivy.kv"):
        (tmp_path / name).write_text("not ours")
        os.utime(tmp_path / name, (1, 1))
    assert lent(tmp_path / "5.kv") == STATE  # used just now
    states.prune(tmp_path, 3 * size)
    others = {"talk.jsonl", "a talk about.kv.jsonl", "kivy.kv"}
    assert {path.name for path in tmp_path.iterdir()} - others == {"0.kv", "1.kv", "5.kv"}
    assert all((tmp_path / name).read_text() == "not ours" for name in others)


def test_no_other_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("not ours")
    with pytest.raises(OSError, match="not overwritten"):
        states.write(path, KEY, STATE)
    assert path.read_text() == "not ours"


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**6))
    with pytest.raises(OSError, match="no room"):
        states.write(tmp_path / "a.kv", KEY, STATE)
    assert list(tmp_path.iterdir()) == []


# --- engines and the loop ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf", layers=3, heads=2, kv_heads=1, seed=3)


@pytest.mark.parametrize(("kv_type", "flash"), [("f16", True), ("f16", False), ("q8_0", True)])
def test_a_restored_slot_computes_bit_for_bit_the_same(model: Path, kv_type: str, flash: bool) -> None:
    plan = replace(PLAN, kv_type=kv_type, flash_attention=flash)
    first, second = LlamaCpp([str(model)], plan), LlamaCpp([str(model)], plan)
    try:
        first.decode([Feed(1, PROMPT, 0)])
        state = first.save(1)
        assert second.restore(2, bytearray(state)) == len(PROMPT)
        [one], [two] = first.decode([Feed(1, [307], 1)]), second.decode([Feed(2, [307], 1)])
        np.testing.assert_array_equal(one, two)
        assert second.keep(2, 5) == 5
        assert first.likeness == second.likeness
        assert first.save(3) == bytearray()
    finally:
        first.close()
        second.close()


def test_a_state_that_llama_cpp_refuses_leaves_an_empty_slot(model: Path) -> None:
    engine = LlamaCpp([str(model)], PLAN)
    try:
        engine.decode([Feed(0, PROMPT, 0)])
        state = engine.save(0)
        assert engine.restore(0, state[: len(state) // 2]) == 0
        engine.decode([Feed(0, PROMPT, 1)])
    finally:
        engine.close()


def test_engines_that_lay_out_their_memory_differently_are_not_alike(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.gguf", layers=3, heads=2, kv_heads=1, seed=4)
    found = []
    for path, plan in (
        (model, PLAN),
        (other, PLAN),
        (model, replace(PLAN, kv_type="q8_0")),
        (model, replace(PLAN, cells=512)),
    ):
        engine = LlamaCpp([str(path)], plan)
        found.append(engine.likeness)
        engine.close()
    assert found[0] == found[3]  # how many cells there are does not matter
    assert len(set(found)) == 3


def test_a_loop_takes_over_what_another_has_computed() -> None:
    loop = Loop(Scripted(slots=2))
    loop.add(sequence(0, "a long beginning, and a question"))
    finished(loop)
    tokens = list(b"a long beginning, and another question")
    held, state = loop.slots.saved(tokens, whole=False)
    assert bytes(held) == b"a long beginning, and a"
    assert (
        bytes(loop.slots.saved(tokens[:20], whole=True)[0]) == b"a long beginning, and"[:20]
    )  # the rest is another talk
    whole, _ = loop.slots.saved(list(b"a long beginning, and a question"), whole=True)
    assert bytes(whole) == b"a long beginning, and a question" + b"I have nothing to say."
    other = Loop(Scripted(slots=2))
    assert other.slots.adopt(held, state) == len(held) == other.slots.known(tokens)
    other.add(sequence(0, "a long beginning, and another question"))
    assert finished(other)[0].shared_tokens == len(held)


def test_a_busy_loop_adopts_nothing() -> None:
    loop = Loop(Scripted(slots=1))
    loop.add(sequence(0, "busy"))
    assert loop.step()
    assert loop.slots.adopt([1, 2], bytearray(8)) == 0
    assert loop.cancel(0)
    assert loop.slots.adopt([1, 2], bytearray(8)) == 2


def test_adopting_forgets_what_was_used_longest_ago() -> None:
    engine = Scripted(Script(otherwise=""), context=64, slots=3)
    engine.cells = 100
    loop = Loop(engine)
    for text in ("first" * 8, "second" * 8):
        loop.add(sequence(0, text))
        finished(loop)
    assert (
        loop.slots.adopt(list(b"third" * 8), bytearray(np.frombuffer(b"third" * 8, np.uint8).astype("<i4").tobytes()))
        == 40
    )
    assert [loop.slots.known(list(text * 8)) for text in (b"first", b"second", b"third")] == [0, 48, 40]


# --- models -----------------------------------------------------------------------------------------------------------

SYSTEM = Message("system", "Answer in one short sentence. " * 12)
GREEDY = Sampling(temperature=0.0, max_tokens=12)


def reply(model: edgellm.Model, *messages: Message, saved: tuple[Path, ...] = ()) -> Reply:
    [found] = model.ask([Prompt(messages=messages, sampling=GREEDY, saved=tuple(map(str, saved)))])
    return found


def test_a_conversation_goes_on_in_another_process_without_computing_it_again(tmp_path: Path) -> None:
    talk, system = tmp_path / "talk.kv", tmp_path / "system.kv"
    asked = (SYSTEM, Message("user", "Who are you?"))
    with edgellm.load("demo", slots=2) as model:
        said = reply(model, *asked)
        kept = model.keep(asked, talk)
        assert kept >= said.prompt_tokens
        alone = model.keep([SYSTEM], system)
        assert 64 < alone < said.prompt_tokens
        more = (*asked, Message("assistant", said.text), Message("user", "What is the capital of France?"))
        here = reply(model, *more)
    with edgellm.load("demo", slots=2) as model:
        there = reply(model, *more, saved=(system, tmp_path / "none.kv", talk))
        assert there.text == here.text
        assert there.shared_tokens == here.shared_tokens >= kept - 1
        assert (
            reply(model, *more, saved=(talk,)).shared_tokens == there.prompt_tokens - 1
        )  # memory is nearer than the disk
    with edgellm.load("demo", slots=2) as model:
        fresh = reply(model, SYSTEM, Message("user", "Good morning!"), saved=(system,))
        assert fresh.shared_tokens == alone
    with edgellm.load("demo", slots=2) as model:
        assert reply(model, SYSTEM, Message("user", "Good morning!")).text == fresh.text
        assert model.keep([Message("user", "never asked")], tmp_path / "nothing.kv") == 0
    assert not (tmp_path / "nothing.kv").exists()


def test_a_state_that_kills_the_engine_is_never_tried_again(tmp_path: Path, script: Callable[..., None]) -> None:
    talk = tmp_path / "talk.kv"
    asked = (SYSTEM, Message("user", "hi"))
    with edgellm.load("demo", engine="scripted") as model:
        reply(model, *asked)
        assert model.keep(asked, talk) > 300
    script(crash_restoring=True)
    with edgellm.load("demo", engine="scripted") as model:
        with pytest.raises(EngineCrashed):
            reply(model, *asked, saved=(talk,))
        assert not talk.exists()
        assert reply(model, *asked, saved=(talk,)).text == "I have nothi"


def test_keeping_where_nothing_can_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    asked = (SYSTEM, Message("user", "hi"))
    with edgellm.load("demo", engine="scripted") as model:
        reply(model, *asked)
        with pytest.raises(edgellm.EngineFailed, match="could not be kept"):
            model.keep(asked, tmp_path / "file" / "a.kv")
        assert reply(model, *asked).text
