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
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from edgellm import spawn, wire
from edgellm.errors import EdgeError, EngineCrashed, EngineFailed, from_wire
from edgellm.machine import Answer
from edgellm.opening import Opening
from edgellm.session import CLOSED, OVER, Session

if TYPE_CHECKING:
    from edgellm.prompt import Event, Prompt

# A child that does not confirm a cancel within this time hangs inside C, and is killed.
_CANCEL_S = 2.0
_LOOK_S = 30.0  # a cold CUDA driver can take ten seconds to wake; a broken one never does


class Worker:
    """A child process with an open model, restarted after a death, ended when nobody holds it any more."""

    def __init__(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Take a process that `spawn` has started, or start one."""
        self.ids = itertools.count()
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._opening: Opening | None = None
        self._child: _Child | None = None
        self._child = _Child(process)
        self._child.send({"look": True})  # it loads its libraries while the caller reads and plans

    def __del__(self) -> None:
        if self._child:
            self._child.leave()

    def open(self, opening: Opening) -> None:
        """Load the model; returns when it is ready. Raises what the loading raised."""
        with self._lock:
            self._opening = opening
            self._alive()

    def devices(self) -> Answer:
        """Which GPUs the installed llama.cpp can use, as the child says that will load the model."""
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
            raise EngineFailed(CLOSED)
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

    def __init__(self, process: subprocess.Popen[bytes] | None = None) -> None:
        self.process = process or spawn.start()
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
        """Wait for what it says of the GPUs; a death here is an answer too, and so is silence."""
        try:
            found: Answer = _wait(self._seen, _LOOK_S)
        except queue.Empty:
            silence = f"llama.cpp was asked for its GPUs and did not answer within {_LOOK_S:g} s."
            self.kill(silence)
            found = Answer((), None, silence)
        self._seen.put(found)  # for the next who asks
        return found

    def ask(self, id: int, prompt: Prompt, inbox: _Inbox) -> None:  # noqa: A002
        """Send a prompt whose events go to `inbox`. Raises what the child died of, if it did."""
        line = wire.line({"ask": id, "prompt": asdict(prompt)})
        with self._lock:
            if self.death:
                raise self.death
            self._inboxes[id] = inbox
        self._lines.put(line)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one line, without waiting for a pipe that is full; a broken one is reported by the listener."""
        self._lines.put(wire.line(message))

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
            self.death = self.death or EngineFailed(CLOSED)
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
            self._seen.put(wire.answer(message["seen"]))
        elif "ready" in message:
            self._ready.put(None)
        elif "failed" in message:
            self._ready.put(from_wire(message["failed"]))
        for event in message.get("events", ()):
            self._deliver(wire.event(event))

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
        self._inbox.put(EngineFailed(OVER))
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


def _wait(inbox: queue.SimpleQueue[Any], longest_s: float = float("inf")) -> Any:
    """Wait in short turns: on Windows a blocked lock does not see Ctrl-C. Raises queue.Empty when time is up."""
    until = time.monotonic() + longest_s
    turn_s = 0.2 if sys.platform == "win32" else 3600.0
    while (left_s := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            return inbox.get(timeout=min(turn_s, left_s))
    raise queue.Empty


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
