"""Driving answers over a session: one answer piece by piece (`Stream`), or many tasks together (`Drive`).

Knows prompts, replies and tasks; not which model answers, nor what a task is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, TypeVar, get_args

from edgellm.errors import EdgeError, EngineCrashed, EngineFailed, UsageError
from edgellm.prompt import Prompt, Reply, Role, Task
from edgellm.session import Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How one of many tasks ended: with a result, or with an error that `value` raises."""

    index: int
    result: T | None = None
    error: EdgeError | None = None

    @property
    def value(self) -> T:
        """The result; raises the error when there is one."""
        if self.error:
            raise self.error
        return self.result  # type: ignore[return-value]  # None only where T allows it


@dataclass(slots=True)
class _Job(Generic[T]):
    index: int
    task: Task[T]
    replies: list[Reply | None] = field(default_factory=list)
    left: int = 0


class Drive(Generic[T]):
    """Many tasks in one session: an iterator over their outcomes, in the order in which they finish."""

    def __init__(self, session: Session, tasks: Iterable[Task[T]], width: int) -> None:
        self._session = session
        self._tasks = enumerate(tasks)
        self._width = width
        self._asked: dict[int, tuple[_Job[T], int]] = {}  # event id -> who asked, and which of its prompts

    def __iter__(self) -> Iterator[Outcome[T]]:
        try:
            yield from self._fill()
            while self._asked:
                yield from self._take()
                yield from self._fill()
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what runs."""
        self._session.close()

    def __enter__(self) -> Drive[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> Iterator[Outcome[T]]:
        while len(self._asked) < self._width:
            index, task = next(self._tasks, (-1, None))
            if task is None:
                return
            yield from self._advance(_Job(index, task), None)

    def _take(self) -> Iterator[Outcome[T]]:
        event = self._session.take()
        if not (event.reply or event.error):
            return
        job, place = self._asked.pop(event.id, (None, 0))
        if job is None:  # a sibling of a prompt that failed
            return
        if event.error:
            assert isinstance(event.error, EdgeError)
            self._asked = {number: asked for number, asked in self._asked.items() if asked[0] is not job}
            job.task.close()
            yield Outcome(job.index, error=event.error)
            return
        job.replies[place] = event.reply
        job.left -= 1
        if job.left == 0:
            yield from self._advance(job, [reply for reply in job.replies if reply])

    def _advance(self, job: _Job[T], replies: list[Reply] | None) -> Iterator[Outcome[T]]:
        """Send a task its replies and submit what it asks next; yields its outcome when it has ended."""
        while True:
            try:
                prompts = next(job.task) if replies is None else job.task.send(replies)
                asked = [replace(checked(prompt), silent=True) for prompt in prompts]
            except StopIteration as done:
                yield Outcome(job.index, result=done.value)
                return
            except EngineCrashed:
                raise
            except EdgeError as error:
                yield Outcome(job.index, error=error)
                return
            if asked:
                break
            replies = []
        job.replies, job.left = [None] * len(asked), len(asked)
        for place, prompt in enumerate(asked):
            self._asked[self._session.submit(prompt)] = (job, place)


class Stream(Iterator[str]):
    """The pieces of one answer as they come; `reply` is there when they have ended, `text` what came so far."""

    def __init__(self, session: Session, prompt: Prompt) -> None:
        self._session = session
        self._reply: Reply | None = None
        self._over = False
        self.text = ""
        session.submit(checked(prompt))

    def __next__(self) -> str:
        while not self._over:
            try:
                event = self._session.take()
            except EngineFailed:
                if self._over:  # closed by another thread
                    break
                self._over = True
                raise
            if event.error:
                self._over = True
                raise event.error
            if event.reply:
                self._over, self._reply = True, event.reply
            if event.text:
                self.text += event.text
                return event.text
        raise StopIteration

    @property
    def reply(self) -> Reply:
        """The finished answer; reads on to its end when pieces are left."""
        for _ in self:
            pass
        if self._reply is None:
            raise UsageError("this answer was stopped, or failed: there is no reply, only `text`.")
        return self._reply

    def close(self) -> None:
        """Stop the answer, within 0.2 s."""
        self._over = True
        self._session.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def dressed(task: Task[T], adapter: str) -> Task[T]:
    """Run a task with an adapter, on every prompt that names none itself."""
    try:
        prompts = next(task)
        while True:
            replies = yield [worn(prompt, adapter) for prompt in prompts]
            prompts = task.send(replies)
    except StopIteration as done:
        found: T = done.value
        return found
    finally:
        task.close()


def worn(prompt: Prompt, adapter: str | None) -> Prompt:
    """Let a prompt that names no adapter name this one."""
    return prompt if adapter is None or prompt.adapter is not None else replace(prompt, adapter=adapter)


def checked(prompt: Prompt) -> Prompt:
    """Refuse what cannot travel as JSON, with words, before it reaches another process; the schema comes back plain."""
    if prompt.messages and prompt.completion is not None:
        raise UsageError("a prompt has messages or a completion, not both.")
    for message in prompt.messages:
        if message.role not in get_args(Role):
            raise UsageError(f"a message's role is one of {', '.join(get_args(Role))}, not {message.role!r}.")
        _check_text(message.content)
    if prompt.completion is not None:
        _check_text(prompt.completion)
    if prompt.quotes is not None:
        _check_text(prompt.quotes)
        if prompt.schema is None:
            raise UsageError("quotes are for a prompt with a schema.")
    return prompt if prompt.schema is None else replace(prompt, schema=_plain(prompt.schema))


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise UsageError(f"the content of a message is a text, not {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the text is not valid Unicode: a lone surrogate at character {error.start:,}.") from error


def _plain(schema: Mapping[str, Any]) -> Any:
    """The schema as it will arrive: made of dicts, lists and plain values."""

    def other(value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"{value!r} is no JSON value")

    try:
        return json.loads(json.dumps(schema, default=other))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the schema is not JSON: {error}.") from error
    except RecursionError as error:
        raise UsageError("the schema is nested too deeply to be sent.") from error
