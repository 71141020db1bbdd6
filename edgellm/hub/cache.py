"""The cache on disk: what is where, and whether its bytes are still the promised ones. It knows no network.

A repository's folder `models--user--repo` has huggingface_hub's layout, so that every tool finds the files; the last
three are ours:

    refs/main                      the commit that `main` was
    snapshots/<commit>/<name>      a link to a blob
    blobs/<digest>                 the bytes; the digest is their sha256, of small files git's sha1
    blobs/<digest>.receipt         where a blob came from, and its size and time when its hash was right
    blobs/<digest>.part            the bytes so far
    blobs/<digest>.part.json       their size in the end, and the server's name for this version
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgellm.errors import DownloadFailed, HashMismatch, UsageError

Progress = Callable[[str, int, int], None]
"""Told (file, bytes done, bytes in all) now and then, also while bytes that are here are hashed."""

CHUNK_BYTES = 1 << 20
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_REPO = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)


class Wanted(Protocol):
    """A file somebody wants; size and sha256 are None where whatever the hub states will do."""

    @property
    def name(self) -> str:
        """Its name in the repository."""

    @property
    def bytes(self) -> int | None:
        """Its size."""

    @property
    def sha256(self) -> str | None:
        """Its hash, in 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a repository, as far as it is known."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """A .gguf file in the cache."""

    repo: str
    revision: str
    name: str
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Promise:
    """What the hub states a file to be; the digest is its sha256, or git's sha1 of what the hub keeps in git."""

    name: str
    bytes: int
    digest: str

    def hasher(self) -> Any:
        """A fresh hash whose hexdigest will be `digest` if the right bytes go in."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)


def silent(file: str, done: int, total: int) -> None:
    """Show nothing."""


def wished(variable: str) -> bool:
    """Whether one of huggingface_hub's environment variables is set to yes."""
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


def root() -> Path:
    """The cache's folder, by huggingface_hub's environment variables; read now, where it reads them when imported."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(home, "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(hub)))


def folder(repo: str) -> Path:
    """Where a repository is cached; raises UsageError for what cannot be the name of one."""
    if not _REPO.fullmatch(repo):
        raise UsageError(f"{repo!r} is not the name of a repository: those are user/repo.")
    return root() / f"models--{repo.replace('/', '--')}"


def safe(name: str) -> bool:
    """Whether a name from the hub may become a path here: relative, downward, and plain enough for any file system."""
    plain = name.isprintable() and not set('\\:*?"<>|') & set(name)
    return plain and all(part not in ("", ".", "..") and len(part.encode()) <= 200 for part in name.split("/"))


def checked(name: str, repo: str) -> str:
    """The name, if it is safe; raises DownloadFailed."""
    if not safe(name):
        raise DownloadFailed(f"{repo} names a file {name!r}, which might be written outside the cache: refused.")
    return name


def wanted(file: Wanted | str) -> Wanted:
    """A bare name as a file of which nothing else is known."""
    return RemoteFile(file) if isinstance(file, str) else file


def cached(repo: str, revision: str, files: Sequence[Wanted | str]) -> list[Path] | None:
    """Paths of these files if all of them are in the cache with the right size; never uses the network."""
    place = folder(repo)
    snapshot = place / "snapshots" / (commit(place, revision) or "nowhere")
    paths = []
    for file in map(wanted, files):
        path = snapshot / checked(file.name, repo)
        if not path.is_file() or (file.bytes is not None and path.stat().st_size != file.bytes):
            return None
        paths.append(path)
    return paths


def commit(place: Path, revision: str) -> str:
    """The commit that a revision means in a repository's folder; empty if it cannot be told."""
    if COMMIT.fullmatch(revision):
        return revision
    with suppress(OSError, ValueError):
        if safe(revision) and COMMIT.fullmatch(known := (place / "refs" / revision).read_text().strip()):
            return known
    snapshots = [path.name for path in place.glob("snapshots/*")]
    return snapshots[0] if revision == "main" and len(snapshots) == 1 else ""


def note_ref(place: Path, ref: str, revision: str) -> None:
    """Write down which commit a branch or tag was, for other tools and for when there is no network."""
    if safe(ref):
        write(place / "refs" / ref, revision)


def listing(repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
    """Commit and files of what is cached of a repository; no files if there is nothing."""
    place = folder(repo)
    found = commit(place, revision)
    snapshot = place / "snapshots" / (found or "nowhere")
    paths = sorted(path for path in snapshot.rglob("*") if path.is_file())
    return found, [RemoteFile(path.relative_to(snapshot).as_posix(), path.stat().st_size) for path in paths]


def installed() -> list[Installed]:
    """Every .gguf file in the cache, whoever put it there."""
    found = []
    for path in sorted(root().glob("models--*--*/snapshots/*/**/*.gguf")):
        snapshot = next(parent for parent in path.parents if parent.parent.name == "snapshots")
        repo = snapshot.parent.parent.name.removeprefix("models--").replace("--", "/")
        with suppress(OSError):  # a link to nothing
            name = path.relative_to(snapshot).as_posix()
            found.append(Installed(repo, snapshot.name, name, path, path.stat().st_size))
    return found


def verify(path: Path, *, sha256: str | None = None, progress: Progress | None = None) -> str:
    """Hash a file again; returns the digest, or raises HashMismatch if it is not `sha256` or what its blob is named.

    Raises UsageError where nothing says what the hash should be.
    """
    expected = sha256 or named_digest(path)
    if not expected:
        raise UsageError(f"nothing states what the sha256 of {path} should be.")
    actual = _hash(path, Promise(path.name, path.stat().st_size, expected), progress or silent)
    if actual != expected:
        raise HashMismatch(
            f"{path} is damaged: its hash is {actual} and should be {expected}. Remove it and pull again."
        )
    return actual


def remove(repo: str, revision: str | None = None) -> int:
    """Delete one commit of a repository from the cache, or all with what is half done; returns the bytes freed."""
    from huggingface_hub import scan_cache_dir

    place = folder(repo)
    if not place.is_dir():
        return 0
    before = _weight(place)
    chosen = None if revision is None else commit(place, revision)
    commits = [path.name for path in place.glob("snapshots/*") if chosen in (None, path.name)]
    deletion = scan_cache_dir(root()).delete_revisions(*commits)  # knows which blobs are shared, and with whom
    freed = deletion.expected_freed_size
    deletion.execute()
    if revision is None:
        shutil.rmtree(place, ignore_errors=True)
    for receipt in place.glob("blobs/*.receipt"):
        if not receipt.with_suffix("").exists() and not _receipt_path(place, receipt).exists():
            receipt.unlink()
    return max(int(freed), before - _weight(place))


def _weight(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def intact(path: Path, repo: str, file: Wanted, say: Progress) -> bool:
    """Whether a cached file is what it should be, as far as anything says what that is."""
    digest = file.sha256 or named_digest(path)
    if digest is None:
        return True
    return sound(path, folder(repo) / "blobs" / digest, Promise(file.name, path.stat().st_size, digest), say)


def sound(path: Path, blob: Path, promise: Promise, say: Progress) -> bool:
    """Whether a file's bytes are the promised ones: by the receipt if it was not touched since, else by their hash."""
    if not path.is_file() or (now := path.stat()).st_size != promise.bytes:
        return False
    receipt = noted(_receipt(blob))
    if receipt.get("bytes") == now.st_size and receipt.get("mtime_ns") == now.st_mtime_ns:
        return True
    if _hash(path, promise, say) != promise.digest:
        return False
    note_receipt(path, blob, promise, **{key: str(receipt[key]) for key in ("repo", "revision") if key in receipt})
    return True


def note_receipt(path: Path, blob: Path, promise: Promise, **origin: str) -> None:
    """Write down that these bytes had the right hash, as of now, and where they came from."""
    now = path.stat()
    receipt = {**origin, "name": promise.name, "bytes": now.st_size, "mtime_ns": now.st_mtime_ns}
    with suppress(OSError):  # a cache that cannot be written is hashed again next time
        write(_receipt(blob), json.dumps(receipt))


def named_digest(path: Path) -> str | None:
    """The digest that a cached file ought to have: the name of the blob it links to, or else of its receipt."""
    start = hop = Path(os.path.abspath(path))
    place = next((parent for parent in hop.parents if parent.name.startswith("models--")), None)
    for _ in range(8):  # not resolve(): a blob may itself link to a store of blobs with names of another kind
        if hop.parent.name == "blobs" and hop.parent.parent == place and DIGEST.fullmatch(hop.name):
            return hop.name
        if not hop.is_symlink():
            break
        hop = Path(os.path.normpath(hop.parent / os.readlink(hop)))
    if place is None:
        return None
    return next((note.stem for note in place.glob("blobs/*.receipt") if _receipt_path(place, note) == start), None)


def _receipt(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.receipt")


def _receipt_path(place: Path, receipt: Path) -> Path:
    origin = noted(receipt)
    return place / "snapshots" / str(origin.get("revision")) / str(origin.get("name"))


def _hash(path: Path, promise: Promise, say: Progress) -> str:
    running, done = promise.hasher(), 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK_BYTES):
            running.update(piece)
            done += len(piece)
            say(promise.name, done, promise.bytes)
    return str(running.hexdigest())


def noted(path: Path) -> dict[str, Any]:
    """What one of our notes says; nothing if it is missing or torn."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, text: str) -> None:
    """Write a small file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
