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
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

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
# `-P` keeps the user's folder off the child's path; the package's own folder goes last, so that it hides nothing.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from edgellm.worker import main; main()"


class Session(Protocol):
    """A conversation with an open model: submit any number of prompts, take events until each has ended."""

    def submit(self, prompt: Prompt) -> int:
        """Send a prompt; returns the id that its events carry."""

    def take(self) -> Event:
        """Wait for the next event. Raises EngineCrashed when the engine died; its sequences are lost."""

    def close(self) -> None:
        """Cancel whatever still runs."""


class Worker:
    """A child process with an open model, started early and restarted after a death."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._lock = threading.RLock()
        self._opening: Opening | None = None
        self._child: _Child | None = _Child()  # it imports its libraries while the caller reads and plans

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
        """Begin a conversation."""
        with self._lock:
            return _PipeSession(self._alive(), self._ids)

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
            raise EngineFailed("the model is closed: load it again.")
        if self._child is None or self._child.dead:
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
        self.dead = False
        self._opened = False
        self._ready: queue.SimpleQueue[EdgeError | None] = queue.SimpleQueue()
        self._seen: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._inboxes: dict[int, queue.SimpleQueue[Event | EngineCrashed]] = {}
        self._lock = threading.Lock()
        self._words: deque[str] = deque(maxlen=20)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._overhear)]
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
        """Ask for the GPUs; a death here is an answer too."""
        self.send({"look": True})
        found: Answer = _wait(self._seen)
        return found

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line; a broken pipe is reported by the listener, which knows why."""
        line = json.dumps(message).encode() + b"\n"
        stdin = self.process.stdin
        assert stdin
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            stdin.write(line)
            stdin.flush()

    def register(self, id: int, inbox: queue.SimpleQueue[Event | EngineCrashed]) -> None:  # noqa: A002
        """Route the events of a prompt. Raises EngineCrashed when the child is already dead."""
        with self._lock:
            if not self.dead:
                self._inboxes[id] = inbox
                return
        raise self._obituary()

    def kill(self) -> None:
        """End a child that does not answer; it counts as dead from now on."""
        with self._lock:
            self.dead = True
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Close our end, wait, and release every pipe."""
        stdin = self.process.stdin
        assert stdin
        with self._lock, contextlib.suppress(OSError):
            stdin.close()  # the child leaves when it reads the end
        try:
            self.process.wait(_CANCEL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(_CANCEL_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            if "seen" in message:
                self._seen.put(_answer(message["seen"]))
            elif "ready" in message:
                self._ready.put(None)
            elif "failed" in message:
                self._ready.put(from_wire(message["failed"]))
            for event in message.get("events", ()):
                self._deliver(_event(event))
        self._bury()

    def _deliver(self, event: Event) -> None:
        over = event.reply is not None or event.error is not None
        with self._lock:
            inbox = self._inboxes.pop(event.id, None) if over else self._inboxes.get(event.id)
        if inbox:
            inbox.put(event)

    def _bury(self) -> None:
        """The pipe has ended: tell everyone who still waits."""
        self.process.wait()
        self._threads[1].join(0.5)  # its last words
        with self._lock:
            self.dead = True
            waiting, self._inboxes = set(self._inboxes.values()), {}
        self._seen.put(Answer((), None, str(self._obituary())))
        self._ready.put(self._obituary())
        for inbox in waiting:
            inbox.put(self._obituary())

    def _overhear(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if text := line.decode("utf-8", "replace").strip():
                self._words.append(text)

    def _obituary(self) -> EngineCrashed:
        code = self.process.poll()
        phase = "generating" if self._opened else "loading"
        number = -code if code is not None and code < 0 else None
        how = f"killed by {_signal_name(number)}" if number else f"exit code {code}"
        words = f" Its last words: {self._words[-1][:300]}" if self._words else ""
        return EngineCrashed(
            f"the engine died while {phase} ({how}); the next request starts a new one.{words}",
            signal=number,
            phase=phase,
        )


@dataclass(slots=True)
class _PipeSession:
    """A session with a child process."""

    _child: _Child
    _ids: Iterator[int]
    _inbox: queue.SimpleQueue[Event | EngineCrashed] = field(default_factory=queue.SimpleQueue)
    _open: set[int] = field(default_factory=set)

    def submit(self, prompt: Prompt) -> int:
        """Send a prompt."""
        number = next(self._ids)
        self._child.register(number, self._inbox)
        self._open.add(number)
        self._child.send({"ask": number, "prompt": asdict(prompt)})
        return number

    def take(self) -> Event:
        """Wait for the next event."""
        found: Event | EngineCrashed = _wait(self._inbox)
        if isinstance(found, EngineCrashed):
            self._open.clear()
            raise found
        if found.reply or found.error:
            self._open.discard(found.id)
        return found

    def close(self) -> None:
        """Cancel what runs; kill a child that does not confirm in time, so that the next request can work."""
        for number in self._open:
            self._child.send({"cancel": number})
        while self._open:
            try:
                found = self._inbox.get(timeout=_CANCEL_S)
            except queue.Empty:
                self._child.kill()
                return
            if isinstance(found, EngineCrashed):
                return
            if found.reply or found.error:
                self._open.discard(found.id)


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
        if self._service:
            self._service.close()
        self._service = None

    def submit(self, prompt: Prompt, inbox: deque[Event]) -> int:
        """Add a prompt; its failure is an event, as it is from a child."""
        number = next(self._ids)
        with self._lock:
            if self._service is None:
                raise EngineFailed("the model is closed: load it again.")
            self._inboxes[number] = inbox
            self._route(_added(self._service, number, prompt))
        return number

    def advance(self) -> None:
        """Compute one step for everyone."""
        with self._lock:
            if self._service:
                self._route(self._service.step())

    def cancel(self, id: int) -> None:  # noqa: A002
        """End a prompt early."""
        with self._lock:
            event = self._service.cancel(id) if self._service else None
            self._route([event] if event else [])

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
    _open: set[int] = field(default_factory=set)

    def submit(self, prompt: Prompt) -> int:
        """Add a prompt."""
        number = self._here.submit(prompt, self._inbox)
        self._open.add(number)
        return number

    def take(self) -> Event:
        """Compute until there is an event."""
        while not self._inbox:
            self._here.advance()
        event = self._inbox.popleft()
        if event.reply or event.error:
            self._open.discard(event.id)
        return event

    def close(self) -> None:
        """Cancel what runs."""
        for number in self._open:
            self._here.cancel(number)
        self._open.clear()


def main() -> None:
    """Run the child: read one opening, then prompts and cancels, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _no_core_dumps()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever C prints must not break the protocol
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    service: list[Service] = []
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox, service), daemon=True).start()

    from edgellm.service import Service

    message = inbox.get()
    if "look" in message:
        _write(out, {"seen": _seen(look())})
        message = inbox.get()
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
    for line in stdin:
        message = json.loads(line)
        inbox.put(message)
        if "cancel" in message and service:
            service[0].stop()
    os._exit(0)


def _added(service: Service, id: int, prompt: Prompt) -> list[Event]:  # noqa: A002
    """Add a prompt; a refusal is the event of that prompt alone."""
    try:
        service.add(id, prompt)
    except EdgeError as error:
        return [Event(id, error=error)]
    return []


def _wait(inbox: queue.SimpleQueue[Any]) -> Any:
    """Wait in short turns: on Windows a blocked lock does not see Ctrl-C."""
    while True:
        with contextlib.suppress(queue.Empty):
            return inbox.get(timeout=0.2 if sys.platform == "win32" else None)


def _write(out: IO[bytes], message: Mapping[str, Any]) -> None:
    try:
        out.write(json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)


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
    return Prompt(**{**data, "messages": messages, "sampling": Sampling(**sampling)})


def _opening(data: Mapping[str, Any]) -> Opening:
    plan = data["plan"]
    lists = {
        "tensor_overrides": tuple(map(tuple, plan["tensor_overrides"])),
        "tensor_split": tuple(plan["tensor_split"]),
        "devices": tuple(DevicePlan(**device) for device in plan["devices"]),
        "reasons": tuple(plan["reasons"]),
    }
    return Opening(**{**data, "paths": tuple(data["paths"]), "plan": Plan(**{**plan, **lists})})


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
