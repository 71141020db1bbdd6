"""Questions with known answers: from the text that was kept out of the embedded model's training, or from a user's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeAlias

from edgellm.demo import text
from edgellm.errors import RowUnreadable, UsageError
from edgellm.prompt import Prompt, Task
from edgellm.rows import Job, Row, TaskName
from edgellm.rows.job import DEFAULTS
from edgellm.sampling import Sampling
from edgellm.tasks import extract as extraction

Embedded: TypeAlias = Literal["extract", "translate", "summarize"]

SEED = 20_240
"""Of the embedded sets: everyone is asked the same."""

_ANSWERS = ("expected", "output")
_TEXTS = ("text", "input")


@dataclass(frozen=True, slots=True)
class Case:
    """One question, the answer that is right, and the facts that an answer must keep."""

    row: Row
    expected: Any = None  # None: only the facts count
    facts: tuple[str, ...] = ()
    shown: str = ""  # the question, for people


@dataclass(frozen=True, slots=True)
class Set:
    """Cases of one task, and how they are asked."""

    task: TaskName
    cases: Sequence[Case]
    ask: Callable[[Row], Task[Any]]
    notes: tuple[str, ...] = field(default=())  # what was understood of a user's data

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)


def embedded(task: Embedded, limit: int, *, sampling: Sampling | None = None, verbatim: bool = False) -> Set:
    """The first `limit` questions of a task that training never saw; sampled as the task does unless told otherwise."""
    asked = list(islice(text.examples(SEED, evaluation=True, tasks={task: 1}), limit))
    cases = [
        Case(
            row=Row(id=number),
            expected=json.loads(one.answer) if one.schema is not None else one.answer,
            facts=one.facts,
            shown=one.messages[-1].content,
        )
        for number, one in enumerate(asked)
    ]

    def ask(row: Row) -> Task[Any]:
        one = asked[int(row.id)]
        schema, said = one.schema if task == "extract" else None, one.messages[-1].content
        quotes = said.partition("Text: ")[2] or said if verbatim else None
        how = sampling or DEFAULTS[task]
        [reply] = yield [Prompt(messages=one.messages, sampling=how, schema=schema, quotes=quotes)]
        return extraction.read(reply, schema) if schema is not None else reply.text.strip()

    return Set(task, cases, ask)


def given(rows: Sequence[Row], task: TaskName, options: Callable[[Mapping[str, Any] | None], Job]) -> Set:
    """A user's rows: a text (or `input`), and what is right as `expected` (or `output`), or as a list of `facts`.

    `options` makes the job; it is given the schema that the expected values have, for who names no fields. Raises
    UsageError naming the row that cannot be used.
    """
    if not rows:
        raise UsageError("there is no row in the data.")
    cases = [_case(row, number) for number, row in enumerate(rows, 1)]
    found = infer([case.expected for case in cases]) if task == "extract" else None
    job = options(found)
    if task == "extract":
        for number, case in enumerate(cases, 1):
            if not isinstance(case.expected, dict | list):
                raise UsageError(f"row {number:,}: `expected` is a JSON value to extract, not {case.expected!r:.40}.")
    notes = (f"The schema is that of the expected values: {extraction.dump(found)}",) if job.schema is found else ()
    return Set(task, cases, job.ask, notes if found else ())


def _case(row: Row, number: int) -> Case:
    if row.error:
        raise UsageError(str(row.error)) from row.error
    values = row.values
    said = next((values[name] for name in _TEXTS if name in values), None)
    expected = next((values[name] for name in _ANSWERS if name in values), None)
    facts = values.get("facts", [])
    if not isinstance(said, str):
        raise UsageError(f"row {number:,} has no text: a column `text` or `input`.")
    if not isinstance(facts, list) or not all(isinstance(fact, str) for fact in facts):
        raise UsageError(f"row {number:,}: `facts` is a list of texts.")
    if expected is None and not facts:
        raise UsageError(f"row {number:,} does not say what is right: a column `expected` or `output`, or `facts`.")
    asked = Row(id=row.id, values={"text": said})
    return Case(row=asked, expected=expected, facts=tuple(facts), shown=said)


def infer(values: Sequence[Any]) -> dict[str, Any]:
    """The narrowest JSON Schema that all values obey: their keys, their types, null where one is null or missing."""
    kinds = {_kind(value) for value in values}
    if kinds >= {"integer", "number"}:
        kinds.discard("integer")
    schema: dict[str, Any] = {"type": sorted(kinds)[0] if len(kinds) == 1 else sorted(kinds)}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        names = list(dict.fromkeys(name for one in objects for name in one))
        schema["properties"] = {name: infer([one.get(name) for one in objects]) for name in names}
        schema |= {"required": names, "additionalProperties": False}
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = infer(items)
    return schema


def _kind(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (dict, "object")):
        if isinstance(value, kind):
            return name
    if value is None:
        return "null"
    if isinstance(value, list):
        return "array"
    raise RowUnreadable(f"{value!r:.40} is no JSON value.")
