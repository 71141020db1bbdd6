"""The process boundary: prompts go down as JSON lines, events come up; one child per open model.

The C library may crash without taking the user with it: a dead child is `EngineCrashed`, and the next request starts a new
one. The child is started with `subprocess` (a user's script needs no `__main__` guard) and ends when our end of its pipe
closes, however we died. Nothing of C, and no numpy, is ever loaded on this side.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from edgellm.adapter import Choice
from edgellm.engines.devices import Answer, look
from edgellm.errors import EdgeError, EngineCrashed, EngineFailed, from_wire, to_wire
from edgellm.hardware import Device
from edgellm.opening import Opening
from edgellm.plan import DevicePlan, Plan
from edgellm.prompt import Event, Message, Prompt, Reply
from edgellm.sampling import Sampling

if TYPE_CHECKING:
    from edgellm.service import Service

# A child that does not confirm a cancel within this time hangs inside C, and is killed.
_CANCEL_S = 2.0
_LOOK_S = 30.0  # a cold CUDA driver can take ten seconds to wake; a broken one never does
_CLOSED = "the model is closed: load it again."
_OVER = "this session is closed: begin another."
# `-P` keeps the user's folder off the child's path; the package's own folder goes last, so that it hides nothing.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from edgellm.worker import main; main()"


class Session(Protocol):
    """A conversation with an open model: submit any number of prompts, take events until each has ended."""

    def submit(self, prompt: Prompt) -> int:
        """Send a prompt; returns the id that its events carry."""

    def take(self) -> Event:
        """Wait for the next event.

        Raises EngineCrashed when the engine died, its sequences being lost, and EngineFailed when the session or the
        model was closed; then every later call raises it again.
        """

    def close(self) -> None:
        """Cancel whatever still runs, and wake whoever waits; may be called twice, and from another thread."""


class Worker:
    """A child process with an open model, started early, restarted after a death, ended when nobody holds it any more."""

    def __init__(self) -> None:
        self.ids = itertools.count()
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._opening: Opening | None = None
        self._child: _Child | None = None
        self._child = _Child()  # it imports its libraries while the caller reads and plans

    def __del__(self) -> None:
        if self._child:
            self._child.leave()

    def open(self, opening: Opening) -> None:
        """Load the model; returns when it is ready. Raises what the loading raised."""
        with self._lock:
            self._opening = opening
            self._alive()

    def devices(self) -> Answer:
        """Ask the installed llama.cpp, in the child that will load the model, which GPUs it can use."""
        assert self._child
        return self._child.look()

    def session(self) -> Session:
        """Begin a conversation. Raises EngineFailed when the model is closed, or was loaded before a fork."""
        if os.getpid() != self._owner:
            raise EngineFailed("the model was loaded before this process was forked: load it here.")
        with self._lock:
            return _PipeSession(self, self._alive())

    def close(self) -> None:
        """End the child."""
        with self._lock:
            if self._child:
                self._child.end()
            self._child = self._opening = None

    @property
    def pid(self) -> int | None:
        """Process id of the child, for those who watch it."""
        return self._child.process.pid if self._child else None

    def _alive(self) -> _Child:
        if self._opening is None:
            raise EngineFailed(_CLOSED)
        if self._child is None or self._child.death:
            if self._child:
                self._child.end()
            self._child = _Child()
        try:
            self._child.open(self._opening)
        except BaseException:
            self._child.end()
            raise
        return self._child


class _Child:
    """One run of the child process, from spawn to death."""

    def __init__(self) -> None:
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # ggml forks a debugger on failure by default: slow, and its frames can show prompt text.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            # Ctrl-C belongs to us: the child must outlive it.
            **_own_group(),
        )
        self.death: EngineFailed | None = None  # why, once it is certain
        self._opened = False
        self._ready: queue.SimpleQueue[EdgeError | None] = queue.SimpleQueue()
        self._seen: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._inboxes: dict[int, _Inbox] = {}
        self._lock = threading.Lock()
        self._words: deque[str] = deque(maxlen=20)
        works = (self._overhear, self._listen, self._speak)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def open(self, opening: Opening) -> None:
        """Load the model once; later calls return at once."""
        if self._opened:
            return
        self.send({"open": asdict(opening)})
        failure = _wait(self._ready)
        if failure:
            raise failure
        self._opened = True

    def look(self) -> Answer:
        """Ask for the GPUs; a death here is an answer too, and so is silence."""
        self.send({"look": True})
        try:
            found: Answer = _wait(self._seen, _LOOK_S)
        except queue.Empty:
            silence = f"llama.cpp was asked for its GPUs and did not answer within {_LOOK_S:g} s."
            self.kill(silence)
            return Answer((), None, silence)
        return found

    def ask(self, id: int, prompt: Prompt, inbox: _Inbox) -> None:  # noqa: A002
        """Send a prompt whose events go to `inbox`. Raises what the child died of, if it did."""
        line = _line({"ask": id, "prompt": asdict(prompt)})
        with self._lock:
            if self.death:
                raise self.death
            self._inboxes[id] = inbox
        self._lines.put(line)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one line, without waiting for a pipe that is full; a broken one is reported by the listener."""
        self._lines.put(_line(message))

    def divert(self, inbox: _Inbox, other: _Inbox) -> set[int]:
        """Send to `other` what was to come to `inbox`; returns the ids that have not ended yet."""
        with self._lock:
            moved = {id for id, one in self._inboxes.items() if one is inbox}  # noqa: A001
            self._inboxes.update(dict.fromkeys(moved, other))
        return moved

    def kill(self, how: str) -> None:
        """End a child that does not answer; it counts as dead from now on."""
        with self._lock:
            self.death = self.death or self._obituary(how)
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Close our end, when all is said: the child leaves when it reads the end. Does not wait for that."""
        self._lines.put(None)

    def end(self) -> None:
        """Close our end, and wait until nothing is left of the child; takes 2 s at most."""
        with self._lock:
            self.death = self.death or EngineFailed(_CLOSED)
        self.leave()
        try:
            self.process.wait(_CANCEL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(_CANCEL_S)

    # One thread per pipe, which also closes it.

    def _speak(self) -> None:
        """Write line by line: whoever asks never waits for a full pipe, and no Ctrl-C cuts a line in two."""
        assert self.process.stdin
        with contextlib.suppress(OSError), self.process.stdin as pipe:
            for line in iter(self._lines.get, None):
                pipe.write(line)
                pipe.flush()

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout as pipe:
            for line in pipe:
                self._hear(line)
        self._bury()

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):  # a start-up script's print, or a line that death cut short
            return
        if "seen" in message:
            self._seen.put(_answer(message["seen"]))
        elif "ready" in message:
            self._ready.put(None)
        elif "failed" in message:
            self._ready.put(from_wire(message["failed"]))
        for event in message.get("events", ()):
            self._deliver(_event(event))

    def _deliver(self, event: Event) -> None:
        over = event.reply is not None or event.error is not None
        with self._lock:
            inbox = self._inboxes.pop(event.id, None) if over else self._inboxes.get(event.id)
        if inbox:
            inbox.put(event)

    def _bury(self) -> None:
        """The pipe has ended: tell everyone who still waits."""
        self.process.wait()
        self._threads[0].join(0.5)  # its last words
        with self._lock:
            self.death = death = self.death or self._obituary()
            waiting, self._inboxes = set(self._inboxes.values()), {}
        self.leave()
        self._seen.put(Answer((), None, str(death)))
        self._ready.put(death)
        for inbox in waiting:
            inbox.put(death)

    def _overhear(self) -> None:
        assert self.process.stderr
        with self.process.stderr as pipe:
            for line in pipe:
                if text := line.decode("utf-8", "replace").strip():
                    self._words.append(text)

    def _obituary(self, how: str = "") -> EngineCrashed:
        code = self.process.poll()
        phase = "generating" if self._opened else "loading"
        number = -code if code is not None and code < 0 else None
        how = how or (f"killed by {_signal_name(number)}" if number else f"exit code {code}")
        cure = "; the next request starts a new one." if self._opened else "."
        words = f" Its last words: {self._words[-1][:300]}" if self._words else ""
        return EngineCrashed(f"the engine died while {phase} ({how}){cure}{words}", signal=number, phase=phase)


_Inbox: TypeAlias = "queue.SimpleQueue[Event | EngineFailed]"


@dataclass(slots=True, eq=False)
class _PipeSession:
    """A session with a child process."""

    _worker: Worker  # held, because a worker that nobody holds ends its child
    _child: _Child
    _inbox: _Inbox = field(default_factory=queue.SimpleQueue)

    def submit(self, prompt: Prompt) -> int:
        """Send a prompt."""
        number = next(self._worker.ids)
        self._child.ask(number, prompt, self._inbox)
        return number

    def take(self) -> Event:
        """Wait for the next event."""
        found: Event | EngineFailed = _wait(self._inbox)
        if isinstance(found, EngineFailed):
            self._inbox.put(found)  # for the next call, and for others who wait
            raise found
        return found

    def close(self) -> None:
        """Cancel what runs; kill a child that does not confirm in time, so that the next request can work."""
        ends: _Inbox = queue.SimpleQueue()  # our own, so that nobody who waits takes a confirmation away
        running = self._child.divert(self._inbox, ends)
        self._inbox.put(EngineFailed(_OVER))
        for number in running:
            self._child.send({"cancel": number})
        while running:
            try:
                found: Event | EngineFailed = _wait(ends, _CANCEL_S)
            except queue.Empty:
                self._child.kill(f"it did not confirm a cancel within {_CANCEL_S:g} s, and was killed")
                return
            if isinstance(found, EngineFailed):
                return
            if found.reply or found.error:
                running.discard(found.id)


class Here:
    """The same service in this process: for tests, profiles, and those who accept that C may take them along."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._service: Service | None = None
        self._inboxes: dict[int, deque[Event]] = {}

    pid = None

    def devices(self) -> Answer:
        """Ask the installed llama.cpp which GPUs it can use."""
        return look()

    def open(self, opening: Opening) -> None:
        """Load the model."""
        from edgellm.service import Service

        self._service = Service(opening)

    def session(self) -> Session:
        """Begin a conversation."""
        return _NearSession(self)

    def close(self) -> None:
        """Free the model."""
        self._interrupt()
        with self._lock:
            if self._service:
                self._service.close()
            self._service = None

    def submit(self, prompt: Prompt, inbox: deque[Event]) -> int:
        """Add a prompt; its failure is an event, as it is from a child."""
        number = next(self._ids)
        with self._lock:
            service = self._opened()
            self._inboxes[number] = inbox
            self._route(_added(service, number, prompt))
        return number

    def advance(self) -> None:
        """Compute one step for everyone."""
        with self._lock:
            self._route(self._opened().step())

    def cancel(self, id: int) -> None:  # noqa: A002
        """End a prompt early."""
        self._interrupt()
        with self._lock:
            event = self._service.cancel(id) if self._service else None
            self._route([event] if event else [])

    def _opened(self) -> Service:
        if self._service is None:
            raise EngineFailed(_CLOSED)
        return self._service

    def _interrupt(self) -> None:
        """Make whoever computes a step let go of the lock soon."""
        if service := self._service:
            service.stop()

    def _route(self, events: list[Event]) -> None:
        for event in events:
            over = event.reply is not None or event.error is not None
            inbox = self._inboxes.pop(event.id) if over else self._inboxes[event.id]
            inbox.append(event)


@dataclass(slots=True)
class _NearSession:
    """A session with the service in this process; whoever waits computes for all."""

    _here: Here
    _inbox: deque[Event] = field(default_factory=deque)
    _running: set[int] = field(default_factory=set)
    _closed: bool = False

    def submit(self, prompt: Prompt) -> int:
        """Add a prompt."""
        number = self._here.submit(prompt, self._inbox)
        self._running.add(number)
        return number

    def take(self) -> Event:
        """Compute until there is an event."""
        while not self._closed:
            if self._inbox:
                event = self._inbox.popleft()
                if event.reply or event.error:
                    self._running.discard(event.id)
                return event
            self._here.advance()
        raise EngineFailed(_OVER)

    def close(self) -> None:
        """Cancel what runs."""
        self._closed = True
        for number in tuple(self._running):
            self._here.cancel(number)


def main() -> None:
    """Run the child: read one opening, then prompts and cancels, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _no_core_dumps()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C prints must not break the protocol
    try:
        _live(out)
    except BaseException:
        traceback.print_exc()  # its last line is what the parent quotes
        sys.stderr.flush()
        os._exit(1)  # without the interpreter's farewell, which would abort over the reading thread's lock on stdin


def _live(out: IO[bytes]) -> None:
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    service: list[Service] = []
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox, service), daemon=True).start()

    from edgellm.service import Service

    while "look" in (message := inbox.get()):
        _write(out, {"seen": _seen(look())})
    try:
        service.append(Service(_opening(message["open"])))
    except EdgeError as error:
        _write(out, {"failed": to_wire(error)})
        os._exit(1)
    _write(out, {"ready": True})
    _serve(service[0], inbox, out)


def _serve(service: Service, inbox: queue.SimpleQueue[dict[str, Any]], out: IO[bytes]) -> None:
    while True:
        events: list[Event] = []
        while (service.idle and not events) or not inbox.empty():
            message = inbox.get()
            if "ask" in message:
                events += _added(service, message["ask"], _prompt(message["prompt"]))
            elif event := service.cancel(message["cancel"]):
                events.append(event)
        if not service.idle:
            events += service.step()
        if events:
            _write(out, {"events": [_describe(event) for event in events]})


def _read(stdin: IO[bytes], inbox: queue.SimpleQueue[dict[str, Any]], service: list[Service]) -> None:
    """Read the parent's lines; a cancel also interrupts the running step. The end of the pipe ends the process at once."""
    try:
        for line in stdin:
            message = json.loads(line)
            inbox.put(message)
            if "cancel" in message and service:
                service[0].stop()
    finally:  # also after half a line, the last word of a parent that was killed
        os._exit(0)


def _added(service: Service, id: int, prompt: Prompt) -> list[Event]:  # noqa: A002
    """Add a prompt; a refusal is the event of that prompt alone, and so is a count."""
    try:
        event = service.add(id, prompt)
    except EdgeError as error:
        return [Event(id, error=error)]
    except Exception as error:  # nothing is computed yet: what only this prompt provokes must not hurt the others
        mishap = f"the prompt could not be prepared ({type(error).__name__}: {error})."
        return [Event(id, error=EngineFailed(mishap))]
    return [event] if event else []


def _wait(inbox: queue.SimpleQueue[Any], longest_s: float = float("inf")) -> Any:
    """Wait in short turns: on Windows a blocked lock does not see Ctrl-C. Raises queue.Empty when time is up."""
    until = time.monotonic() + longest_s
    turn_s = 0.2 if sys.platform == "win32" else 3600.0
    while (left_s := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            return inbox.get(timeout=min(turn_s, left_s))
    raise queue.Empty


def _write(out: IO[bytes], message: Mapping[str, Any]) -> None:
    try:
        out.write(_line(message))
        out.flush()
    except BrokenPipeError:
        os._exit(0)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _seen(answer: Answer) -> dict[str, Any]:
    return {**answer._asdict(), "devices": [asdict(device) for device in answer.devices]}


def _answer(data: Mapping[str, Any]) -> Answer:
    return Answer(tuple(Device(**device) for device in data["devices"]), data["offload"], data["note"])


def _describe(event: Event) -> dict[str, Any]:
    error = event.error
    return {
        "id": event.id,
        "text": event.text,
        "reply": asdict(event.reply) if event.reply else None,
        "error": to_wire(error) if isinstance(error, EdgeError) else None,
    }


def _event(data: Mapping[str, Any]) -> Event:
    reply, error = data["reply"], data["error"]
    return Event(data["id"], data["text"], Reply(**reply) if reply else None, from_wire(error) if error else None)


def _prompt(data: Mapping[str, Any]) -> Prompt:
    sampling = {**data["sampling"], "stop": tuple(data["sampling"]["stop"])}
    messages = tuple(Message(**message) for message in data["messages"])
    return Prompt(**{**data, "messages": messages, "sampling": Sampling(**sampling), "saved": tuple(data["saved"])})


def _opening(data: Mapping[str, Any]) -> Opening:
    plan = data["plan"]
    lists = {
        "tensor_overrides": tuple(map(tuple, plan["tensor_overrides"])),
        "tensor_split": tuple(plan["tensor_split"]),
        "devices": tuple(DevicePlan(**device) for device in plan["devices"]),
        "reasons": tuple(plan["reasons"]),
    }
    adapters = tuple(Choice(**one) for one in data["adapters"])
    costs = {int(width): seconds for width, seconds in data["costs"].items()}
    changes = {"paths": tuple(data["paths"]), "plan": Plan(**{**plan, **lists}), "adapters": adapters, "costs": costs}
    return Opening(**{**data, **changes})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}


def _no_core_dumps() -> None:
    """Prompts must not end up in a core file."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
