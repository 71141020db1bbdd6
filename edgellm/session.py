"""What both kinds of worker offer: a conversation with an open model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgellm.prompt import Event, Prompt

CLOSED = "the model is closed: load it again."
OVER = "this session is closed: begin another."


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
