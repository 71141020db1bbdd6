"""Drafts are found where the text repeats itself, and never cost what they do not bring."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.lookup import Index, Outcome, Pace


def test_a_draft_is_what_followed_the_same_three_tokens() -> None:
    assert Index([1, 2, 3, 4, 5, 6, 9, 1, 2, 3]).draft(2) == ([4, 5], 3)


def test_of_several_places_the_longest_match_is_taken_then_the_newest() -> None:
    tokens = [7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3, 60, 0, 7, 1, 2, 3]
    assert Index(tokens).draft(1) == ([40], 4)
    assert Index([5, *tokens[6:-4], 1, 2, 3]).draft(1) == ([60], 3)


def test_without_a_match_there_is_no_draft() -> None:
    for tokens in ([], [1, 2], [1, 2, 3], [1, 2, 3, 4, 5, 6]):
        assert Index(tokens).draft(8) == ([], 0)


def test_a_draft_never_passes_the_end_of_what_is_known() -> None:
    assert Index([1, 2, 3, 1, 2, 3]).draft(8).tokens == [1, 2, 3]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60))
def test_growing_or_given_whole_an_index_finds_the_same(tokens: list[int], cut: int) -> None:
    whole, grown = Index(tokens), Index(tokens[:cut])
    for token in tokens[cut:]:
        grown.extend([token])
    assert grown.draft(5) == whole.draft(5)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60))
def test_a_draft_did_follow_the_match_it_names(tokens: list[int]) -> None:
    found = Index(tokens).draft(4)
    if found.match:
        run = tokens[-found.match :] + found.tokens
        assert any(tokens[at : at + len(run)] == run for at in range(len(tokens) - found.match))


def simulated(pace: Pace, costs: dict[int, float], chances: list[float], rng: random.Random, room: int = 15) -> float:
    """Decode one token after another where drafts come true with given chances; returns seconds per plain second."""
    spent = plain = 0.0
    left = len(chances)
    while left > 0:
        chance = chances[-left]
        match = rng.choice((3, 5, 8, 15)) if chance else 0
        count = pace.length([match], 1, room)
        right = next((at for at in range(count) if rng.random() >= chance), count)
        step = costs[1 + count] * rng.uniform(0.95, 1.1)
        shadow = Outcome(match, 1, int(rng.random() < chance), tried=False)
        pace.stepped(1, 1, 1 + count, step, [Outcome(match, count, right, tried=True)] if count else [shadow])
        spent += step
        plain += costs[1] * (1 + right)
        left -= 1 + right
    return spent / plain


def curve(row: float, bend: float) -> dict[int, float]:
    """Seconds by width: a row more costs `row` of the first, less from 8 on, as llama.cpp's kernels do."""
    return {width: 0.01 * (1 + row * min(width - 1, 7) + row * bend * max(0, width - 8)) for width in range(1, 40)}


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.0, 1.2), st.floats(0.3, 1.0), st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 9999)
)
def test_drafting_is_never_slower_than_not_drafting(row: float, bend: float, parts: list[float], seed: int) -> None:
    chances = list(itertools.chain.from_iterable([part] * 400 for part in parts))
    assert simulated(Pace(), curve(row, bend), chances, random.Random(seed)) < 1.04


@pytest.mark.parametrize(
    ("row", "bend", "least"), [(0.05, 1.0, 4.0), (0.2, 1.0, 2.0), (0.4, 0.3, 2.0), (0.6, 0.4, 1.3)]
)
def test_copies_are_faster_the_cheaper_a_row_is(row: float, bend: float, least: float) -> None:
    assert 1 / simulated(Pace(), curve(row, bend), [0.97] * 2000, random.Random(1)) > least


def test_what_was_measured_before_is_used_from_the_first_step() -> None:
    costs = curve(0.1, 1.0)
    assert Pace(dict(costs)).length([20], 1, 15) >= 8
    assert Pace().length([20], 1, 15) == 0


def test_where_rows_are_dear_nothing_is_drafted() -> None:
    assert Pace(curve(1.0, 1.0)).length([20], 1, 15) == 0


def test_four_sequences_draft_less_than_one() -> None:
    pace = Pace(curve(0.3, 0.6))
    assert pace.length([20] * 4, 4, 4) <= pace.length([20], 1, 15)


@pytest.mark.parametrize("width", [1, 3, 10, 40])
def test_costs_between_and_beyond_measurements_grow_with_the_width(width: int) -> None:
    pace = Pace({2: 0.01, 8: 0.02})
    assert 0 < pace.cost(width) <= pace.cost(width + 1)


def test_steps_that_read_say_what_wide_steps_cost() -> None:
    """Two at once may cost more than twice one, and sixteen little more than four: drafting must not stop at two."""
    pace = Pace({1: 1.0, 2: 2.2})
    assert pace.length([20], 1, 15) == 0
    pace.read(400, 60.0)
    assert pace.cost(256) == pytest.approx(38.4)
    assert pace.length([20], 1, 15) > 8
    for width in range(100, 500):
        pace.read(width, 0.15 * width)
    assert len(pace.seconds) < 6
