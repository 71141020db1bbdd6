"""A conversation that is too long, made shorter: whole turns, the oldest first, and never the system prompt.

Knows messages and a question that it asks about them; not what a token is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgellm.prompt import Message


def shortened(
    messages: Sequence[Message], fits: Callable[[tuple[Message, ...]], bool]
) -> tuple[tuple[Message, ...], int]:
    """Drop as few of the oldest turns as it takes until `fits` says yes; returns what is left and how many messages went.

    System messages and the last turn always stay: where even they do not fit, they are returned all the same. `fits` is
    asked about log2(turns) times.
    """
    given = tuple(messages)
    if fits(given):
        return given, 0
    starts = _turns(given)
    low, high = 1, len(starts) - 1  # turns to drop; all but the last may go
    while low < high:
        middle = (low + high) // 2
        if fits(_without(given, starts[middle])):
            high = middle
        else:
            low = middle + 1
    left = _without(given, starts[max(0, high)]) if starts else given
    return left, len(given) - len(left)


def _turns(messages: Sequence[Message]) -> list[int]:
    """Where turns begin: at a user's message that follows anything but one."""
    spoken = [index for index, message in enumerate(messages) if message.role != "system"]
    before = dict(zip(spoken[1:], spoken, strict=False))
    return [
        index
        for index in spoken
        if index not in before or (messages[index].role == "user" and messages[before[index]].role != "user")
    ]


def _without(messages: Sequence[Message], end: int) -> tuple[Message, ...]:
    return tuple(one for index, one in enumerate(messages) if index >= end or one.role == "system")
