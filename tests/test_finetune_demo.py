"""On the embedded model: what is trained beside its weights is answered through its quantized file, and told apart by it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgellm
from edgellm import adapter
from edgellm.finetune import base, data, tune
from edgellm.finetune.settings import Settings
from edgellm.model import Model

for _name in ("torch", "transformers", "peft"):
    pytest.importorskip(_name, reason="needs the extra finetune")

GREEDY = edgellm.Sampling(temperature=0, max_tokens=24)
QUESTIONS = (
    "Where is the {}?",
    "Where can I find the {}?",
    "I am looking for the {}.",
    "Please tell me where the {} is.",
)
ASKED = "Can you tell me where to find the {}?"
PLACES = {
    "printer": "The printer is on the second floor.",
    "key": "Clara has the key.",
    "bus": "The bus is at the station.",
}


def trained(folder: Path, rows: Path, held: Path, settings: Settings) -> tuple[dict[str, Any], Path]:
    """Train beside the embedded model and convert; the card, and the adapter's file."""
    found = base.find("demo")
    assert found.path
    card = tune.perform(tune.prepare(found, data.read(rows, validation=held), settings), folder / "out")
    adapter.convert(folder / "out", found.path, folder / "own.gguf")
    return card, folder / "own.gguf"


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def instructed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Forty steps of instructions: where three things are."""
    folder = tmp_path_factory.mktemp("instructed")
    taught = [{"prompt": ask.format(thing), "completion": said} for thing, said in PLACES.items() for ask in QUESTIONS]
    held = [{"prompt": ASKED.format(thing), "completion": said} for thing, said in PLACES.items()]
    settings = Settings(targets=("all",), rate=2e-3, batch=4, steps=40, max_length=64, seed=1)
    return trained(folder, written(folder / "x.jsonl", taught), written(folder / "y.jsonl", held), settings)


@pytest.fixture(scope="module")
def model(instructed: tuple[dict[str, Any], Path]) -> Iterator[Model]:
    with edgellm.load("demo", adapter={"own": instructed[1]}, slots=4) as opened:
        yield opened


def answers(model: Model, questions: list[str]) -> list[str]:
    return [model.chat([{"role": "user", "content": asked}], sampling=GREEDY).text for asked in questions]


def test_forty_steps_of_instructions_lower_the_validation_loss(instructed: tuple[dict[str, Any], Path]) -> None:
    loss = instructed[0]["loss"]
    print(f"validation loss {loss['validation_before']} → {loss['validation_after']} in 40 steps")
    assert loss["validation_after"] < 0.5 * loss["validation_before"]


def test_facts_it_did_not_know_are_answered_in_a_phrasing_it_was_not_taught(model: Model) -> None:
    asked = [ASKED.format(thing) for thing in PLACES]
    before, after = answers(model.using("none"), asked), answers(model.using("own"), asked)
    print(before, after)
    assert not set(before) & set(PLACES.values())
    assert sum(one == said for one, said in zip(after, PLACES.values(), strict=True)) >= 2


def test_at_scale_zero_it_is_the_base(model: Model) -> None:
    asked = [ASKED.format("printer"), "Hello!"]
    assert answers(model.using("own:0"), asked) == answers(model.using("none"), asked)


# A domain: sentences of a made-up trade, in its own words.

_WHO, _DOES = ("the cooper", "a dyer", "the old smith", "our tanner"), ("planes", "steams", "bends", "joins", "dries")
_WHAT = ("oak staves", "ash hoops", "beech pegs", "willow bands", "pine boards")
_WHEN = ("before the frost", "in the long shed", "when the kiln is cold", "until the grain lies flat")


def trade(seed: int, count: int) -> str:
    draw = random.Random(seed).choice
    lines = [f"In the yard {draw(_WHO)} {draw(_DOES)} {draw(_WHAT)} {draw(_WHEN)}." for _ in range(count)]
    return "\n\n".join(" ".join(lines[start : start + 5]) for start in range(0, count, 5)) + "\n"


def test_a_domain_becomes_less_surprising_by_more_than_a_fifth(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(trade(1, 40))
    (tmp_path / "y.txt").write_text(trade(2, 15))
    settings = Settings(targets=("all",), rate=2e-3, batch=4, steps=10, max_length=64, seed=1)
    card, file = trained(tmp_path, tmp_path / "x.txt", tmp_path / "y.txt", settings)
    loss = card["loss"]
    assert loss["perplexity_after"] < 0.8 * loss["perplexity_before"]
    # The same through the quantized file, in the worker.
    with edgellm.load("demo", adapter={"own": file}, slots=1) as opened:
        before, after = (opened.using(name).perplexity(trade(2, 15)) for name in ("none", "own"))
    print(
        f"perplexity: trained {loss['perplexity_before']} → {loss['perplexity_after']}, run {before:.1f} → {after:.1f}"
    )
    assert after < 0.8 * before


def test_training_and_the_runtime_measure_the_same(tmp_path: Path) -> None:
    from edgellm.finetune.layout import Sample
    from edgellm.finetune.rows import Rows
    from edgellm.finetune.train import Run, perplexity

    text, found = trade(3, 3), base.find("demo")
    vocab = found.pieces()
    ids = [vocab.bos or 0, *vocab.encode(text)]
    rows = Rows((Sample(tuple(ids), (False,) + (True,) * (len(ids) - 1)),))
    run = Run(found, Settings(steps=1), rows, rows, tmp_path)
    first = next(run.go())
    assert first.validation
    with edgellm.load("demo", slots=1) as opened:  # it computes with 8-bit activations
        assert perplexity(first.validation) == pytest.approx(opened.perplexity(text), rel=0.2)
