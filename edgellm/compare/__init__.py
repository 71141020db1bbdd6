"""Two answers to every prompt, side by side: models, adapters or settings, before and after.

`cases` reads prompts, `side` says who is asked and how, `score` measures against references, `table` writes the result.
`over` asks. It knows no terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from edgellm import rows
from edgellm.compare.cases import Case
from edgellm.compare.score import scored
from edgellm.compare.side import Side
from edgellm.loading import load
from edgellm.model import Model
from edgellm.prompt import Prompt, Reply
from edgellm.rows import Job, Result, sweep

__all__ = ["Case", "Options", "Row", "Said", "Side", "over"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one side answered, or why it could not."""

    answer: str = ""
    tokens: int = 0
    finish: str | None = None  # "length": it was cut
    error: str = ""

    @property
    def text(self) -> str:
        """The answer, or the error in brackets."""
        return f"[{self.error}]" if self.error else self.answer


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with both answers and, where there is a reference, their scores from 0 to 1."""

    case: Case
    a: Said
    b: Said
    scores: tuple[dict[str, float], dict[str, float]] = ({}, {})

    @property
    def differs(self) -> bool:
        """Whether the answers are not the same."""
        return self.a.text != self.b.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How models are opened and asked: by a task, or raw, where prompts are continued as they are."""

    job: Job = field(default_factory=lambda: Job(task="chat"))
    raw: bool = False
    template: str | None = None
    gpu_layers: Any = "auto"
    context: int | None = None
    threads: int | None = None
    engine: Any = "auto"
    offline: bool = False
    slots: int = 4
    progress: Any = None


Watch = Callable[[], None]


def over(
    a: Side, b: Side, cases: Sequence[Case], options: Options | None = None, *, watch: Watch = lambda: None
) -> list[Row]:
    """Ask both sides every prompt; `watch` hears of every answer.

    A model that both share is opened once; of two, only one is in memory at a time.
    """
    chosen = options or Options()
    adapters = {name: one.adapter for name, one in (("a", a), ("b", b)) if one.adapter}
    both = []
    if a.model == b.model:
        with _opened(a.model, adapters, chosen) as model:
            for name, side in (("a", a), ("b", b)):
                seen = model.using(name if side.adapter else "none") if adapters else model
                both.append(_asked(seen, side, cases, chosen, watch))
    else:
        for name, side in (("a", a), ("b", b)):
            own = {name: side.adapter} if side.adapter else {}
            with _opened(side.model, own, chosen) as model:
                both.append(_asked(model, side, cases, chosen, watch))
    return [
        Row(case, one, other, (scored(one.answer, case.reference), scored(other.answer, case.reference)))
        for case, one, other in zip(cases, *both, strict=True)
    ]


@contextmanager
def _opened(name: str, adapters: dict[str, str], options: Options) -> Iterator[Model]:
    with load(
        name,
        adapter=adapters or None,
        template=options.template,
        gpu_layers=options.gpu_layers,
        context=options.context,
        threads=options.threads,
        engine=options.engine,
        offline=options.offline,
        slots=options.slots,
        progress=options.progress,
    ) as model:
        yield model


def _asked(model: Model, side: Side, cases: Sequence[Case], options: Options, watch: Watch) -> list[Said]:
    job = replace(options.job, sampling=side.sampling)
    found = []
    with sweep.over(model, _rows(cases, job), _continued(side) if options.raw else job.ask) as results:
        for result in results:
            found.append(_said(result))
            watch()
    return found


def _rows(cases: Sequence[Case], job: Job) -> Iterator[rows.Row]:
    for number, case in enumerate(cases):
        turns = [{"role": message.role, "content": message.content} for message in case.messages]
        values = {"messages": turns} if job.task == "chat" else {job.text_column: case.written}
        yield rows.Row(id=number, values={**values, "written": case.written})


def _continued(side: Side) -> Callable[[rows.Row], Generator[list[Prompt], list[Reply], str]]:
    def ask(row: rows.Row) -> Generator[list[Prompt], list[Reply], str]:
        [reply] = yield [Prompt(completion=row.values["written"], sampling=side.sampling)]
        return reply.text

    return ask


def _said(result: Result) -> Said:
    if result.error:
        return Said(error=str(result.error).rstrip("."))
    value = result.value
    answer = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Said(answer, result.tokens, result.finish)
