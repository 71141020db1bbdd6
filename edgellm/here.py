"""The model in this process: for tests, profiles, and those who accept that C may take them along."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgellm.engines.devices import look
from edgellm.errors import EngineFailed
from edgellm.machine import Answer
from edgellm.opening import Opening
from edgellm.prompt import Event, Prompt
from edgellm.session import CLOSED, OVER, Session
from edgellm.spawn import longest_step_s

if TYPE_CHECKING:
    from edgellm.service import Service


class Here:
    """The same service in this process: for tests, profiles, and those who accept that C may take them along."""

    def __init__(self) -> None:
        longest_step_s()  # a bad limit is refused, as it is before a process is started
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
        from edgellm.service import added

        number = next(self._ids)
        with self._lock:
            service = self._opened()
            self._inboxes[number] = inbox
            self._route(added(service, number, prompt))
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
            raise EngineFailed(CLOSED)
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
        raise EngineFailed(OVER)

    def close(self) -> None:
        """Cancel what runs."""
        self._closed = True
        for number in tuple(self._running):
            self._here.cancel(number)
