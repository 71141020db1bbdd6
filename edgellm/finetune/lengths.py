"""How many tokens examples take in the real tokenizer: through a model's own worker, or a folder's tokenizer. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgellm.errors import EdgeError
from edgellm.finetune.data import Example
from edgellm.finetune.layout import Layout, written
from edgellm.finetune.vocab import Pieces
from edgellm.model import Model
from edgellm.prompt import Prompt, Task


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of an example: all of it, and what comes before its last answer."""

    total: int
    prompt: int = 0
    fault: str = ""  # why it has none: what the model's format or vocabulary cannot say


class Count(Protocol):
    """Counts examples."""

    def __call__(self, examples: Sequence[Example]) -> list[Length]: ...


def by_model(model: Model, layout: Layout) -> Count:
    """Count in the worker of an open model, as it will count when it is asked."""

    [begin] = model.ask([Prompt(completion="", count=True)])  # a beginning that the model wants before every prompt

    def measure(example: Example) -> Task[Length]:
        replies = yield _prompts(example, layout)
        before, *rest = [reply.prompt_tokens for reply in replies]
        if example.text:
            return Length(before + 1, begin.prompt_tokens)
        return _pair(before, rest[0], begin.prompt_tokens if layout.template else None)

    def count(examples: Sequence[Example]) -> list[Length]:
        found: dict[int, Length] = {}
        with model.drive(map(measure, examples)) as drive:
            for outcome in drive:
                found[outcome.index] = outcome.result or Length(0, fault=told(outcome.error))
        return [found[place] for place in range(len(examples))]

    return count


def by_pieces(vocab: Pieces, layout: Layout) -> Count:
    """Count by laying every example out as it is trained on."""

    def count(examples: Sequence[Example]) -> list[Length]:
        return [measure(example) for example in examples]

    def measure(example: Example) -> Length:
        try:
            return _length(layout.encode(example, vocab, vocab.ends).counts)
        except EdgeError as error:
            return Length(0, fault=told(error))

    return count


def told(error: EdgeError | None) -> str:
    """An error as what continues "line 7 "."""
    return f"cannot be laid out: {str(error).rstrip('.')}"


def _length(counts: Sequence[bool]) -> Length:
    last = len(counts)
    while last and counts[last - 1]:
        last -= 1
    return Length(len(counts), last)


def _prompts(example: Example, layout: Layout) -> list[Prompt]:
    if example.text:
        return [Prompt(completion=example.text, count=True)]
    if layout.template is None:
        prompt, completion = written(example)
        return [Prompt(completion=prompt, count=True), Prompt(completion=prompt + completion, count=True)]
    answer = example.messages[-1].content
    return [Prompt(messages=example.messages[:-1], count=True), Prompt(completion=answer, count=True)]


def _pair(before: int, rest: int, begin: int | None) -> Length:
    """The token that ends an answer is counted; an answer that was counted alone had a beginning, which goes."""
    return Length(rest + 1 if begin is None else before + rest - begin + 1, before)
