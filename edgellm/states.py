"""Computed prompts on the disk: the state of a model after some tokens, so that nobody computes them twice.

A file holds a key, the tokens and the engine's bytes under one SHA-256. What is torn, foreign or changed is never handed
on: C code believes every byte it gets. Knows no engine; what the bytes mean, and what the key depends on, is known above.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".kv"
BUDGET_BYTES = 4 << 30
"""What the states in one folder may take together; those that were used longest ago go first."""

_MAGIC = b"edgellm state 1\n"
_HEADER_BYTES = 4096
_TOKEN_BYTES = 4
_KEPT_FREE_BYTES = 1 << 30  # a cache must not fill a disk
# What reading junk can raise.
_BAD = (OSError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)
_UNFINISHED = (".part", ".lent")
_STALE_S = 3600.0  # an unfinished file this old belongs to nobody any more


@dataclass(frozen=True, slots=True)
class State:
    """What a slot holds: its tokens, and the engine's own bytes for them."""

    tokens: list[int]
    data: bytearray


def folder() -> Path:
    """Where states are kept that belong to no conversation."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgellm", appauthor=False)) / "states"


def named(text: str) -> Path:
    """Return the file for the state after a text that many prompts begin with, such as a system prompt."""
    return folder() / f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}{SUFFIX}"


def write(path: Path, key: str, state: State) -> int:
    """Write a state, whole or not at all, readable by its owner only; returns the file's size in bytes.

    Raises OSError when it cannot be written, also when the disk would be nearly full then, or another file is in the way.
    """
    tokens = _packed(state.tokens)
    header = {
        "key": key,
        "tokens": len(state.tokens),
        "data_bytes": len(state.data),
        "sha256": _sum(tokens, state.data),
    }
    head = _MAGIC + json.dumps(header).encode() + b"\n"
    size = len(head) + len(tokens) + len(state.data)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and not ours(path):
        raise OSError(17, "something else stands there, and is not overwritten", str(path))
    if size > BUDGET_BYTES // 2 or shutil.disk_usage(path.parent).free < size + _KEPT_FREE_BYTES:
        raise OSError(28, "there is no room for a state of this size", str(path))
    draft = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED[0]}")
    try:
        with open(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600), "wb"
        ) as file:
            for part in (head, tokens, state.data):
                file.write(part)  # never synced: what a power failure tears is told by its hash, and computed again
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return size


def peek(path: Path, key: str) -> list[int]:
    """Return the tokens that a file says it holds the state of; none when it is not a whole state with this key."""
    with contextlib.suppress(*_BAD), open(path, "rb") as file:
        header = _header(file, key)
        return _unpacked(file.read(header.tokens * _TOKEN_BYTES))
    return []


@contextlib.contextmanager
def lent(path: Path, key: str) -> Iterator[State | None]:
    """Lend a verified state to somebody who may die of it; None when there is none of this key.

    While it is lent the file stands under another name: if the borrower dies, nobody meets that state again.
    """
    state = _read(path, key)
    if state is None:
        yield None
        return
    aside = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED[1]}")
    try:
        os.replace(path, aside)
    except OSError:  # somebody else has it at the moment, or the folder is read-only
        yield None
        return
    yield state  # not in a `try`: what ends badly here is not put back
    with contextlib.suppress(OSError):
        os.utime(aside)  # it was used
        os.replace(aside, path)


def prune(where: Path, budget_bytes: int = BUDGET_BYTES) -> None:
    """Remove the states that were used longest ago until the rest fits, and what dead processes have left.

    Other files stay, whatever they are called: Kivy's end in .kv as well.
    """
    files = []
    for path in where.glob(f"*{SUFFIX}*"):
        with contextlib.suppress(OSError):
            about = path.stat()
            if ours(path):
                files.append((about.st_mtime, about.st_size, path))
    total = 0
    for when, size, path in sorted(files, reverse=True):
        if path.suffix == SUFFIX:
            total += size
            doomed = total > budget_bytes
        else:
            doomed = path.suffix in _UNFINISHED and when < time.time() - _STALE_S
        if doomed:
            with contextlib.suppress(OSError):
                path.unlink()


def ours(path: Path) -> bool:
    """Say whether a file is a state, or was to become one: a power failure may leave nothing of it but its name."""
    try:
        with open(path, "rb") as file:
            return _MAGIC.startswith(file.read(len(_MAGIC)))
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Header:
    tokens: int
    data_bytes: int
    sha256: str


def _header(file: BinaryIO, key: str) -> _Header:
    """Read up to the tokens. Raises ValueError for every file that is not, in length and key, what is wanted."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no state")
    said = json.loads(file.readline(_HEADER_BYTES))
    if not isinstance(said, dict) or said.get("key") != key:
        raise ValueError("a state of something else")
    tokens, data_bytes = int(said.get("tokens", 0)), int(said.get("data_bytes", 0))
    if min(tokens, data_bytes) <= 0:
        raise ValueError("an empty state")
    if os.fstat(file.fileno()).st_size != file.tell() + tokens * _TOKEN_BYTES + data_bytes:
        raise ValueError("a torn state")
    return _Header(tokens, data_bytes, str(said.get("sha256")))


def _read(path: Path, key: str) -> State | None:
    """Read a state and check every byte of it; one that is damaged is removed."""
    try:
        with open(path, "rb") as file:
            header = _header(file, key)
            tokens, data = file.read(header.tokens * _TOKEN_BYTES), bytearray(header.data_bytes)
            whole = file.readinto(data) == header.data_bytes
    except _BAD:
        return None
    if not whole or _sum(tokens, data) != header.sha256:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return State(_unpacked(tokens), data)


def _sum(tokens: bytes, data: bytearray) -> str:
    digest = hashlib.sha256(tokens)
    digest.update(data)
    return digest.hexdigest()


def _packed(tokens: Sequence[int]) -> bytes:
    packed = array("i", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpacked(data: bytes) -> list[int]:
    tokens = array("i", data)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tolist()
