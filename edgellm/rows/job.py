"""What is done with every row: one of the tasks with its options, checked before a model is opened. Plain data, picklable.

Turns a row into a Task, and itself into the facts that another run must share to go on with the same output.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, Literal, TypeAlias, get_args

from edgellm.errors import EmptyText, RowUnreadable, UsageError
from edgellm.prompt import Message, Prompt, Task
from edgellm.rows import openai
from edgellm.rows.receipt import installed
from edgellm.rows.row import Noted, Row
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction
from edgellm.tasks import summarize as summaries
from edgellm.tasks import translate as translation
from edgellm.tasks.evidence import Extracted, refuse_strict

TaskName: TypeAlias = Literal["translate", "summarize", "extract", "chat"]

# Without a temperature, so that a row has one answer whenever it is asked.
DEFAULTS: dict[TaskName, Sampling] = {
    "translate": translation.GREEDY,
    "summarize": summaries.GREEDY,
    "extract": extraction.GREEDY,
    "chat": Sampling(temperature=0.0),
}
"""How each task samples unless told otherwise."""

_OPTIONS: dict[TaskName, set[str]] = {
    "translate": {"to", "source", "text_format", "glossary", "strict"},
    "summarize": {"sentences", "words", "strict"},
    "extract": {"schema", "examples", "verbatim", "evidence"},
    "chat": {"system"},
}
_NEEDED: dict[TaskName, str] = {"translate": "to", "extract": "schema"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One task with its options. Raises UsageError for options that its task does not have, or cannot obey."""

    task: TaskName
    to: str | None = None
    source: str | None = None
    text_format: translation.Format | None = None  # None: plain text
    glossary: Mapping[str, str] | None = None
    strict: bool = False
    sentences: int | None = None
    words: int | None = None
    schema: Mapping[str, Any] | None = None
    examples: Sequence[tuple[str, Any]] = ()
    verbatim: bool = False
    evidence: extraction.Evidence = False
    system: str | None = None
    sampling: Sampling | None = None  # None is the task's own
    text_column: str = "text"
    finish: Callable[[Any], Any] | None = None  # what makes of an extracted value an instance, or refuses it

    def __post_init__(self) -> None:
        if self.task not in get_args(TaskName):
            raise UsageError(f"a batch is one of {', '.join(get_args(TaskName))}, not {self.task!r}.")
        for name in sorted(set().union(*_OPTIONS.values()) - _OPTIONS[self.task]):
            if getattr(self, name):
                raise UsageError(f"{name} is no option of {self.task}: that has {_list(_OPTIONS[self.task])}.")
        needed = _NEEDED.get(self.task)
        if needed and getattr(self, needed) is None:
            raise UsageError(f"{self.task} needs {needed}.")
        if self.evidence == "strict":
            refuse_strict(self.schema or {})
        self._wording()  # refuses a language that nobody knows

    @property
    def chosen(self) -> Sampling:
        """How it samples: as told, or as the task does."""
        return self.sampling or DEFAULTS[self.task]

    def finds_text(self, row: Row) -> bool:
        """Whether a row has anything that one could ask about."""
        asks = openai.is_line(row.values) or (self.task == "chat" and "messages" in row.values)
        return asks or self.text_column in row.values

    def ask(self, row: Row) -> Task[Any]:
        """Begin the conversation about one row; what is wrong with it is raised when the conversation begins."""
        if row.error:
            raise row.error
        if openai.is_line(row.values) and self.task != "chat":
            raise RowUnreadable(f"an OpenAI line asks for a chat, not to {self.task}: use `edgellm batch chat`.")
        if self.task == "chat":
            prompt = self._prompt(row.values)
            seeded = dataclasses.replace(prompt, sampling=_seeded(prompt.sampling, row))
            return (yield from _chat(self._led(seeded)))
        told = yield from self._task(self._text(row.values), _seeded(self.chosen, row))
        return told._replace(value=self.finish(told.value)) if self.finish else told

    def facts(self) -> dict[str, Any]:
        """Everything of this job that shapes an output: names and plain values."""
        return {
            "task": self.task,
            **self._told(_OPTIONS[self.task] - {"examples", "glossary"}),
            "text_column": self.text_column,
            "sampling": json.loads(json.dumps(dataclasses.asdict(self.chosen))),
            "wording": self._hash(),
            "edgellm": installed("edgellm").split(".")[0],  # the part that changes when answers may
        }

    def asked(self) -> dict[str, Any]:
        """The task and its options, for a receipt; `wording` hashes how it is put, with schema, examples and glossary."""
        return {
            "task": self.task,
            **self._told(_OPTIONS[self.task] - {"examples", "schema", "glossary"}),
            "wording": self._hash(),
        }

    def _told(self, names: Set[str]) -> dict[str, Any]:
        """The options that were given, by name."""
        told = {name: getattr(self, name) for name in sorted(names)}
        return {name: value for name, value in told.items() if value is not None and value is not False}

    def _hash(self) -> str:
        return sha256(self._wording().encode(errors="replace")).hexdigest()[:16]

    def _wording(self) -> str:
        """What would be said about some text: how the task is put, the examples and the options, all in one."""
        prompts = next(self.ask(Row(id=0, values={self.text_column: "A text."})))
        said = [(prompt.messages, prompt.schema) for prompt in prompts]
        return repr((said, sorted(self.glossary.items())) if self.glossary else said)

    def _task(self, text: str, sampling: Sampling) -> Task[Noted]:
        if self.task == "translate":
            how = translation.Options(
                format=self.text_format or "text", glossary=self.glossary or {}, strict=self.strict
            )
            return _noted(translation.translated(text, self.to or "", self.source, sampling=sampling, options=how))
        if self.task == "summarize":
            length = summaries.Options(sentences=self.sentences, words=self.words, strict=self.strict)
            return _noted(summaries.summarized(text, sampling=sampling, options=length))
        return _proven(
            extraction.extracted(
                text,
                self.schema or {},
                examples=self.examples,
                sampling=sampling,
                verbatim=self.verbatim,
                evidence=self.evidence,
            )
        )

    def _prompt(self, values: Mapping[str, Any]) -> Prompt:
        if openai.is_line(values):
            return openai.read(values, self.chosen)
        if "messages" in values and self.text_column not in values:
            return Prompt(messages=openai.messages(values["messages"]), sampling=self.chosen)
        text = self._text(values)
        if not text.strip():
            raise EmptyText("there is no text to answer.")
        return Prompt(messages=(Message("user", text),), sampling=self.chosen)

    def _led(self, prompt: Prompt) -> Prompt:
        """Put the system prompt before messages that have none."""
        if self.system is None or prompt.messages[0].role == "system":
            return prompt
        return dataclasses.replace(prompt, messages=(Message("system", self.system), *prompt.messages))

    def _text(self, values: Mapping[str, Any]) -> str:
        if self.text_column not in values:
            raise RowUnreadable(
                f"there is no column {self.text_column!r}, only {', '.join(map(str, values)) or 'none'}."
            )
        text = values[self.text_column]
        if not isinstance(text, str):
            raise RowUnreadable(f"column {self.text_column!r} holds {json.dumps(text, default=repr)[:40]}, not a text.")
        return text


def _noted(task: Task[translation.Translation] | Task[summaries.Summary]) -> Task[Noted]:
    found = yield from task
    return Noted(found.text, found.warnings)


def _proven(task: Task[Extracted]) -> Task[Noted]:
    found = yield from task
    return Noted(found.value, found.warnings, found.as_dict()["evidence"] or None)


def _chat(prompt: Prompt) -> Task[str]:
    [reply] = yield [prompt]
    if prompt.schema is not None:
        extraction.read(reply, prompt.schema)
    return reply.text


def _seeded(sampling: Sampling, row: Row) -> Sampling:
    """Give a row that draws its answer, and was told no seed, one of its own: whoever asks again gets the same answer."""
    if sampling.temperature == 0 or sampling.seed is not None:
        return sampling
    digest = blake2b(json.dumps(row.id).encode(), digest_size=4).digest()
    return dataclasses.replace(sampling, seed=int.from_bytes(digest, "little"))


def _list(names: set[str]) -> str:
    return " and ".join(sorted(names))
