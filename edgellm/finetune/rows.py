"""Samples for the loop: examples in tokens, texts packed into blocks, and which of them a step takes.

What a step takes follows from its number and the seed alone, so that a run can be gone on with at any step.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from edgellm.errors import EdgeError
from edgellm.finetune.data import Example, Fault, refuse
from edgellm.finetune.layout import Layout, Sample
from edgellm.finetune.lengths import told
from edgellm.finetune.vocab import Pieces


@dataclass(frozen=True, slots=True)
class Rows:
    """What is trained on, or validated with."""

    samples: tuple[Sample, ...]
    cut: int = 0  # samples that were longer than allowed, and lost their end

    @property
    def tokens(self) -> int:
        """Of all samples."""
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def learned(self) -> int:
        """Of these, those whose prediction counts."""
        return sum(sum(sample.counts[1:]) for sample in self.samples)


def lay_out(examples: Sequence[Example], layout: Layout, vocab: Pieces, max_length: int) -> Rows:
    """Turn examples into samples of at most `max_length` tokens. Raises DataRefused with the lines that cannot be learned."""
    if examples and examples[0].text:
        return Rows(pack(examples, layout, vocab, max_length))
    samples, cut, faults = list[Sample](), 0, list[Fault]()
    for example in examples:
        try:
            whole = layout.encode(example, vocab, vocab.ends)
        except EdgeError as error:
            faults.append(Fault(example.file, example.line, told(error)))
            continue
        sample = Sample(whole.ids[:max_length], whole.counts[:max_length])
        cut += len(whole.ids) > max_length
        if not any(sample.counts[1:]):
            why = f"has a prompt that fills all {max_length:,} tokens of --max-length: no answer would be left"
            faults.append(Fault(example.file, example.line, why))
        samples.append(sample)
    refuse(faults)
    return Rows(tuple(samples), cut)


def pack(examples: Sequence[Example], layout: Layout, vocab: Pieces, max_length: int) -> tuple[Sample, ...]:
    """Write texts one after the other and cut them into blocks; paragraphs of one file go on as one text."""
    ids, counts = list[int](), list[bool]()
    for example in _joined(examples):
        sample = layout.encode(example, vocab, vocab.ends)
        ids += sample.ids
        counts += sample.counts
    starts = range(0, len(ids), max_length)
    blocks = [Sample(tuple(ids[at : at + max_length]), tuple(counts[at : at + max_length])) for at in starts]
    return tuple(block for block in blocks if any(block.counts[1:]))


def _joined(examples: Sequence[Example]) -> list[Example]:
    found = list[Example]()
    for file, group in itertools.groupby(examples, key=lambda example: example.file):
        rows = list(group)
        if file.lower().endswith((".txt", ".md")):
            rows = [Example(file, rows[0].line, text="\n\n".join(row.text for row in rows))]
        found += rows
    return found


def taken(step: int, size: int, batch: int, seed: int) -> list[int]:
    """Which samples step number `step` (from 0) takes: every one once in a round, in another order each round."""
    found = list[int]()
    for place in range(step * batch, (step + 1) * batch):
        order = _order(place // size, size, seed)
        found.append(order[place % size])
    return found


@functools.lru_cache(maxsize=4)
def _order(number: int, size: int, seed: int) -> tuple[int, ...]:
    order = list(range(size))
    random.Random(f"{seed} {number}").shuffle(order)  # noqa: S311 - an order of rows is no secret
    return tuple(order)
