"""Cutting long texts: at the ends of sentences, by token counts that the model itself makes, into parts of equal size.

Knows sizes, not what is done with the parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from edgellm.errors import PromptTooLong
from edgellm.prompt import Prompt, Reply, Task
from edgellm.tasks.sentences import split

# What fits every context without being counted: no tokenizer makes more tokens than there are bytes.
SURE_BYTES = 200
# More than this is counted in pieces: llama.cpp's time grows with the square of a text that has no blanks (measured: 60,000
# characters of Japanese 3 s, 90,000 of them 8 s).
COUNTED_BYTES = 1 << 16


def sizes(texts: Sequence[str]) -> Task[list[int]]:
    """Ask how many tokens each text has."""
    replies = yield [Prompt(completion=text, count=True) for text in texts]
    return [reply.prompt_tokens for reply in replies]


def counted(question: Prompt) -> Task[Reply]:
    """Ask how many tokens a prompt has, and the context."""
    [reply] = yield [replace(question, count=True)]
    return reply


def refuse_hopeless(question: Reply) -> None:
    """Raise PromptTooLong when a question leaves no room for any text: then cutting it does not help."""
    if question.prompt_tokens >= question.context_tokens:
        raise PromptTooLong(
            f"the question alone has {question.prompt_tokens:,} tokens and the context {question.context_tokens:,}: "
            "raise --context.",
            question.prompt_tokens,
            question.context_tokens,
        )


def cut(text: str, limit: int) -> Task[list[str]]:
    """Cut a text into parts of at most `limit` tokens each, and of about the same size; joined again, they are the text."""
    pieces = _runs(split(text), limit)
    counts = yield from sizes(pieces)
    while any(count > limit and len(piece) > 1 for piece, count in zip(pieces, counts, strict=True)):
        parts = [
            list(halves(piece)) if count > limit and len(piece) > 1 else [piece]
            for piece, count in zip(pieces, counts, strict=True)
        ]
        fresh = iter((yield from sizes([part for some in parts if len(some) > 1 for part in some])))
        counts = [
            next(fresh) if len(some) > 1 else count for some, count in zip(parts, counts, strict=True) for _ in some
        ]
        pieces = [part for some in parts for part in some]
    return ["".join(pieces[start:end]) for start, end in packed(counts, limit)]


def packed(counts: Sequence[int], limit: int, most: int | None = None) -> list[tuple[int, int]]:
    """Ranges of neighbours that together are at most `limit` (one that is more stands alone), evenly filled.

    No range has more than `most` members.
    """
    left = sum(counts)
    found: list[tuple[int, int]] = []
    start, filled = 0, 0
    for place, count in enumerate(counts):
        even = left / max(1, -(-left // limit))  # so large if all parts that are left were of one size
        full = filled + count > limit or filled + count / 2 > even or (most and place - start >= most)
        if place > start and full:
            found.append((start, place))
            left -= filled
            start, filled = place, 0
        filled += count
    return [*found, (start, len(counts))] if counts else []


def halves(text: str) -> tuple[str, str]:
    """Cut a text near its middle: at the end of a sentence if there is one, else between words, else anywhere."""
    middle = len(text) // 2
    ends, at = [], 0
    for sentence in split(text)[:-1]:
        at += len(sentence)
        ends.append(at)
    places = (
        ends or _near(r"[,;:、，；：]\s*(?=\S)", text, middle) or _near(r"\s+(?=\S)", text, middle) or [middle or 1]
    )
    place = min(places, key=lambda one: abs(one - middle))
    return text[:place], text[place:]


def _near(pattern: str, text: str, middle: int) -> list[int]:
    """Places in the middle half of a text, that neither half is left with next to nothing."""
    quarter = len(text) // 4
    return [match.end() for match in re.compile(pattern).finditer(text, middle - quarter, middle + quarter)]


def _cut_to(text: str, most: int) -> list[str]:
    """Cut a text into pieces of at most so many characters."""
    pieces = [text]
    while any(len(piece) > most for piece in pieces):
        pieces = [part for piece in pieces for part in (halves(piece) if len(piece) > most else (piece,))]
    return pieces


def _runs(sentences: Sequence[str], limit: int) -> list[str]:
    """Neighbours put together while they are certainly small, so that fewer texts must be counted; the endless cut."""
    found: list[str] = []
    for sentence in (part for whole in sentences for part in _cut_to(whole, 2 * limit)):
        if found and len(found[-1]) + len(sentence) <= limit // 4:
            found[-1] += sentence
        else:
            found.append(sentence)
    return found
