"""An open model: it chats, translates, summarizes and extracts, one text or many; opening it is `loading`'s work.

Knows which task is which conversation, and who drives it; no tokens, no C, no terminal.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, overload

from edgellm.decision import Plan
from edgellm.drive import Drive, Stream, dressed, worn
from edgellm.errors import EmptyText, UsageError
from edgellm.opening import Opening
from edgellm.prompt import Message, Overflow, Prompt, Reply, Task, guarded
from edgellm.sampling import ONE_ANSWER, ONE_LONG_ANSWER, Sampling
from edgellm.worker import Worker

if TYPE_CHECKING:  # rooms of which a program needs one or two: they are opened where one is used
    from edgellm import gguf, source
    from edgellm.adapter import Choice
    from edgellm.here import Here
    from edgellm.rows import Answers, TaskName
    from edgellm.tasks import extract as extraction
    from edgellm.tasks import summarize as summaries
    from edgellm.tasks import translate as translation
    from edgellm.tasks.shape import Shape

T = TypeVar("T")
Turn = Message | Mapping[str, str]
# More prompts than slots are kept in flight, so that a freed slot never waits for the pipe; few enough that a million
# waiting documents cost no memory.
_AHEAD = 2


@dataclass(slots=True, eq=False)
class Model:
    """An open model. Use it as a context manager, from any thread; `close` ends its process."""

    source: source.Source
    header: gguf.Header = field(repr=False)
    plan: Plan = field(repr=False)
    _worker: Worker | Here = field(repr=False)
    opening: Opening = field(repr=False)
    _adapter: str | None = None  # what a request uses that names none

    @property
    def adapters(self) -> tuple[Choice, ...]:
        """LoRAs opened with it."""
        return self.opening.adapters

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return self.source.name

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None in-process."""
        return self._worker.pid

    def using(self, adapter: str) -> Model:
        """Return this model as seen through one of its adapters: `NAME[:SCALE]`, or "none" for the base alone.

        Nothing is loaded, and both are open until one is closed. Raises UsageError for an adapter that was not opened.
        """
        from edgellm.adapter import resolve

        resolve(self.adapters, adapter)
        return replace(self, _adapter=adapter)

    def bound(self, task: str) -> Model:
        """Return this model with the adapter that is named as a task, where there is one and no other was chosen."""
        named = self._adapter is None and any(one.name == task for one in self.adapters)
        return self.using(task) if named else self

    def chat(
        self,
        messages: Sequence[Turn],
        *,
        sampling: Sampling | None = None,
        schema: Mapping[str, Any] | None = None,
        safe: bool = False,
        overflow: Overflow = "error",
    ) -> Reply:
        """Answer a conversation; with a JSON Schema, the answer obeys it.

        `safe` puts Mistral's safety prompt before the system prompt. A conversation that is too long raises PromptTooLong
        (tokens and context, both); with `overflow="drop_oldest"` its oldest turns go instead, never the system prompt, and
        the reply's `dropped_messages` says how many.
        """
        prompt = _turn(messages, sampling, schema, safe, overflow)
        return self.ask([prompt])[0]

    def stream(
        self,
        messages: Sequence[Turn],
        *,
        sampling: Sampling | None = None,
        schema: Mapping[str, Any] | None = None,
        safe: bool = False,
        overflow: Overflow = "error",
    ) -> Stream:
        """Answer a conversation piece by piece; closing the stream stops the answer."""
        prompt = _turn(messages, sampling, schema, safe, overflow)
        return self.follow(prompt)

    def complete(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Continue a raw text, without a chat template: for base models."""
        return self.ask([Prompt(completion=text, sampling=sampling or Sampling())])[0]

    @overload
    def translate(
        self,
        text: str,
        to: str,
        source: str | None = None,
        *,
        sampling: Sampling = ...,
        format: translation.Format = ...,
        glossary: Mapping[str, str] | None = ...,
        strict: bool = ...,
    ) -> str: ...
    @overload
    def translate(
        self,
        text: list[str],
        to: str,
        source: str | None = None,
        *,
        sampling: Sampling = ...,
        format: translation.Format = ...,
        glossary: Mapping[str, str] | None = ...,
        strict: bool = ...,
    ) -> list[str]: ...
    def translate(
        self,
        text: str | list[str],
        to: str,
        source: str | None = None,
        *,
        sampling: Sampling = ONE_LONG_ANSWER,
        format: translation.Format = "text",  # noqa: A002 - what people call it
        glossary: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> str | list[str]:
        """Translate a text, or a list of texts decoded together. Languages as `fr`, `fr-FR` or `French`.

        Of any length; `format` is text, markdown or srt, whose structure stays. What must survive (placeholders, tags,
        addresses, code, numbers, lines, the glossary's terms) is checked and asked for once more; `strict` raises
        InvalidOutput when it is still missing, `translated` tells.
        """
        from edgellm.tasks import translate as translation

        options = translation.Options(format=format, glossary=glossary or {}, strict=strict)
        found: str | list[str] = self.bound("translate")._each(
            text, lambda one: translation.translate(one, to, source, sampling=sampling, options=options)
        )
        return found

    def translated(
        self,
        text: str,
        to: str,
        source: str | None = None,
        *,
        sampling: Sampling = ONE_LONG_ANSWER,
        format: translation.Format = "text",  # noqa: A002
        glossary: Mapping[str, str] | None = None,
    ) -> translation.Translation:
        """Translate as `translate` does, and tell what was kept, what was lost and how often it was asked."""
        from edgellm.tasks import translate as translation

        options = translation.Options(format=format, glossary=glossary or {})
        return self.bound("translate").run(translation.translated(text, to, source, sampling=sampling, options=options))

    @overload
    def summarize(
        self,
        text: str,
        *,
        sentences: int | None = None,
        words: int | None = None,
        sampling: Sampling = ...,
        strict: bool = ...,
    ) -> str: ...
    @overload
    def summarize(
        self,
        text: list[str],
        *,
        sentences: int | None = None,
        words: int | None = None,
        sampling: Sampling = ...,
        strict: bool = ...,
    ) -> list[str]: ...
    def summarize(
        self,
        text: str | list[str],
        *,
        sentences: int | None = None,
        words: int | None = None,
        sampling: Sampling = ONE_ANSWER,
        strict: bool = False,
    ) -> str | list[str]:
        """Summarize a text, or a list of texts decoded together, in so many sentences or at most so many words.

        Of any length: what does not fit the context is read in parts. The length is counted and asked for once more;
        `strict` raises InvalidOutput when it is still missed, `summarized` tells.
        """
        from edgellm.tasks import summarize as summaries

        found: str | list[str] = self.bound("summarize")._each(
            text,
            lambda one: summaries.summarize(one, sentences=sentences, words=words, sampling=sampling, strict=strict),
        )
        return found

    def summarized(
        self,
        text: str,
        *,
        sentences: int | None = None,
        words: int | None = None,
        sampling: Sampling = ONE_ANSWER,
    ) -> summaries.Summary:
        """Summarize as `summarize` does, and tell its length, and in how many chunks the text was read."""
        from edgellm.tasks import summarize as summaries

        options = summaries.Options(sentences=sentences, words=words)
        return self.bound("summarize").run(summaries.summarized(text, sampling=sampling, options=options))

    def extract(
        self,
        text: str | list[str],
        schema: Any = None,
        *,
        fields: str | None = None,
        examples: Sequence[tuple[str, Any]] = (),
        sampling: Sampling = ONE_ANSWER,
        verbatim: bool = False,
        evidence: extraction.Evidence = False,
    ) -> Any:
        """Extract JSON from a text, or a list of texts decoded together.

        The schema is a JSON Schema (dict, or path of a file: returns plain values), a pydantic class, dataclass, TypedDict
        or list of them (returns instances), or the short form in `fields`: `'name, age int, email?, tags [str]'`, in
        brackets a list of such records. `examples` are pairs of a text and its value: as many of the first ones are shown
        as the context has room for, with a Python warning when that is not all.

        With `verbatim`, every text that the schema leaves free is a literal piece of the given text, enforced while
        decoding. With `evidence`, returns an Extracted: the value, and for each leaf its quote and place in the text, or
        None; `"strict"` also takes out what has none. Raises SchemaUnsupported before anything is computed,
        TruncatedOutput when the token budget ended inside the answer, InvalidOutput when the class refuses it.
        """
        from edgellm.tasks import extract as extraction
        from edgellm.tasks.evidence import finished

        plain, finish = _shape(schema, fields)
        found = self.bound("extract")._each(
            text,
            lambda one: extraction.extracted(
                one, plain, examples=examples, sampling=sampling, verbatim=verbatim, evidence=evidence
            ),
        )
        told = [finished(one, finish, bool(evidence)) for one in ([found] if isinstance(text, str) else found)]
        return told[0] if isinstance(text, str) else told

    async def achat(
        self,
        messages: Sequence[Turn],
        *,
        sampling: Sampling | None = None,
        schema: Mapping[str, Any] | None = None,
        safe: bool = False,
        overflow: Overflow = "error",
    ) -> Reply:
        """Answer as `chat` does; cancelling the task stops the decode."""
        prompt = _turn(messages, sampling, schema, safe, overflow)
        [reply] = await self.arun(_ask(prompt))
        return reply

    async def astream(
        self,
        messages: Sequence[Turn],
        *,
        sampling: Sampling | None = None,
        schema: Mapping[str, Any] | None = None,
        safe: bool = False,
        overflow: Overflow = "error",
    ) -> AsyncIterator[str]:
        """Answer as `stream` does; asked when the first piece is wanted."""
        prompt = _turn(messages, sampling, schema, safe, overflow)
        import asyncio  # 17 ms of reading code that most programs do not need

        stream = Stream(await asyncio.to_thread(self._worker.session), worn(prompt, self._adapter))
        try:
            while (piece := await asyncio.to_thread(next, stream, None)) is not None:
                yield piece
        finally:
            stream.close()

    async def atranslate(
        self,
        text: str,
        to: str,
        source: str | None = None,
        *,
        format: translation.Format = "text",  # noqa: A002
        glossary: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> str:
        """Translate as `translate` does."""
        from edgellm.tasks import translate as translation

        options = translation.Options(format=format, glossary=glossary or {}, strict=strict)
        return await self.bound("translate").arun(translation.translate(text, to, source, options=options))

    async def asummarize(
        self, text: str, *, sentences: int | None = None, words: int | None = None, strict: bool = False
    ) -> str:
        """Summarize as `summarize` does."""
        from edgellm.tasks import summarize as summaries

        return await self.bound("summarize").arun(
            summaries.summarize(text, sentences=sentences, words=words, strict=strict)
        )

    async def aextract(
        self,
        text: str,
        schema: Any = None,
        *,
        fields: str | None = None,
        examples: Sequence[tuple[str, Any]] = (),
        sampling: Sampling = ONE_ANSWER,
        verbatim: bool = False,
        evidence: extraction.Evidence = False,
    ) -> Any:
        """Extract as `extract` does, from one text."""
        from edgellm.tasks import extract as extraction
        from edgellm.tasks.evidence import finished

        plain, finish = _shape(schema, fields)
        task = extraction.extracted(
            text, plain, examples=examples, sampling=sampling, verbatim=verbatim, evidence=evidence
        )
        return finished(await self.bound("extract").arun(task), finish, bool(evidence))

    def batch(
        self,
        task: TaskName,
        rows: Iterable[str | Mapping[str, Any]],
        *,
        to: str | None = None,
        source: str | None = None,
        text_format: translation.Format | None = None,
        glossary: Mapping[str, str] | None = None,
        strict: bool = False,
        sentences: int | None = None,
        words: int | None = None,
        schema: Any = None,
        fields: str | None = None,
        examples: Sequence[tuple[str, Any]] = (),
        verbatim: bool = False,
        evidence: extraction.Evidence = False,
        system: str | None = None,
        sampling: Sampling | None = None,
        text_column: str = "text",
        id_column: str | None = None,
        ordered: bool = True,
        receipt: bool = False,
        timeout_s: float | None = None,
    ) -> Answers:
        """Ask one task (translate, summarize, extract, chat) about any number of rows: an iterator over results.

        Rows are texts, or mappings with a text column; they are pulled only as slots free up, and closing the iterator
        cancels what runs. `async for` works as well as `for`. A result has `id`, `value` or `error`, `warnings`,
        `evidence`, token counts, and with `receipt` which model answered how. They come in the order of the rows, or as
        they finish. A bad row is a result with an error; when the engine dies, each row that was running is tried once
        more. `timeout_s` without a finished row counts as such a death. Raises UsageError for options that the task cannot
        obey, before a row is pulled, and EngineFailed when the engine does not come back.
        """
        from edgellm.rows import Job, answers

        wanted: Any = schema if fields is None else fields
        wanted, finish = _shape(schema, fields) if task == "extract" else (wanted, None)
        job = Job(
            task=task,
            to=to,
            source=source,
            text_format=text_format,
            glossary=glossary,
            strict=strict,
            sentences=sentences,
            words=words,
            schema=wanted,
            examples=examples,
            verbatim=verbatim,
            evidence=evidence,
            system=system,
            sampling=sampling,
            text_column=text_column,
            finish=finish,
        )
        return answers(
            self.bound(task), job, rows, id_column=id_column, ordered=ordered, receipt=receipt, timeout_s=timeout_s
        )

    def ask(self, prompts: Iterable[Prompt]) -> list[Reply]:
        """Answer prompts, decoded together, in order. Raises the first error and cancels the rest."""
        return [reply for [reply] in self._all([_ask(prompt) for prompt in prompts])]

    def count(self, prompt: str | Sequence[Turn]) -> int:
        """Count the tokens of a conversation as the model reads it, or of a raw text as `complete` does.

        Nothing is computed, and the context is no limit.
        """
        if isinstance(prompt, str):
            return self.ask([Prompt(completion=prompt, count=True)])[0].prompt_tokens
        return self.ask([Prompt(messages=_messages(prompt), count=True)])[0].prompt_tokens

    def perplexity(self, text: str | Sequence[str]) -> float:
        """Measure how surprised the model is by a text, or by several together: exp of the mean -log p of their tokens.

        Over windows of 512 tokens that overlap by half, on raw text. Lower is better; figures of two models compare only
        where both cut texts into the same tokens. Raises EmptyText for a text of fewer than two tokens.
        """
        texts = [text] if isinstance(text, str) else text
        replies = self.ask([Prompt(completion=one, score=True) for one in texts])
        tokens = sum(reply.tokens for reply in replies)
        if not tokens:
            raise EmptyText("there is nothing to measure: no text was given.")
        mean = sum(reply.nats for reply in replies) / tokens
        return math.exp(mean) if mean < 700.0 else math.inf

    def keep(self, messages: Sequence[Turn], path: str | os.PathLike[str]) -> int:
        """Write what is computed of a conversation to a state file, for `Prompt.saved`; returns how many tokens it holds.

        `messages` are as they were last sent; a lone system message keeps what every conversation under it begins with.
        0 when little is computed, or the engine cannot. Raises EngineFailed when the file cannot be written.
        """
        return self.ask([Prompt(messages=_messages(messages), keep=os.fspath(path))])[0].shared_tokens

    def follow(self, prompt: Prompt) -> Stream:
        """Answer one prompt piece by piece."""
        return Stream(self._worker.session(), worn(prompt, self._adapter))

    def run(self, task: Task[T]) -> T:
        """Drive one task to its result."""
        return self._all([task])[0]

    async def arun(self, task: Task[T]) -> T:
        """Drive one task to its result in a thread; cancelling stops the decode."""
        import asyncio

        drive = await asyncio.to_thread(self.drive, [task])  # in a thread: a crashed engine is loaded again first
        with drive:
            outcome = await asyncio.to_thread(next, iter(drive))
        return outcome.value

    def drive(self, tasks: Iterable[Task[T]]) -> Drive[T]:
        """Drive any number of tasks together; yields outcomes as they finish, pulling new tasks only as slots free up."""
        if self._adapter is not None:
            tasks = (dressed(task, self._adapter) for task in tasks)
        return Drive(self._worker.session(), tasks, self.plan.slots * _AHEAD)

    def close(self) -> None:
        """End the worker's process; may be called twice."""
        self._worker.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, text: str | list[str], task: Callable[[str], Task[Any]]) -> Any:
        if isinstance(text, str):
            return self.run(task(text))
        return self._all([task(one) for one in text])

    def _all(self, tasks: list[Task[T]]) -> list[T]:
        results: dict[int, T] = {}
        with self.drive(tasks) as drive:
            for outcome in drive:
                results[outcome.index] = outcome.value
        return [results[index] for index in range(len(tasks))]


def _ask(prompt: Prompt) -> Task[list[Reply]]:
    replies = yield [prompt]
    return replies


def _turn(
    messages: Sequence[Turn],
    sampling: Sampling | None,
    schema: Mapping[str, Any] | None,
    safe: bool,
    overflow: Overflow,
) -> Prompt:
    """The next turn of a conversation: somebody waits for it, so that it overtakes what runs in the background."""
    said = guarded(_messages(messages)) if safe else _messages(messages)
    if overflow not in get_args(Overflow):
        raise UsageError(f"overflow is one of {', '.join(get_args(Overflow))}, not {overflow!r}.")
    return Prompt(messages=said, sampling=sampling or Sampling(), schema=schema, overflow=overflow, priority=1)


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(turn if isinstance(turn, Message) else _message(turn) for turn in turns)


def _message(turn: Any) -> Message:
    wellformed = isinstance(turn, Mapping) and set(turn) == {"role", "content"}
    if not wellformed or turn["role"] not in ("system", "user", "assistant") or not isinstance(turn["content"], str):
        raise UsageError(f"a message is {{'role': system|user|assistant, 'content': text}}, not {turn!r}.")
    return Message(turn["role"], turn["content"])


def _shape(schema: Any, fields: str | None) -> Shape:
    """What is wanted; a path is a file with a JSON Schema."""
    from edgellm.tasks import extract as extraction

    if not isinstance(schema, os.PathLike):
        return extraction.shape(schema, fields)
    try:
        read = json.loads(Path(schema).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {os.fspath(schema)}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{os.fspath(schema)} is not JSON: {error}.") from error
    return extraction.shape(read, fields)
