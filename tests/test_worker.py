"""The process boundary: the engine may die without taking anyone along, and the next request works."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_engine_llama_cpp import PLAN

from edgellm.errors import EngineCrashed, EngineFailed, PromptTooLong, SchemaUnsupported, UsageError
from edgellm.here import Here
from edgellm.loading import load
from edgellm.opening import Opening
from edgellm.prompt import Message, Prompt, Reply
from edgellm.sampling import Sampling
from edgellm.session import Session
from edgellm.spawn import _BOOT, longest_step_s
from edgellm.worker import Worker

OPENING = Opening(engine="scripted", paths=(), plan=PLAN, metadata={})
GREEDY = Sampling(temperature=0)
ROOT = Path(__file__).parent.parent


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


def test_an_engine_that_hangs_is_typed_without_anybody_cancelling(
    script: Any, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(hang_at=3)
    monkeypatch.setenv("EDGELLM_HANG_S", "0.5")
    worker = workers()
    with pytest.raises(EngineCrashed, match=r"no step ended within 0\.5 s: the engine hangs"):
        answer(worker.session(), "hi")
    script(otherwise="back again")
    monkeypatch.setenv("EDGELLM_HANG_S", "60")
    assert answer(worker.session(), "hi").text == "back again"


@pytest.mark.parametrize(("text", "seconds"), [("", 600.0), ("5", 5.0), ("0", 0.0)])
def test_the_longest_step_is_read_from_the_environment(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELLM_HANG_S", text)
    assert longest_step_s() == seconds


@pytest.mark.parametrize("kind", [Worker, Here])
def test_a_turn_that_somebody_waits_for_overtakes_a_batch(kind: Any, script: Any, workers: Any) -> None:
    script(rules=[{"when": "chat", "say": "at once"}], otherwise="in due time " * 3, step_s=0.002)
    worker = workers(kind)
    session = worker.session()
    batch = {session.submit(prompt(f"row {number}")) for number in range(12)}
    chat = session.submit(replace(prompt("chat"), priority=1))
    order: list[int] = []
    while len(order) < 13:
        event = session.take()
        if event.reply:
            assert event.reply.text == ("at once" if event.id == chat else "in due time " * 3)
            order.append(event.id)
    assert order[0] == chat
    assert set(order[1:]) == batch


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
    assert gone(child, 2), "the worker outlived its parent by two seconds"


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


def test_a_parent_killed_in_the_middle_of_a_line_leaves_no_orphan() -> None:
    child = subprocess.Popen([sys.executable, "-c", _BOOT, str(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert child.stdin
    child.stdin.write(b'{"ask": 1, "prompt": {"messages": [')
    child.stdin.close()
    try:
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()


def test_a_start_up_script_that_prints_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Any
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('welcome')\nprint(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert answer(workers().session(), "hi").finish == "stop"


@pytest.mark.parametrize("kind", [Worker, Here])
def test_closing_wakes_who_waits_and_spares_the_engine(kind: Any, script: Any, workers: Any) -> None:
    script(rules=[{"when": "slow", "say": "word " * 100}], otherwise="done", step_s=0.3)
    worker = workers(kind)
    for _ in range(4):
        session, ends = worker.session(), list[BaseException]()
        session.submit(prompt("slow"))
        taker = threading.Thread(target=lambda one=session, ends=ends: ends.append(failure(one)))
        taker.start()
        time.sleep(0.1)
        pid, start = worker.pid, time.monotonic()
        session.close()
        taker.join(10)
        assert time.monotonic() - start < 1.5
        assert [type(end) for end in ends] == [EngineFailed]
    assert answer(worker.session(), "hi", sampling=Sampling(temperature=0, max_tokens=2)).text == "do"
    assert worker.pid == pid


def failure(session: Session) -> BaseException:
    try:
        exhaust(session)
    except EngineFailed as error:
        return error
    raise AssertionError


def test_every_take_after_a_crash_raises_it_again(script: Any, workers: Any) -> None:
    script(crash_at=1)
    session = workers().session()
    session.submit(prompt("hi"))
    for _ in range(3):
        with pytest.raises(EngineCrashed, match="SIGABRT"):
            session.take()
    with pytest.raises(EngineCrashed, match="SIGABRT"):
        session.submit(prompt("hi"))


def test_a_model_closed_while_it_answers_says_so(script: Any, workers: Any) -> None:
    script(otherwise="slow words " * 20, step_s=0.05)
    worker = workers()
    session = worker.session()
    session.submit(prompt("hi"))
    session.take()
    worker.close()
    with pytest.raises(EngineFailed, match="the model is closed") as error:
        exhaust(session)
    assert not isinstance(error.value, EngineCrashed)


def test_drivers_that_hang_are_an_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgellm.worker._LOOK_S", 0.2)
    worker = Worker()
    assert worker.pid
    os.kill(worker.pid, signal.SIGSTOP)
    found = worker.devices()
    assert (found.devices, found.offload) == ((), None)
    assert "did not answer within 0.2 s" in found.note
    worker.open(OPENING)
    assert answer(worker.session(), "hi").finish == "stop"
    worker.close()


def test_asking_and_closing_never_wait_for_a_child_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, workers: Any
) -> None:
    monkeypatch.setattr("edgellm.worker._CANCEL_S", 0.2)
    worker = workers()
    session = worker.session()
    os.kill(worker.pid, signal.SIGSTOP)
    start = time.monotonic()
    for _ in range(4):
        session.submit(prompt("x" * 1_000_000))
    session.close()
    assert time.monotonic() - start < 5
    assert answer(worker.session(), "hi").finish == "stop"


def test_a_forgotten_worker_ends_its_child_but_not_under_a_session() -> None:
    worker = Worker()
    worker.open(OPENING)
    pid, session = worker.pid, worker.session()
    del worker
    assert answer(session, "hi").finish == "stop"
    del session
    gc.collect()
    assert pid
    assert gone(pid, 30)


def gone(pid: int, longest_s: float) -> bool:
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_load_its_own(workers: Any) -> None:
    worker = workers()
    pid = os.fork()
    if not pid:
        try:
            worker.session()
        except EngineFailed as error:
            os._exit(7 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert answer(worker.session(), "hi").finish == "stop"


def test_a_program_that_ends_without_closing_ends_in_silence(script: Any) -> None:
    script(otherwise="slow words " * 20, step_s=0.05)
    program = (
        "from test_worker import *\nworker = Worker()\nworker.open(OPENING)\n"
        "session = worker.session()\nsession.submit(prompt('hi'))\nsession.take()"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("mishap", [RecursionError("too deep"), MemoryError("too much"), KeyError("odd")])
def test_a_prompt_that_breaks_its_preparation_hurts_nobody_else(
    mishap: Exception, monkeypatch: pytest.MonkeyPatch, workers: Any
) -> None:
    worker = workers(Here)

    def broken(*_: object) -> None:
        raise mishap

    with monkeypatch.context() as broken_template:
        broken_template.setattr("edgellm.template.encode", broken)
        with pytest.raises(EngineFailed, match=type(mishap).__name__):
            answer(worker.session(), "hi")
    assert answer(worker.session(), "hi").finish == "stop"


def test_a_bug_in_the_child_is_named_by_its_last_words() -> None:
    worker = Worker()
    with pytest.raises(EngineCrashed, match=r"loading \(exit code 1\).*TypeError"):
        worker.open(replace(OPENING, plan=replace(PLAN, slots=None)))  # type: ignore[arg-type]
    worker.close()


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("text", ["abc", "-1", "inf", "nan"])
def test_a_limit_that_is_no_number_of_seconds_is_refused(
    text: str, in_process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELLM_HANG_S", text)
    with pytest.raises(UsageError, match="EDGELLM_HANG_S is a number of seconds"):
        load("demo", in_process=in_process)


@pytest.mark.parametrize(
    ("entry", "unread"),
    [
        # The parent, until the model is open: most loads need no hub, no adapter, no task.
        (
            "loading, worker, route, model",
            "numpy jinja2 asyncio edgellm.hub edgellm.adapter edgellm.rows edgellm.tasks",
        ),
        # The child, until it says which GPUs there are: it then begins to load, and reads the rest meanwhile.
        ("child", "numpy jinja2 subprocess edgellm.service edgellm.loop edgellm.plan edgellm.gguf edgellm.adapter"),
    ],
    ids=["parent", "child"],
)
def test_neither_process_reads_code_that_a_start_does_not_need(entry: str, unread: str) -> None:
    rooms = ", ".join(f"edgellm.{name.strip()}" for name in entry.split(","))
    code = f"import sys, {rooms}\nprint(sorted(set({unread.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
