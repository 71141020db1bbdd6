"""The process boundary: the engine may die without taking anyone along, and the next request works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_engine_llama_cpp import PLAN

from edgellm.errors import EngineCrashed, EngineFailed, PromptTooLong, SchemaUnsupported, UsageError
from edgellm.opening import Opening
from edgellm.prompt import Message, Prompt, Reply
from edgellm.sampling import Sampling
from edgellm.worker import Here, Session, Worker

OPENING = Opening(engine="scripted", paths=(), plan=PLAN, metadata={})
GREEDY = Sampling(temperature=0)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(**data: Any) -> None:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(data))
        monkeypatch.setenv("EDGELLM_SCRIPT", str(path))

    return write


@pytest.fixture
def workers() -> Iterator[Any]:
    opened: list[Worker | Here] = []

    def start(kind: type[Worker] | type[Here] = Worker) -> Any:
        worker = kind()
        opened.append(worker)
        worker.open(OPENING)
        return worker

    yield start
    for worker in opened:
        worker.close()


def prompt(text: str, sampling: Sampling = GREEDY, schema: Any = None) -> Prompt:
    return Prompt(messages=(Message("user", text),), sampling=sampling, schema=schema)


def answer(session: Session, text: str, **options: Any) -> Reply:
    number = session.submit(prompt(text, **options))
    while True:
        event = session.take()
        assert event.id == number
        if event.error:
            raise event.error
        if event.reply:
            return event.reply


def exhaust(session: Session) -> None:
    while True:
        session.take()


@pytest.mark.parametrize("kind", [Worker, Here])
def test_prompts_go_down_and_events_come_up(kind: Any, script: Any, workers: Any) -> None:
    script(rules=[{"when": "one", "say": "1️⃣"}, {"when": "two", "say": "zwei"}])
    session = workers(kind).session()
    numbers = {session.submit(prompt(text)): text for text in ("one", "two", "three")}
    texts: dict[str, str] = dict.fromkeys(numbers.values(), "")
    open_ = set(numbers)
    while open_:
        event = session.take()
        texts[numbers[event.id]] += event.text
        if event.reply:
            assert event.reply.text == texts[numbers[event.id]]
            open_.discard(event.id)
    assert texts == {"one": "1️⃣", "two": "zwei", "three": "I have nothing to say."}


@pytest.mark.parametrize("kind", [Worker, Here])
def test_a_refused_prompt_is_its_own_event_and_hurts_nobody(kind: Any, workers: Any) -> None:
    session = workers(kind).session()
    with pytest.raises(PromptTooLong) as error:
        answer(session, "x" * 10_000)
    assert error.value.context == 512
    with pytest.raises(SchemaUnsupported) as refused:
        answer(session, "x", schema={"type": "array", "uniqueItems": True})
    assert "uniqueItems" in str(refused.value)
    assert answer(session, "x").finish == "stop"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_killed_engine_is_typed_and_the_next_request_works(number: signal.Signals, script: Any, workers: Any) -> None:
    script(otherwise="slow words " * 20, step_s=0.01)
    worker = workers()
    session = worker.session()
    session.submit(prompt("hi"))
    session.take()
    start = time.monotonic()
    os.kill(worker.pid, number)
    with pytest.raises(EngineCrashed, match=number.name) as error:
        exhaust(session)
    assert time.monotonic() - start < 2
    assert (error.value.signal, error.value.phase) == (number, "generating")
    script(otherwise="back again")
    assert answer(worker.session(), "hi").text == "back again"


def test_a_crash_tells_every_session(script: Any, workers: Any) -> None:
    script(otherwise="slow words " * 20, step_s=0.01, crash_at=5)
    worker = workers()
    sessions = [worker.session() for _ in range(3)]
    for session in sessions:
        session.submit(prompt("hi"))
    for session in sessions:
        with pytest.raises(EngineCrashed, match="SIGABRT"):
            exhaust(session)


def test_closing_a_session_stops_its_answer_within_a_fifth_of_a_second(script: Any, workers: Any) -> None:
    script(rules=[{"when": "slow", "say": "word " * 100}], otherwise="done", step_s=5.0)
    worker = workers()
    session = worker.session()
    session.submit(prompt("slow"))
    time.sleep(0.3)  # inside a step of five seconds
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 0.2


def test_a_hanging_engine_is_killed_when_it_ignores_a_cancel(script: Any, workers: Any) -> None:
    script(hang_at=2)
    worker = workers()
    session = worker.session()
    session.submit(prompt("hi"))
    session.take()
    time.sleep(1.0)  # now it hangs in its second step
    session.close()
    script(otherwise="back again")
    assert answer(worker.session(), "hi").text == "back again"


def test_loading_errors_arrive_as_themselves(script: Any, tmp_path: Path) -> None:
    script(nonsense=True)
    worker = Worker()
    with pytest.raises(UsageError, match="unknown keys in the script: nonsense"):
        worker.open(OPENING)
    worker.close()
    worker = Worker()
    with pytest.raises(EngineFailed, match="could not load"):
        worker.open(Opening(engine="llama_cpp", paths=(str(tmp_path / "no.gguf"),), plan=PLAN, metadata={}))
    worker.close()


def test_a_closed_worker_says_so(workers: Any) -> None:
    worker = workers()
    worker.close()
    worker.close()
    with pytest.raises(EngineFailed, match="closed"):
        worker.session()


def test_no_orphan_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import time\nfrom test_worker import *\nworker = Worker()\nworker.open(OPENING)\n"
        "print(worker.pid, flush=True)\ntime.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker outlived its parent by two seconds")


def test_a_folder_full_of_traps_does_not_reach_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Any
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert answer(workers().session(), "hi").finish == "stop"


def test_file_descriptors_and_threads_stay_flat(script: Any) -> None:
    script(otherwise="ok")

    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = None
    for _ in range(4):
        worker = Worker()
        worker.open(OPENING)
        answer(worker.session(), "hi")
        worker.close()
        before = before or counts()
    assert counts() == before
