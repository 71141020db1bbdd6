"""How many tokens examples take in the real tokenizer: through a model's own worker, or a folder's tokenizer. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgellm.finetune.data import Example
from edgellm.finetune.layout import Layout, written
from edgellm.finetune.vocab import Pieces
from edgellm.model import Model
from edgellm.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of an example: all of it, and what comes before its last answer."""

    total: int
    prompt: int = 0


class Count(Protocol):
    """Counts examples."""

    def __call__(self, examples: Sequence[Example]) -> list[Length]: ...


def by_model(model: Model, layout: Layout) -> Count:
    """Count in the worker of an open model, as it will count when it is asked."""

    [begin] = model.ask([Prompt(completion="", count=True)])  # a beginning that the model wants before every prompt

    def count(examples: Sequence[Example]) -> list[Length]:
        prompts = [prompt for example in examples for prompt in _prompts(example, layout)]
        found = iter([reply.prompt_tokens for reply in model.ask(prompts)])
        chat = layout.template is not None
        return [
            Length(next(found) + 1, begin.prompt_tokens)
            if example.text
            else _pair(next(found), next(found), begin.prompt_tokens if chat else None)
            for example in examples
        ]

    return count


def by_pieces(vocab: Pieces, layout: Layout) -> Count:
    """Count by laying every example out as it is trained on."""

    def count(examples: Sequence[Example]) -> list[Length]:
        return [_length(layout.encode(example, vocab, vocab.ends).counts) for example in examples]

    return count


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
