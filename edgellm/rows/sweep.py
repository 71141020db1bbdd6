"""Many rows over one open model: kept in order, pulled only as slots free up, and none of them can end the run.

A row that fails is a result. When the engine dies, every row that was running gets one more try, alone; the one that kills
it twice is recorded and the others go on. Knows rows and tasks; no file, no format.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeAlias, TypeVar

from edgellm.drive import Drive, Outcome
from edgellm.errors import EdgeError, EngineCrashed, EngineFailed, InvalidOutput
from edgellm.prompt import Finish, Prompt, Reply, Task
from edgellm.rows.row import Noted, Result, Row
from edgellm.sampling import Sampling

T = TypeVar("T")
Ask: TypeAlias = Callable[[Row], Task[Any]]

# Finished rows that wait for an earlier one; with so many, no new row begins until that one is done.
_HELD = 1024
# Rows in a row that killed the engine twice each: then it is not the rows.
_GIVE_UP = 20
_WAKE_S = 0.01


class Driver(Protocol):
    """What a sweep needs of an open model."""

    @property
    def pid(self) -> int | None: ...
    def drive(self, tasks: Iterable[Task[T]]) -> Drive[T]: ...


def over(
    model: Driver, rows: Iterable[Row], ask: Ask, *, ordered: bool = True, timeout_s: float | None = None
) -> Answers:
    """Ask about every row; yields one result for each, in their order or as they finish.

    When no row finishes for `timeout_s`, the engine is taken for hung and killed. Raises what reading the rows raises, and
    EngineFailed when the engine cannot be started again or dies on one row after another.
    """
    work = _Sweep(model, rows, ask, _Watch(model, timeout_s))
    return Answers(work.ordered() if ordered else work.unordered(), work.stop)


class Answers(Iterator[Result]):
    """The results of many rows, as they come. Closing it, from any thread, cancels what runs; so does dropping it."""

    def __init__(self, results: Generator[Result], stop: Callable[[], None]) -> None:
        self._results, self._stop = results, stop

    def __next__(self) -> Result:
        return next(self._results)

    def __aiter__(self) -> Answers:
        return self

    async def __anext__(self) -> Result:
        """Wait in a thread; cancelling the task cancels what runs."""
        import asyncio

        try:
            result = await asyncio.to_thread(next, self._results, None)
        except asyncio.CancelledError:
            await asyncio.to_thread(self.close)
            raise
        if result is None:
            raise StopAsyncIteration
        return result

    def each(self, change: Callable[[Result], Result]) -> Answers:
        """The same results, each changed on its way."""

        def changed() -> Generator[Result]:
            with closing(self):
                for result in self:
                    yield change(result)

        return Answers(changed(), self._stop)

    def close(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        while True:
            try:
                self._results.close()
            except ValueError:  # another thread waits in it: wake that one first
                self._stop()
                time.sleep(_WAKE_S)
            else:
                return

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Flight:
    """A row on its way, and what it has cost so far."""

    place: int
    row: Row
    tries: int = 0
    finish: Finish | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    sampling: Sampling | None = None
    adapter: str = ""

    def task(self, ask: Ask) -> Task[Any]:
        """Ask about the row, and count the replies."""
        self.tries += 1
        self.finish, self.prompt_tokens, self.tokens = None, 0, 0
        replies: list[Reply] | None = None
        with closing(ask(self.row)) as task:
            while True:
                try:
                    prompts = next(task) if replies is None else task.send(replies)
                except StopIteration as done:
                    return done.value
                except EdgeError:
                    raise
                except Exception as error:  # a row may be odd in ways that no task has thought of
                    kind = type(error).__name__
                    raise InvalidOutput(f"the answer could not be read ({kind}: {error}).", "") from error
                replies = yield prompts
                for prompt, reply in zip(prompts, replies, strict=True):
                    if not prompt.count:  # nothing is computed for it
                        self._note(prompt, reply)

    def _note(self, prompt: Prompt, reply: Reply) -> None:
        self.sampling = self.sampling or prompt.sampling
        self.finish, self.adapter = reply.finish, reply.adapter
        self.prompt_tokens += reply.prompt_tokens
        self.tokens += reply.tokens

    def ended(self, value: Any, error: EdgeError | None) -> Result:
        """Close the books."""
        noted = value if isinstance(value, Noted) else Noted(value, ())
        return Result(
            row=self.row,
            value=noted.value,
            error=error,
            warnings=noted.warnings,
            evidence=noted.evidence,
            finish=self.finish,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            tries=self.tries,
            sampling=self.sampling,
            adapter=self.adapter,
        )


class _Sweep:
    """The state of one sweep: what is begun, what must be tried again, what waits for its turn."""

    def __init__(self, model: Driver, rows: Iterable[Row], ask: Ask, watch: _Watch) -> None:
        self._model, self._ask, self._watch = model, ask, watch
        self._rows = enumerate(rows)
        self._over = False
        self._again: list[_Flight] = []
        self._held: dict[int, Result] = {}
        self._turn = 0
        self._killers = 0  # rows that killed the engine since the last one that did not
        self._last: EdgeError | None = None
        self._drive: Drive[Any] | None = None

    def unordered(self) -> Generator[Result]:
        """Results as rows finish."""
        with self._watch, closing(self.results()) as results:
            for _, result in results:
                yield result
                self.refuse_to_go_on()

    def ordered(self) -> Generator[Result]:
        """Results in the order of the rows."""
        with self._watch, closing(self.results()) as results:
            for place, result in results:
                yield from self.in_turn(place, result)
                self.refuse_to_go_on()

    def stop(self) -> None:
        """Wake whoever waits for an answer, which then never comes; from any thread."""
        if self._drive:
            self._drive.close()

    def results(self) -> Generator[tuple[int, Result]]:
        """Results with the places of their rows, as they come."""
        while not self._over:
            yield from self._together()
            again, self._again = sorted(self._again, key=lambda flight: flight.place), []
            for flight in again:
                yield flight.place, self._alone(flight)

    def in_turn(self, place: int, result: Result) -> Iterator[Result]:
        """Hold a result back until all before it are out."""
        self._held[place] = result
        while self._turn in self._held:
            yield self._held.pop(self._turn)
            self._turn += 1

    def refuse_to_go_on(self) -> None:
        """Stop when it is the engine that fails, and not the rows."""
        if self._killers >= _GIVE_UP:
            raise EngineFailed(
                f"the engine died on {self._killers} rows one after another, so it is not the rows. The last time: {self._last}"
            )

    def _together(self) -> Iterator[tuple[int, Result]]:
        """Drive rows side by side until there are no more, or some must be tried alone."""
        flying: dict[int, _Flight] = {}
        drive = self._drive = self._model.drive(self._supply(flying))
        try:
            with drive:
                for outcome in self._watch.over(drive):
                    flight = flying.pop(outcome.index)
                    if isinstance(outcome.error, EngineFailed):
                        self._again.append(flight)
                    else:
                        self._killers = 0
                        yield flight.place, flight.ended(outcome.result, outcome.error)
        except EngineCrashed:
            if not flying:
                raise
            self._again += flying.values()

    def _alone(self, flight: _Flight) -> Result:
        """Try a row for the second and last time, with nothing else running."""
        drive = self._drive = self._model.drive([flight.task(self._ask)])
        try:
            with drive:
                [outcome] = self._watch.over(drive)
        except EngineCrashed as error:
            self._killers += 1
            self._last = self._watch.explained(error)
            return flight.ended(None, self._last)
        if not isinstance(outcome.error, EngineFailed):
            self._killers = 0
        return flight.ended(outcome.result, outcome.error)

    def _supply(self, flying: dict[int, _Flight]) -> Iterator[Task[Any]]:
        for index, (place, row) in enumerate(self._rows):
            flying[index] = flight = _Flight(place, row)
            yield flight.task(self._ask)
            if self._again or len(self._held) >= _HELD:
                return
        self._over = True


class _Watch:
    """Kills an engine that finishes nothing for too long; its death is then told to all who wait for it."""

    def __init__(self, model: Driver, limit_s: float | None) -> None:
        self._model, self._limit_s = model, limit_s
        self._waiting_since: float | None = None
        self._fired = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True) if limit_s else None

    def over(self, outcomes: Iterable[Outcome[T]]) -> Iterator[Outcome[T]]:
        """Pass outcomes on, and count the time that each is waited for."""
        self._fired = False
        waiting = iter(outcomes)
        while True:
            self._waiting_since = time.monotonic()
            try:
                outcome = next(waiting, None)
            finally:
                self._waiting_since = None
            if outcome is None:
                return
            yield outcome

    def explained(self, error: EngineCrashed) -> EngineCrashed:
        """Say what it was that happened twice."""
        why = f"no answer within {self._limit_s:g} s" if self._fired else str(error).rstrip(".")
        return EngineCrashed(
            f"{why}. It happened twice on this row, the second time with nothing else running.",
            signal=error.signal,
            phase=error.phase,
        )

    def __enter__(self) -> _Watch:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        assert self._limit_s
        while not self._over.wait(min(self._limit_s / 4, 1.0)):
            since, pid = self._waiting_since, self._model.pid
            if since is not None and pid is not None and time.monotonic() - since > self._limit_s:
                self._fired, self._waiting_since = True, None
                with suppress(OSError):  # it has just died by itself
                    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
