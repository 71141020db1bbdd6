"""Correctness beside speed: what is batched, drafted and shared says the same; nothing leaks; every death is survived.

The default run takes a sample; `-m slow` takes the whole: 200 schemas, 2,000 requests, 200 deaths.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_engine_llama_cpp import PLAN
from test_worker import OPENING, answer, exhaust, prompt

import edgellm
from edgellm import Sampling
from edgellm.constraint import Grammar
from edgellm.engines.base import Feed, Logits
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.errors import EdgeError, EngineCrashed, EngineFailed, TruncatedOutput
from edgellm.lookup import Pace
from edgellm.loop import Loop
from edgellm.opening import Opening
from edgellm.prompt import Reply
from edgellm.sequence import Sequence
from edgellm.slots import overlap
from edgellm.text import TextStream
from edgellm.worker import Worker

DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"
NAMES = ("name", "lastname", "city", "age", "email", "company", "price", "items", "date", "active", "note", "kind")
# fmt: off
WORDS = [
    "Maria", "Keller", "of", "Lisbon", "sold", "14", "lamps", "on", "3", "May", "2021", "to", "Aurora", "Ltd",
    "for", "250", "euros", ".", "The", "note", "says", "fragile", ",", "and", "John", "Smith", "in", "Berlin",
    "wrote", "to", "info@example.org", "about", "the", "blue", "kind", ";", "it", "is", "active", ".",
]
# fmt: on
# A step of several rows multiplies matrices where a step of one row multiplies vectors, and cells lie elsewhere: logits differ in
# their last bits, and by more where that moves one of the 8-bit steps of an activation: up to 0.43 at the same prefix. Where the
# two likeliest tokens are closer than this, either may win. One foreign token in the last twenty makes 0.5 to 9.7 (median 2.5).
TIE = 0.4


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A random schema of the usual kinds."""
    names = rng.sample(NAMES, rng.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: value(rng, depth) for name in names},
        "required": names if rng.random() < 0.7 else names[:1],
        "additionalProperties": False,
    }


def value(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "string", "maxLength": rng.randint(3, 24)},
        {"type": "integer", "minimum": 0, "maximum": rng.choice((9, 150, 99999))},
        {"type": "number"},
        {"type": "boolean"},
        {"enum": rng.sample(WORDS, 3)},
        {"type": ["string", "null"], "maxLength": 12},
        {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"},
        {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3},
    ]
    return schema(rng, depth + 1) if depth < 1 and rng.random() < 0.15 else rng.choice(kinds)


class Eager(Pace):
    """Drafts all it can, whatever it costs."""

    def length(self, matches: object, plain: int, room: int) -> int:
        return room


class Noted(LlamaCpp):
    """Remembers the rows of logits by what had been said before them."""

    rows: dict[tuple[int, ...], Logits] | None = None
    said: dict[int, list[int]]

    def decode(self, feeds: list[Feed]) -> list[Logits]:  # type: ignore[override]
        for feed in feeds:
            self.said[feed.slot] = self.said.get(feed.slot, [])[: self._held[feed.slot]] + list(feed.tokens)
        found = super().decode(feeds)
        if self.rows is not None:
            for feed, rows in zip([one for one in feeds if one.logits], found, strict=True):
                self.rows[tuple(self.said[feed.slot])] = rows[-1].copy()
        return found

    def share(self, source: int, target: int, length: int) -> int:
        self.said[target] = self.said.get(source, [])[:length]
        return super().share(source, target, length)


@pytest.fixture(scope="module")
def engine() -> Iterator[Noted]:
    engine = Noted([str(DEMO)], replace(PLAN, context=1024, cells=6144, slots=6))
    engine.said = {}
    yield engine
    engine.close()


def asked(engine: Noted, seed: int) -> tuple[list[int], dict[str, Any] | None, Sampling]:
    """A random request with the beginning that most others have."""
    rng = random.Random(seed)
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 60)))
    prefix = "Extract the values that the text names, as JSON.\n" * 3 if rng.random() < 0.8 else ""
    one = schema(rng) if rng.random() < 0.85 else None
    budget = rng.choice((8, 30, 60, 90))
    return [1, *engine.vocab.encode(prefix + text + "\n")], one, Sampling(temperature=0, max_tokens=budget)


def run(engine: Noted, loop: Loop, seeds: list[int]) -> dict[int, Reply | EdgeError]:
    ends: dict[int, Reply | EdgeError] = {}
    for seed in seeds:
        tokens, one, sampling = asked(engine, seed)
        constraint = Grammar.compile(one, engine.vocab).start() if one else None
        loop.add(Sequence(id=seed, prompt=tokens, sampling=sampling, text=TextStream(), constraint=constraint))
    while not loop.idle:
        for event in loop.step():
            if event.reply or isinstance(event.error, EdgeError):
                ends[event.id] = event.reply or event.error  # type: ignore[assignment]
    return ends


def differences(engine: Noted, seeds: list[int]) -> list[int]:
    """Compare all at once with one by one; returns the seeds that differ by a tie. Fails on any other difference."""
    ties = []
    engine.rows = None
    together = run(engine, Loop(engine, pace=Eager()), seeds)
    assert sum(one.accepted_tokens for one in together.values() if isinstance(one, Reply)) > 0
    assert sum(one.shared_tokens > 32 for one in together.values() if isinstance(one, Reply)) > len(seeds) // 4
    for seed in seeds:
        engine.rows = {}
        for slot in range(engine.slots):
            engine.keep(slot, 0)
        drafts, engine.drafts = engine.drafts, 0
        [plain] = run(engine, Loop(engine), [seed]).values()
        engine.drafts = drafts
        found = together[seed]
        if isinstance(plain, Reply) and isinstance(found, Reply):
            if (plain.text, plain.finish) != (found.text, found.finish):
                assert tied(engine, plain.text, found.text, seed), f"seed {seed}: {plain.text!r} became {found.text!r}"
                ties.append(seed)
        else:
            assert type(plain) is type(found), f"seed {seed}: {plain} became {found}"
    return ties


def tied(engine: Noted, plain: str, found: str, seed: int) -> bool:
    """Say whether, at the first difference, the plain run nearly chose as the other did."""
    tokens, one, _ = asked(engine, seed)
    same = overlap(plain.encode(), found.encode())
    assert engine.rows is not None
    for held, row in sorted(engine.rows.items(), key=lambda item: len(item[0])):
        text = b"".join(engine.vocab.pieces[token] for token in held[len(tokens) :])
        if len(text) > same:
            return False
        best = np.sort(row)[::-1]
        if one is not None:  # the likeliest of what was allowed
            constraint = Grammar.compile(one, engine.vocab).start()
            for token in held[len(tokens) :]:
                constraint.accept(token)
            best = np.sort(row[constraint.allowed()])[::-1]
        if len(best) > 1 and best[0] - best[1] < TIE:
            return True
    return False


def test_batched_drafted_and_shared_says_what_one_by_one_says(engine: Noted) -> None:
    assert len(differences(engine, list(range(12)))) <= 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_batched_drafted_and_shared_says_what_one_by_one_says_for_200_schemas(engine: Noted) -> None:
    ties = [seed for start in range(0, 200, 20) for seed in differences(engine, list(range(start, start + 20)))]
    print(f"{len(ties)} of 200 differ by a tie")
    assert len(ties) <= 50


# Nothing leaks.


def kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def opened(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def requests(worker: Worker, count: int, schemas: int) -> None:
    """Short requests of every kind: plain, constrained by one of so many schemas, refused, cancelled."""
    rng = random.Random(count)
    for number in range(count):
        session = worker.session()
        sampling = Sampling(temperature=0.8, seed=number, max_tokens=3)
        if number % 10 == 3:
            with pytest.raises(EdgeError):
                answer(session, "x " * 3000, sampling=sampling)
        elif number % 10 == 5:
            session.submit(prompt("a cancelled one " * 9, sampling))
        elif number % 4 == 0:
            one = schema(random.Random(number // 4 % schemas))
            with suppress(TruncatedOutput):
                answer(session, f"{rng.random()}", sampling=replace(sampling, max_tokens=30), schema=one)
        else:
            answer(session, f"{rng.random()}", sampling=sampling)
        session.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("count", "schemas"),
    [(150, 5), pytest.param(2000, 100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
    ids=["sample", "whole"],
)
def test_short_requests_leave_memory_and_files_as_they_were(count: int, schemas: int) -> None:
    worker = Worker()
    metadata = {"tokenizer.chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"}
    worker.open(Opening(engine="llama_cpp", paths=(str(DEMO),), plan=PLAN, metadata=metadata, template_hint="chatml"))
    try:
        pids = (os.getpid(), worker.pid or 0)
        requests(worker, max(60, count // 4), schemas)  # what is loaded late, and the grammars that are kept
        memory, files = [kilobytes(pid) for pid in pids], [opened(pid) for pid in pids]
        requests(worker, count, schemas)
        assert [opened(pid) for pid in pids] == files
        grown = [now - before for now, before in zip(map(kilobytes, pids), memory, strict=True)]
        print(f"{count} requests: {grown} kB more in parent and child")
        assert max(grown) < 3072 + count
    finally:
        worker.close()


# Every death is survived.


def deaths(count: int, script: Any) -> None:
    rng = random.Random(count)
    script(rules=[{"when": "again", "say": "back"}], otherwise="slow words " * 20, step_s=0.01)
    worker = Worker()
    worker.open(OPENING)
    for number in range(count):
        how = rng.choice(("SIGSEGV", "SIGABRT", "SIGKILL", "SIGILL", "hang"))
        session, other = worker.session(), worker.session()
        for one in (session, other):
            one.submit(prompt("hi"))
        for _ in range(rng.randrange(4)):
            session.take()
        time.sleep(rng.random() * 0.05)
        start = time.monotonic()
        if how == "hang":  # stands still, as a driver does
            os.kill(worker.pid or 0, signal.SIGSTOP)
            session.close()
            with pytest.raises(EngineFailed):
                exhaust(session)
            with pytest.raises(EngineCrashed):
                exhaust(other)
        else:
            os.kill(worker.pid or 0, getattr(signal, how))
            with pytest.raises(EngineCrashed, match=how) as error:
                exhaust(session)
            assert (error.value.signal, error.value.phase) == (getattr(signal, how), "generating")
        assert time.monotonic() - start < 12, f"death {number} ({how}) took too long to be noticed"
        assert answer(worker.session(), "again").text == "back"
    worker.close()


def test_deaths_at_random_points_are_typed_and_the_next_request_works(script: Any) -> None:
    deaths(6, script)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_deaths_at_random_points_are_typed_and_the_next_request_works(script: Any) -> None:
    deaths(200, script)
