"""How near an answer comes to its reference, from 0 to 1: the same words, the words in common, the fields of a JSON object."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\w+|[^\w\s]")


def scored(answer: str, reference: str | None) -> dict[str, float]:
    """All scores that make sense; none without a reference."""
    if reference is None:
        return {}
    found = {"exact": float(_words(answer) == _words(reference)), "overlap": overlap(answer, reference)}
    wanted, got = _object(reference), _object(answer)
    return found if wanted is None else found | {"fields": _fields(got or {}, wanted)}


def overlap(answer: str, reference: str) -> float:
    """F1 of the words that both have (Rajpurkar et al. 2016, without their list of words to leave out)."""
    got, wanted = Counter(_words(answer)), Counter(_words(reference))
    common = (got & wanted).total()
    if not got or not wanted:
        return float(got == wanted)
    return 2 * common / (got.total() + wanted.total())


def means(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every score, over the rows that have it."""
    names = dict.fromkeys(name for row in scores for name in row)
    return {name: _mean([row[name] for row in scores if name in row]) for name in names}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None


def _fields(got: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Share of the fields, of both, that are the same."""
    same = sum(bool(name in got and got[name] == value) for name, value in wanted.items())
    return same / len(got | wanted)
