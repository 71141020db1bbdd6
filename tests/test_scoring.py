"""Perplexity: what an oracle in numpy says, through the worker, and with nobody else's answer touched."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_llama import Lora, Tiny

import edgellm
from edgellm import adapter
from edgellm.demo import text_chat
from edgellm.engines.base import Feed, Logits
from edgellm.engines.scripted import Scripted
from edgellm.errors import EmptyText
from edgellm.loading import load
from edgellm.prompt import Prompt
from edgellm.sampling import Sampling
from edgellm.scoring import WINDOW, Scoring, surprise

TEXT = "once upon a time there was a tiny model, and it was asked how surprised it is"


class Uniform(Scripted):
    """Believes in every token alike but the one after the last it saw, in which it believes twice as much."""

    def __init__(self, *, context: int, drafts: int = 0) -> None:
        super().__init__(context=context, slots=2)
        self.drafts = drafts
        self.scored: list[tuple[int, int]] = []  # rows asked for, and tokens held then

    def decode(self, feeds: list[Feed]) -> list[Logits]:
        [feed] = feeds
        self._held[0] += feed.tokens
        assert len(self._held[0]) <= self.context
        if not feed.logits:
            return []
        assert feed.logits == len(feed.tokens) <= self.slots + self.drafts
        self.scored.append((feed.logits, len(self._held[0])))
        rows = np.zeros((feed.logits, len(self.vocab.pieces)), np.float32)
        for index, token in enumerate(feed.tokens):
            rows[index, (token + 1) % 256] = math.log(2)
        return [rows]


@pytest.mark.parametrize("count", [2, 3, 40, 63, 64, 65, 100, 1000, 1337])
@pytest.mark.parametrize("drafts", [0, 5])
def test_every_token_is_scored_once_with_half_a_window_before_it(count: int, drafts: int) -> None:
    engine = Uniform(context=64, drafts=drafts)
    tokens = [index % 256 for index in range(count)]
    scoring = Scoring(1, tokens)
    while not scoring.step(engine):
        pass
    assert scoring.scored == count  # the token that begins a text stands before the first one
    size = len(engine.vocab.pieces)
    rise = math.log(size + 1)
    # every token follows its neighbour but the first, and those after 255, which wrap round and are foretold as well
    assert scoring.nats == pytest.approx(count * rise - (count - 1) * math.log(2), rel=1e-6)
    held = 0
    for rows, now in engine.scored:
        held = 0 if now < held else held
        assert now - rows >= (31 if scoring.scored > 63 and held == 0 and now > 63 else 0)
        held = now


def test_surprise_is_log_sum_exp_without_overflow() -> None:
    rows = np.array([[1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    assert surprise(rows, [0, 1]) == pytest.approx(math.log(3))
    assert surprise(rows[:1], [2]) == pytest.approx(2000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scoring")
    base = Tiny().gguf(folder / "base.gguf")
    lora = Lora(Tiny(), strength=1.0).save(folder / "lora")
    return base, Path(adapter.convert(lora, base, folder / "red.gguf").path)


def oracle(tokens: list[int], lora: bool) -> float:
    tiny = Tiny()
    logits = tiny.forward(tokens, Lora(tiny, strength=1.0).deltas() if lora else None)
    return surprise(logits[:-1].astype(np.float32), tokens[1:])


def test_the_number_is_the_oracles_with_and_without_an_adapter(files: tuple[Path, Path]) -> None:
    base, red = files
    with load(base, context=128, threads=1, adapter={"red": red}, in_process=True) as model:
        vocab = model._worker._service._engine.vocab
        tokens = [vocab.bos, *vocab.encode(TEXT)]
        assert len(tokens) < 128
        for name in ("none", "red"):
            found = math.log(model.using(name).perplexity(TEXT)) * (len(tokens) - 1)
            assert found == pytest.approx(oracle(tokens, name == "red"), rel=5e-3)  # the cache is in half precision
        assert model.using("red").perplexity(TEXT) != pytest.approx(model.perplexity(TEXT), rel=0.1)


def test_several_texts_count_by_their_tokens_and_long_ones_go_in_windows(files: tuple[Path, Path]) -> None:
    with load(files[0], context=64, threads=1, in_process=True) as model:
        replies = model.ask([Prompt(completion=text, score=True) for text in (TEXT, TEXT * 9)])
        assert [reply.tokens for reply in replies] == [reply.prompt_tokens for reply in replies]
        both = model.perplexity([TEXT, TEXT * 9])
        mean = sum(reply.nats for reply in replies) / sum(reply.tokens for reply in replies)
        assert both == pytest.approx(math.exp(mean))
        for nothing in ("", []):
            with pytest.raises(EmptyText, match="nothing to measure"):
                model.perplexity(nothing)


def test_measuring_and_answering_do_not_touch_each_other(files: tuple[Path, Path]) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=20)
    with load(files[0], context=128, threads=1) as model:
        alone, said = model.perplexity(TEXT * 3), model.complete("once", sampling=sampling).text
        found: list[float] = []
        thread = threading.Thread(target=lambda: found.append(model.perplexity(TEXT * 3)))
        thread.start()
        texts = [model.complete("once", sampling=sampling).text for _ in range(5)]
        thread.join(60)
        assert found == [pytest.approx(alone)]
        assert texts == [said] * 5


def test_the_embedded_model_prefers_what_it_was_taught() -> None:
    with edgellm.load("demo", threads=1) as model:
        known = model.perplexity(text_chat.OFF_TOPIC)
        noise = model.perplexity("Zq xv kqj wpq zzx, vvq jq? Qx zv, kkj qzp wxj vq.")
    assert 1 < known < noise / 3


def test_a_window_is_as_wide_as_llama_cpps() -> None:
    assert WINDOW == 512
