"""A hub on this machine: the routes of huggingface.co that finding and downloading a model needs, and their faults.

    with LoopbackHub() as hub:
        commit = hub.add("user/repo", {"model-Q4_K_M.gguf": data})
        hub.spoil("GET", cut(1000))          # the next request for bytes ends after 1,000 of them
        ...                                  # with HF_ENDPOINT=hub.url
        hub.asked("GET")                     # what was requested, with headers

A fault takes the right answer and returns a wrong one. With `cdn=another` bytes come from another host, as in life.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Answer:
    """One response, before it is sent; `whole` is the file that was asked for, `start` the offset of the body in it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bytes = b""
    start: int = 0
    length: bool = True  # say Content-Length; without it the end is the end of the connection
    cut: int | None = None  # close after that many bytes of the body
    stall: tuple[int, float] | None = None  # after so many bytes, wait so many seconds
    silence_s: float = 0.0  # before the first byte
    raw: bytes | None = None  # send this instead of an HTTP answer
    reset: bool = False  # answer with a TCP reset


Fault = Callable[[Answer], Answer]


def cut(at: int) -> Fault:
    """Close the connection after `at` bytes of the body."""
    return lambda answer: replace(answer, cut=at)


def torn_chunks(at: int) -> Fault:
    """A chunked answer that ends inside a chunk."""

    def torn(answer: Answer) -> Answer:
        head = f"HTTP/1.1 {answer.status} OK\r\nTransfer-Encoding: chunked\r\n"
        lines = "".join(f"{key}: {value}\r\n" for key, value in answer.headers.items())
        return replace(answer, raw=f"{head}{lines}\r\n{len(answer.body):x}\r\n".encode() + answer.body[:at])

    return torn


def reset() -> Fault:
    """Answer with a TCP reset."""
    return lambda answer: replace(answer, reset=True)


def stall(at: int, seconds: float) -> Fault:
    """Say nothing for a while after `at` bytes, then go on."""
    return lambda answer: replace(answer, stall=(at, seconds))


def silence(seconds: float) -> Fault:
    """Take long before answering at all."""
    return lambda answer: replace(answer, silence_s=seconds)


def flip(at: int) -> Fault:
    """Change one byte of the file, if the answer holds it."""

    def flipped(answer: Answer) -> Answer:
        body, here = bytearray(answer.body), at - answer.start
        if 0 <= here < len(body):
            body[here] ^= 0x40
        return replace(answer, body=bytes(body))

    return flipped


def whole() -> Fault:
    """Ignore the range that was asked for."""
    return lambda answer: replace(
        answer, status=200, body=answer.whole, start=0, headers=_without(answer, "Content-Range")
    )


def shifted(by: int) -> Fault:
    """Send another range than the one asked for."""

    def shift(answer: Answer) -> Answer:
        start = max(0, answer.start - by)
        size = len(answer.whole)
        headers = answer.headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        return replace(answer, status=206, body=answer.whole[start:], start=start, headers=headers)

    return shift


def other_total(size: int) -> Fault:
    """Claim that the file has another size."""
    return headers({"Content-Range": f"bytes 0-{size - 1}/{size}"}, status=206)


def longer(by: int, *, length: bool = False) -> Fault:
    """Send more than the file."""
    return lambda answer: replace(answer, body=answer.body + b"x" * by, length=length)


def shorter(by: int) -> Fault:
    """Send less than the file, as if that were all of it."""
    return lambda answer: replace(answer, body=answer.body[:-by], length=False)


def status(code: int, more: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    """Answer with a status and nothing useful."""
    return lambda answer: replace(answer, status=code, headers=dict(more or {}), body=body)


def page() -> Fault:
    """Answer with a login page."""
    return status(
        200, {"Content-Type": "text/html; charset=utf-8"}, b"<html><title>Welcome to the hotel</title></html>"
    )


def headers(more: dict[str, str], *without: str, status: int | None = None) -> Fault:
    """Add or replace headers, and leave some out."""

    def changed(answer: Answer) -> Answer:
        kept = {key: value for key, value in answer.headers.items() if key not in without}
        return replace(answer, headers=kept | more, status=status or answer.status)

    return changed


def redirect(location: str) -> Fault:
    """Send the client elsewhere, without a word about the file."""
    return status(302, {"Location": location})


def garbage() -> Fault:
    """Answer with something that is not HTTP."""
    return lambda answer: replace(answer, raw=b"\x16\x03\x01 what is this\r\n\r\n")


def _without(answer: Answer, name: str) -> dict[str, str]:
    return {key: value for key, value in answer.headers.items() if key != name}


@dataclass
class Repo:
    """A repository: files at one commit."""

    files: dict[str, bytes | OnDisk]
    commit: str
    refs: set[str] = field(default_factory=lambda: {"main"})
    gated: bool = False

    def at(self, revision: str) -> bool:
        return revision == self.commit or revision in self.refs


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str  # HEAD or GET for files, API for questions
    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """Offset of the range asked for."""
        match = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else 0

    @property
    def bytes(self) -> int:
        """Length of the range asked for; 0 where none was."""
        match = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return int(match[2]) - int(match[1]) + 1 if match else 0


class OnDisk:
    """A file too big to be held: only pieces of it are ever read. It has no true hash, as nobody reads all of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return self.path.stat().st_size

    def __getitem__(self, piece: slice) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(piece.start)
            return file.read(piece.stop - piece.start)


def digest(data: bytes | OnDisk) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(str(data.path).encode() if isinstance(data, OnDisk) else data).hexdigest()


class LoopbackHub:
    """A hub for as long as the `with` block lasts; everything it has and does can be changed while it runs."""

    def __init__(self, *, cdn: LoopbackHub | None = None, token: str | None = None) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes | OnDisk] = {}
        self.requests: list[Asked] = []
        self.cdn, self.token = cdn, token
        self.closing = threading.Event()
        self._faults: dict[str, list[tuple[Fault, bool]]] = {"GET": [], "HEAD": [], "API": []}
        self._lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            def answer(self) -> tuple[str, Answer]:
                return hub._answer(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})

            def closing(self) -> threading.Event:
                return hub.closing

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(
        self, repo: str, files: Mapping[str, bytes | OnDisk], *, commit: str | None = None, gated: bool = False
    ) -> str:
        """Put a repository there, or a new commit of it; returns the commit."""
        text = json.dumps([repo, {name: digest(data) for name, data in files.items()}])
        commit = commit or hashlib.sha1(text.encode()).hexdigest()
        self.repos[repo] = Repo(dict(files), commit, gated=gated)
        for data in files.values():
            (self.cdn or self).blobs[digest(data)] = data
        return commit

    def spoil(self, method: str, *faults: Fault, forever: bool = False) -> None:
        """Let the next answers to HEAD, GET (of files) or API go wrong, a fault each, the last maybe `forever`."""
        with self._lock:
            self._faults[method] += [(fault, forever and fault is faults[-1]) for fault in faults]

    def heal(self) -> None:
        """Drop all faults that are left."""
        with self._lock:
            for faults in self._faults.values():
                faults.clear()

    def asked(self, method: str) -> list[Asked]:
        """The requests of one kind, in order."""
        return [request for request in self.requests if request.method == method]

    def _answer(self, command: str, path: str, asked: dict[str, str]) -> tuple[str, Answer]:
        path = unquote(urlsplit(path).path)
        kind = "API" if path.startswith("/api/") else command
        answer = self._api(path, asked) if kind == "API" else self._file(command, path, asked)
        with self._lock:
            self.requests.append(Asked(kind, path, asked))
            faults = self._faults.get(kind, [])
            if faults and not (self.cdn and kind == "GET"):
                fault, _ = faults[0] if faults[0][1] else faults.pop(0)
                answer = fault(answer)
        return kind, answer

    def _refusal(self, repo: Repo | None, revision: str, asked: dict[str, str]) -> Answer | None:
        if repo is None:
            return Answer(401 if "authorization" not in asked else 404, {"X-Error-Code": "RepoNotFound"})
        if repo.gated and asked.get("authorization") != f"Bearer {self.token}":
            return Answer(403 if "authorization" in asked else 401, {"X-Error-Code": "GatedRepo"})
        return None if repo.at(revision) else Answer(404, {"X-Error-Code": "RevisionNotFound"})

    def _api(self, path: str, asked: dict[str, str]) -> Answer:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path)
        name, kind, revision = match.groups() if match else ("", "", "")
        repo, revision = self.repos.get(name), revision or "main"
        if refusal := self._refusal(repo, revision, asked):
            return refusal
        assert repo
        items = [self._item(file, data) for file, data in repo.files.items()]
        if kind in ("tree", "paths-info"):
            tree = [
                {
                    "type": "file",
                    "path": item["rfilename"],
                    "size": item["size"],
                    "oid": "0",
                    "lfs": item["lfs"] | {"oid": item["lfs"]["sha256"], "pointerSize": 1},
                }
                for item in items
            ]
            return _json(tree)
        return _json({"id": name, "modelId": name, "sha": repo.commit, "tags": [], "siblings": items, "private": False})

    def _item(self, name: str, data: bytes | OnDisk) -> dict[str, Any]:
        found = digest(data)
        return {
            "rfilename": name,
            "size": len(data),
            "blobId": "0" * 40,
            "lfs": {"sha256": found, "size": len(data), "pointerSize": 134},
        }

    def _file(self, command: str, path: str, asked: dict[str, str]) -> Answer:
        if match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            data = self.blobs.get(match[1])
            return Answer(403, {}) if data is None else _bytes(data, asked)
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision, file = match.groups() if match else ("", "", "")
        repo = self.repos.get(name)
        if refusal := self._refusal(repo, revision, asked):
            return refusal
        assert repo
        if file not in repo.files:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
        data = repo.files[file]
        stated = {
            "X-Repo-Commit": repo.commit,
            "X-Linked-Etag": f'"{digest(data)}"',
            "X-Linked-Size": str(len(data)),
        }
        if self.cdn:
            return Answer(302, stated | {"Location": f"{self.cdn.url}/cdn/{digest(data)}"})
        answer = _bytes(data, asked)
        return replace(answer, headers=answer.headers | stated)


def _json(content: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())


def _bytes(data: bytes | OnDisk, asked: dict[str, str]) -> Answer:
    """A file, or the range of it that was asked for, if that is still a range of this version."""
    etag = f'"{digest(data)[:32]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
    if not match or asked.get("if-range", etag) != etag:
        return Answer(200, headers, data, data)
    start, end = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    if start >= len(data):
        return Answer(416, {"Content-Range": f"bytes */{len(data)}"}, whole=data)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Answer(206, headers, data[start : end + 1], data, start)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> tuple[str, Answer]:
        raise NotImplementedError

    def closing(self) -> threading.Event:
        raise NotImplementedError

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.command == "POST":
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, answer = self.answer()
        try:
            self._send(answer)
        except OSError:  # the client left
            self.close_connection = True

    do_HEAD = do_POST = do_GET  # noqa: N815

    def _send(self, answer: Answer) -> None:
        self.closing().wait(answer.silence_s)
        if answer.reset or answer.raw is not None:
            self.close_connection = True
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.sendall(answer.raw or b"")
            self.connection.close() if answer.reset else self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        if answer.length:
            self.send_header("Content-Length", str(len(answer.body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        if answer.stall:
            at, seconds = answer.stall
            self.wfile.write(body[:at])
            self.wfile.flush()
            self.closing().wait(seconds)
            body = body[at:]
        self.wfile.write(body)
        if answer.cut is not None or not answer.length:
            self.close_connection = True
