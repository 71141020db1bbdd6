"""How a value may stand in a text: as it is, in other case and spacing, a number or date in its written forms.

Finds the first place; knows no schema and no model. Number words and month names are English.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_WORDS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * value for value, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9}
_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905
_NAMED = {name[:length]: index for index, name in enumerate(_MONTHS, 1) for length in (3, 4, len(name))}

_DIGITS = re.compile(
    r"(?<![\w.,/:])[-+−]?(?:\d{1,3}(?:[,.'’ \u00a0\u202f]\d{3})+|\d+)(?:[.,]\d+)?(?![\d/:])"
    r"(?:\s?(k|m|mn|bn|thousand|million|billion)\b)?",
    re.IGNORECASE,
)
_SPELLED = re.compile(
    rf"\b(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_ONES[1:10])}))?|{'|'.join(_ONES)}|a)"
    r"(?: (?:hundred|thousand|million|billion))*\b",
    re.IGNORECASE,
)
_DAY, _YEAR = r"(?P<d>\d{1,2})(?:st|nd|rd|th)?", r"(?P<y>\d{4})"
_MONTH = rf"(?P<n>{'|'.join(sorted(_NAMED, key=len, reverse=True))})\.?"
_DATES = (
    re.compile(r"\b(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})\b"),
    re.compile(rf"\b{_DAY}(?: of)? {_MONTH},? {_YEAR}\b", re.IGNORECASE),
    re.compile(rf"\b{_MONTH} {_DAY},? {_YEAR}\b", re.IGNORECASE),
    re.compile(r"\b(?P<d>\d{1,2})[-/.](?P<m>\d{1,2})[-/.](?P<y>\d{4}|\d{2})\b"),
    re.compile(r"\b(?P<m>\d{1,2})[-/.](?P<d>\d{1,2})[-/.](?P<y>\d{4}|\d{2})\b"),
)


# Two letters or two digits in a row are inside a word; in scripts without blanks, and Korean, a word may end anywhere.
_INSIDE = re.compile(
    r"[^\W\d_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]{2}|\d{2}"
)


class Found(NamedTuple):
    """A place in a text, from character `start` to before `end`, and how the value stands there."""

    start: int
    end: int
    how: str


def find(value: Any, text: str) -> Found | None:
    """The first place where a value stands in a text: `exact`, `loose` (case and spacing), `number` or `date`."""
    if isinstance(value, bool) or value is None:
        return _exact(str(value).lower(), text) if value is not None else None
    if isinstance(value, int | float):
        return _number(float(value), text)
    return _exact(value, text) or _loose(value, text) or _date(value, text)


def _exact(value: str, text: str) -> Found | None:
    """The first place where the value stands as words of its own: "art" is not evidenced by "party"."""
    return _place(re.compile(re.escape(value)), text, "exact") if value.strip() else None


def _place(wanted: re.Pattern[str], text: str, how: str) -> Found | None:
    for place in wanted.finditer(text):
        if not _cuts(text, place.start()) and not _cuts(text, place.end()):
            return Found(*place.span(), how)
    return None


def _cuts(text: str, place: int) -> bool:
    """Whether a word or number goes on across this place."""
    return 0 < place < len(text) and bool(_INSIDE.match(text[place - 1 : place + 1]))


def _loose(value: str, text: str) -> Found | None:
    words = value.split()
    if not words:
        return None
    return _place(re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE), text, "loose")


def _number(value: float, text: str) -> Found | None:
    found = [place for place in _DIGITS.finditer(text) if any(_same(value, one) for one in _read(place[0], place[1]))]
    for place in found:
        if place[0] == f"{value:.15g}":
            return Found(*place.span(), "exact")
    if found:
        return Found(*found[0].span(), "number")
    for place in _SPELLED.finditer(text):
        if place[0].lower() != "a" and _same(value, _spoken(place[0].lower())):
            return Found(*place.span(), "number")
    return None


def _same(left: float, right: float) -> bool:
    return abs(left - right) <= 1e-9 * max(1.0, abs(left))


def _read(digits: str, scale: str | None) -> Iterator[float]:
    """What a written number may mean: 1.234 is a thousand and more to some, one and a bit to others."""
    factor = _SCALES[scale.lower()] if scale else 1.0
    plain = re.sub(r"[^\d.,+-]", "", digits.removesuffix(scale or "").replace("−", "-"))
    for grouping, point in ((",", "."), (".", ",")):
        text = plain.replace(grouping, "").replace(point, ".")
        if re.fullmatch(r"[+-]?\d+(?:\.\d+)?", text):
            yield float(text) * factor


def _spoken(words: str) -> float:
    value = 0.0
    for word in re.split(r"[- ]", words):
        if word in _SCALES:
            value = (value or 1.0) * _SCALES[word]
        else:
            value += _WORDS.get(word, 0)
    return value


def _date(value: str, text: str) -> Found | None:
    """An ISO date in one of the ways that people write it; day and month in either order."""
    try:
        wanted = datetime.date.fromisoformat(value[:10])
    except ValueError:
        return None
    for pattern in _DATES:
        for place in pattern.finditer(text):
            said = place.groupdict()
            month = _NAMED[said["n"].lower()] if said.get("n") else int(said["m"])
            year = int(said["y"]) + (2000 if len(said["y"]) == 2 else 0)
            if (year, month, int(said["d"])) == (wanted.year, wanted.month, wanted.day):
                return Found(*place.span(), "date")
    return None
