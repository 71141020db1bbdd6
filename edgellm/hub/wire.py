"""Questions to a hub over HTTP, by our rules: the token goes to the hub alone, https never falls back to http, nothing
is waited for without bound, and what goes wrong is said in a sentence with its cure. It knows no folder.

huggingface_hub lends its HTTP client (with the user's proxy and certificates) and the token. Its environment variables
mean what they mean there, but are read at every call.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from edgellm.errors import DownloadFailed, Gated, HashMismatch, NotOnHub, Offline, UsageError
from edgellm.hub.cache import CHUNK_BYTES, COMMIT, DIGEST, Promise, RemoteFile, Wanted, checked, safe, wished

T = TypeVar("T")

BACKOFF_S = 0.5  # the first wait before another try; doubles each time
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 30.0  # all waits together, also those a server asks for
TIMEOUT_S = 10.0  # without an answer; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT override it
_REDIRECTS = 10
_LISTING_BYTES = 64 << 20
_HUB = "https://huggingface.co"
_LINKED_ETAG = "X-Linked-Etag"


class Dropped(Exception):
    """A request failed in a way that may pass; `wait_s` is how long the server asked to wait."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Unreachable(Dropped):
    """Nobody answered."""


class Patience:
    """How often, and how long, something that fails is tried again."""

    def __init__(self, tries: int) -> None:
        self._left, self._backoff_s, self._left_s = tries, BACKOFF_S, LONGEST_WAIT_S

    def again(self, dropped: Dropped) -> bool:
        """Wait for the next try; False at once if there shall be none."""
        pause_s = self._backoff_s if dropped.wait_s is None else dropped.wait_s
        self._left, self._left_s = self._left - 1, self._left_s - pause_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        if self._left <= 0 or self._left_s < 0:
            return False
        time.sleep(pause_s)
        return True


def forbidden(offline: bool) -> str:
    """Why the network may not be used; empty if it may."""
    if offline:
        return "the network was not to be used"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if wished(variable):
            return f"{variable} forbids using the network"
    return ""


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or Hugging Face itself."""
    url = (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")
    with suppress(ValueError):
        scheme, name, _ = _origin(url)
        if scheme in ("http", "https") and name:
            return url
    raise UsageError(f"HF_ENDPOINT is {url!r}, which is not a web address such as {_HUB}.")


def address(repo: str, revision: str, name: str) -> str:
    """Where a file can be had."""
    return f"{endpoint()}/{repo}/resolve/{quote(revision, safe='')}/{quote(checked(name, repo))}"


def listing(repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
    """Commit and files of a repository at a branch, tag or commit; names that are not safe are left out."""
    url = f"{endpoint()}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"

    def ask() -> bytes:
        with request("GET", url, {"Accept": "application/json"}, metadata=True) as response:
            refuse(response, f"revision {revision}", repo)
            return _body(response)

    body = patiently(ask)
    try:
        return _listed(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_hub(f"its answer about {repo} makes no sense") from error


def _listed(answer: Mapping[str, Any]) -> tuple[str, list[RemoteFile]]:
    if not COMMIT.fullmatch(answer["sha"]):
        raise ValueError(answer["sha"])
    files = [_file(item) for item in answer["siblings"]]
    return answer["sha"], [file for file in files if safe(file.name)]


def _file(item: Mapping[str, Any]) -> RemoteFile:
    size, sha256 = item.get("size"), (item.get("lfs") or {}).get("sha256")
    return RemoteFile(
        str(item["rfilename"]),
        size if isinstance(size, int) and size >= 0 else None,
        sha256 if isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) else None,
    )


def promise(repo: str, revision: str, file: Wanted) -> Promise:
    """What the hub itself states a file of a commit to be, before it sends anybody elsewhere for the bytes.

    Raises HashMismatch where that differs from what is wanted.
    """
    url = address(repo, revision, file.name)

    def ask() -> tuple[Mapping[str, str], bool]:
        with request("HEAD", url, {"Accept-Encoding": "identity"}, metadata=True) as response:
            refuse(response, f"{file.name} at revision {revision[:12]}", repo)
            return response.headers, response.has_redirect_location

    headers, moved = patiently(ask)
    if headers.get("X-Repo-Commit") != revision and COMMIT.fullmatch(revision):
        raise _no_hub(f"it names no commit, or another one, for {repo} at {revision[:12]}")
    digest = (headers.get(_LINKED_ETAG) or ("" if moved else headers.get("ETag", ""))).removeprefix("W/").strip('"')
    size = headers.get("X-Linked-Size") or ("" if moved else headers.get("Content-Length", ""))
    if not size.isascii() or not size.isdecimal() or not DIGEST.fullmatch(digest):
        raise _no_hub(f"it states no hash or size for {file.name} of {repo}")
    return _compared(Promise(file.name, int(size), digest), file, repo)


def _compared(stated: Promise, file: Wanted, repo: str) -> Promise:
    if file.bytes is not None and stated.bytes != file.bytes:
        raise HashMismatch(f"{repo}: {file.name} has {stated.bytes:,} bytes on the hub and should have {file.bytes:,}.")
    if file.sha256 is None or file.sha256 == stated.digest:
        return stated
    if len(stated.digest) == 64:
        raise HashMismatch(
            f"{repo}: the sha256 of {file.name} is {stated.digest} on the hub and should be {file.sha256}."
        )
    return Promise(stated.name, stated.bytes, file.sha256)


def ranged(repo: str, revision: str, name: str, *, offline: bool = False) -> tuple[Callable[[int, int], bytes], int]:
    """Open a file on the hub for reading pieces: returns `read(offset, length) -> bytes`, and the file's size.

    Near the end a piece may be shorter. For looking before downloading: these bytes are not verified by any hash.
    Raises Offline, Gated, NotOnHub, DownloadFailed; `read` raises them too.
    """
    if reason := forbidden(offline):
        raise Offline(f"{name} of {repo} is not on this machine, and {reason}.")
    size, url = promise(repo, revision, RemoteFile(name)).bytes, address(repo, revision, name)

    def read(offset: int, length: int) -> bytes:
        end = min(offset + length, size)
        return patiently(lambda: _piece(url, repo, name, offset, end)) if 0 <= offset < end else b""

    return read, size


def _piece(url: str, repo: str, name: str, start: int, end: int) -> bytes:
    asks = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
    with request("GET", url, asks, metadata=False) as response:
        refuse(response, name, repo)
        if response.status_code != 206 or content_range(response)[0] != start:
            raise DownloadFailed(f"{host(url)} cannot send a part of {name} alone: download it whole (`edgellm pull`).")
        body = bytearray()
        for piece in response.iter_raw(CHUNK_BYTES):
            body += piece
            if len(body) >= end - start:
                break
        if len(body) < end - start:
            raise Dropped("the answer ended early")
        return bytes(body[: end - start])


def content_range(response: Any) -> tuple[int, int]:
    """First byte and full size that a partial answer claims; -1 where it does not say."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def patiently(ask: Callable[[], T]) -> T:
    """Ask, and again where the failure may pass; raises Offline when nobody answers, DownloadFailed when it goes on."""
    patience = Patience(tries=4)
    while True:
        try:
            return ask()
        except Unreachable as error:
            raise Offline(
                f"cannot reach {host(endpoint())}: {error}. Check the connection and proxy; what is installed "
                f"(`edgellm models`) works without."
            ) from error
        except Dropped as error:
            if not patience.again(error):
                raise DownloadFailed(f"{host(endpoint())} does not answer as it should: {error}.") from error


@contextmanager
def request(method: str, url: str, asks: Mapping[str, str], *, metadata: bool) -> Iterator[Any]:
    """Send one request, go where it is redirected, and yield the streamed response.

    `metadata` is taken from the hub alone, not from a host it points to: such a HEAD stops at the first response that
    states the file's hash. Raises Dropped, Unreachable and DownloadFailed.
    """
    session, http = _client()
    try:
        for _ in range(_REDIRECTS):
            options = {"headers": {**asks, **_identity(url)}, "follow_redirects": False, "timeout": _seconds(metadata)}
            with session.stream(method, url, **options) as response:
                if not response.has_redirect_location or (metadata and _LINKED_ETAG in response.headers):
                    yield response
                    return
                url = next_hop(url, response.headers["Location"], within_hub=metadata)
    except (http.ConnectError, http.TimeoutException, http.ProxyError, http.UnsupportedProtocol) as error:
        raise Unreachable(_reason(error)) from error
    except (http.HTTPError, http.InvalidURL, http.StreamError) as error:
        raise Dropped(_reason(error)) from error
    except ConnectionError as error:  # huggingface_hub's own refusal, where HF_HUB_OFFLINE was set when it was imported
        raise Offline(f"cannot reach {host(url)}: {error}") from error
    raise DownloadFailed(f"{host(endpoint())} redirects in circles, so this file cannot be had now.")


def _client() -> tuple[Any, Any]:
    """huggingface_hub's HTTP client, and the library it comes from: httpx2 since 2.0, httpx before."""
    from huggingface_hub.utils import get_session

    session = get_session()
    name = next(kind.__module__ for kind in type(session).__mro__ if kind.__name__ == "Client")
    return session, importlib.import_module(name.partition(".")[0])


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def next_hop(url: str, location: str, *, within_hub: bool) -> str:
    """Where a redirect leads; raises DownloadFailed for one that must not be followed."""
    try:
        target = urljoin(url, location)
        scheme, name, _ = origin = _origin(target)
    except ValueError:
        raise DownloadFailed(f"{host(url)} redirects to {location[:80]!r}, which is no address.") from None
    if scheme not in ("http", "https") or (scheme == "http" and _origin(url)[0] == "https"):
        raise DownloadFailed(f"{host(url)} redirects to {scheme}://{name}, which is not encrypted: refused.")
    if within_hub and origin not in _hubs():
        raise _no_hub(f"it points to {name} without stating the file's hash")
    return target


def _identity(url: str) -> dict[str, str]:
    """Headers that say who asks: our name, and to the hub itself, but nobody else, the user's token."""
    headers = {"User-Agent": "edgellm"}
    if _origin(url) == _origin(endpoint()) and not wished("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        from huggingface_hub import get_token

        if token := get_token():
            if not (token.isascii() and token.isprintable()):
                raise UsageError("the token for the hub (HF_TOKEN, or `hf auth login`) has characters no token has.")
            headers["Authorization"] = f"Bearer {token}"
    return headers


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _hubs() -> tuple[tuple[str, str, int], ...]:
    """Whose word about a file is taken: the hub's, and Hugging Face's where the hub is a mirror of it."""
    return _origin(endpoint()), _origin(_HUB)


def host(url: str) -> str:
    """The host's name alone: an address may hold a password or a signature."""
    return urlsplit(url).hostname or "the hub"


def _seconds(metadata: bool) -> float:
    variable = "HF_HUB_ETAG_TIMEOUT" if metadata else "HF_HUB_DOWNLOAD_TIMEOUT"
    try:
        return float(os.environ.get(variable) or TIMEOUT_S)
    except ValueError:
        raise UsageError(f"{variable} is {os.environ[variable]!r}, which is not a number of seconds.") from None


def refuse(response: Any, what: str, repo: str) -> None:
    """Raise what an answer's status means; does nothing for one that is good, or 416."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    if status < 400 or status == 416:
        return
    if status == 429:
        wait_s = _retry_after(response.headers)
        asked = "" if wait_s is None else f" and asks to wait {wait_s:.0f} s"
        raise Dropped(f"it has too many requests (429){asked}; a token in HF_TOKEN raises the limit", wait_s)
    if status in (408, 500, 502, 503, 504) or _origin(str(response.url)) not in _hubs():
        raise Dropped(f"status {status} from {host(str(response.url))}")
    if code == "GatedRepo" or status == 403 or (status == 401 and code != "RepoNotFound"):
        raise Gated(
            f"{repo} is gated or refuses this token ({status}): accept its licence at {endpoint()}/{repo}, and set "
            f"HF_TOKEN or run `hf auth login`."
        )
    if code in ("RepoNotFound", "") and status in (401, 404):
        raise NotOnHub(f"there is no {repo} on {host(endpoint())}, or it is private: check the name, or set HF_TOKEN.")
    if status in (404, 410):
        raise NotOnHub(f"{repo} is on {host(endpoint())}, but has no {what}.")
    raise DownloadFailed(f"{host(endpoint())} refuses {what} of {repo} with status {status}.")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait, by Retry-After (seconds or a date) or by the hub's RateLimit header."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    if reset := re.search(r"\bt\s*=\s*(\d{1,9})", headers.get("RateLimit", "")):
        return float(reset[1])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _body(response: Any) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes(CHUNK_BYTES):
        body += piece
        if len(body) > _LISTING_BYTES:
            raise _no_hub("its list of files does not end")
    return bytes(body)


def _no_hub(reason: str) -> DownloadFailed:
    return DownloadFailed(
        f"{host(endpoint())} does not answer like a Hugging Face hub: {reason}. "
        f"A proxy or login page may be in between."
    )
