"""What was counted over one set of questions. Pure: cases and results in, shares out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgellm.evaluation.cases import Case
from edgellm.rows import Result, TaskName
from edgellm.tasks import extract as extraction

_Z = 1.96  # two standard deviations: 95 of 100 such samples


class Share(NamedTuple):
    """So many of so many."""

    right: int
    all: int

    @property
    def value(self) -> float:
        """From 0 to 1; NaN of nothing."""
        return self.right / self.all if self.all else math.nan

    @property
    def margin(self) -> float:
        """Half of the 95 % interval: what so few questions leave open. Wilson's score interval."""
        if not self.all:
            return math.nan
        n, p = self.all, self.value
        return _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))


class Wrong(NamedTuple):
    """A question whose answer was not the one that is right."""

    question: str
    expected: str
    got: str


@dataclass(slots=True)
class Score:
    """What was counted for one task."""

    task: TaskName
    cases: int = 0
    expected: int = 0  # cases that have one right answer
    right: int = 0
    facts: int = 0
    facts_kept: int = 0
    fields: dict[str, Share] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    warned: int = 0
    tokens: int = 0
    seconds: float = 0.0
    wrong: list[Wrong] = field(default_factory=list, repr=False)
    pairs: list[tuple[str, str]] = field(default_factory=list)  # what was said, what is right

    @property
    def exact(self) -> Share:
        """Answers that are word for word, or value for value, the right ones."""
        return Share(self.right, self.expected)

    @property
    def kept(self) -> Share:
        """Facts that answers have word for word."""
        return Share(self.facts_kept, self.facts)

    @property
    def parts(self) -> Share:
        """Fields of extracted values, over all names."""
        return Share(sum(one.right for one in self.fields.values()), sum(one.all for one in self.fields.values()))

    def add(self, case: Case, result: Result) -> None:
        """Count one answer."""
        self.cases += 1
        self.tokens += result.tokens
        self.warned += bool(result.warnings)
        if result.error:
            self.failed[type(result.error).__name__] += 1
        said = result.value if isinstance(result.value, str) else ""
        kept = sum(fact in said for fact in case.facts)
        self.facts += len(case.facts)
        self.facts_kept += kept
        if case.expected is not None:
            self._compare(case, result, said)
        elif kept < len(case.facts):
            self._note(case, result)

    def chrf(self) -> float | None:
        """chrF of all answers against the right ones, 0 to 100 (Popović 2015, as sacrebleu computes it); None without it."""
        if not self.pairs:
            return None
        try:
            from sacrebleu.metrics.chrf import CHRF
        except ImportError:
            return None
        found = CHRF().corpus_score([said for said, _ in self.pairs], [[right for _, right in self.pairs]])
        return float(found.score)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        chrf = self.chrf()
        told = {
            "exact": _told(self.exact),
            "fields": _told(self.parts),
            "by_field": {name: _told(share) for name, share in self.fields.items()} or None,
            "facts": _told(self.kept),
            "chrf": None if chrf is None else round(chrf, 2),
        }
        return {
            "task": self.task,
            "cases": self.cases,
            **{name: value for name, value in told.items() if value is not None},
            "failed": dict(self.failed),
            "warned": self.warned,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 2),
        }

    def _compare(self, case: Case, result: Result, said: str) -> None:
        self.expected += 1
        if self.task == "extract":
            got = dict(_leaves(result.value)) if not result.error else {}
            for name, value in _leaves(case.expected):
                field_name = _named(name)
                share = self.fields.get(field_name, Share(0, 0))
                self.fields[field_name] = Share(share.right + _same(got.get(name, _MISSING), value), share.all + 1)
            good = not result.error and _same(result.value, case.expected)
        else:
            self.pairs.append((said, str(case.expected)))
            good = said.strip() == str(case.expected).strip()
        self.right += good
        if not good:
            self._note(case, result)

    def _note(self, case: Case, result: Result) -> None:
        got = f"{type(result.error).__name__}: {result.error}" if result.error else _shown(result.value)
        self.wrong.append(Wrong(case.shown, _shown(case.expected if case.expected is not None else case.facts), got))


_MISSING = object()


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value that has a name: those of objects, also inside lists of objects; other lists count as one value."""
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from _leaves(one, (*path, str(name)))
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            yield from _leaves(one, (*path, number))
    else:
        yield path, value


def _named(path: tuple[str | int, ...]) -> str:
    return ".".join("[]" if isinstance(one, int) else one for one in path) or "value"


def _same(got: Any, wanted: Any) -> bool:
    """Equal as JSON: 3 is 3.0, but 1 is not true."""
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_same(got[name], wanted[name]) for name in wanted)
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_same, got, wanted))
    return bool(got == wanted) and isinstance(got, bool) == isinstance(wanted, bool)


def _told(share: Share) -> dict[str, Any] | None:
    if not share.all:
        return None
    return {"right": share.right, "of": share.all, "share": round(share.value, 4), "margin": round(share.margin, 4)}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else extraction.dump(value)
