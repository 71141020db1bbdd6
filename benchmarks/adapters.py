"""What adapters cost those who want none: `python benchmarks/adapters.py [MODEL] [--shape 0.1b] [--rounds 15]`.

The same prompts without an adapter, on a model with three adapters open and on one with none, in alternation; then the same
prompts spread over the three adapters, against one adapter for all: what switching costs. Prints tokens per second of
processor time (in this process, on one thread, so that other programs hardly count) and the median ratio. The adapters hold
random numbers. Without a model or a shape it is the embedded one, whose steps are so short that any overhead shows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import edgellm
from edgellm import gguf, source
from edgellm.bench import synthetic
from edgellm.prompt import Prompt

NAMES = ("red", "green", "blue")
PROMPTS, TOKENS, RANK = 6, 24, 16
BOUND = 1.02


def adapter(base: gguf.Header, path: Path, seed: int) -> Path:
    """Write a LoRA of random numbers on the attention of every layer."""
    import gguf as library
    import numpy as np

    rng = np.random.default_rng(seed)
    out = library.GGUFWriter(path, base.architecture)
    out.add_type(library.GGUFType.ADAPTER)
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", RANK)
    for tensor in base.tensors:
        if ".attn_" in tensor.name and len(tensor.shape) == 2:
            inputs, outputs = tensor.shape
            for side, shape in (("a", (RANK, inputs)), ("b", (outputs, RANK))):
                out.add_tensor(f"{tensor.name}.lora_{side}", rng.normal(0, 0.01, shape).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def speed(model: edgellm.Model, names: list[str | None], round_: int) -> float:
    """Tokens per second of processor time, of one round; prompts differ between rounds, so that no prefix is shared."""
    sampling = edgellm.Sampling(temperature=0.0, max_tokens=TOKENS)
    prompts = [
        Prompt(completion=f"{round_} {number} once upon a time", sampling=sampling, adapter=names[number % len(names)])
        for number in range(PROMPTS)
    ]
    began = time.process_time()
    replies = model.ask(prompts)
    return sum(reply.tokens + reply.prompt_tokens for reply in replies) / (time.process_time() - began)


def ratio(
    one: tuple[edgellm.Model, list[str | None]], other: tuple[edgellm.Model, list[str | None]], rounds: int
) -> str:
    """Both speeds and the median of their ratios, round by round, in alternating order."""
    speeds: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        both = [0.0, 0.0]
        for index in (0, 1) if number % 2 else (1, 0):
            both[index] = speed(*(one, other)[index], number)
        speeds.append((both[0], both[1]))
    speeds = speeds[1:]  # the first round warms up
    left, right = (statistics.median(column) for column in zip(*speeds, strict=True))
    median = statistics.median(a / b for a, b in speeds)
    return f"{left:.0f} against {right:.0f} tokens/s, ratio {median:.3f}"


def main() -> None:
    """Read the command line and print two lines."""
    parser = argparse.ArgumentParser(description="What adapters cost.")
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--shape", choices=sorted(synthetic.SHAPES), help="a model of random numbers instead")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = source.find(given.model, offline=True).path or given.model
        if given.shape:
            path = synthetic.write(Path(folder, "model.gguf"), synthetic.shape(given.shape))
        header = gguf.read(path)
        adapters = {name: adapter(header, Path(folder, f"{name}.gguf"), seed) for seed, name in enumerate(NAMES)}
        with (
            edgellm.load(path, context=512, threads=1, in_process=True) as plain,
            edgellm.load(path, context=512, threads=1, in_process=True, adapter=adapters) as fitted,
        ):
            line = ratio((plain, [None]), (fitted, [None]), given.rounds)
            print(f"no adapter wanted, none open against three open: {line} (bound {BOUND})", flush=True)
            line = ratio((fitted, ["red"]), (fitted, list(NAMES)), given.rounds)
            print(f"one adapter for all against three in turn: {line}", flush=True)


if __name__ == "__main__":
    main()
