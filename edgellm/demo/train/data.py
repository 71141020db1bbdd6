"""Batches of token ids: examples laid out as the chat template lays them out, with a mark on what is to be learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from edgellm.demo import text
from edgellm.demo.train.tokenizer import BOS, EOS, Tokenizer, fold
from edgellm.prompt import Message

BARE = {"extract": 0.8, "copy": 0.8, "spoken": 0.2}
"""How often the answer to a task with a schema is laid out as a grammar writes it; in chat nobody enforces one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example: its ids, and which of them are answers."""

    ids: list[int]
    learned: list[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one length: input ids, the flat places where something is to be learned, and what."""

    tokens: Tensor  # (rows, length)
    places: Tensor
    targets: Tensor


def prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> Row:
    """Lay out a conversation up to its last turn: `<s>` `[INST] question [/INST]` ` answer` `</s>`."""
    ids, learned = [BOS], [False]
    for message in fold(messages):
        if message.role == "user":
            found = tokenizer.encode(f"[INST] {message.content} [/INST]")
            ids += found
            learned += [False] * len(found)
        else:
            found = [*tokenizer.encode(message.content), EOS]
            ids += found
            learned += [True] * len(found)
    return Row(ids, learned)


def row(tokenizer: Tokenizer, one: text.Example, *, bare: bool = False) -> Row:
    """Lay out an example with its answer; `bare` leaves out the answer's leading space, as a grammar does.

    A grammar gives the first token of a bare answer: it is not learned, or half the noise of training would be the
    question of whether an answer is bare.
    """
    start = prompt(tokenizer, one.messages)
    found = [*tokenizer.encode(one.answer, prefix=not bare), EOS]
    return Row(start.ids + found, start.learned + [not bare] + [True] * (len(found) - 1))


def batches(
    tokenizer: Tokenizer, seed: int, *, tokens: int, longest: int, tasks: dict[str, int] | None = None, pool: int = 48
) -> Iterator[Batch]:
    """Yield micro-batches of about `tokens` ids for ever: rows of like length together, in random order."""
    random = Random(seed)
    pieces = [piece for piece in tokenizer.pieces[259:] if "[" not in piece and '"' not in piece]
    stream = text.examples(seed, pieces=pieces, tasks=tasks)
    while True:
        rows: list[Row] = []
        size = 0
        while size < tokens * pool:
            one = next(stream)
            made = row(tokenizer, one, bare=one.schema is not None and random.random() < BARE[one.task])
            if len(made.ids) <= longest:
                rows.append(made)
                size += len(made.ids)
        rows.sort(key=lambda each: len(each.ids))
        groups: list[list[Row]] = [[]]
        for each in rows:
            if (len(groups[-1]) + 1) * len(each.ids) > tokens:
                groups.append([])
            groups[-1].append(each)
        random.shuffle(groups)
        for group in groups:
            if group:
                yield _pack(group)


def _pack(group: list[Row]) -> Batch:
    length = max(len(each.ids) for each in group) - 1
    length += -length % 8
    tokens = torch.zeros(len(group), length, dtype=torch.long)
    places, targets = [], []
    for index, each in enumerate(group):
        tokens[index, : len(each.ids) - 1] = torch.tensor(each.ids[:-1])
        for at in range(1, len(each.ids)):
            if each.learned[at]:
                places.append(index * length + at - 1)
                targets.append(each.ids[at])
    return Batch(tokens, torch.tensor(places), torch.tensor(targets))
