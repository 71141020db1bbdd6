"""What the model has computed of a conversation, kept beside it: a resumed one begins where it ended, without prefill.

Also what every conversation under a long system prompt begins with. A cache: whatever goes wrong with it costs time, and
nothing else. Knows when to write and where; what is in the files is known below.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import states
from edgellm.errors import EdgeError
from edgellm.prompt import Message

if TYPE_CHECKING:
    from edgellm.model import Model
    from edgellm.repl.session import Transcript

# Fewer tokens than this are computed about as fast as they are read.
_WORTH_KEEPING = 256
# Written again when it has grown by half: all writing together costs three times the last one, however long it gets.
_GROWTH = 1.5
_PATIENCE_S = 20.0  # for a disk, at the end


class Memory:
    """The state files of one sitting; with `on` false, nothing is read or written."""

    def __init__(self, *, on: bool) -> None:
        self.trouble = ""  # why something could not be kept, until it is told
        self._on = on
        self._kept = 0  # tokens in the file of this conversation
        self._known = 0  # tokens that the model knows of it
        self._sent: tuple[Message, ...] = ()
        self._written: set[Path] = set()
        self._thread: threading.Thread | None = None

    def files(self, transcript: Transcript, system: Path | None) -> tuple[str, ...]:
        """Return the files that may hold the beginning of the next prompt."""
        mine = _beside(transcript) if self._on else None
        found = (path for path in (mine, system if self._on else None) if path and path.exists())
        return tuple(map(os.fspath, found))

    def lost(self, files: tuple[str, ...]) -> bool:
        """Say whether one of the files has gone since: the engine died while it took it in."""
        return not all(map(os.path.exists, files))

    def forget(self) -> None:
        """Begin with another conversation, or another model."""
        self._kept, self._known, self._sent = 0, 0, ()

    def learn(self, sent: tuple[Message, ...], tokens: int) -> None:
        """Note what the model was sent, and how many tokens it knows now, its answer included."""
        self._sent, self._known = sent, tokens

    def keep(self, model: Model, transcript: Transcript) -> None:
        """Write the conversation's state while the person reads the answer, when that is worth it by now."""
        if self._known >= max(_WORTH_KEEPING, self._kept * _GROWTH):
            self._write(model, self._sent, _beside(transcript) if transcript.saved else None)

    def keep_system(self, model: Model, text: str, tokens: int, path: Path) -> None:
        """Write the state that all conversations under a long system prompt begin with, once."""
        if tokens >= _WORTH_KEEPING and path not in self._written and not path.exists():
            self._written.add(path)
            self._write(model, (Message("system", text),), path)

    def leave(self, model: Model, transcript: Transcript) -> None:
        """Write what is new, and wait for the disk; Ctrl-C stops waiting."""
        if self._known >= max(_WORTH_KEEPING, self._kept + _WORTH_KEEPING // 4):
            self._write(model, self._sent, _beside(transcript) if transcript.saved else None)
        self.settle()

    def settle(self) -> None:
        """Wait until what is being written is there."""
        until = time.monotonic() + _PATIENCE_S
        while self._thread and self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.05)

    def _write(self, model: Model, sent: tuple[Message, ...], path: Path | None) -> None:
        if not self._on or path is None or not sent:
            return
        mine = sent is self._sent
        if mine:
            self._kept = self._known
        before = self._thread

        def write() -> None:
            if before:
                before.join()
            try:
                model.keep(sent, path)
                states.prune(path.parent)
                if mine:
                    _drop_orphans(path.parent)
            except EdgeError as error:  # the conversation itself is saved; a dead engine is told when it is needed
                self.trouble = str(error)

        self._thread = threading.Thread(target=write, daemon=True)
        self._thread.start()


def _beside(transcript: Transcript) -> Path | None:
    path = transcript.path
    return path.with_name(f"{transcript.name}{states.SUFFIX}") if path else None


def _drop_orphans(folder: Path) -> None:
    """Whoever removes a conversation means all of it."""
    for path in folder.glob(f"*{states.SUFFIX}"):
        if states.ours(path) and not path.with_name(path.name.removesuffix(states.SUFFIX) + ".jsonl").exists():
            with contextlib.suppress(OSError):
                path.unlink()
