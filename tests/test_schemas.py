"""Thousands of schemas as people write them: enforced or refused by name, and nothing that a random model says is mislabelled.

`python benchmarks/schemas.py` prints the numbers.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
import schemas

from edgellm.constraint import Grammar
from edgellm.engines.base import Feed, Logits
from edgellm.engines.scripted import Script, Scripted
from edgellm.errors import EdgeError
from edgellm.loop import Loop
from edgellm.sampling import Sampling
from edgellm.sequence import Sequence
from edgellm.tasks import extract
from edgellm.text import TextStream


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bench_schemas", Path(__file__).parent.parent / "benchmarks/schemas.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_schemas_are_schemas_and_their_values_are_what_they_are_said_to_be() -> None:
    for case in schemas.cases(5000, 5030):
        judge = schemas.judge_of(case.schema)
        judge.check_schema(case.schema)
        assert all(map(judge.is_valid, case.valid))
        assert not any(judge.is_valid(value) for value, _ in case.invalid)
        assert case == schemas.case(case.number)


def test_a_sample_is_enforced_or_refused_by_name(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    found = [bench.judged(case) for case in schemas.cases(0, 80)]
    assert bench.report(found, 0, 1.0) == 0, capsys.readouterr().out


def test_a_sample_of_random_answers_is_labelled_right(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.generate(128, 20) == 0, capsys.readouterr().out


class Dice(Scripted):
    """Every token is as likely as every other, on any prompt."""

    def __init__(self, seed: int) -> None:
        super().__init__(Script(), context=8192, slots=8)
        self._dice = np.random.default_rng(seed)

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        return [self._dice.normal(size=row.shape).astype(np.float32) * 3 for row in super().decode(feeds)]


def rolled(bench: ModuleType, schema: Any, seeds: range) -> Counter[str]:
    """Answers of dice under one schema, with budgets around its shortest value, where cutting is hardest."""
    engine = Dice(seeds.start)
    grammar = Grammar.compile(schema, engine.vocab)
    loop, budgets = Loop(engine), {}
    for seed in seeds:
        budgets[seed] = (grammar.least or 1) + seed % 40
        sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, max_tokens=budgets[seed], seed=seed)
        loop.add(Sequence(seed, [1, 2], sampling, TextStream(), grammar.start()))
    flags = Counter[str]()
    while not loop.idle:
        for event in loop.step():
            if event.reply:
                assert event.reply.tokens <= budgets[event.id]
                value, error = None, None
                try:
                    value = extract.read(event.reply, schema)
                except EdgeError as caught:
                    error = caught
                flags[bench.flag_of(schema, value, error, budgets[event.id])] += 1
    return flags


def test_budgets_that_just_fit_give_whole_values(bench: ModuleType) -> None:
    flags = Counter[str]()
    for case in schemas.cases(300, 320):
        if not bench.judged(case)["refused"]:
            flags += rolled(bench, case.schema, range(6))
    assert not [flag for flag in flags if flag.startswith("MISLABELLED")], flags
    assert flags["cut, closed: parses and validates"] > 0.5 * sum(flags.values())
    assert flags["cut, nothing could close it"] <= 0.02 * sum(flags.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_thousand_schemas(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.enforce(3000) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_answers_of_random_weights(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.generate(10_000) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_answers_of_dice_where_cutting_is_hardest(bench: ModuleType) -> None:
    flags = Counter[str]()
    for case in schemas.cases(0, 260):
        if not bench.judged(case)["refused"]:
            flags += rolled(bench, case.schema, range(50))
    assert sum(flags.values()) >= 9500
    assert not [flag for flag in flags if flag.startswith("MISLABELLED")], flags


def test_the_judge_finds_what_is_mislabelled(bench: ModuleType) -> None:
    schema = {"type": "integer"}
    assert bench.flag_of(schema, "x", None, 5).startswith("MISLABELLED")
    assert bench.flag_of(schema, 3, None, 5) == "ok"
    jsonschema.validate(3, schema)
