"""Drafts by prompt lookup: answers that copy what stands before them are checked several tokens at a time.

`Index` finds what followed the last tokens when they were seen before; `Pace` decides how much of it is worth checking, from
what steps of each width really took and how often drafts came true. Knows token ids and seconds; no engine, no clock.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_GRAM = 3  # two tokens match by chance too often to be worth a row
_PLACES = 4  # of one gram are remembered: the newest
_LONGEST = 32  # a longer match says no more

# How often the next token of a draft comes true, by how many tokens match before it, until enough of them were seen:
# prompt lookup on summaries and answers from documents (apoorvumang/prompt-lookup-decoding), and our own replays.
_MATCHES = (3, 4, 6, 10, 20)
_BELIEF = (0.5, 0.6, 0.75, 0.88, 0.94)
_BELIEF_WEIGHT, _FORGET = 4.0, 0.97

_FASTER, _SLOWER = 0.5, 0.1  # share of a new measurement: what made a step slow is mostly another program
_UNKNOWN_ROW = 0.35  # what a row is guessed to cost, as a share of a step of one row, where nothing was measured
_WORTH = 1.06  # a draft that promises less than this is not tried: the estimates are no better
_DEBT, _DEBT_STEPS = 0.01, 3.0  # what drafts that failed may cost: this share of all time, and so many plain steps
_SAVINGS_STEPS = 20.0  # what drafts that came true earned may be risked, up to so many plain steps


class Draft(NamedTuple):
    """Tokens that may come next, and how many tokens matched before them."""

    tokens: list[int]
    match: int


class Outcome(NamedTuple):
    """What became of a draft: tokens that matched before it, checked, and right; `tried` if rows were spent on it."""

    match: int
    checked: int
    right: int
    tried: bool


class Index:
    """The tokens of one conversation so far, and where each run of three stands in them."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], list[int]] = {}
        self.extend(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Take in the tokens that came."""
        start = max(0, len(self._tokens) - _GRAM + 1)
        self._tokens += tokens
        for begin in range(start, len(self._tokens) - _GRAM + 1):
            places = self._places.setdefault(tuple(self._tokens[begin : begin + _GRAM]), [])
            places.append(begin + _GRAM)
            if len(places) > _PLACES + 1:  # the newest is where we are
                del places[0]

    def draft(self, count: int) -> Draft:
        """Return up to `count` tokens that followed the longest match of the last tokens, the newest of equal ones."""
        end = len(self._tokens)
        places = self._places.get(tuple(self._tokens[-_GRAM:]), ())
        best, length = 0, 0
        for place in places:
            if place < end and (found := self._matching(place)) >= length:
                best, length = place, found
        return Draft(self._tokens[best : best + count] if length else [], length)

    def _matching(self, place: int) -> int:
        """How many tokens before `place` are the last tokens."""
        tokens, end = self._tokens, len(self._tokens)
        length = _GRAM
        longest = min(_LONGEST, place)
        while length < longest and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length


@dataclass(slots=True)
class _Trust:
    """How often a token of a draft came true after a match of some length."""

    right: float
    wrong: float

    @property
    def chance(self) -> float:
        return self.right / (self.right + self.wrong)

    def learn(self, right: int, wrong: int) -> None:
        self.right = self.right * _FORGET + right
        self.wrong = self.wrong * _FORGET + wrong


@dataclass(slots=True)
class Pace:
    """What steps cost and drafts bring, learned while running; `seconds` may start with measurements by width.

    A width is the number of tokens in one step. Whatever drafts cost more than they bring is bounded by `_DEBT`.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    _trust: tuple[_Trust, ...] = field(
        default_factory=lambda: tuple(_Trust(_BELIEF_WEIGHT * one, _BELIEF_WEIGHT * (1 - one)) for one in _BELIEF)
    )
    _spent_s: float = 0.0
    _balance_s: float = 0.0  # what drafts have saved, or cost

    def stepped(self, rows: int, plain: int, width: int, seconds: float, outcomes: Sequence[Outcome] = ()) -> None:
        """Note a step in which `rows` sequences answered: `width` tokens, `plain` of them no drafts."""
        self._measured(width, seconds)
        self._spent_s += seconds
        for outcome in outcomes:
            self._learn(outcome)
        if width > plain:
            gained = sum(outcome.right for outcome in outcomes if outcome.tried)
            alone = self.cost(plain)
            saved = alone * (1 + gained / rows) - min(seconds, 3 * self.cost(width))
            self._balance_s = min(self._balance_s + saved, _SAVINGS_STEPS * alone)

    def read(self, width: int, seconds: float) -> None:
        """Note a step that read a prompt: wide steps may cost far less a token than narrow ones let one expect.

        Kept by powers of two, in proportion: prompts have all lengths.
        """
        even = 1 << (width.bit_length() - 1)
        self._measured(even, seconds * even / width)

    def _learn(self, outcome: Outcome) -> None:
        for place in range(outcome.right):
            self._trust[_kind(outcome.match + place)].learn(1, 0)
        if outcome.right < outcome.checked:
            self._trust[_kind(outcome.match + outcome.right)].learn(0, 1)

    def length(self, matches: Sequence[int], plain: int, room: int) -> int:
        """Return how many tokens to draft for each sequence, given how many tokens match; 0 where none pay.

        `matches` has one number per sequence that answers, 0 without a draft; `plain` is the tokens that this step has
        anyway, `room` the most that may be drafted for one sequence.
        """
        rows, drafts = len(matches), [match for match in matches if match]
        if not drafts or rows not in self.seconds:
            return 0
        known = sorted(self.seconds)
        alone = self._cost(known, plain)
        afford = self._balance_s + _DEBT * self._spent_s + (_DEBT_STEPS + 1) * alone
        best, rate = 0, rows / alone * _WORTH
        reach, expected = [1.0] * len(drafts), float(rows)
        for length in range(1, room + 1):
            for index, match in enumerate(drafts):
                reach[index] *= self._trust[_kind(match + length - 1)].chance
            expected += sum(reach)
            seconds = self._cost(known, plain + len(drafts) * length)
            if seconds <= afford and expected / seconds > rate:
                best, rate = length, expected / seconds
        return best

    def cost(self, width: int) -> float:
        """Estimate the seconds of a step of so many tokens, between and beyond what was measured."""
        return self._cost(sorted(self.seconds), width)

    def _cost(self, known: list[int], width: int) -> float:
        place = bisect.bisect_left(known, width)
        if place < len(known) and known[place] == width:
            return self.seconds[width]
        if not known:
            return 1.0
        if place == len(known) or place == 0:
            low = known[-1] if place else known[0]
            row = self._row(known)
            return max(self.seconds[low] + (width - low) * row, self.seconds[low] / 2)
        low, high = known[place - 1], known[place]
        share = (width - low) / (high - low)
        return self.seconds[low] * (1 - share) + self.seconds[high] * share

    def _row(self, known: list[int]) -> float:
        """What one more token costs beyond the widest step that was measured."""
        first, last = known[0], known[-1]
        if first == last:
            return _UNKNOWN_ROW * self.seconds[first] / first
        return max(0.0, self.seconds[last] - self.seconds[first]) / (last - first)

    def _measured(self, width: int, seconds: float) -> None:
        known = self.seconds.setdefault(width, seconds)
        self.seconds[width] = known + (_FASTER if seconds < known else _SLOWER) * (min(seconds, 3 * known) - known)


def _kind(match: int) -> int:
    return max(0, bisect.bisect_right(_MATCHES, match) - 1)
