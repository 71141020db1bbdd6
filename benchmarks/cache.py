"""One pool of cells or a part for each slot: `python benchmarks/cache.py [SHAPE ...] [--widths 4,16] [--depth 300]`.

Prints, for random-weight models of real shapes, the milliseconds of a step in which so many conversations say one token each,
with one pool and with parts, in alternation; how much faster parts are; and which of them the rule in `sizes.parts_pay` takes.
Processor time of one thread: it is what a busy machine distorts least. With --gpu, time on the clock, everything on the GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgellm.bench import synthetic
from edgellm.engines.base import Feed
from edgellm.engines.llama_cpp import LlamaCpp

CELLS = 512  # of each conversation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["0.1b", "0.4b", "1.1b"])
    parser.add_argument("--widths", default="4,16")
    parser.add_argument("--depth", type=int, default=300, help="tokens that each conversation has behind it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu", action="store_true")
    asked = parser.parse_args()
    os.environ["COMPARE_GPU"] = str(int(asked.gpu))
    from compare import planned

    clock = time.perf_counter if asked.gpu else time.process_time
    print("| shape | at once | one pool | parts | parts are faster by | the rule takes |\n|---|---|---|---|---|---|")
    for name in asked.shapes:
        with tempfile.TemporaryDirectory() as folder:
            path = synthetic.write(Path(folder, "model.gguf"), synthetic.shape(name))
            for width in map(int, asked.widths.split(",")):
                chosen = planned(str(path), 1, slots=width, context=CELLS)
                sides = {
                    unified: LlamaCpp([str(path)], replace(chosen, kv_unified=unified)) for unified in (True, False)
                }
                for engine in sides.values():
                    for slot in range(width):
                        engine.decode([Feed(slot, [10 + token % 200 for token in range(asked.depth)], 0)])
                found: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(asked.rounds):
                    for unified, engine in sides.items():
                        found[unified].append(step_s(engine, width, asked.depth, clock))
                pool, parts = (1000 * statistics.median(found[unified]) for unified in (True, False))
                rule = "one pool" if chosen.kv_unified else "parts"
                print(
                    f"| {name} | {width} | {pool:.1f} ms | {parts:.1f} ms | {pool / parts:.2f} | {rule} |", flush=True
                )
                for engine in sides.values():
                    engine.close()


def step_s(engine: LlamaCpp, width: int, depth: int, clock: Callable[[], float]) -> float:
    """Seconds of one step: of many, where steps are short."""
    start = clock()
    for token in range(steps := 1 if clock is time.process_time else 32):
        engine.decode([Feed(slot, [20 + slot + token], 1) for slot in range(width)])
    seconds = (clock() - start) / steps
    for slot in range(width):
        engine.keep(slot, depth)
    return seconds


if __name__ == "__main__":
    main()
