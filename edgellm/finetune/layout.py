"""What a model sees of an example, and which part of it counts for the loss: as it will be asked later, so it learns.

Prompts are rendered and encoded by the same rooms that answer (`template`), so that training and running agree to the token.
Knows examples and templates; not where the vocabulary comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.finetune.data import Example
from edgellm.template import Segment, Template, Vocab, encode


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an example's text; `counts` says whether the loss is computed on it."""

    text: str
    counts: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """An example in tokens; `counts` marks those whose prediction is learned."""

    ids: tuple[int, ...]
    counts: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How examples are laid out: as a chat with this template, or as they were written."""

    template: Template | None = None

    def shown(self, example: Example) -> list[Piece]:
        """The text of an example, with the part that counts marked."""
        if example.text:
            return [Piece(example.text, True)]
        if self.template is None:
            prompt, completion = written(example)
            return [Piece(prompt, False), Piece(completion, True)]
        pieces, done = list[Piece](), ""
        for before, after in self._answers(example):
            asked, whole = _plain(before), _plain(after)
            if asked.startswith(done) and whole.startswith(asked):
                pieces += [Piece(asked[len(done) :], False), Piece(whole[len(asked) :], True)]
                done = whole
        return pieces

    def encode(self, example: Example, vocab: Vocab, ends: Sequence[int]) -> Sample:
        """The tokens of an example; what counts ends with the token that ends an answer (the first of `ends` is added)."""
        if example.text:
            ids = [*encode([Segment(example.text, content=True)], vocab), ends[0]]
            return Sample(
                tuple(ids), (False,) * (vocab.bos is not None) + (True,) * (len(ids) - (vocab.bos is not None))
            )
        if self.template is None:
            prompt, completion = written(example)
            before = encode([Segment(prompt, content=True)], vocab)
            ids = [*encode([Segment(prompt + completion, content=True)], vocab), ends[0]]
            start = _common(before, ids)
            return Sample(tuple(ids), (False,) * start + (True,) * (len(ids) - start))
        return self._chat(example, vocab, ends)

    def _chat(self, example: Example, vocab: Vocab, ends: Sequence[int]) -> Sample:
        spans, whole = list[tuple[list[int], list[int]]](), list[int]()
        for before, after in self._answers(example):
            asked = encode(before, vocab)
            whole = _ended(encode(after, vocab), asked, ends)
            spans.append((asked, whole))
        counts = [False] * len(whole)
        for asked, answered in spans:
            # A format that rewrites earlier turns teaches the last answer only.
            if _common(answered, whole) == len(answered):
                start = _common(asked, answered)
                counts[start : len(answered)] = [True] * (len(answered) - start)
        return Sample(tuple(whole), tuple(counts))

    def _answers(self, example: Example) -> list[tuple[tuple[Segment, ...], tuple[Segment, ...]]]:
        """For every answer: the conversation as the model is asked, and with the answer."""
        assert self.template
        places = [place for place, message in enumerate(example.messages) if message.role == "assistant"]
        return [
            (
                self.template.render(example.messages[:place]),
                self.template.render(example.messages[: place + 1], add_generation_prompt=False),
            )
            for place in places
        ]


def written(example: Example) -> tuple[str, str]:
    """Prompt and completion as they were written; of a conversation, its messages with a blank line between."""
    if example.raw:
        return example.raw
    contents = [message.content for message in example.messages]
    return "\n\n".join(contents[:-1]) + "\n\n", contents[-1]


def _plain(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))


def _ended(ids: list[int], asked: Sequence[int], ends: Sequence[int]) -> list[int]:
    """End where the answer does: what a format writes after its end token is never generated."""
    start = _common(asked, ids)
    last = next((place for place in range(len(ids) - 1, start - 1, -1) if ids[place] in ends), None)
    return [*ids, ends[0]] if last is None else ids[: last + 1]
