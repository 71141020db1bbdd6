"""Where the time of an extraction goes: `python benchmarks/extraction.py [MODEL.gguf] [--shape 0.1b] [--jobs 32] [--slots 16]`.

The jobs of `compare.py` (a shared instruction, a schema, canned answers) on one thread, in processor time. Prints what the
steps cost by the number of tokens in them, beside what a token of a long prompt costs; and what makes a token of an answer
dearer than one that is read: fewer at once, logits of its own, and attention to what stands before it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare

from edgellm.bench import canned, measure, synthetic
from edgellm.constraint import Grammar
from edgellm.engines.base import Feed

READ = 480  # tokens of a prompt
DEPTH = 300  # tokens that an answer has behind it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", default="0.1b")
    parser.add_argument("--jobs", type=int, default=32)
    parser.add_argument("--slots", type=int, default=16)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.model or str(synthetic.write(Path(folder, "model.gguf"), synthetic.shape(asked.shape)))
        engine = compare.engine(path, 1, slots=asked.slots, context=512)
        read_s = reading_s(engine)
        answer(engine, asked.slots, read_s)
        extract(engine, asked.jobs, read_s)


def cpu_s(work: Callable[[], Any], rounds: int = 5) -> float:
    """Seconds of processor time, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def reading_s(engine: Any) -> float:
    """Seconds of one token of a prompt."""

    def read() -> None:
        engine.keep(0, 0)
        engine.decode([Feed(0, [10 + index % 200 for index in range(READ)], 1)])

    found = cpu_s(read) / READ
    engine.keep(0, 0)
    print(f"a token of a prompt of {READ}: {1000 * found:.2f} ms")
    return found


def answer(engine: Any, slots: int, read_s: float) -> None:
    """Print what a token of an answer costs, one cause after the other."""

    def step(depth: int, rows: int) -> float:
        def work() -> None:
            for slot in range(slots):
                engine.keep(slot, depth)
            engine.decode([Feed(slot, [20 + slot], rows) for slot in range(slots)])

        return cpu_s(work) / slots

    bare, logits = step(0, 0), step(0, 1)
    for slot in range(slots):
        engine.decode([Feed(slot, [10 + index % 200 for index in range(DEPTH)], 0)])
    deep = step(DEPTH, 1)
    print(f"a token of an answer, {slots} at once, {DEPTH} tokens behind it: {1000 * deep:.2f} ms. Of it:")
    print(f"  as much as reading it takes        {1000 * read_s:.2f} ms")
    print(f"  because only {slots:>2} are computed at once {1000 * (bare - read_s):.2f} ms")
    print(f"  logits of its own                   {1000 * (logits - bare):.2f} ms")
    print(f"  attention to what is behind it      {1000 * (deep - logits):.2f} ms")
    for slot in range(slots):
        engine.keep(slot, 0)


def extract(engine: Any, jobs: int, read_s: float) -> None:
    """Print what the steps of the jobs cost."""
    found = canned.Insistent(engine)
    grammar, loop = Grammar.compile(canned.SCHEMA, found.vocab), measure._loop(found)
    found.requests = canned.requests(found, grammar, jobs)
    steps: dict[int, list[float]] = {}
    decode = engine._lib.llama_decode

    def timed(context: Any, batch: Any) -> int:
        start = time.thread_time()
        status = int(decode(context, batch))
        kind = steps.setdefault(min(128, batch.n_tokens // 32 * 32), [0, 0, 0.0])
        for at, more in enumerate((1, batch.n_tokens, time.thread_time() - start)):
            kind[at] += more
        return status

    engine._lib.llama_decode = timed
    for request in found.requests:
        loop.add(request)
    start = time.process_time()
    canned.answered(loop)
    spent, inside = time.process_time() - start, sum(kind[2] for kind in steps.values())
    engine._lib.llama_decode = decode
    print(f"\n{jobs} extractions: {spent:.1f} s of processor time, {1 - inside / spent:.1%} of it outside the library")
    print("| tokens in a step | steps | tokens | ms a token |\n|---|---|---|---|")
    for least, (count, tokens, seconds) in sorted(steps.items()):
        print(f"| {least}+ | {count} | {tokens:,} | {1000 * seconds / tokens:.2f} |")
    tokens = sum(kind[1] for kind in steps.values())
    print(f"all {tokens:,} tokens as if they were read: {tokens * read_s:.1f} s, {tokens * read_s / spent:.2f} of that")


if __name__ == "__main__":
    main()
