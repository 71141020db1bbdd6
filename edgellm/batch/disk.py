"""Bytes that stay: lines at the end of a file, whole files that appear at once. Knows nothing of what they say.

A line is with the operating system before `append` returns, so that killing this process loses nothing, and on the disk
within a second, so that losing power costs at most that.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from edgellm.errors import OutputFailed

# Between two syncs; an fsync takes 1 to 30 ms, too long for every row of a fast model.
_SETTLE_S = 0.25
_BLOCK_BYTES = 1 << 16


class Appender:
    """The end of a file. A context manager; used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with told(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._fd = os.open(path, flags, 0o666)
            sync_folder(path)
        self._failure: OSError | None = None
        self._written, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._settle, daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Write a line, whole or not at all. Raises OutputFailed."""
        with told(self._path):
            if self._failure:
                raise self._failure
            end = os.lseek(self._fd, 0, os.SEEK_END)
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, end)
                raise
        self._written.set()

    def close(self) -> None:
        """Have everything on the disk."""
        self._over.set()
        self._written.set()
        self._thread.join()
        with told(self._path):
            try:
                if self._failure:
                    raise self._failure
                os.fsync(self._fd)
            finally:
                os.close(self._fd)

    def _settle(self) -> None:
        while self._written.wait() and not self._over.is_set():
            self._written.clear()
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._failure = error
                return
            self._over.wait(_SETTLE_S)

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of another at the end, at once; on the way it is `NAME.tmp`."""
    draft = path.with_name(path.name + ".tmp")
    with told(path):
        try:
            with open(draft, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a small file of JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")


def sync_folder(path: Path) -> None:
    """Have a file's name on the disk, where the system offers that."""
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def cut_torn_line(path: Path) -> int:
    """Cut off what follows the last line break of a file; returns how many bytes that was."""
    with told(path), open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end = _last_break(file, size)
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
        return size - end


def _last_break(file: BinaryIO, size: int) -> int:
    """Where the last whole line ends; 0 when there is none."""
    end = size
    while end > 0:
        start = max(end - _BLOCK_BYTES, 0)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


@contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Turn what the system says into a sentence with a cure; that a reader has gone away is said elsewhere."""
    try:
        yield
    except (OutputFailed, BrokenPipeError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputFailed(
            f"cannot write {path}: {reason}. What was written before is whole: see to it, then run the same command again."
        ) from error
