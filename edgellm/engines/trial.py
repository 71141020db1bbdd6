"""How long steps take here: a child process that opens a model in one way and is asked for the seconds of single steps.

A process of its own, because a way of loading that this processor cannot run ends the process: llama.cpp's AMX code dies of
SIGILL where a hypervisor names AMX and does not give it. `Trial` is the asking side, `main` the answering one.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from edgellm.decision import Plan

_STEP_S, _REPEATS = 0.5, 30  # for one answer: until so much time has passed, or so many steps
_LONGEST_S = 4.0  # a step is broken off after that
_FILLED = 64  # tokens in the cache before measuring


class Died(Exception):
    """The process ended, or did not answer in time; the text says how."""


class Trial:
    """An open model in a process of its own. A context manager."""

    def __init__(self, paths: Sequence[str], plan: Plan, until: float) -> None:
        """Start it; `until` is a `time.monotonic()` after which it is killed."""
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self._until = until
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._tell({"paths": list(paths), "plan": asdict(plan)})
        self.loaded_s = float(self._hear())

    def seconds(self, threads: int, width: int) -> float | None:
        """Return the seconds of a step of `width` tokens; None when it takes more than a few. Raises Died."""
        self._tell([threads, width])
        found = self._hear()
        return None if found is None else float(found)

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _tell(self, message: Any) -> None:
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put(b"")

    def _hear(self) -> Any:
        try:
            line = self._answers.get(timeout=max(0.01, self._until - time.monotonic()))
        except queue.Empty:
            self.__exit__()
            raise Died("there was no time for it") from None
        if line:
            return json.loads(line)
        code = self._process.wait()
        self.__exit__()
        raise Died(f"it dies of {_signal(-code)}" if code < 0 else f"it ended with code {code}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_BOOT = "import sys; sys.path.append(sys.argv[1]); from edgellm.engines.trial import main; main()"


def main() -> None:
    """Open what the first line says, then answer line by line: [threads, tokens] -> seconds, or null."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    wanted = json.loads(sys.stdin.readline())
    from edgellm.engines.llama_cpp import LlamaCpp

    start = time.perf_counter()
    plan = wanted["plan"]
    lists = {name: tuple(map(tuple, plan[name])) for name in ("tensor_overrides",)}
    engine = LlamaCpp(wanted["paths"], Plan(**{**plan, **lists}))
    engine.decode([_feed(engine, 1, 0)])  # the first step also reads the file
    _fill(engine)
    _answer(out, time.perf_counter() - start)
    for line in sys.stdin:
        _answer(out, _measured(engine, *json.loads(line)))


def _fill(engine: Any) -> None:
    timer = threading.Timer(_LONGEST_S, engine.stop)
    timer.start()
    with suppress(_stopped()):
        engine.decode([_feed(engine, _FILLED - 1, 0)])
    timer.cancel()


def _measured(engine: Any, threads: int, width: int) -> float | None:
    engine._lib.llama_set_n_threads(engine._context, threads, threads)
    start = engine._held[0]
    best, until = None, time.perf_counter() + _STEP_S
    timer = threading.Timer(_LONGEST_S, engine.stop)
    timer.start()
    try:
        for _ in range(_REPEATS):
            begun = time.perf_counter()
            engine.decode([_feed(engine, width, min(width, 1 + engine.drafts) if width <= 1 + engine.drafts else 1)])
            took = time.perf_counter() - begun
            best = took if best is None else min(best, took)
            if engine.keep(0, start) != start or time.perf_counter() > until:
                break
    except _stopped():
        pass
    finally:
        timer.cancel()
        engine._flag[0] = b"\0"  # it may have been too late to stop anything
    return best


def _feed(engine: Any, width: int, rows: int) -> Any:
    from edgellm.engines.base import Feed

    return Feed(0, [1 + index % (engine.vocab.size - 1) for index in range(width)], rows)


def _stopped() -> type[Exception]:
    from edgellm.engines.base import Stopped

    return Stopped


def _answer(out: IO[bytes], value: Any) -> None:
    out.write(json.dumps(value).encode() + b"\n")
    out.flush()
