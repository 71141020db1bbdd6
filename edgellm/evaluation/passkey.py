"""The passkey test: a number hidden somewhere in a long, dull text, and asked for afterwards.

As in Mohtashami and Jaggi, "Landmark Attention" (2023), and Mixtral's paper. A task per cell: it counts tokens, asks, and
says whether the number came back.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgellm.errors import PromptTooLong, UsageError
from edgellm.prompt import Message, Prompt, Task
from edgellm.sampling import Sampling

_INTRO = (
    "There is an important piece of information hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about it."
)
_DULL = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_ASK = "What is the pass key?"
GREEDY = Sampling(temperature=0.0, max_tokens=24)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trial: a context (tokens), where in it the number stood (0 to 1), and whether it was found."""

    context: int
    depth: float
    prompt_tokens: int
    key: str
    answer: str

    @property
    def found(self) -> bool:
        """The number came back whole."""
        return self.key in self.answer


def trials(
    contexts: Sequence[int], depths: int, count: int, *, seed: int = 0, raw: bool = False
) -> Iterator[Task[Cell]]:
    """Return a task for every context, position and trial; neighbours begin alike, so that a prefix is computed once.

    Raises UsageError for a grid that makes no sense.
    """
    if depths < 2 or count < 1 or not contexts:
        raise UsageError("the test needs a context, two positions and one trial at least.")
    rng = random.Random(seed)  # noqa: S311 - no secret
    return (
        trial(context, place / (depths - 1), str(rng.randrange(10_000, 100_000)), raw=raw)
        for context in contexts
        for _ in range(count)
        for place in range(depths)
    )


def trial(context: int, depth: float, key: str, *, raw: bool = False, sampling: Sampling = GREEDY) -> Task[Cell]:
    """Hide a number, ask for it. The prompt and the answer's room together fill the context. Raises PromptTooLong."""
    room = context - sampling.max_tokens

    def prompt(repeats: int, *, count: bool = False) -> Prompt:
        text = hidden(repeats, depth, key)
        if raw:
            return Prompt(completion=f"{text} The pass key is", sampling=sampling, count=count)
        return Prompt(messages=(Message("user", text),), sampling=sampling, count=count)

    bare, more = yield [prompt(0, count=True), prompt(50, count=True)]
    if bare.prompt_tokens > room:
        raise PromptTooLong(
            f"the test alone takes {bare.prompt_tokens} tokens: a context of {context:,} is too small.",
            bare.prompt_tokens,
            context,
        )
    repeats = int((room - bare.prompt_tokens) * 50 / (more.prompt_tokens - bare.prompt_tokens))
    while repeats:
        [counted] = yield [prompt(repeats, count=True)]
        if counted.prompt_tokens <= room:
            break
        repeats -= 1
    [reply] = yield [prompt(repeats)]
    return Cell(context, depth, reply.prompt_tokens, key, reply.text)


def hidden(repeats: int, depth: float, key: str) -> str:
    """The text: `repeats` times the same dull sentences, with the number after a share `depth` of them."""
    before = round(repeats * depth)
    lines = (
        [_DULL] * before
        + [f"The pass key is {key}. Remember it. {key} is the pass key."]
        + [_DULL] * (repeats - before)
    )
    return "\n".join([_INTRO, *lines, _ASK])


def grid(cells: Iterable[Cell]) -> dict[float, dict[int, float]]:
    """Share of numbers that were found, by position and context."""
    found: dict[float, dict[int, list[bool]]] = {}
    for cell in cells:
        found.setdefault(cell.depth, {}).setdefault(cell.context, []).append(cell.found)
    return {
        depth: {context: sum(each) / len(each) for context, each in row.items()} for depth, row in sorted(found.items())
    }


def png(name: str, shares: dict[float, dict[int, float]]) -> bytes:
    """Draw the grid as a heat map. Needs matplotlib (extra `plot`)."""
    from matplotlib.figure import Figure

    contexts = sorted({context for row in shares.values() for context in row})
    figure = Figure(figsize=(2 + len(contexts), 1.5 + 0.5 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    rows = [[row.get(context, float("nan")) for context in contexts] for row in shares.values()]
    image = axes.imshow(rows, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(contexts)), [f"{context:,}" for context in contexts])
    axes.set_yticks(range(len(shares)), [f"{depth:.0%}" for depth in shares])
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("where the number stands")
    axes.set_title(f"pass keys found by {name}")
    figure.colorbar(image, format=lambda share, _: f"{share:.0%}")
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    return held.getvalue()
