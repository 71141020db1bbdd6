"""`deterministic` gives the same bits for the same request, whatever ran before and waits beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_engine_llama_cpp import PLAN

import edgellm
from edgellm import Sampling
from edgellm.engines.base import Feed, Logits
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.loop import Loop
from edgellm.sequence import Sequence
from edgellm.text import TextStream

DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"
LONG = "Summarize: " + "The harbour of Lisbon was closed on Monday because of a storm, said the mayor. " * 12
SAMPLINGS = [Sampling(temperature=0, max_tokens=24), Sampling(temperature=1.5, top_k=0, seed=3, max_tokens=24)]


class Hashed(LlamaCpp):
    """Remembers what it computed, bit by bit."""

    seen: list[str]

    def decode(self, feeds: list[Feed]) -> list[Logits]:  # type: ignore[override]
        rows = super().decode(feeds)
        self.seen += [hashlib.sha256(one.tobytes()).hexdigest() for one in rows]
        return rows


@pytest.fixture(scope="module")
def engine() -> Iterator[Hashed]:
    engine = Hashed([str(DEMO)], replace(PLAN, slots=1, context=2048, cells=2048))
    engine.seen = []
    yield engine
    engine.close()


def bits(engine: Hashed, texts: list[str], wanted: int, sampling: Sampling) -> tuple[str, list[str]]:
    """Run all texts, one of them `wanted`; return its answer, and every row of logits computed for it."""
    loop = Loop(engine, deterministic=True)
    for number, text in enumerate(texts):
        prompt = [1, *engine.vocab.encode(text)]
        one = sampling if number == wanted else replace(sampling, max_tokens=6)
        loop.add(Sequence(id=number, prompt=prompt, sampling=one, text=TextStream()))
    while True:
        engine.seen.clear() if not any(one.id == wanted for one in loop._running) else None
        for event in loop.step():
            if event.reply and event.id == wanted:
                return event.reply.text, list(engine.seen)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded"])
def test_the_same_request_gives_the_same_bits(engine: Hashed, sampling: Sampling) -> None:
    alone = bits(engine, [LONG], 0, sampling)
    assert len(alone[1]) > 3
    for texts, wanted in (
        ([LONG], 0),
        (["Hello.", LONG, LONG + " More."], 1),
        ([LONG + " And more of it.", LONG], 1),
        ([LONG[:500], "Good morning", LONG[:200], LONG], 3),
    ):
        assert bits(engine, texts, wanted, sampling) == alone


def test_a_deterministic_model_answers_one_at_a_time_and_the_same_again() -> None:
    hi = [{"role": "user", "content": "Who are you?"}]
    with edgellm.load("demo", deterministic=True) as model:
        assert model.plan.slots == 1
        seeded = Sampling(temperature=1.0, seed=5, max_tokens=20)
        first = model.chat(hi, sampling=seeded).text
        model.translate(["Good morning", "Thank you very much"], to="fr")
        assert model.chat(hi, sampling=seeded).text == first
