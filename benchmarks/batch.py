"""What a batch costs beside the bare loop: documents per second end to end, from file to file, against the loop alone.

    python benchmarks/batch.py [--rows 1000] [--task translate|extract] [-m demo] [--slots 8] [--parts 20]

The bare loop is engine, template and loop in one process, given every prompt at once: no pipe, no file, no rows. The batch
is `edgellm.batch` with its worker process, its ledger and its fsyncs. Both get the same rows with the same plan, in turns,
a part at a time, so that whatever else the machine does hits both. Prints documents per second and their ratio; both
answer the same, which is checked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import edgellm
from edgellm.batch import Batch, Options
from edgellm.demo import text
from edgellm.prompt import Prompt
from edgellm.rows import Job, Row
from edgellm.service import Service
from edgellm.tasks import extract

FIELDS = "name, company, address"
BOUND = 0.9


def documents(task: str, count: int) -> list[str]:
    """Texts of the embedded model's own held-out sets."""
    found = text.examples(20_240, evaluation=True, tasks={task: 1})
    texts = (one.messages[-1].content.partition("Text: ")[2] for one in found)
    return list(itertools.islice((one for one in texts if one), count))


def bare(service: Service, prompts: list[Prompt]) -> tuple[float, list[str]]:
    """Seconds, and the answers in order."""
    began, answers = time.perf_counter(), {}
    for number, prompt in enumerate(prompts):
        service.add(number, prompt)
    while not service.idle:
        for event in service.step():
            if event.reply:
                answers[event.id] = event.reply.text
    return time.perf_counter() - began, [answers[number] for number in range(len(prompts))]


def batched(model: edgellm.Model, job: Job, source: Path, target: Path) -> tuple[float, list[Any]]:
    """Seconds from opening the files to having everything on the disk, and the results in order."""
    began = time.perf_counter()
    with Batch(job, str(source), str(target), Options()) as batch:
        for _ in batch.results(model):
            pass
    return time.perf_counter() - began, [json.loads(line)["result"] for line in target.read_text().splitlines()]


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--task", choices=["translate", "extract"], default="translate")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()
    jobs = {"translate": Job(task="translate", to="fr"), "extract": Job(task="extract", schema=extract.fields(FIELDS))}
    job = jobs[options.task]
    texts = documents(options.task, options.rows)
    size = -(-len(texts) // options.parts)
    alone = together = 0.0
    same = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        edgellm.load(options.model, slots=options.slots, threads=options.threads) as model,
    ):
        service = Service(model.opening)
        warm = next(job.ask(Row(id=0, values={"text": texts[0]})))
        bare(service, warm)
        model.ask(warm)
        for number, first in enumerate(range(0, len(texts), size)):
            part = texts[first : first + size]
            prompts = [prompt for one in part for prompt in next(job.ask(Row(id=0, values={"text": one})))]
            source, target = Path(folder) / f"{number}.jsonl", Path(folder) / f"{number}.out"
            source.write_text("".join(json.dumps({"text": one}) + "\n" for one in part))
            for turn in ("bare", "batch") if number % 2 else ("batch", "bare"):
                if turn == "bare":
                    seconds, said = bare(service, prompts)
                    alone += seconds
                else:
                    seconds, results = batched(model, job, source, target)
                    together += seconds
            shown = [one if isinstance(one, str) else extract.dump(one) for one in results]
            same += sum(left.strip() == right for left, right in zip(said, shown, strict=True))
        service.close()
    ratio = alone / together
    print(
        f"{len(texts):,} rows of {options.task}, {options.slots} slots, {options.threads} threads, {os.cpu_count()} cores"
    )
    print(f"bare loop      {len(texts) / alone:8.1f} documents/s")
    print(f"file to file   {len(texts) / together:8.1f} documents/s")
    print(f"ratio          {ratio:8.3f} (bound: {BOUND})   same answers: {same:,}")


if __name__ == "__main__":
    main()
