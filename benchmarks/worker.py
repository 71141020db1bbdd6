"""The price of the worker's process: `python benchmarks/worker.py [MODEL.gguf] [--shape 0.1b]`, in alternation with none.

Prints tokens per second of both with the median ratio, the same by processor time (which a busy machine does not distort), and
the memory that the second process adds. Pages that processes share are divided among them (PSS).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from edgellm.bench import synthetic

_PROGRAM = """
import sys, time, edgellm
path, worker, tokens, slots = sys.argv[1], sys.argv[2] == "worker", int(sys.argv[3]), int(sys.argv[4])
from edgellm.prompt import Message, Prompt
sampling = edgellm.Sampling(temperature=0, max_tokens=tokens)
with edgellm.load(path, in_process=not worker, slots=slots, context=1024, template="chatml", threads=1) as model:
    prompts = [Prompt(messages=(Message("user", f"number {n}"),), sampling=sampling) for n in range(slots)]
    model.ask([prompts[0]])
    for line in sys.stdin:
        start = time.perf_counter()
        replies = model.ask(prompts)
        print(sum(one.tokens for one in replies) / (time.perf_counter() - start), model.pid or 0, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--shape", default="0.1b")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.model or str(synthetic.write(Path(folder, "model.gguf"), synthetic.shape(asked.shape)))
        sides = {side: start(path, side, asked) for side in ("here", "worker")}
        pids: dict[str, list[int]] = {}
        rates: dict[str, list[float]] = {side: [] for side in sides}
        memory: dict[str, int] = {}
        work: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(asked.rounds + 1):
            for side, process in sides.items():
                before = {pid: cpu_s(pid) for pid in pids.get(side, ())}
                rate, pid = turn(process)
                pids[side] = [one for one in (process.pid, pid) if one]
                if before:  # the first turn wakes the file
                    rates[side].append(rate)
                    work[side].append(sum(cpu_s(one) - before[one] for one in pids[side]))
                memory[side] = sum(proportional_bytes(one) for one in pids[side])
        for process in sides.values():
            process.communicate()
    ratio = statistics.median(b / a for a, b in zip(rates["here"], rates["worker"], strict=True))
    middle = {side: statistics.median(found) for side, found in rates.items()}
    worked = statistics.median(a / b for a, b in zip(work["here"], work["worker"], strict=True))
    print(f"{middle['here']:.1f} tokens/s in process, {middle['worker']:.1f} through the worker: {ratio:.1%}")
    print(f"tokens by processor time: {worked:.1%}")
    print(
        f"memory: {memory['here'] / 1e6:.0f} MB, {memory['worker'] / 1e6:.0f} MB through the worker: "
        f"{(memory['worker'] - memory['here']) / 1e6:+.0f} MB"
    )


def start(path: str, side: str, asked: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM, path, side, str(asked.tokens), str(asked.slots)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def turn(process: subprocess.Popen[str]) -> tuple[float, int]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    rate, pid = process.stdout.readline().split()
    return float(rate), int(pid)


def cpu_s(pid: int) -> float:
    """Processor time of a process and all its threads."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def proportional_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


if __name__ == "__main__":
    main()
