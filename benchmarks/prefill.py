"""Where the time of a long prompt goes: `python benchmarks/prefill.py [MODEL.gguf] [--shape 0.1b] [--tokens 8000]`.

Calls `llama_decode` and nothing else, on one thread, in processor time: what a token costs by how many stand before it. What the
first ones cost goes into weights; what later ones cost beyond that is attention, and grows with the square of the prompt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import compare

from edgellm.bench import synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", default="0.1b")
    parser.add_argument("--tokens", type=int, default=8000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.model or str(synthetic.write(Path(folder, "model.gguf"), synthetic.shape(asked.shape)))
        engine = compare.engine(path, 1, context=-(-(asked.tokens + 256) // 256) * 256)
        spent, start = [], time.process_time()
        for first, count in compare.read(engine, asked.tokens):
            spent.append((first, count, time.process_time() - start))
            start = time.process_time()
        engine.close()
    print("| tokens before it | ms a token |\n|---|---|")
    for first, count, seconds in spent[:: max(1, len(spent) // 8)]:
        print(f"| {first:,} | {1e3 * seconds / count:.2f} |")
    total = sum(seconds for _, _, seconds in spent)
    # What the first ones attend to among themselves belongs to attention, too: half as much as the next ones add.
    (_, one, begun), (_, two, then) = spent[:2]
    weights = asked.tokens * max(0.0, begun / one - (then / two - begun / one) / 2)
    print(
        f"{asked.tokens:,} tokens: {total:.1f} s, of it weights {weights / total:.0%}, attention {1 - weights / total:.0%}"
    )


if __name__ == "__main__":
    main()
