"""Many conversations carried on as one: what they ask is asked together, so that it is decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from edgellm.prompt import Prompt, Reply, Task

T = TypeVar("T")


def together(tasks: Sequence[Task[T]]) -> Task[list[T]]:
    """Carry on tasks side by side, in rounds; returns their results in their order. The first error ends them all."""
    results: dict[int, T] = {}
    asked: dict[int, list[Prompt]] = {}

    def advance(index: int, replies: list[Reply] | None) -> None:
        task = tasks[index]
        try:
            asked[index] = next(task) if replies is None else task.send(replies)
        except StopIteration as done:
            asked.pop(index, None)
            results[index] = done.value

    try:
        for index in range(len(tasks)):
            advance(index, None)
        while asked:
            replies = iter((yield [prompt for prompts in asked.values() for prompt in prompts]))
            for index, prompts in tuple(asked.items()):
                advance(index, [next(replies) for _ in prompts])
    finally:
        for task in tasks:
            task.close()
    return [results[index] for index in range(len(tasks))]
