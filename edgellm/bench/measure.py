"""The measurements of `edgellm bench`, made in a process of their own and told one line at a time.

Everything runs through the real engine and the real loop; drafts are off and answers do not end early, so that what is
counted is work. It knows no terminal.
"""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.bench import canned
from edgellm.decision import Plan
from edgellm.engines import devices
from edgellm.errors import EngineCrashed

if TYPE_CHECKING:
    from edgellm.engines.llama_cpp import LlamaCpp
    from edgellm.loop import Loop
    from edgellm.sequence import Sequence as Request

_PREFILL, _ANSWER = 512, 48  # tokens
_DOCUMENTS = 16
_ROUNDS = 3  # the loop and the bare library in alternation, because machines are busy with other things too
_TURN_S = 0.8  # a turn takes about this long, once it is known how long a step takes


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: what, at which width or length, and how much in `unit`."""

    what: str
    at: int
    value: float
    unit: str


def run(paths: Sequence[str], plan: Plan, *, widths: Sequence[int]) -> Iterator[Figure]:
    """Measure a model under a plan, figure by figure. Raises EngineCrashed when the measuring process dies."""
    question = pickle.dumps((list(paths), plan, list(widths)))
    threads = str(plan.threads)
    environment = {
        **devices.environment(),
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), threads),
    }
    command = [sys.executable, "-m", "edgellm.bench.measure"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        try:
            child.stdin.write(question)
            child.stdin.close()
            for line in child.stdout:
                yield Figure(**json.loads(line))
            last = child.stderr.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
            if child.wait():
                died = -child.returncode if child.returncode < 0 else None
                raise EngineCrashed(f"the measuring process died: {last[0]}", signal=died, phase="measuring")
        finally:
            child.kill()


# -- in the child ------------------------------------------------------------------------------------------------------


def figures(paths: Sequence[str], plan: Plan, widths: Sequence[int]) -> Iterator[Figure]:
    """Open the model and measure: opening, reading prompts, answering at several widths, extracting, memory."""
    from edgellm.engines.llama_cpp import LlamaCpp

    start = time.perf_counter()
    engine = LlamaCpp(list(paths), plan)
    engine.vocab.encode("a")
    yield Figure("open", 1, time.perf_counter() - start, "s")
    engine.drafts = 0
    engine.vocab.__dict__["ends"] = frozenset()
    step_s = _warm(engine)
    yield Figure("matrix", plan.threads, _matrix_flops(), "FLOP/s")
    rate = _prefill(engine)
    yield Figure("prefill", min(_PREFILL, engine.context - 1), rate, "tok/s")
    yield Figure("first token", 128, _first_token_s(engine), "s")
    for width in widths:
        pairs = [(_bare(engine, width, step_s), _decode(engine, width, step_s)) for _ in range(_ROUNDS)]
        bare, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        yield Figure("bare decode", width, bare, "tok/s")
        yield Figure("decode", width, ours, "tok/s")
    yield from _extract(engine, max(widths))
    yield Figure("memory", 1, float(_peak_bytes()), "bytes")


def _warm(engine: LlamaCpp) -> float:
    """Decode a few tokens; returns seconds of one step, the pages of the file being in memory then."""
    from edgellm.engines.base import Feed

    times = []
    for token in range(4):
        start = time.perf_counter()
        engine.decode([Feed(0, [10 + token], 1)])
        times.append(time.perf_counter() - start)
    engine.keep(0, 0)
    return min(times)


def _prefill(engine: LlamaCpp) -> float:
    """Tokens a second of reading one prompt, the best of three."""
    from edgellm.engines.base import Feed

    count = min(_PREFILL, engine.context - 1)
    tokens, best = [10 + index * 7 % 200 for index in range(count)], 0.0
    for _ in range(3):
        start = time.perf_counter()
        for at in range(0, count, engine.batch):
            engine.decode([Feed(0, tokens[at : at + engine.batch], int(at + engine.batch >= count))])
        best = max(best, count / (time.perf_counter() - start))
        engine.keep(0, 0)
    return best


def _first_token_s(engine: LlamaCpp) -> float:
    times = []
    for turn in range(3):
        loop = _loop(engine)
        sequence = _sequence(turn, 128, 1)
        loop.add(sequence)
        while not loop.idle:
            times += [event.reply.first_token_s for event in loop.step() if event.reply]
        _forget(engine)
    return statistics.median(times)


def _bare(engine: LlamaCpp, width: int, step_s: float) -> float:
    """Tokens a second of `llama_decode` and nothing else: the limit of any loop over this library."""
    from edgellm.engines.base import Feed

    length = _length(engine, width, step_s)
    for slot in range(width):
        engine.decode([Feed(slot, [10 + slot, 11, 12, 13], 0)])
    start = time.perf_counter()
    for index in range(length):
        engine.decode([Feed(slot, [20 + (slot + index) % 200], 1) for slot in range(width)])
    rate = width * length / (time.perf_counter() - start)
    _forget(engine)
    return rate


def _decode(engine: LlamaCpp, width: int, step_s: float) -> float:
    """Tokens a second of so many answers at once, through the loop, from when all have begun to when the first is done."""
    loop, length = _loop(engine), _length(engine, width, step_s)
    sequences = [_sequence(index, 4, length + width) for index in range(width)]
    for sequence in sequences:
        loop.add(sequence)
    while any(not sequence.answer for sequence in sequences):
        loop.step()
    before, start = sum(len(sequence.answer) for sequence in sequences), time.perf_counter()
    for _ in range(length - 2):
        loop.step()
    rate = (sum(len(sequence.answer) for sequence in sequences) - before) / (time.perf_counter() - start)
    for index in range(width):
        loop.cancel(index)
    _forget(engine)
    return rate


def _extract(engine: LlamaCpp, slots: int) -> Iterator[Figure]:
    """Documents a second with a schema and a shared instruction, the answers being replayed."""
    from edgellm.constraint import Grammar
    from edgellm.loop import Loop

    insistent = canned.Insistent(engine)
    grammar, loop = Grammar.compile(canned.SCHEMA, engine.vocab), Loop(insistent)
    count = _DOCUMENTS if slots > 4 else _DOCUMENTS // 2
    start = time.perf_counter()
    insistent.requests = canned.requests(engine, grammar, count)
    for request in insistent.requests:
        loop.add(request)
    replies = canned.answered(loop)
    prefix = len(engine.vocab.encode(canned.INSTRUCTION))
    computed = sum(reply.prompt_tokens - reply.shared_tokens + reply.tokens for reply in replies)
    yield Figure("extraction", count, count / (time.perf_counter() - start), "documents/s")
    yield Figure("extraction prefix", count, float(prefix), "tokens")
    yield Figure("extraction computed", count, float(computed), "tokens")
    _forget(engine)


def _loop(engine: LlamaCpp) -> Loop:
    from edgellm.loop import Loop

    return Loop(engine)


def _sequence(id: int, length: int, tokens: int) -> Request:  # noqa: A002 - the noun of Event
    from edgellm.sampling import Sampling
    from edgellm.sequence import Sequence as Request
    from edgellm.text import TextStream

    prompt = [10 + (id * 37 + index * 11) % 230 for index in range(length)]
    return Request(id=id, prompt=prompt, sampling=Sampling(temperature=0.0, max_tokens=tokens), text=TextStream())


def _length(engine: LlamaCpp, width: int, step_s: float) -> int:
    """Steps of one measurement: enough to take a few seconds, few enough for every slot's share of the cells."""
    room = engine.cells // width - 48
    return max(6, min(room, 160, int(_TURN_S / (step_s * (1 + width / 8)))))


def _forget(engine: LlamaCpp) -> None:
    for slot in range(engine.slots):
        engine.keep(slot, 0)


def _matrix_flops() -> float:
    """Floating-point operations a second that numpy's matrix product reaches, in 32 bits, with the plan's threads."""
    import numpy as np

    size, best = 1024, 0.0
    left, right = (np.random.default_rng(seed).standard_normal((size, size), dtype=np.float32) for seed in (1, 2))
    for _ in range(4):
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _peak_bytes() -> int:
    """Most memory this process has had, the model's pages included; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    paths, plan, widths = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - our own parent wrote it
    for figure in figures(paths, plan, widths):
        print(json.dumps(asdict(figure)), flush=True)


def default_file(name: str) -> Path:
    """Where the synthetic file of a shape is kept between runs."""
    import tempfile

    return Path(tempfile.gettempdir()) / f"edgellm-synthetic-{name.lower()}.gguf"


if __name__ == "__main__":
    _main()
    sys.stdout.flush()
    os._exit(0)  # nothing to free that the end of the process does not free
