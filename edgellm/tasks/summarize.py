"""Summaries: text in, fewer words out.

Knows how to ask for a length. What does not fit the context is refused by the model's door, never cut in silence.
"""

from __future__ import annotations

from edgellm.errors import EmptyText, TruncatedOutput, UsageError
from edgellm.prompt import Message, Prompt, Task
from edgellm.sampling import Sampling

GREEDY = Sampling(temperature=0.0)


def ask(text: str, *, sentences: int | None = None, words: int | None = None, sampling: Sampling = GREEDY) -> Prompt:
    """Build the prompt; without a length, two sentences."""
    if sentences is not None and words is not None:
        raise UsageError("give sentences or words, not both.")
    for name, number in (("sentences", sentences), ("words", words)):
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}.")
    if words is not None:
        length = f"at most {words} words"
    else:
        count = sentences or 2
        length = f"exactly {count} short sentence{'s' if count > 1 else ''}"
    question = f"Summarize this text in {length}.\n\nText: {text.strip()}"
    return Prompt(messages=(Message("user", question),), sampling=sampling)


def summarize(
    text: str, *, sentences: int | None = None, words: int | None = None, sampling: Sampling = GREEDY
) -> Task[str]:
    """Summarize one text. Raises EmptyText, UsageError or TruncatedOutput."""
    if not text.strip():
        raise EmptyText("there is no text to summarize.")
    [reply] = yield [ask(text, sentences=sentences, words=words, sampling=sampling)]
    if reply.finish != "stop":
        raise TruncatedOutput(
            f"the summary was cut after {reply.tokens} tokens: raise --max-tokens or --context.", reply.text
        )
    return reply.text.strip()
