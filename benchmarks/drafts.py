"""What drafts bring: `python benchmarks/drafts.py [MODEL.gguf] [--shape 0.1b] [--copied 0.6]`, with and without, in alternation.

The answers are replayed, a share of them copied from the prompt in runs of 8 to 40 tokens: synthetic acceptance. Prints tokens
per second of both, the median ratio, and how many drafted tokens came true.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from edgellm.bench import synthetic
from edgellm.bench.replay import Replay
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.lookup import Pace
from edgellm.loop import Loop
from edgellm.plan import Plan
from edgellm.prompt import Reply
from edgellm.sampling import Sampling
from edgellm.sequence import Sequence
from edgellm.text import TextStream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", default="0.1b")
    parser.add_argument("--copied", type=float, default=0.6)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.model or str(synthetic.write(Path(folder, "model.gguf"), synthetic.shape(asked.shape)))
        engine = LlamaCpp([path], plan(asked.slots, asked.threads))
        rates: dict[bool, list[float]] = {False: [], True: []}
        pace = Pace()
        for turn in range(asked.rounds + 1):
            for drafts in (False, True):
                rate, replies = measured(engine, asked, drafts, pace, turn)
                if turn:  # the first round wakes the file
                    rates[drafts].append(rate)
        drafted, accepted = (sum(getattr(one, f"{name}_tokens") for one in replies) for name in ("drafted", "accepted"))
        plain, fast = statistics.median(rates[False]), statistics.median(rates[True])
        ratio = statistics.median(b / a for a, b in zip(rates[False], rates[True], strict=True))
        print(
            f"{asked.copied:.0%} copied, {asked.slots} at once, tokens/s: {plain:.1f} plain, {fast:.1f} drafted, {ratio:.2f}x"
        )
        print(f"last round: {drafted:,} tokens drafted, {accepted:,} right")
        costs = {
            width: round(pace.seconds[width] / pace.seconds[min(pace.seconds)], 2) for width in sorted(pace.seconds)
        }
        print(f"cost of a step by width: {costs}")
        engine.close()


def measured(engine: LlamaCpp, asked: Any, drafts: bool, pace: Pace, seed: int) -> tuple[float, list[Reply]]:
    """Tokens per second after the prompts, and the replies."""
    rng = random.Random(seed)
    prompts = [[1, *(rng.randrange(300, engine.vocab.size) for _ in range(asked.prompt))] for _ in range(asked.slots)]
    answers = {tuple(prompt): answer(prompt, asked, engine.vocab.size, rng) for prompt in prompts}
    replay: Any = Replay(engine, answers)
    if not drafts:
        replay.drafts = 0
    for slot in range(engine.slots):
        replay.keep(slot, 0)
    loop = Loop(replay, pace=pace if drafts else Pace())
    sampling = Sampling(temperature=0, max_tokens=asked.tokens)
    for number, prompt in enumerate(prompts):
        loop.add(Sequence(id=number, prompt=prompt, sampling=sampling, text=TextStream()))
    while any(one.reading for one in loop._running) or loop._waiting:
        loop.step()
    start, before, replies = time.perf_counter(), sum(len(one.answer) for one in loop._running), list[Reply]()
    while not loop.idle:
        replies += [event.reply for event in loop.step() if event.reply]
    return (asked.slots * asked.tokens - before) / (time.perf_counter() - start), replies


def answer(prompt: list[int], asked: Any, vocab: int, rng: random.Random) -> list[int]:
    """Tokens of which a share is copied from the prompt, in runs."""
    said: list[int] = []
    while len(said) < asked.tokens:
        run = rng.randrange(8, 41)
        if rng.random() < asked.copied:
            start = rng.randrange(1, len(prompt) - run)
            said += prompt[start : start + run]
        else:
            said += [rng.randrange(300, vocab) for _ in range(run)]
    return said[: asked.tokens]


def plan(slots: int, threads: int) -> Plan:
    return Plan(
        gpu_layers=0,
        context=2048,
        cells=2048 * slots,
        slots=slots,
        threads=threads,
        threads_batch=threads,
        batch=512,
        ubatch=512,
        kv_type="f16",
        flash_attention=True,
        swa_full=False,
        tensor_overrides=(),
        tensor_split=(),
        devices=(),
        host_bytes=0,
        reasons=(),
    )


if __name__ == "__main__":
    main()
