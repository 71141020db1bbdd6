"""Promises of the hub: the right bytes or a sentence, never a wrong byte under a final name, never a token astray."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_hub import (
    LoopbackHub,
    cut,
    flip,
    garbage,
    headers,
    longer,
    other_total,
    page,
    redirect,
    reset,
    shifted,
    shorter,
    silence,
    stall,
    status,
    torn_chunks,
    whole,
)

from edgellm import hub
from edgellm.errors import (
    DiskFull,
    DownloadFailed,
    EdgeError,
    Gated,
    HashMismatch,
    NotOnHub,
    Offline,
    UsageError,
)
from edgellm.hub import cache, download, wire

REPO = "somebody/Model-7B-GGUF"
NAME = "model-7b.Q4_K_M.gguf"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BACKOFF_S", 0.002)
    monkeypatch.setattr(wire, "TIMEOUT_S", 5.0)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blobs(repo: str = REPO) -> dict[str, bytes]:
    """Everything under a final name in blobs/."""
    folder = cache.folder(repo) / "blobs"
    return {path.name: path.read_bytes() for path in folder.glob("*") if cache.DIGEST.fullmatch(path.name)}


def parts(repo: str = REPO) -> list[Path]:
    return list((cache.folder(repo) / "blobs").glob("*.part"))


# --- what can go wrong ------------------------------------------------------------------------------------------------

Break = Callable[[LoopbackHub, random.Random, int], None]


@dataclass(frozen=True)
class Trial:
    """A way to break a download of `size` bytes, and how it must end: None is well."""

    name: str
    spoil: Break
    ends: type[EdgeError] | None = None
    timeout_s: float = 5.0  # long enough for a busy machine, where no trial is about time


def get(*faults: Callable[[random.Random, int], Any], forever: bool = False) -> Break:
    return lambda server, dice, size: server.spoil("GET", *[fault(dice, size) for fault in faults], forever=forever)


def head(*faults: Callable[[random.Random, int], Any], forever: bool = False) -> Break:
    return lambda server, dice, size: server.spoil("HEAD", *[fault(dice, size) for fault in faults], forever=forever)


def somewhere(dice: random.Random, size: int) -> int:
    return dice.randrange(1, size - 1)


def cut_somewhere(dice: random.Random, size: int) -> Any:
    return cut(somewhere(dice, size))


def at_start(dice: random.Random, size: int) -> Any:
    return cut(size // 2)


def flip_early(dice: random.Random, size: int) -> Any:
    return flip(dice.randrange(size // 4))


def flip_early_and_cut(dice: random.Random, size: int) -> Any:
    flipped, ended = flip_early(dice, size), cut(size // 2)
    return lambda answer: ended(flipped(answer))


TRIALS = [
    Trial("dropped", get(cut_somewhere)),
    Trial("dropped thrice", get(cut_somewhere, cut_somewhere, cut_somewhere)),
    Trial("dropped before the first byte", get(lambda *_: cut(0))),
    Trial("dropped again and again", get(lambda *_: cut(0), forever=True), DownloadFailed),
    Trial("connection reset", get(lambda *_: reset())),
    Trial("resets forever", get(lambda *_: reset(), forever=True), DownloadFailed),
    Trial("stalled", get(lambda d, n: stall(somewhere(d, n), 1.0)), timeout_s=0.25),
    Trial("a wrong byte", get(lambda d, n: flip(somewhere(d, n))), HashMismatch),
    Trial("a wrong byte every time", get(lambda *_: flip(7), forever=True), HashMismatch),
    Trial("a wrong byte in what is resumed", get(at_start, lambda d, n: flip(n - 5)), HashMismatch),
    Trial("a range ignored", get(at_start, lambda *_: whole())),
    Trial("a range refused", get(at_start, lambda *_: status(416))),
    Trial("a range shifted", get(at_start, lambda d, n: shifted(1 + d.randrange(n // 2)))),
    Trial("a range of another file", get(at_start, lambda d, n: other_total(n + 1))),
    Trial("ranges of another file only", get(at_start, lambda d, n: other_total(n + 1), forever=True), DownloadFailed),
    Trial("too long", get(lambda d, n: longer(1 + d.randrange(99))), HashMismatch),
    Trial("too long, and said so", get(lambda *_: longer(10, length=True))),
    Trial("too short", get(lambda d, n: shorter(1 + d.randrange(99)))),
    Trial("an empty answer", get(lambda *_: status(200))),
    Trial("torn inside a chunk", get(lambda d, n: torn_chunks(somewhere(d, n)))),
    Trial("compressed", get(lambda *_: headers({"Content-Encoding": "gzip"}))),
    Trial("compressed forever", get(lambda *_: headers({"Content-Encoding": "gzip"}), forever=True), DownloadFailed),
    Trial("a login page", get(lambda *_: page())),
    Trial("a login page halfway", get(at_start, lambda *_: page())),
    Trial("login pages only", get(lambda *_: page(), forever=True), DownloadFailed),
    Trial("not HTTP", get(lambda *_: garbage())),
    Trial("500", get(lambda *_: status(500))),
    Trial("502 and 504", get(lambda *_: status(502), lambda *_: status(504))),
    Trial("503 forever", get(lambda *_: status(503), forever=True), DownloadFailed),
    Trial("429 for a moment", get(lambda *_: status(429, {"Retry-After": "0"}))),
    Trial("429 for an hour", get(lambda *_: status(429, {"Retry-After": "3600"}), forever=True), DownloadFailed),
    Trial("404 after all", get(lambda *_: status(404, {"X-Error-Code": "EntryNotFound"})), NotOnHub),
    Trial("418", get(lambda *_: status(418)), DownloadFailed),
    Trial("redirected to another protocol", get(lambda *_: redirect("ftp://127.0.0.1/x")), DownloadFailed),
    Trial("redirected to nonsense", get(lambda *_: redirect("http://[/"), forever=True), DownloadFailed),
    Trial("redirected in circles", get(lambda *_: redirect("?again"), forever=True), DownloadFailed),
    Trial("another version halfway", get(at_start, lambda *_: headers({"ETag": '"new"'}))),
    Trial("HEAD: 500 once", head(lambda *_: status(500))),
    Trial("HEAD: 500 forever", head(lambda *_: status(500), forever=True), DownloadFailed),
    Trial("HEAD: reset once", head(lambda *_: reset())),
    Trial("HEAD: not HTTP", head(lambda *_: garbage())),
    Trial("HEAD: 429 by RateLimit", head(lambda *_: status(429, {"RateLimit": '"api";r=0;t=0'}))),
    Trial(
        "HEAD: 429 until 2035",
        head(lambda *_: status(429, {"Retry-After": "Mon, 01 Jan 2035 00:00:00 GMT"})),
        DownloadFailed,
    ),
    Trial("HEAD: 429 with nonsense", head(lambda *_: status(429, {"Retry-After": "soon"}))),
    Trial("HEAD: gated", head(lambda *_: status(401, {"X-Error-Code": "GatedRepo"})), Gated),
    Trial("HEAD: forbidden", head(lambda *_: status(403)), Gated),
    Trial("HEAD: bad token", head(lambda *_: status(401, {"X-Error-Message": "Invalid credentials"})), Gated),
    Trial("HEAD: no such repository", head(lambda *_: status(401, {"X-Error-Code": "RepoNotFound"})), NotOnHub),
    Trial("HEAD: no such revision", head(lambda *_: status(404, {"X-Error-Code": "RevisionNotFound"})), NotOnHub),
    Trial("HEAD: a login page", head(lambda *_: page()), DownloadFailed),
    Trial("HEAD: another commit", head(lambda *_: headers({"X-Repo-Commit": "0" * 40})), DownloadFailed),
    Trial("HEAD: no hash", head(lambda *_: headers({}, "X-Linked-Etag", "ETag")), DownloadFailed),
    Trial("HEAD: a path for a hash", head(lambda *_: headers({"X-Linked-Etag": '"../../../evil"'})), DownloadFailed),
    Trial("HEAD: no size", head(lambda *_: headers({"X-Linked-Size": "-5"})), DownloadFailed),
    Trial("HEAD: an endless file", head(lambda *_: headers({"X-Linked-Size": str(10**18)})), DiskFull),
    Trial("HEAD: a smaller size", head(lambda d, n: headers({"X-Linked-Size": str(n - 1)})), DownloadFailed),
    Trial("HEAD: a larger size", head(lambda d, n: headers({"X-Linked-Size": str(n + 1)})), DownloadFailed),
    Trial("HEAD: another hash", head(lambda *_: headers({"X-Linked-Etag": f'"{"0" * 64}"'})), HashMismatch),
    Trial("HEAD: sent elsewhere", head(lambda *_: redirect("http://127.0.0.1:9/x")), DownloadFailed),
    Trial("HEAD: no answer", head(lambda *_: silence(1.0)), Offline, timeout_s=0.1),
]


def survive(server: LoopbackHub, trial: Trial, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One broken download: well or a sentence, in bounded time; nothing wrong in the cache; the next run repairs it."""
    dice, repo = random.Random(f"{trial.name}{seed}"), f"{REPO}-{len(server.repos)}"
    data = dice.randbytes(dice.randrange(200_000, 700_000))
    commit = server.add(repo, {NAME: data})
    trial.spoil(server, dice, len(data))
    monkeypatch.setattr(wire, "TIMEOUT_S", trial.timeout_s)
    begun = time.monotonic()
    if trial.ends is None:
        (path,) = hub.fetch(repo, commit, [NAME])
        assert path.read_bytes() == data
    else:
        with pytest.raises(trial.ends) as caught:
            hub.fetch(repo, commit, [NAME])
        assert type(caught.value) is trial.ends
        assert 20 < len(str(caught.value)) < 400
        assert not blobs(repo)
    assert time.monotonic() - begun < 5
    monkeypatch.setattr(wire, "TIMEOUT_S", 5.0)
    if trial.ends is HashMismatch:
        assert not parts(repo), "bytes that are proven wrong are not kept"
    server.heal()
    (path,) = hub.fetch(repo, commit, [NAME])
    assert path.read_bytes() == data
    assert set(blobs(repo)) == {sha256(data)}
    assert not parts(repo)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_whatever_goes_wrong_the_bytes_are_right_or_there_is_a_sentence(
    loop: LoopbackHub, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        survive(loop, trial, seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_whatever_goes_wrong_with_more_seeds(loop: LoopbackHub, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for trial in TRIALS:
        survive(loop, trial, seed, monkeypatch)


def test_a_damaged_part_does_not_need_a_second_call(loop: LoopbackHub) -> None:
    data = random.Random(5).randbytes(300_000)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", cut(200_000), *[cut(0)] * 6)
    with pytest.raises(DownloadFailed, match=r"run it again to go on"):
        hub.fetch(REPO, commit, [NAME])
    (part,) = parts()
    assert part.stat().st_size == 200_000
    part.write_bytes(bytes(200_000))  # as a power failure may leave it
    loop.heal()
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data


def test_a_slow_line_that_drops_often_arrives_in_the_end(loop: LoopbackHub) -> None:
    data = random.Random(6).randbytes(8 << 20)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", cut(700_000), forever=True)
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    assert len(loop.asked("GET")) == 12


# --- resuming, and several at once ------------------------------------------------------------------------------------

FETCH = """
import sys
from edgellm import hub
print(hub.fetch(sys.argv[1], sys.argv[2], sys.argv[3:])[0])
"""


def fetching(commit: str) -> subprocess.Popen[str]:
    """Start the download in a process of its own."""
    command = [sys.executable, "-c", FETCH, REPO, commit, NAME]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


@pytest.mark.parametrize(
    "offsets",
    [
        pytest.param((1 << 16, 5_000_001, 16 << 20), id="three"),
        pytest.param(tuple(sorted(random.Random(3).sample(range(24 << 20), 20))), id="twenty", marks=pytest.mark.slow),
    ],
)
def test_after_kill_9_only_the_rest_is_fetched(loop: LoopbackHub, offsets: tuple[int, ...]) -> None:
    data = random.Random(1).randbytes(24 << 20)
    commit = loop.add(REPO, {NAME: data})
    part = cache.folder(REPO) / "blobs" / f"{sha256(data)}.part"
    for reached in (*offsets, len(data) - 1):
        held = part.stat().st_size if part.exists() else 0
        loop.spoil("GET", stall(reached - held, 60))
        child = fetching(commit)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= reached):
            time.sleep(0.01)
        child.kill()
        child.communicate()
        assert child.returncode == -9
        assert not blobs()
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    starts = [asked.start for asked in loop.asked("GET")]
    assert starts == [0, *offsets, len(data) - 1]  # not a byte twice


def test_two_processes_make_one_download(loop: LoopbackHub) -> None:
    data = random.Random(2).randbytes(3_000_000)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", stall(1_000_000, 0.45))
    children = [fetching(commit), fetching(commit)]
    answers = [child.communicate(timeout=30) for child in children]
    assert [child.returncode for child in children] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert Path(answers[0][0].strip()).read_bytes() == data
    assert len(loop.asked("GET")) == 1


def test_who_waits_for_another_process_sees_its_progress(loop: LoopbackHub) -> None:
    data = random.Random(3).randbytes(500_000)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", stall(123_456, 1.0))
    first = threading.Thread(target=hub.fetch, args=(REPO, commit, [NAME]))
    first.start()
    while not (parts() and parts()[0].stat().st_size == 123_456):
        time.sleep(0.01)
    seen: list[int] = []
    hub.fetch(REPO, commit, [NAME], progress=lambda file, done, total: seen.append(done))
    first.join()
    assert seen[0] == 123_456
    assert len(loop.asked("GET")) == 1


def test_a_whole_part_is_not_asked_for_again(loop: LoopbackHub) -> None:
    data = random.Random(4).randbytes(100_000)
    commit = loop.add(REPO, {NAME: data})
    folder = cache.folder(REPO) / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{sha256(data)}.part").write_bytes(data)
    (folder / f"{sha256(data)}.part.json").write_text(json.dumps({"bytes": len(data)}))
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    assert not loop.asked("GET")


@pytest.mark.parametrize("notes", ["", "{torn", "[1]", '{"bytes": 99}'])
def test_a_part_of_unknown_origin_is_not_used(loop: LoopbackHub, notes: str) -> None:
    data = random.Random(4).randbytes(100_000)
    commit = loop.add(REPO, {NAME: data})
    folder = cache.folder(REPO) / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{sha256(data)}.part").write_bytes(b"something else")
    (folder / f"{sha256(data)}.part.json").write_text(notes)
    hub.fetch(REPO, commit, [NAME])
    assert [asked.start for asked in loop.asked("GET")] == [0]


def test_a_newer_version_on_the_server_is_not_glued_to_the_old_one(loop: LoopbackHub) -> None:
    data = random.Random(8).randbytes(100_000)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", cut(50_000), *[cut(0)] * 6)
    with pytest.raises(DownloadFailed):
        hub.fetch(REPO, commit, [NAME])
    notes = parts()[0].with_suffix(".part.json")
    notes.write_text(notes.read_text().replace(json.loads(notes.read_text())["version"].strip('"'), "older"))
    loop.heal()
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    assert loop.asked("GET")[-1].headers["if-range"] == '"older"'


def test_progress_ends_with_everything(loop: LoopbackHub) -> None:
    data = random.Random(9).randbytes(400_000)
    commit = loop.add(REPO, {NAME: data})
    seen: list[tuple[str, int, int]] = []
    hub.fetch(REPO, commit, [NAME], progress=lambda *told: seen.append(told))
    assert seen[-1] == (NAME, len(data), len(data))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


# --- the token, and where we let ourselves be sent --------------------------------------------------------------------


@pytest.fixture
def elsewhere(loop: LoopbackHub) -> Iterator[LoopbackHub]:
    """A second host that has the bytes."""
    with LoopbackHub() as cdn:
        loop.cdn, loop.token = cdn, "hf_secret"
        yield cdn


def test_the_token_reaches_the_hub_and_nobody_else(
    loop: LoopbackHub, elsewhere: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    data = random.Random(1).randbytes(200_000)
    commit = loop.add(REPO, {NAME: data}, gated=True)
    elsewhere.spoil("GET", cut(1000))
    remote = hub.resolve(REPO)
    (path,) = hub.fetch(REPO, remote.revision, remote.files)
    read, _ = hub.ranged(REPO, commit, NAME)
    assert read(5, 10) == data[5:15]
    assert path.read_bytes() == data
    assert {asked.headers.get("authorization") for asked in loop.requests} == {"Bearer hf_secret"}
    assert len(elsewhere.requests) == 3
    assert all("authorization" not in asked.headers and "cookie" not in asked.headers for asked in elsewhere.requests)
    assert not any(b"hf_secret" in path.read_bytes() for path in cache.root().rglob("*") if path.is_file())


def test_the_token_stays_at_home_when_it_is_not_to_be_implied(
    loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    loop.add(REPO, {NAME: b"x"})
    hub.resolve(REPO)
    assert "authorization" not in loop.requests[0].headers


def test_a_token_no_header_can_hold_is_refused_without_being_shown(
    loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    with pytest.raises(UsageError) as caught:
        hub.resolve(REPO)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["HEAD", "API"])
def test_another_host_may_not_say_what_a_file_is(loop: LoopbackHub, elsewhere: LoopbackHub, kind: str) -> None:
    data = b"GGUF" * 1000
    commit = loop.add(REPO, {NAME: data})
    loop.spoil(kind, redirect(f"{elsewhere.url}/api/models/{REPO}"))
    with pytest.raises(DownloadFailed, match="proxy or login page"):
        hub.resolve(REPO) if kind == "API" else hub.fetch(REPO, commit, [NAME])
    assert not elsewhere.requests


@pytest.mark.parametrize(
    ("url", "location", "leads"),
    [
        ("https://hub.example/a", "https://cdn.example/b?signature=1", "https://cdn.example/b?signature=1"),
        ("https://hub.example/a/b", "../c", "https://hub.example/c"),
        ("http://hub.example/a", "https://hub.example/a", "https://hub.example/a"),
        ("https://hub.example/a", "http://hub.example/a", None),
        ("https://hub.example/a", "http://cdn.example/b", None),
        ("https://hub.example/a", "file:///etc/passwd", None),
        ("https://hub.example/a", "http://[::1", None),
        ("https://hub.example/a", "//cdn.example:bad/b", None),
    ],
)
def test_no_redirect_leads_out_of_encryption(url: str, location: str, leads: str | None) -> None:
    if leads:
        assert wire.next_hop(url, location, within_hub=False) == leads
    else:
        with pytest.raises(DownloadFailed):
            wire.next_hop(url, location, within_hub=False)


def test_a_renamed_repository_is_followed_within_the_hub(loop: LoopbackHub) -> None:
    data = b"GGUF" * 1000
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("API", redirect(f"/api/models/{REPO}/revision/main"))
    loop.spoil("HEAD", redirect(f"/{REPO}/resolve/{commit}/{NAME}"))
    remote = hub.resolve(REPO)
    assert hub.fetch(REPO, remote.revision, remote.files)[0].read_bytes() == data


# --- names ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../evil.gguf",
    "/etc/evil.gguf",
    "a/../../evil.gguf",
    "a\\..\\evil.gguf",
    "C:evil.gguf",
    "evil\0.gguf",
    "evil\n.gguf",
    "a//evil.gguf",
    "./evil.gguf",
    "\\\\host\\share\\evil.gguf",
    "x" * 300 + ".gguf",
    "\u202eevil.gguf",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_leave_the_cache_never_becomes_a_path(
    loop: LoopbackHub, name: str, private_home: Path
) -> None:
    loop.add(REPO, {name: b"evil", NAME: b"good"})
    assert [file.name for file in hub.resolve(REPO).files] == [NAME]
    before = sorted(private_home.rglob("*"))
    with pytest.raises(DownloadFailed, match="refused"):
        hub.fetch(REPO, loop.repos[REPO].commit, [name])
    with pytest.raises(DownloadFailed, match="refused"):
        hub.cached(REPO, loop.repos[REPO].commit, [name])
    assert sorted(private_home.rglob("*")) == before


@pytest.mark.parametrize("repo", ["", "a", "a/b/c", "../b", "a/..", "a/b--c", "a b/c", "/a", "a/", "-a/b", "a/b\n"])
def test_what_cannot_be_a_repository_is_refused(repo: str) -> None:
    for use in (hub.resolve, hub.remove):
        with pytest.raises(UsageError, match="user/repo"):
            use(repo)


def test_a_revision_must_be_pinned_before_fetching(loop: LoopbackHub) -> None:
    loop.add(REPO, {NAME: b"x"})
    with pytest.raises(UsageError, match="40"):
        hub.fetch(REPO, "main", [NAME])


MANY = [
    "README.md",
    "config.json",
    "imatrix.gguf",
    "mmproj-model-F16.gguf",
    "model-BF16.gguf",
    "model-IQ4_XS.gguf",
    "model-Q2_K.gguf",
    "model-Q4_K_M.gguf",
    "model-Q4_K_S.gguf",
    "model-Q8_0-00001-of-00002.gguf",
    "model-Q8_0-00002-of-00002.gguf",
    "model-UD-Q4_K_M.gguf",
    "model-UD-Q2_K_XL.gguf",
    "mtp-model-Q4_K_M.gguf",
    "sub/other.i1-Q6_K.gguf",
]


@pytest.mark.parametrize(
    ("quant", "chosen"),
    [
        (None, ["model-Q4_K_M.gguf"]),
        ("q4_k_m", ["model-Q4_K_M.gguf"]),
        ("Q4_K_S", ["model-Q4_K_S.gguf"]),
        ("UD-Q4_K_M", ["model-UD-Q4_K_M.gguf"]),
        ("UD-Q2_K_XL", ["model-UD-Q2_K_XL.gguf"]),
        ("Q2_K_XL", ["model-UD-Q2_K_XL.gguf"]),
        ("Q8_0", ["model-Q8_0-00001-of-00002.gguf", "model-Q8_0-00002-of-00002.gguf"]),
        ("bf16", ["model-BF16.gguf"]),
        ("Q6_K", ["sub/other.i1-Q6_K.gguf"]),
    ],
)
def test_a_quantization_is_found_by_llama_cpps_rule(quant: str | None, chosen: list[str]) -> None:
    assert hub.choose(MANY, quant) == chosen
    assert hub.choose(MANY[::-1], quant) == chosen


@pytest.mark.parametrize("quant", ["F16", "Q5_K_M", "Q4_K", "K_M", "4_K_M", "Q", ".", "Q4_K_M.gguf.bak", "XS"])
def test_a_quantization_that_is_not_there_is_never_replaced(quant: str) -> None:
    with pytest.raises(NotOnHub, match=r"Q2_K, Q4_K_M, Q4_K_S, Q8_0, UD-Q2_K_XL, UD-Q4_K_M, Q6_K"):
        hub.choose(MANY, quant)


def test_names_with_underscores_are_understood() -> None:
    assert hub.choose(["model_q4_0.gguf", "model_iq4_xs.gguf", "model_f16.gguf"], "Q4_0") == ["model_q4_0.gguf"]


def test_without_a_choice_it_is_q4_k_m_then_q8_0_then_the_first() -> None:
    without = [name for name in MANY if "Q4_K_M" not in name]
    assert hub.choose(without, None)[0] == "model-Q8_0-00001-of-00002.gguf"
    assert hub.choose(["z-IQ1_S.gguf", "a-Q5_0.gguf", "a-Q5_1.gguf"], None) == ["a-Q5_0.gguf"]
    assert hub.choose(["a-UD-Q4_K_M.gguf", "a-Q8_0.gguf"], None) == ["a-UD-Q4_K_M.gguf"]


def test_all_parts_of_a_split_model_or_none() -> None:
    with pytest.raises(NotOnHub, match="00002-of-00003"):
        hub.choose(["m-Q4_K_M-00001-of-00003.gguf", "m-Q4_K_M-00003-of-00003.gguf"], None)
    with pytest.raises(NotOnHub, match=r"no .gguf model"):
        hub.choose(["m-Q4_K_M-00002-of-00003.gguf", "README.md"], "Q4_K_M")
    assert len(hub.choose(MANY, None, "model-Q8_0-00002-of-00002.gguf")) == 2


def test_a_file_asked_for_by_name_is_that_file() -> None:
    assert hub.choose(MANY, None, "mmproj-model-F16.gguf") == ["mmproj-model-F16.gguf"]
    with pytest.raises(NotOnHub, match="1 more"):
        hub.choose(MANY, None, "model.gguf")
    with pytest.raises(NotOnHub, match="It has none"):
        hub.choose(["README.md"], None, "model.gguf")


@settings(max_examples=60)
@given(
    st.lists(st.from_regex(r"[a-z]{1,3}[.-](UD-)?I?Q[1-8]_[01KMS](_[KMS])?\.gguf", fullmatch=True), max_size=8),
    st.sampled_from(["Q4_K_M", "Q4_K", "Q4_0", "IQ4_S", "Q8_0", "q5_1", "UD-Q4_K"]),
)
def test_what_is_chosen_always_carries_what_was_asked_for(names: list[str], quant: str) -> None:
    try:
        (name,) = hub.choose(names, quant)
    except NotOnHub:
        assert not any(f"-{quant}.gguf".lower() in name.lower().replace(".", "-", 1) for name in names)
    else:
        stem = name.removesuffix(".gguf").upper()
        assert stem.endswith(quant.upper())
        assert stem[-len(quant) - 1] in ".-"


# --- asking the hub ---------------------------------------------------------------------------------------------------


def test_resolve_names_commit_sizes_and_hashes(loop: LoopbackHub) -> None:
    data = b"GGUF" + bytes(100)
    commit = loop.add(REPO, {NAME: data, "README.md": b"hi"})
    remote = hub.resolve(REPO)
    assert remote == hub.Remote(REPO, commit, (hub.RemoteFile(NAME, len(data), sha256(data)),), "main")
    assert hub.resolve(REPO, revision=commit).files == remote.files
    assert hub.resolve(REPO, file=NAME).files == remote.files


def test_what_is_missing_is_said_in_words(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: b"x"})
    with pytest.raises(NotOnHub, match=r"no somebody/Nothing-GGUF on 127.0.0.1"):
        hub.resolve("somebody/Nothing-GGUF")
    with pytest.raises(NotOnHub, match="no revision v2"):
        hub.resolve(REPO, revision="v2")
    with pytest.raises(NotOnHub, match=r"has no model-7b.Q5_K_M.gguf"):
        hub.fetch(REPO, commit, ["model-7b.Q5_K_M.gguf"])
    loop.repos[REPO].gated = True
    with pytest.raises(Gated, match=r"accept its licence at http.*HF_TOKEN"):
        hub.resolve(REPO)


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"null", b"{}", b'{"sha": "main", "siblings": []}', b'{"sha": 5, "siblings": []}',
     b'{"sha": "%s", "siblings": 3}' % (b"0" * 40), b'{"sha": "%s", "siblings": [7]}' % (b"0" * 40),
     b'{"sha": "%s", "siblings": [{"size": 1}]}' % (b"0" * 40), b"[" * 100_000, b"\xff\xfe"],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_is_a_sentence(loop: LoopbackHub, body: bytes) -> None:
    loop.spoil("API", status(200, {"Content-Type": "application/json"}, body))
    with pytest.raises(DownloadFailed, match="does not answer like a Hugging Face hub"):
        hub.resolve(REPO)


def test_an_endless_answer_is_cut_short(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LISTING_BYTES", 1000)
    loop.spoil("API", status(200, {}, b" " * 2000))
    with pytest.raises(DownloadFailed, match="does not end"):
        hub.resolve(REPO)


@pytest.mark.parametrize(
    "sizes", [{"size": -1}, {"size": "big"}, {"size": None}, {"lfs": {"sha256": "short"}}, {"lfs": None}]
)
def test_odd_sizes_and_hashes_in_a_list_count_as_unknown(loop: LoopbackHub, sizes: dict[str, Any]) -> None:
    item = {"rfilename": NAME, "size": 5, "lfs": {"sha256": "0" * 64}} | sizes
    loop.spoil("API", status(200, {}, json.dumps({"sha": "1" * 40, "siblings": [item]}).encode()))
    (file,) = hub.resolve(REPO).files
    assert file.bytes in (5, None)
    assert file.sha256 in ("0" * 64, None)
    assert file != hub.RemoteFile(NAME, 5, "0" * 64)


def test_what_the_catalogue_promises_must_be_what_the_hub_states(loop: LoopbackHub) -> None:
    data = b"GGUF" * 100
    commit = loop.add(REPO, {NAME: data})
    with pytest.raises(HashMismatch, match=r"400 bytes on the hub and should have 7"):
        hub.fetch(REPO, commit, [hub.RemoteFile(NAME, 7)])
    with pytest.raises(HashMismatch, match="should be 0000"):
        hub.fetch(REPO, commit, [hub.RemoteFile(NAME, len(data), "0" * 64)])
    assert not loop.asked("GET")


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_a_small_file_is_verified_by_gits_hash_or_the_catalogues(loop: LoopbackHub) -> None:
    data = b"GGUF tiny"
    commit = loop.add(REPO, {NAME: data, "b.gguf": data})
    plain = headers({"ETag": f'W/"{git_sha1(data)}"'}, "X-Linked-Etag", "X-Linked-Size")
    loop.spoil("HEAD", plain, plain)
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert (path.read_bytes(), path.resolve().name) == (data, git_sha1(data))
    (path,) = hub.fetch(REPO, commit, [hub.RemoteFile("b.gguf", len(data), sha256(data))])
    assert path.resolve().name == sha256(data)
    loop.repos[REPO].files["c.gguf"] = b"GGUF wrong"
    loop.spoil("HEAD", headers({"ETag": f'"{git_sha1(data)}"'}, "X-Linked-Etag", "X-Linked-Size"))
    with pytest.raises(HashMismatch):
        hub.fetch(REPO, commit, ["c.gguf"])


def test_pieces_can_be_read_before_downloading(loop: LoopbackHub) -> None:
    data = random.Random(1).randbytes(100_000)
    commit = loop.add(REPO, {NAME: data})
    read, size = hub.ranged(REPO, commit, NAME)
    assert size == len(data)
    assert (read(0, 10), read(99_990, 100), read(100_000, 5), read(5, 0), read(-3, 2)) == (
        data[:10], data[-10:], b"", b"", b"")  # fmt: skip
    loop.spoil("GET", cut(10), status(503))
    assert read(0, 50_000) == data[:50_000]
    assert hub.ranged(REPO, "main", NAME)[1] == size
    assert not cache.root().exists()


@pytest.mark.parametrize(
    "fault", [whole(), shifted(1), other_total(5), status(416)], ids=["whole", "shifted", "total", "416"]
)
def test_pieces_of_the_wrong_place_are_never_taken(loop: LoopbackHub, fault: Any) -> None:
    commit = loop.add(REPO, {NAME: bytes(1000)})
    read, _ = hub.ranged(REPO, commit, NAME)
    loop.spoil("GET", fault)
    with pytest.raises(DownloadFailed, match="download it whole"):
        read(100, 10)


# --- without a network ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
def test_offline_says_so_at_once_and_opens_no_socket(
    no_sockets: None, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    offline = variable is None
    begun = time.monotonic()
    for use in (
        lambda: hub.resolve(REPO, offline=offline),
        lambda: hub.fetch(REPO, "0" * 40, [NAME], offline=offline),
        lambda: hub.ranged(REPO, "0" * 40, NAME, offline=offline),
    ):
        with pytest.raises(Offline, match=variable or "was not to be used"):
            use()
    assert time.monotonic() - begun < 1


def test_what_is_installed_needs_no_network(
    loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    data = b"GGUF" * 1000
    loop.add(REPO, {NAME: data, "model-7b.Q8_0.gguf": b"8"})
    remote = hub.resolve(REPO)
    paths = hub.fetch(REPO, remote.revision, remote.files, ref=remote.ref)
    request.getfixturevalue("no_sockets")
    assert hub.fetch(REPO, remote.revision, remote.files) == paths
    assert hub.cached(REPO, remote.revision, [NAME]) == paths
    assert hub.cached(REPO, "main", remote.files) == paths
    assert hub.verify(paths[0]) == sha256(data)
    again = hub.resolve(REPO, offline=True)
    assert (again.revision, again.files[0].name, again.files[0].bytes) == (remote.revision, NAME, len(data))
    with pytest.raises(NotOnHub, match="no Q8_0"):
        hub.resolve(REPO, "Q8_0", offline=True)
    with pytest.raises(Offline):
        hub.resolve(REPO, revision="v9", offline=True)


def test_main_may_be_the_only_commit_there_is(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: b"GGUF"})
    hub.fetch(REPO, commit, [NAME])
    assert hub.resolve(REPO, offline=True).revision == commit


def test_an_unreachable_hub_is_said_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(Offline, match=r"cannot reach 127.0.0.1: .*Check the connection"):
        hub.resolve(REPO)
    with pytest.raises(Offline):
        hub.fetch(REPO, "0" * 40, [NAME])
    assert time.monotonic() - begun < 2


def test_a_line_that_breaks_for_good_keeps_what_came(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: bytes(300_000)})
    loop.spoil("GET", cut(100_000), redirect("http://127.0.0.1:9/gone"), forever=True)
    with pytest.raises(DownloadFailed, match=r"100.00 kB of 300.00 kB are kept"):
        hub.fetch(REPO, commit, [NAME])


def test_huggingface_hubs_own_refusal_is_ours(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline, match="HF_HUB_OFFLINE"):
        hub.resolve(REPO)


@pytest.mark.parametrize("address", ["hub.example", "ftp://hub.example", "http://", "http://h:port", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        hub.resolve(REPO)


def test_timeouts_are_huggingface_hubs(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub  # noqa: F401  reads the variable itself, and knows whole seconds only

    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.05")
    loop.spoil("HEAD", silence(1.0))
    with pytest.raises(Offline):
        hub.fetch(REPO, loop.add(REPO, {NAME: b"x"}), [NAME])
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="HF_HUB_ETAG_TIMEOUT"):
        hub.resolve(REPO)


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_download_that_would_not_fit_is_not_begun(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random.Random(1).randbytes(60_000), random.Random(2).randbytes(40_000)
    commit = loop.add(REPO, {"a.gguf": a, "b.gguf": b})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 104_999))
    with pytest.raises(DiskFull, match=r"105.00 kB are needed and 105.00 kB are free") as caught:
        hub.fetch(REPO, commit, ["a.gguf", "b.gguf"])
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (105_000, 104_999)
    assert not loop.asked("GET")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 105_000))
    hub.fetch(REPO, commit, ["a.gguf"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 42_000))
    hub.fetch(REPO, commit, ["a.gguf", "b.gguf"])  # only what is missing counts


def test_a_disk_that_fills_up_keeps_what_came(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(3).randbytes(300_000)
    commit = loop.add(REPO, {NAME: data})
    take, room = download._Part.take, [100_000]

    def small(part: Any, piece: bytes) -> None:
        if part.done + len(piece) > room[0]:
            raise OSError(28, "No space left on device")
        take(part, piece)

    monkeypatch.setattr(download._Part, "take", small)
    with pytest.raises(DiskFull, match=r"still to come and .* free.*run it again") as caught:
        hub.fetch(REPO, commit, [NAME])
    held = parts()[0].stat().st_size
    assert caught.value.needed_bytes == len(data) - held
    room[0] = 10**9
    hub.fetch(REPO, commit, [NAME])
    assert loop.asked("GET")[-1].start == held > 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_system_for_small_files_is_named(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: bytes(3_000_000)})
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n" + FETCH
    child = subprocess.run(
        [sys.executable, "-c", limited, REPO, commit, NAME], capture_output=True, text=True, check=False
    )
    assert "files this large do not fit its file system" in child.stderr


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_named(loop: LoopbackHub, private_home: Path) -> None:
    commit = loop.add(REPO, {NAME: b"x"})
    private_home.mkdir(parents=True)
    private_home.chmod(0o500)
    with pytest.raises(DownloadFailed, match=r"cannot write to .*HF_HUB_CACHE"):
        hub.fetch(REPO, commit, [NAME])


def test_a_cache_that_is_a_file_is_named(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = loop.add(REPO, {NAME: b"x"})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadFailed, match="cannot write to"):
        hub.fetch(REPO, commit, [NAME])


def test_a_file_system_without_locks_is_named(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with pytest.raises(DownloadFailed, match="knows no locks"):
        hub.fetch(REPO, loop.add(REPO, {NAME: b"x"}), [NAME])


@pytest.mark.parametrize("links", ["hard", "none", "unwanted"])
def test_without_symbolic_links_the_cache_works_too(
    loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if links == "unwanted":
        monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    else:
        monkeypatch.setattr(os, "symlink", refuse)
    if links == "none":
        monkeypatch.setattr(os, "link", refuse)
    data = random.Random(7).randbytes(10_000)
    commit = loop.add(REPO, {NAME: data})
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    assert not path.is_symlink()
    assert hub.fetch(REPO, commit, [NAME]) == [path]
    assert hub.verify(path) == sha256(data)
    assert len(loop.asked("GET")) == 1
    path.write_bytes(data[:-1] + b"!")
    with pytest.raises(HashMismatch, match=f"should be {sha256(data)}"):
        hub.verify(path)
    with pytest.raises(HashMismatch):
        hub.fetch(REPO, commit, [NAME], offline=True)
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data
    assert hub.remove(REPO) >= len(data)


# --- the cache, shared with other tools -------------------------------------------------------------------------------


def test_other_tools_find_what_was_fetched(loop: LoopbackHub) -> None:
    import huggingface_hub

    data = random.Random(1).randbytes(50_000)
    loop.add(REPO, {NAME: data})
    remote = hub.resolve(REPO)
    (path,) = hub.fetch(REPO, remote.revision, remote.files, ref=remote.ref)
    root = cache.root()
    for revision in (remote.revision, "main"):
        found = huggingface_hub.try_to_load_from_cache(REPO, NAME, cache_dir=root, revision=revision)
        assert found == str(path)
    got = huggingface_hub.hf_hub_download(REPO, NAME, cache_dir=root, revision="main", local_files_only=True)
    assert got == str(path)
    scan = huggingface_hub.scan_cache_dir(root)
    assert not scan.warnings
    (repo,) = scan.repos
    assert (repo.repo_id, repo.size_on_disk) == (REPO, len(data))
    assert path.resolve().name == sha256(data)


def test_the_hub_on_this_machine_is_one_to_huggingface_hub(loop: LoopbackHub) -> None:
    import huggingface_hub

    data = random.Random(1).randbytes(5000)
    commit = loop.add(REPO, {NAME: data})
    api = huggingface_hub.HfApi(endpoint=loop.url)
    info = api.model_info(REPO, files_metadata=True)
    assert info.siblings is not None
    assert (info.sha, info.siblings[0].size, info.siblings[0].lfs.sha256) == (commit, len(data), sha256(data))
    (listed,) = api.list_repo_tree(REPO, revision=commit)
    (asked,) = api.get_paths_info(REPO, [NAME])
    assert listed.lfs.sha256 == asked.lfs.sha256 == sha256(data)
    head = huggingface_hub.get_hf_file_metadata(f"{loop.url}/{REPO}/resolve/main/{NAME}")
    assert (head.commit_hash, head.etag, head.size) == (commit, sha256(data), len(data))
    assert hub.resolve(REPO).files == (hub.RemoteFile(NAME, len(data), sha256(data)),)
    with pytest.raises(huggingface_hub.errors.RepositoryNotFoundError):
        api.get_paths_info("no/body", [NAME])


def foreign(server: LoopbackHub, commit: str) -> Path:
    """Let huggingface_hub itself download the file."""
    import huggingface_hub

    root = cache.root()
    return Path(huggingface_hub.hf_hub_download(REPO, NAME, cache_dir=root, revision=commit, endpoint=server.url))


def test_what_other_tools_fetched_is_used_and_hashed_once(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(50_000)
    commit = loop.add(REPO, {NAME: data})
    path = foreign(loop, commit)
    before = len(loop.requests)
    told: list[int] = []
    for _ in range(2):
        assert hub.fetch(REPO, commit, [NAME], progress=lambda file, done, total: told.append(done)) == [path]
    assert len(loop.requests) == before
    assert told == [len(data)]


def test_what_other_tools_fetched_damaged_is_found_out(loop: LoopbackHub) -> None:
    data = random.Random(1).randbytes(50_000)
    commit = loop.add(REPO, {NAME: data})
    loop.spoil("GET", flip(25_000))
    path = foreign(loop, commit)
    assert path.read_bytes() != data, "huggingface_hub does not look at the hash"
    with pytest.raises(HashMismatch, match="damaged"):
        hub.fetch(REPO, commit, [NAME], offline=True)
    (path,) = hub.fetch(REPO, commit, [NAME])
    assert path.read_bytes() == data


def test_a_file_changed_after_its_download_is_found_out(loop: LoopbackHub) -> None:
    data = random.Random(1).randbytes(50_000)
    commit = loop.add(REPO, {NAME: data})
    (path,) = hub.fetch(REPO, commit, [NAME])
    blob = path.resolve()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(blob, ns=(1, 1))
    with pytest.raises(HashMismatch, match=r"hash is .* should be"):
        hub.verify(path)
    with pytest.raises(HashMismatch, match="Pull it again"):
        hub.fetch(REPO, commit, [NAME], offline=True)
    assert hub.fetch(REPO, commit, [NAME])[0].read_bytes() == data


def test_a_file_cut_on_disk_is_not_there(loop: LoopbackHub) -> None:
    data = random.Random(1).randbytes(50_000)
    commit = loop.add(REPO, {NAME: data})
    (path,) = hub.fetch(REPO, commit, [NAME])
    path.resolve().write_bytes(data[:-1])
    assert hub.cached(REPO, commit, [hub.RemoteFile(NAME, len(data))]) is None
    assert hub.fetch(REPO, commit, [hub.RemoteFile(NAME, len(data))])[0].read_bytes() == data


def test_a_blob_that_another_commit_brought_is_not_fetched_again(loop: LoopbackHub) -> None:
    data = random.Random(1).randbytes(50_000)
    old = loop.add(REPO, {NAME: data}, commit="a" * 40)
    hub.fetch(REPO, old, [NAME])
    new = loop.add(REPO, {NAME: data}, commit="b" * 40)
    (path,) = hub.fetch(REPO, new, [NAME])
    assert path.read_bytes() == data
    assert len(loop.asked("GET")) == 1


def test_a_split_model_lies_in_one_folder(loop: LoopbackHub) -> None:
    names = [f"sub/m-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    loop.add(REPO, {name: name.encode() * 100 for name in names})
    remote = hub.resolve(REPO, "Q4_K_M")
    paths = hub.fetch(REPO, remote.revision, remote.files)
    assert [path.name for path in paths] == [name.removeprefix("sub/") for name in names]
    assert len({path.parent for path in paths}) == 1
    assert [item.name for item in hub.installed()] == names


def test_installed_lists_what_is_there_and_remove_takes_it_away(loop: LoopbackHub) -> None:
    assert hub.installed() == []
    data = random.Random(1).randbytes(50_000)
    old = loop.add(REPO, {NAME: data}, commit="a" * 40)
    (path,) = hub.fetch(REPO, old, [NAME], ref="main")
    new = loop.add(REPO, {NAME: data[::-1]}, commit="b" * 40)
    hub.fetch(REPO, new, [NAME])
    other = loop.add("other/tiny", {"t.gguf": b"GGUF"})
    hub.fetch("other/tiny", other, ["t.gguf"])
    assert hub.installed()[1] == hub.Installed(REPO, old, NAME, path, len(data))
    assert [(item.repo, item.revision) for item in hub.installed()] == [("other/tiny", other), (REPO, old), (REPO, new)]
    assert hub.remove(REPO, "main") >= len(data)
    assert [item.revision for item in hub.installed()] == [other, new]
    assert sorted(blobs()) == [sha256(data[::-1])]
    assert len(list(cache.folder(REPO).glob("blobs/*.receipt"))) == 1
    assert hub.remove(REPO) >= len(data)
    assert not cache.folder(REPO).exists()
    assert hub.remove(REPO) == 0
    assert [item.repo for item in hub.installed()] == ["other/tiny"]


def test_remove_takes_what_was_left_half_done(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: bytes(300_000)})
    loop.spoil("GET", cut(100_000), cut(0), forever=True)
    with pytest.raises(DownloadFailed):
        hub.fetch(REPO, commit, [NAME])
    assert hub.installed() == []
    assert hub.remove(REPO) >= 100_000
    assert not cache.folder(REPO).exists()


def test_a_link_to_nothing_is_not_installed(loop: LoopbackHub) -> None:
    commit = loop.add(REPO, {NAME: b"GGUF"})
    (path,) = hub.fetch(REPO, commit, [NAME])
    path.resolve().unlink()
    assert hub.installed() == []
    assert hub.cached(REPO, commit, [NAME]) is None
    assert hub.fetch(REPO, commit, [NAME])[0].read_bytes() == b"GGUF"


def test_a_store_shared_between_repositories_does_not_confuse_the_hash(loop: LoopbackHub, tmp_path: Path) -> None:
    """huggingface_hub may keep a blob as a link to <cache>/blobs/ab/<xet hash>, a hash of another kind."""
    data = b"GGUF" * 100
    commit = loop.add(REPO, {NAME: data})
    (path,) = hub.fetch(REPO, commit, [NAME])
    blob, store = path.resolve(), cache.root() / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert hub.verify(path) == sha256(data)
    assert hub.fetch(REPO, commit, [NAME]) == [path]


def test_verify_needs_something_to_compare_with(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="nothing states"):
        hub.verify(path)
    assert hub.verify(path, sha256=sha256(b"GGUF")) == sha256(b"GGUF")
    with pytest.raises(HashMismatch):
        hub.verify(path, sha256="0" * 64)


def test_a_cached_file_of_unknown_hash_is_taken_as_it_is(loop: LoopbackHub) -> None:
    place = cache.folder(REPO) / "snapshots" / ("c" * 40)
    place.mkdir(parents=True)
    (place / NAME).write_bytes(b"GGUF")
    assert hub.fetch(REPO, "c" * 40, [NAME]) == [place / NAME]
    with pytest.raises(HashMismatch):
        hub.fetch(REPO, "c" * 40, [hub.RemoteFile(NAME, 4, "0" * 64)], offline=True)


def test_a_cache_that_cannot_be_noted_in_still_works(loop: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"GGUF" * 100
    commit = loop.add(REPO, {NAME: data})
    path = foreign(loop, commit)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(cache, "write", refuse)
    assert hub.fetch(REPO, commit, [NAME]) == [path]


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/x/cache", "HF_HOME": "/y"}, "/x/cache"),
        ({"HUGGINGFACE_HUB_CACHE": "/z", "HF_HOME": "/y"}, "/z"),
        ({"HF_HOME": "/y"}, "/y/hub"),
        ({"XDG_CACHE_HOME": "/w"}, "/w/huggingface/hub"),
        ({}, "/home/u/.cache/huggingface/hub"),
        ({"HF_HOME": "~/$PART"}, "/home/u/p/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("PART", "p")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.root() == Path(place)


def test_looking_is_light() -> None:
    probe = (
        "import sys; from edgellm import hub; hub.cached('a/b', '0' * 40, ['c.gguf']); hub.installed()\n"
        "print([name for name in ('huggingface_hub', 'httpx', 'httpx2', 'filelock', 'numpy') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_price_of_a_hash_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        for _ in range(512):
            file.write(bytes(1 << 20))
    begun = time.perf_counter()
    with pytest.raises(HashMismatch):
        hub.verify(path, sha256="0" * 64)
    seconds = time.perf_counter() - begun
    with capsys.disabled():
        print(f"\nsha256 of 512 MiB: {seconds:.2f} s, {path.stat().st_size / seconds / 1e9:.2f} GB/s")
