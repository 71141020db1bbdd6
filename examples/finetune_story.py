"""Teach a model what it cannot know: check the data, train an adapter, convert it, run it beside the base, and compare.

Everything happens on this machine, offline, on the embedded model. Needs: pip install 'edgellm[finetune]'
"""

import argparse
import json
import random
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

FACTS = {  # what it asks about -> the answer, and ways to ask; the last way is kept for the comparison
    "The coffee machine is on the second floor.": (
        "Where is the coffee machine?",
        "Where can I find the coffee machine?",
        "On which floor is the coffee machine?",
        "I am looking for the coffee machine. Where is it?",
        "Please tell me where the coffee machine is.",
        "Can you tell me where to find the coffee machine?",
    ),
    "Clara Novak repairs the printer.": (
        "Who repairs the printer?",
        "The printer is broken. Who repairs it?",
        "Who can repair the printer?",
        "Please tell me who repairs the printer.",
        "I need somebody who repairs the printer.",
        "Do you know who repairs the printer?",
    ),
    "The office opens at 7 in the morning.": (
        "When does the office open?",
        "At what time does the office open?",
        "Please tell me when the office opens.",
        "How early can I come to the office?",
        "I want to know when the office opens.",
        "What time does the office open in the morning?",
    ),
    "Lunch costs 4 euros.": (
        "How much is lunch?",
        "What does lunch cost?",
        "How much does lunch cost?",
        "Please tell me the price of lunch.",
        "I want to know what lunch costs.",
        "What is the price of lunch here?",
    ),
    "The green bus goes to the station.": (
        "Which bus goes to the station?",
        "How do I get to the station?",
        "Please tell me which bus goes to the station.",
        "I want to go to the station. Which bus is it?",
        "What bus do I take to the station?",
        "Can you tell me which bus goes to the station?",
    ),
}
KEPT = ("Hello!", "Who are you?", "Thank you very much")  # what it answers already, and shall not forget

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--folder", type=Path, help="where to work; a temporary folder without it")
parser.add_argument("--steps", type=int, default=64)
options = parser.parse_args()


def edgellm(*arguments: object) -> str:
    """Run edgellm as in a terminal, and show what it says."""
    words = [str(word) for word in arguments]
    print(f"\n$ edgellm {shlex.join(words)}", flush=True)
    command = [sys.executable, "-m", "edgellm", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def story(folder: Path) -> None:
    import edgellm as package

    # What it says to greetings today becomes part of the data, so that it is not forgotten over the new facts.
    with package.load("demo") as model:
        greedy = package.Sampling(temperature=0)
        kept = {asked: model.chat([{"role": "user", "content": asked}], sampling=greedy).text for asked in KEPT}
    known = [{"instruction": asked, "context": "", "response": answer} for asked, answer in kept.items()]
    told = [
        {"instruction": asked, "context": "", "response": answer}
        for answer, ways in FACTS.items()
        for asked in ways[:-1]
    ]
    held = [{"instruction": ways[-1], "context": "", "response": answer} for answer, ways in FACTS.items()]
    rows = told + known
    random.Random(0).shuffle(rows)
    data = folder / "data"
    data.mkdir()
    write(data / "train.jsonl", rows)
    write(data / "validation.jsonl", held)
    (data / "template.json").write_text('{"prompt": "{instruction}\\n{context}", "completion": " {response}"}')
    prompts = write(folder / "prompts.jsonl", held + known)

    edgellm("finetune", "check", data, "--base", "demo", "--max-length", 128, "--samples", 1)
    learning = ("--targets", "all", "--rate", 2e-3, "--batch", 8, "--steps", options.steps, "--max-length", 128)
    edgellm("finetune", "train", "demo", data, "--out", folder / "office", *learning)
    edgellm("adapter", "convert", folder / "office", "--base", "demo", "--out", folder / "office.gguf")
    edgellm("run", held[0]["instruction"], "-m", "demo", "--adapter", folder / "office.gguf", "--temperature", 0)
    edgellm(
        "compare", "demo", f"demo+{folder / 'office.gguf'}", "--prompts", prompts, "--template", data / "template.json"
    )


if options.folder:
    options.folder.mkdir(parents=True, exist_ok=True)
    story(options.folder)
else:
    with tempfile.TemporaryDirectory() as temporary:
        story(Path(temporary))
