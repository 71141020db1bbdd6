"""The next token comes from the set and with the odds that llama.cpp's default chain would give it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.errors import NoWayOut, UsageError
from edgellm.sampling import Sampling, choose, generator

Row = npt.NDArray[np.float32]

FREE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def odds(logits: list[float], sampling: Sampling, recent: list[int]) -> dict[int, float]:
    """The slow plain reference: probabilities of the ids that survive, one rule after the other."""
    values = {token: float(np.float32(value)) for token, value in enumerate(logits)}
    for token in set(recent[-64:]):
        penalty = float(np.float32(sampling.repeat_penalty))
        values[token] = values[token] / penalty if values[token] > 0 else values[token] * penalty
    order = sorted((token for token in values if values[token] > -math.inf), key=lambda token: (-values[token], token))
    top = values[order[0]]
    if sampling.top_k:
        order = order[: sampling.top_k]
    total, mass, kept = sum(math.exp(values[token] - top) for token in order), 0.0, []
    for token in order:
        kept.append(token)
        mass += math.exp(values[token] - top) / total
        if sampling.top_p < 1 and mass >= sampling.top_p:
            break
    if sampling.min_p:
        kept = [token for token in kept if values[token] >= np.float32(top + math.log(sampling.min_p))]
    weights = {token: math.exp((values[token] - top) / sampling.temperature) for token in kept}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


class Fixed:
    """A generator that always gives the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def reached(logits: list[float], sampling: Sampling, recent: list[int], steps: int = 100) -> Counter[int]:
    """Ids chosen over an even grid of random numbers: their shares are their probabilities."""
    grid = (np.arange(steps) + 0.5) / steps
    return Counter(
        choose(np.array(logits, np.float32), sampling, Fixed(float(value)), recent)  # type: ignore[arg-type]
        for value in grid
    )


# Steps of 1/8 keep sums away from the edges where rounding decides.
logit = st.one_of(st.integers(-80, 80).map(lambda value: value / 8), st.just(-math.inf))
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.25, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 40]),
    top_p=st.sampled_from([0.0, 0.3, 0.77, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.043, 0.31, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.13, 0.9]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(logit, min_size=1, max_size=30), samplings, st.lists(st.integers(0, 29), max_size=80))
def test_choices_follow_the_plain_reference(logits: list[float], sampling: Sampling, recent: list[int]) -> None:
    recent = [token for token in recent if token < len(logits)]
    if all(value == -math.inf for value in logits):
        with pytest.raises(NoWayOut):
            choose(np.array(logits, np.float32), sampling, generator(1), recent)
        return
    wanted = odds(logits, sampling, recent)
    found = reached(logits, sampling, recent)
    assert set(found) <= set(wanted)
    for token, share in wanted.items():
        assert found[token] / 100 == pytest.approx(share, abs=1 / 100)


@pytest.mark.parametrize("spread", [0.5, 3.0, 12.0], ids=["flat", "usual", "sharp"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.8),
        Sampling(temperature=1.0, top_k=0),
        Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
        Sampling(temperature=1.0, top_k=0, top_p=1.0),
        Sampling(temperature=1.5, top_k=1000, top_p=0.999, min_p=0.0),
    ],
    ids=["default", "top-p over all", "everything", "min-p over all", "wide"],
)
def test_a_large_vocabulary_follows_the_plain_reference_too(spread: float, sampling: Sampling) -> None:
    row = np.random.default_rng(7).standard_normal(5_000).astype(np.float32) * np.float32(spread)
    row[::3] = -np.inf
    wanted = odds(row.tolist(), sampling, [])
    rng = generator(3)
    for _ in range(10):
        assert choose(row.copy(), sampling, rng) in wanted
    order = sorted(wanted, key=lambda token: (-row[token], token))
    middle = Counter(choose(row.copy(), sampling, Fixed(value)) for value in (0.0, 1 - 2**-53))  # type: ignore[arg-type]
    assert set(middle) <= set(order)


def test_equal_logits_at_the_edge_are_kept_by_lower_id() -> None:
    row = [1.0, 2.0, 1.0, 1.0, 1.0]
    assert set(reached(row, dataclasses.replace(FREE, top_k=3), [])) == {0, 1, 2}
    assert set(reached([0.0] * 10, dataclasses.replace(FREE, top_p=0.35), [])) == {0, 1, 2, 3}


def test_temperature_zero_takes_the_likeliest_and_the_lower_of_equals() -> None:
    greedy = Sampling(temperature=0)
    assert choose(np.array([0, 3, 3, -1], np.float32), greedy, generator(None)) == 1
    assert choose(np.array([-np.inf, -5, -np.inf], np.float32), greedy, generator(None)) == 1


def test_a_temperature_near_zero_is_nearly_greedy_and_breaks_nothing() -> None:
    for temperature in (1e-30, 1e-308, 5e-324):
        near = Sampling(temperature=temperature)
        assert {choose(np.array([0, 3, 2.9], np.float32), near, generator(seed)) for seed in range(20)} == {1}


def test_draws_have_the_right_distribution() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    rng, count = generator(42), 20_000
    found = Counter(choose(row.copy(), FREE, rng) for _ in range(count))
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert found[token] / count == pytest.approx(share, abs=0.01)


def test_the_same_seed_makes_the_same_choices() -> None:
    row = np.random.default_rng(0).standard_normal(500).astype(np.float32)

    def run(seed: int | None) -> list[int]:
        rng = generator(seed)
        return [choose(row.copy(), FREE, rng) for _ in range(20)]

    assert run(11) == run(11)
    assert run(11) != run(12)
    assert run(None) != run(None)


def test_a_repeated_token_is_punished_once_whatever_its_sign_and_only_while_recent() -> None:
    sampling = Sampling(temperature=0, repeat_penalty=2.0)
    assert choose(np.array([3.0, 2.0], np.float32), sampling, generator(0), [0, 0, 0]) == 1  # 3 / 2
    assert choose(np.array([-2.0, -3.0], np.float32), sampling, generator(0), [0]) == 1  # -2 * 2
    assert choose(np.array([3.0, 2.0], np.float32), sampling, generator(0), [0, *[1] * 64]) == 0  # forgotten
    assert choose(np.array([3.0, -np.inf], np.float32), sampling, generator(0), [0, 1]) == 0


@pytest.mark.parametrize("row", [[-np.inf] * 3, [np.nan, 1.0], [np.inf, 1.0]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_offers_nothing_is_never_an_answer(row: list[float], temperature: float) -> None:
    with pytest.raises(NoWayOut, match="no token can be chosen"):
        choose(np.array(row, np.float32), Sampling(temperature=temperature), generator(0))


# Options.


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("temperature", -0.1, "temperature is -0.1: give a number from 0.0 to 10.0"),
        ("temperature", math.nan, "temperature is nan"),
        ("temperature", math.inf, "temperature is inf"),
        ("temperature", "hot", "temperature is 'hot', which is not a number"),
        ("temperature", True, "not a number"),
        ("temperature", None, "not a number"),
        ("top_k", -1, "top_k is -1: give a whole number from 0 to 2,147,483,647"),
        ("top_k", 2**31, "top_k is 2147483648"),
        ("top_k", 1.5, "top_k is 1.5, which is not a whole number"),
        ("top_p", 1.01, "from 0.0 to 1.0"),
        ("min_p", -1e-9, "min_p"),
        ("repeat_penalty", 0, "from 0.01 to 10.0"),
        ("max_tokens", 0, "max_tokens is 0: give a whole number from 1"),
        ("seed", -1, "seed is -1"),
        ("seed", 2**64, "seed"),
        ("stop", ("a", ""), "stop is"),
        ("stop", (1,), "stop is"),
        ("stop", 3, "stop is 3"),
        ("stop", None, "stop is None"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_value_and_range(option: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(**{option: value})
    assert words in str(caught.value)


def test_a_stop_may_be_one_text_or_a_list() -> None:
    assert Sampling(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert Sampling(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_every_option_with_a_range_has_a_default_inside_it_and_a_help_text() -> None:
    for option in dataclasses.fields(Sampling):
        assert option.metadata["help"]
        if "range" in option.metadata and option.default is not None:
            low, high = option.metadata["range"]
            assert low <= option.default <= high  # type: ignore[operator]


def test_the_edges_of_every_range_are_allowed() -> None:
    for option in dataclasses.fields(Sampling):
        for value in option.metadata.get("range", ()):
            sampling = Sampling(**{option.name: value})
            choose(np.array([0.5, 1.5], np.float32), sampling, generator(sampling.seed), [0])
