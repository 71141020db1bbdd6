"""A model made of a function, for tasks: it answers every prompt, and counts a token for each character."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgellm.errors import PromptTooLong
from edgellm.prompt import Prompt, Reply, Task

T = TypeVar("T")
Answer = Callable[[Prompt], str | Reply]


def content(prompt: Prompt) -> str:
    """What a prompt says."""
    return prompt.completion if prompt.completion is not None else prompt.messages[-1].content


def given(prompt: Prompt) -> str:
    """The text that a prompt asks about."""
    return content(prompt).split("\n\nText: ", 1)[1]


def play(task: Task[T], answer: Answer, *, context: int = 4096) -> tuple[T, list[Prompt]]:
    """Answer a task to its end; returns its result, and the prompts that were to be answered.

    Raises PromptTooLong as a model does.
    """
    asked: list[Prompt] = []

    def said(prompt: Prompt) -> Reply:
        size = len(content(prompt))
        if prompt.count:
            return Reply(text="", finish="stop", prompt_tokens=size, tokens=0, context_tokens=context)
        if size >= context:
            raise PromptTooLong("too long", size, context)
        asked.append(prompt)
        found = answer(prompt)
        if isinstance(found, Reply):
            return found
        room = min(prompt.sampling.max_tokens, context - size)
        cut = len(found) > room
        text = found[:room]
        return Reply(text=text, finish="length" if cut else "stop", prompt_tokens=size, tokens=len(text))

    try:
        prompts = next(task)
        while True:
            prompts = task.send([said(prompt) for prompt in prompts])
    except StopIteration as done:
        return done.value, asked
