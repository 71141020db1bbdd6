"""One file on its way from the hub to the cache: resumed where it stopped, hashed as it comes, and never under its
final name before the hash is right. It knows the cache's folder and the wire, not which files make a model.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgellm.errors import DiskFull, DownloadFailed, HashMismatch
from edgellm.hub import cache, wire
from edgellm.hub.cache import CHUNK_BYTES, Progress, Promise
from edgellm.hub.wire import Dropped, Patience

_SPARE = 1.05  # of the free disk space: that much more than the download
_TRIES = 6  # in a row that bring less than a chunk; the waits between them add up to 15 s


def install(repo: str, revision: str, promise: Promise, say: Progress) -> Path:
    """Have one verified file under its final name; returns that path. Only one process at a time downloads it."""
    folder = cache.folder(repo)
    blob = folder / "blobs" / promise.digest
    path = folder / "snapshots" / revision / promise.name
    with _alone(folder, promise, say):
        if not cache.sound(path, blob, promise, say):
            if not cache.sound(blob, blob, promise, say):
                _download(wire.address(repo, revision, promise.name), repo, blob, promise, say)
            _link(blob, path)
            cache.note_receipt(path, blob, promise, repo=repo, revision=revision)
    return path


def check_room(folder: Path, promises: Sequence[Promise]) -> None:
    """Raise DiskFull if what is still missing of these files would not fit."""
    missing, free = _missing(folder, promises), shutil.disk_usage(folder).free
    needed = int(missing * _SPARE)
    if missing and free < needed:
        raise DiskFull(
            f"{_size(needed)} are needed and {_size(free)} are free in {folder.parent}. Remove a model "
            f"(`edgellm rm`), or set HF_HUB_CACHE to a folder on a larger disk.",
            needed,
            free,
        )


def disk_trouble(error: OSError, folder: Path, promises: Sequence[Promise]) -> DownloadFailed:
    """The sentence for what the operating system would not do."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        missing, free = _missing(folder, promises), shutil.disk_usage(folder).free
        left = f"{_size(missing)} are still to come and {_size(free)} are free"
        return DiskFull(f"the disk of {folder.parent} is full: {left}. Make room and run it again.", missing, free)
    reason = "files this large do not fit its file system" if error.errno == errno.EFBIG else error.strerror or error
    return DownloadFailed(f"cannot write to {folder.parent}: {reason}. HF_HUB_CACHE can name another folder.")


def _missing(folder: Path, promises: Sequence[Promise]) -> int:
    return sum(max(0, promise.bytes - _kept(folder / "blobs" / promise.digest)) for promise in promises)


def _kept(blob: Path) -> int:
    """Bytes of a blob that are here already, whole or in part."""
    return max((path.stat().st_size for path in (blob, _part(blob)) if path.is_file()), default=0)


def _part(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.part")


def _size(number: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= scale:
            return f"{number / scale:,.2f} {unit}"
    return f"{number} bytes"


@contextmanager
def _alone(folder: Path, promise: Promise, say: Progress) -> Iterator[None]:
    """Hold the lock that huggingface_hub takes for this blob; while another process has it, tell how far it is."""
    from filelock import FileLock, Timeout

    path = folder.parent / ".locks" / folder.name / f"{promise.digest}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.5)
        except NotImplementedError:
            raise DownloadFailed(
                f"the file system of {path} knows no locks. HF_HUB_CACHE can name another folder."
            ) from None
        except Timeout:
            with suppress(OSError):
                say(promise.name, _part(folder / "blobs" / promise.digest).stat().st_size, promise.bytes)
    try:
        yield
    finally:
        lock.release()


def _link(blob: Path, path: Path) -> None:
    """Give a blob its name in the snapshot: by a link where the file system has links, else the blob moves there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    try:
        _symlink(blob, draft)
    except OSError:
        try:
            os.link(blob, draft)
        except OSError:
            draft = blob
    os.replace(draft, path)


def _symlink(blob: Path, draft: Path) -> None:
    if cache.wished("HF_HUB_DISABLE_SYMLINKS"):
        raise OSError(errno.EPERM, "links were not wanted")
    os.symlink(os.path.relpath(blob, draft.parent), draft)


def _download(url: str, repo: str, blob: Path, promise: Promise, say: Progress) -> None:
    part = _Part(blob, promise, say)
    try:
        resumed = part.done > 0
        _fill(part, url, repo)
        if resumed and not part.right:  # a part that lay here for a while proves nothing about the hub
            part.restart()
            _fill(part, url, repo)
        if not part.right:
            part.discard(f"its hash is {part.hash.hexdigest()} and should be {promise.digest}")
        part.seal()
    finally:
        part.file.close()


def _fill(part: _Part, url: str, repo: str) -> None:
    """Ask for the rest until it is there; gives up after a few tries in a row that bring nothing."""
    patience, best = Patience(_TRIES), part.done
    while part.done < part.promise.bytes:
        try:
            _pour(part, url, repo)
        except Dropped as dropped:
            if part.done >= best + CHUNK_BYTES:
                patience, best = Patience(_TRIES), part.done
            if not patience.again(dropped):
                kept = f"{_size(part.done)} of {_size(part.promise.bytes)} are kept: run it again to go on"
                raise DownloadFailed(f"{part.promise.name} could not be had: {dropped}. {kept}.") from dropped


def _pour(part: _Part, url: str, repo: str) -> None:
    """Take what one request brings."""
    with wire.request("GET", url, part.asks(), metadata=False) as response:
        wire.refuse(response, part.promise.name, repo)
        _agree(part, response)
        part.note(response.headers.get("ETag", ""))
        for piece in response.iter_raw():
            part.take(piece)
    if part.done < part.promise.bytes:
        raise Dropped("the answer ended early")


def _agree(part: _Part, response: Any) -> None:
    """Make sure that an answer carries the bytes that come next; raises Dropped, starting over where that helps."""
    headers, status = response.headers, response.status_code
    if headers.get("Content-Encoding", "identity") != "identity" or "text/html" in headers.get("Content-Type", ""):
        raise Dropped("something other than the file came (a login page, or a proxy that rewrites)")
    if status == 206:
        start, total = wire.content_range(response)
        if total == part.promise.bytes and start != part.done:
            part.restart()  # the server cannot count: without a range it may do better
        if total != part.promise.bytes or start != part.done:
            raise Dropped(f"bytes from {start:,} of {total:,} came, which were not asked for")
    elif status == 200:
        length = headers.get("Content-Length")
        if length is not None and length != str(part.promise.bytes):
            raise Dropped(f"{length} bytes came instead of {part.promise.bytes:,}")
        if part.done:
            part.restart()
    else:
        if status == 416:
            part.restart()
        raise Dropped(f"status {status}")


class _Part:
    """The bytes so far, their running hash, and what they are promised to become."""

    def __init__(self, blob: Path, promise: Promise, say: Progress) -> None:
        self.blob, self.promise, self.say = blob, promise, say
        self.path, self.notes = _part(blob), blob.with_name(f"{blob.name}.part.json")
        self.file = open(self.path, "r+b", buffering=0, opener=lambda name, how: os.open(name, how | os.O_CREAT, 0o666))  # noqa: SIM115
        self.done, self.hash, self.version = 0, promise.hasher(), ""
        self._recover()

    @property
    def right(self) -> bool:
        """Whether all bytes are there and are the promised ones."""
        return self.done == self.promise.bytes and self.hash.hexdigest() == self.promise.digest

    def _recover(self) -> None:
        """Take up what an earlier run left, hashing it again."""
        notes = cache.noted(self.notes)
        if notes.get("bytes") != self.promise.bytes or self.path.stat().st_size > self.promise.bytes:
            self.restart()
        self.version = str(notes.get("version", ""))
        while piece := self.file.read(CHUNK_BYTES):
            self.hash.update(piece)
            self.done += len(piece)
            self.say(self.promise.name, self.done, self.promise.bytes)

    def asks(self) -> dict[str, str]:
        """Headers for the bytes that are missing, of the version the present ones are from."""
        asks = {"Accept-Encoding": "identity"}
        if self.done:
            asks["Range"] = f"bytes={self.done}-"
            if self.version.startswith('"'):  # a weak name (W/"...") may not be used for ranges
                asks["If-Range"] = self.version
        return asks

    def note(self, version: str) -> None:
        """Write down what the coming bytes belong to, before the first of them."""
        if version != self.version or not self.notes.exists():
            self.version = version
            cache.write(self.notes, json.dumps({"bytes": self.promise.bytes, "version": version}))

    def take(self, piece: bytes) -> None:
        """Append bytes; raises HashMismatch when there are more than promised."""
        if self.done + len(piece) > self.promise.bytes:
            self.discard(f"more came than the promised {self.promise.bytes:,} bytes")
        rest = memoryview(piece)
        while rest:
            written = self.file.write(rest)
            self.hash.update(rest[:written])
            self.done += written
            rest = rest[written:]
        self.say(self.promise.name, self.done, self.promise.bytes)

    def restart(self) -> None:
        """Forget the bytes so far."""
        self.file.seek(0)
        self.file.truncate()
        self.done, self.hash = 0, self.promise.hasher()

    def discard(self, reason: str) -> None:
        """Delete what is not the promised file; always raises HashMismatch."""
        self.file.close()
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        raise HashMismatch(
            f"{self.promise.name} is not the promised file: {reason}. It was deleted; try again, or report it."
        )

    def seal(self) -> None:
        """Put the whole file, safe on the disk, under its final name."""
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.path, self.blob)
        self.notes.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(self.blob.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
