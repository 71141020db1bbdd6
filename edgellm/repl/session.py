"""A conversation and its file: JSON lines, appended and synced as things happen: a crash loses one answer at most.

The state of a conversation is the fold of its records: writing one and reading it back go through the same `_apply`.
Knows no model and no terminal.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import states
from edgellm.errors import EdgeError, UsageError

Warn = Callable[[str], None]
Record = dict[str, Any]


def _quiet(words: str) -> None:  # noqa: ARG001 - a warning that nobody hears
    return


_NAME = re.compile(r"\w[\w .+-]{0,79}")
_NEW_S = "%Y-%m-%d-%H%M%S"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    user: str
    assistant: str
    finish: str = "stop"  # as in Reply, or "failed"
    prompt_tokens: int = 0
    tokens: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list: when something was last said, how often, and what at first."""

    when: str
    turns: int
    title: str


class Transcript:
    """One conversation; with a folder, every change is on the disk before the method returns."""

    def __init__(self, folder: Path | None, warn: Warn = _quiet, name: str | None = None) -> None:
        self.name = name or time.strftime(_NEW_S)
        self.system: str | None = None
        self.turns: list[Turn] = []
        self.pending: str | None = None  # asked, and not answered
        self.instead = 0  # how many of the last turns the answer to it will replace
        self.digest = ""  # what was said in the first `digested` turns, in short
        self.digested = 0
        self._folder = folder
        self._warn = warn
        self._size = 0  # bytes of our file; 0 before it exists

    @property
    def path(self) -> Path | None:
        """The file, which exists from the first question on; None when nothing is written."""
        return self._folder / f"{self.name}.jsonl" if self._folder else None

    @property
    def saved(self) -> bool:
        """Something of this conversation is on the disk."""
        return self._size > 0

    @property
    def past(self) -> list[Turn]:
        """The turns before the pending question: those that its answer will not replace."""
        return self.turns[: len(self.turns) - self.instead]

    def ask(self, text: str, *, instead: int = 0) -> None:
        """Note a question, before it is answered; it takes the place of one that never was.

        Its answer will replace the last `instead` turns, which are kept until it is there.
        """
        self._note({"ask": text, "instead": instead, "at": _now()})

    def answer(self, turn: Turn) -> None:
        """Note the answer to the pending question."""
        facts = {"finish": turn.finish, "prompt_tokens": turn.prompt_tokens, "tokens": turn.tokens, "model": turn.model}
        self._note({"answer": turn.assistant, **facts, "at": _now()})

    def undo(self, turns: int = 1) -> None:
        """Take back the last turns."""
        self._note({"undo": turns})

    def shorten(self, digest: str, turns: int) -> None:
        """Put a summary in the place of the first turns; they stay in the file."""
        self._note({"digest": digest, "turns": turns})

    def instruct(self, system: str | None) -> None:
        """Set the system prompt."""
        self._note({"system": system})

    def rename(self, name: str) -> None:
        """Give the conversation, and its file, a name. Raises UsageError when it is taken or no file's name."""
        path = self._free(name)
        if self._size and self.path:
            try:
                self.path.rename(path)
                with contextlib.suppress(OSError):  # what is computed of it goes along
                    self.path.with_suffix(states.SUFFIX).rename(path.with_suffix(states.SUFFIX))
            except OSError as error:
                raise UsageError(f"cannot rename {self.path.name} to {path.name}: {error.strerror}.") from error
        self.name = name

    def branch(self, name: str | None = None) -> Transcript:
        """Copy the conversation into a new one; the old one stays as it is."""
        twin = Transcript(self._folder, self._warn, name or self._next_name())
        if name:
            twin._free(name)
        for record in self._records():
            twin._apply(record)
        if self._folder and (self.turns or self.pending is not None):
            twin._write_all()
        return twin

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield (role, text) of every message that has been answered, the system prompt first."""
        if self.system:
            yield "system", self.system
        for turn in self.turns:
            yield "user", turn.user
            yield "assistant", turn.assistant

    # The file.

    def _note(self, record: Record) -> None:
        self._apply(record)
        if not self._folder:
            return
        if not self._size:
            # A conversation in which nothing was asked leaves no file.
            if self.pending is not None:
                self._write_all()
            return
        self._append(_line(record))

    def _append(self, data: bytes) -> None:
        assert self.path
        try:
            if _length(self.path) != self._size:
                was = self.name
                self._go_elsewhere(f"{was} was continued or removed by someone else")
                return
            self._size = _write(self.path, data)
        except OSError as error:
            self._give_up(error)

    def _write_all(self) -> None:
        """Begin the file with everything so far."""
        assert self.path
        data = b"".join(map(_line, self._records()))
        try:
            _private_folder(self.path.parent)
            with contextlib.suppress(FileExistsError):
                self._size = _write(self.path, data, new=True)
                return
            self._go_elsewhere(f"{self.name} is taken")
        except OSError as error:
            self._give_up(error)

    def _go_elsewhere(self, why: str) -> None:
        self.name, self._size = self._next_name(), 0
        self._warn(f"{why}; this conversation goes on as {self.name}.")
        self._write_all()

    def _give_up(self, error: OSError) -> None:
        """A full disk must not end a conversation; say it once."""
        self._warn(
            f"this conversation is no longer saved: {self.path}: {error.strerror or error}. /export still works."
        )
        self._folder = None

    def _records(self) -> Iterator[Record]:
        yield {"edgellm": "conversation", "version": 1, "at": _now()}
        if self.system:
            yield {"system": self.system}
        for turn in self.turns:
            yield {"ask": turn.user}
            facts = {"finish": turn.finish, "prompt_tokens": turn.prompt_tokens, "tokens": turn.tokens}
            yield {"answer": turn.assistant, **facts, "model": turn.model}
        if self.digested:
            yield {"digest": self.digest, "turns": self.digested}
        if self.pending is not None:
            yield {"ask": self.pending, "instead": self.instead}

    def _apply(self, record: Record) -> None:
        """Change the state as a record says. Raises ValueError for a record that says nothing known here."""
        match record:
            case {"edgellm": "conversation", "version": 1}:
                pass
            case {"system": str() | None as system}:
                self.system = system
            case {"ask": str(text)}:
                self.pending, self.instead = text, min(_count(record, "instead"), len(self.turns))
            case {"answer": str(text)} if self.pending is not None:
                self.turns = [*self.past, Turn(self.pending, text, *_facts(record))]
                self.pending, self.instead = None, 0
            case {"undo": int(count)} if 0 < count <= len(self.turns):
                del self.turns[-count:]
                self.pending, self.instead = None, 0
            case {"digest": str(text)}:
                self.digest, self.digested = text, _count(record, "turns")
            case _:
                raise ValueError("not a known record")
        if self.digested > len(self.turns):  # it tells of what was taken back
            self.digest, self.digested = "", 0

    def _free(self, name: str) -> Path:
        """Return the path of a name that no conversation has yet."""
        check_name(name)
        path = (self._folder or Path()) / f"{name}.jsonl"
        if self._folder and path.exists():
            raise UsageError(f"there is a conversation {name!r} already: take another name, or /resume {name}.")
        return path

    def _next_name(self) -> str:
        base = re.sub(r"-\d+$", "", self.name) if not re.fullmatch(r"[\d-]+", self.name) else self.name
        count = 2
        while self._folder and (self._folder / f"{base}-{count}.jsonl").exists():
            count += 1
        return f"{base}-{count}"


def folder() -> Path:
    """Where conversations are kept."""
    import platformdirs

    return Path(platformdirs.user_data_dir("edgellm", appauthor=False)) / "sessions"


def history_file() -> Path:
    """Make sure that the file of typed lines is there and private; return its path."""
    import platformdirs

    path = Path(platformdirs.user_state_dir("edgellm", appauthor=False)) / "history"
    _private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    return path


def names(folder: Path) -> list[str]:
    """Return the names of all conversations, the latest first."""
    found = []
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError):
            found.append((-path.stat().st_mtime_ns, path.stem))
    return [name for _, name in sorted(found)]


def resume(folder: Path, name: str = "", warn: Warn = _quiet, *, keep: bool = True) -> Transcript:
    """Open a conversation to go on with it, by default the latest. A torn last line is repaired; `warn` hears of it.

    Without `keep` nothing is written, now or later. Raises UsageError when there is no conversation of this name, or when
    its file is something else.
    """
    known = names(folder)
    if name:
        return _opened(folder, name, known, warn, keep)
    for latest in known:
        try:
            return _opened(folder, latest, known, warn, keep)
        except UsageError as error:
            warn(str(error))
    raise UsageError(f"there is no conversation to resume in {folder}.")


def _opened(folder: Path, name: str, known: list[str], warn: Warn, keep: bool) -> Transcript:
    check_name(name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
        cure = f"The nearest are {', '.join(near)}." if near else "There are none yet."
        raise UsageError(f"there is no conversation {name!r}. {cure}")
    transcript = Transcript(folder if keep else None, warn, name)
    path = folder / f"{name}.jsonl"
    try:
        data = path.read_bytes()
        data = _repaired(path, data, warn) if keep else data[: data.rfind(b"\n") + 1]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error
    _replay(transcript, data, path, warn)
    transcript._size = len(data) if keep else 0
    return transcript


def summary(path: Path) -> Summary:
    """Look into a conversation's file, without repairing anything."""
    transcript = Transcript(None)
    try:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        data = path.read_bytes()
        _replay(transcript, data[: data.rfind(b"\n") + 1], path, _quiet)
    except (OSError, EdgeError):
        return Summary("", 0, "(cannot be read)")
    first = transcript.turns[0].user if transcript.turns else transcript.pending or ""
    return Summary(when, len(transcript.turns), " ".join(first.split()))


def check_name(name: str) -> None:
    """Refuse a name that could not be a file's name everywhere."""
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise UsageError(f"{name!r} cannot be a name: use up to 80 letters, digits, blanks and . _ + -")


def _replay(transcript: Transcript, data: bytes, path: Path, warn: Warn) -> None:
    lines = data.split(b"\n")[:-1]
    head = _parsed(lines[0]) if lines else None
    if head is None or head.get("edgellm") != "conversation":
        raise UsageError(f"{path} is not a conversation of edgellm.")
    if head.get("version") != 1:
        raise UsageError(f"{path} was written by a newer edgellm (version {head.get('version')!r}): use that one.")
    damaged = []
    for number, line in enumerate(lines, 1):
        try:
            transcript._apply(_parsed(line) or {})
        except ValueError:
            damaged.append(number)
    if damaged:
        warn(f"{path}: {len(damaged)} damaged records were passed over (first in line {damaged[0]}).")


def _repaired(path: Path, data: bytes, warn: Warn) -> bytes:
    """Finish or cut a last line that a crash tore; returns what the file holds now."""
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if not tail or not end:
        return data
    if _parsed(tail) is not None:  # only its newline is missing
        _write(path, b"\n")
        return data + b"\n"
    os.truncate(path, end)
    warn(f"the last record of {path.stem} was torn by a crash and is dropped ({len(tail)} bytes).")
    return data[:end]


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _facts(record: Record) -> tuple[str, int, int, str]:
    counts = _count(record, "prompt_tokens"), _count(record, "tokens")
    return str(record.get("finish", "stop")), *counts, str(record.get("model", ""))


def _count(record: Record, name: str) -> int:
    value = record.get(name)
    return max(0, value) if isinstance(value, int) else 0


def _line(record: Record) -> bytes:
    # A lone surrogate has no UTF-8 form; backslashreplace writes the escape that JSON has for it.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _write(path: Path, data: bytes, *, new: bool = False) -> int:
    """Append, flush and sync; returns the file's length. What cannot be written whole is taken back."""
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | (os.O_CREAT | os.O_EXCL if new else 0)
    handle = os.open(path, flags, 0o600)
    try:
        before = os.fstat(handle).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
            if new:
                _sync_folder(path.parent)
        except OSError:
            os.ftruncate(handle, before)
            if new:
                path.unlink(missing_ok=True)
            raise
        return before + len(data)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Make a new name survive a power failure, where folders can be synced."""
    if sys.platform != "win32":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _private_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
