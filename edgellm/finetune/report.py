"""What the data check found, as one value: counts, lengths, cuts, duplicates, leaks. Pure; drawing it is for the roof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgellm.finetune.data import Data, Example, Fault, normal
from edgellm.finetune.lengths import Count, Length


@dataclass(frozen=True, slots=True)
class Pair:
    """Two examples that should not both be there as they are."""

    later: Example
    earlier: Example

    def __str__(self) -> str:
        same = self.later.file == self.earlier.file
        other = f"line {self.earlier.line:,}" + ("" if same else f" of {self.earlier.file}")
        return f"{self.later.file}, line {self.later.line:,} and {other}"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known about training data before it is trained on."""

    data: Data
    faults: tuple[Fault, ...]
    duplicates: tuple[Pair, ...] = ()  # the same twice
    contradictions: tuple[Pair, ...] = ()  # the same question with another answer
    leaks: tuple[Pair, ...] = ()  # validation asks what was trained on
    lengths: tuple[Length, ...] = ()  # of train and validation, in order; empty where nothing counts tokens
    max_length: int = 0
    cut: tuple[tuple[Example, Length], ...] = field(default=())  # longer than max_length

    @property
    def tokens(self) -> int:
        """Of all examples."""
        return sum(length.total for length in self.lengths)

    @property
    def learned(self) -> int:
        """Of these, those that count for the loss (of a conversation, in its last answer)."""
        return sum(length.total - length.prompt for length in self.lengths)


def check(data: Data, count: Count | None = None, *, max_length: int = 2048) -> Report:
    """Look at training data from all sides. A row whose prompt alone fills `max_length` tokens is a fault."""
    examples = (*data.train, *data.validation)
    found = Report(
        data,
        data.faults,
        duplicates=_twins(data.train),
        contradictions=_contradictions(data.train),
        leaks=_leaks(data),
    )
    if count is None:
        return found
    lengths = tuple(count(examples))
    cut, hopeless = list[tuple[Example, Length]](), list[Fault]()
    for example, length in zip(examples, lengths, strict=True):
        if length.fault:
            hopeless.append(Fault(example.file, example.line, length.fault))
        if example.text or length.total <= max_length:
            continue
        if length.prompt >= max_length:
            why = (
                f"has a prompt of {length.prompt:,} tokens, and --max-length is {max_length:,}: no answer would be left"
            )
            hopeless.append(Fault(example.file, example.line, why))
        else:
            cut.append((example, length))
    return replace(found, lengths=lengths, max_length=max_length, cut=tuple(cut), faults=(*data.faults, *hopeless))


def histogram(values: Sequence[int], rows: int = 8) -> list[tuple[int, int, int]]:
    """Count values in `rows` equal ranges: (from, to, how many), both ends included."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // rows))
    counts = [0] * (-(-(high - low + 1) // width))
    for value in values:
        counts[(value - low) // width] += 1
    return [(low + place * width, low + (place + 1) * width - 1, count) for place, count in enumerate(counts)]


def _twins(examples: Sequence[Example]) -> tuple[Pair, ...]:
    seen: dict[str, Example] = {}
    found = []
    for example in examples:
        key = normal(example.whole)
        if key in seen:
            found.append(Pair(example, seen[key]))
        seen.setdefault(key, example)
    return tuple(found)


def _contradictions(examples: Sequence[Example]) -> tuple[Pair, ...]:
    seen: dict[str, Example] = {}
    found = []
    for example in examples:
        if example.text:
            continue
        first = seen.setdefault(normal(example.asked), example)
        if normal(first.whole) != normal(example.whole):
            found.append(Pair(example, first))
    return tuple(found)


def _leaks(data: Data) -> tuple[Pair, ...]:
    trained: dict[str, Example] = {}
    for example in data.train:
        trained.setdefault(normal(example.asked), example)
    asked = ((example, trained.get(normal(example.asked))) for example in data.validation)
    return tuple(Pair(example, twin) for example, twin in asked if twin)
