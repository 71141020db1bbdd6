"""Two answers to every prompt, side by side: models, adapters or settings, before and after.

`cases` reads prompts, `side` says who is asked and how, `score` measures against references, `table` writes the result.
`over` asks. It knows no terminal.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgellm.compare.cases import Case
from edgellm.compare.score import scored
from edgellm.compare.side import Side
from edgellm.model import Model, load
from edgellm.prompt import Prompt, Reply, Task

__all__ = ["Case", "Row", "Said", "Side", "over"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one side answered, or why it could not."""

    reply: Reply | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """The answer, or the error in brackets."""
        return self.reply.text if self.reply else f"[{self.error}]"


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
    """How models are opened and asked."""

    raw: bool = False  # prompts are continued, not put into a chat
    template: str | None = None
    gpu_layers: Any = "auto"
    context: int | None = None
    threads: int | None = None
    engine: Any = "auto"
    offline: bool = False
    slots: int = 4


def over(a: Side, b: Side, cases: Sequence[Case], options: Options | None = None) -> list[Row]:
    """Ask both sides every prompt. A model that both share is opened once; of two, only one is in memory at a time."""
    chosen = options or Options()
    if a.model == b.model and a.adapter and b.adapter:
        shared = {"before": a.adapter, "after": b.adapter}
        with _opened(a.model, shared, chosen) as model:
            both = (_asked(model.using("before"), a, cases, chosen), _asked(model.using("after"), b, cases, chosen))
    elif a.model == b.model:
        with _opened(a.model, a.adapter or b.adapter, chosen) as model:
            alone = model.using("none") if a.adapter or b.adapter else model
            both = (
                _asked(model if a.adapter else alone, a, cases, chosen),
                _asked(model if b.adapter else alone, b, cases, chosen),
            )
    else:
        found = []
        for side in (a, b):
            with _opened(side.model, side.adapter, chosen) as model:
                found.append(_asked(model, side, cases, chosen))
        both = (found[0], found[1])
    return [
        Row(case, one, other, (scored(one.text, case.reference), scored(other.text, case.reference)))
        for case, one, other in zip(cases, *both, strict=True)
    ]


@contextmanager
def _opened(name: str, adapter: Any, options: Options) -> Iterator[Model]:
    with load(
        name,
        adapter=adapter,
        template=options.template,
        gpu_layers=options.gpu_layers,
        context=options.context,
        threads=options.threads,
        engine=options.engine,
        offline=options.offline,
        slots=options.slots,
    ) as model:
        yield model


def _asked(model: Model, side: Side, cases: Sequence[Case], options: Options) -> list[Said]:
    found: dict[int, Said] = {}
    with model.drive(_task(_prompt(case, side, options.raw)) for case in cases) as drive:
        for outcome in drive:
            error = "" if outcome.error is None else str(outcome.error).rstrip(".")
            found[outcome.index] = Said(outcome.result, error)
    return [found[place] for place in range(len(cases))]


def _task(prompt: Prompt) -> Task[Reply]:
    def asking() -> Generator[list[Prompt], list[Reply], Reply]:
        [reply] = yield [prompt]
        return reply

    return asking()


def _prompt(case: Case, side: Side, raw: bool) -> Prompt:
    if raw:
        return Prompt(completion=case.written, sampling=side.sampling)
    return Prompt(messages=case.messages, sampling=side.sampling)
