"""On a GPU that the installed build can use, models say what they say on the processor; skipped where there is none.

Everything runs in children that see the GPUs: from the tests' own process they are hidden.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SEEN

ROOT = Path(__file__).parent.parent
LETTER = "My name is Suvojit Hore, working in company AB and my address is AZ Street NY"
BEGIN = """
import json, os, signal, sys, time
import edgellm
from edgellm import Sampling
from edgellm.errors import EngineCrashed
greedy = Sampling(temperature=0.0, max_tokens=48)
"""


def child(*arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run Python where the GPUs can be seen."""
    environment = {**os.environ, **{name: value for name, value in SEEN.items() if value is not None}}
    for name in (name for name, value in SEEN.items() if value is None):
        environment.pop(name, None)
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=timeout_s, check=False
    )


def told(code: str) -> object:
    """What a script prints as JSON in its last line."""
    done = child("-c", BEGIN + code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", autouse=True)
def gpus() -> list[str]:
    """Names of the GPUs that are here."""
    found = child("-m", "edgellm.engines.devices")
    names = [one["name"] for one in json.loads(found.stdout.splitlines()[-1])["devices"]]
    return names or pytest.skip("there is no GPU that the installed llama.cpp can use")


@pytest.mark.parametrize("layers", [3, "all"])
def test_a_model_says_on_a_gpu_what_it_says_on_the_processor(layers: int | str) -> None:
    code = f"""
found = []
for layers in (0, {layers!r}):
    with edgellm.load("demo", gpu_layers=layers) as model:
        found.append([
            model.plan.gpu_layers, model.extract({LETTER!r}, fields="name, company, address"),
            model.translate(["Good morning", "How are you?", "Thank you"], to="fr"),
        ])
print(json.dumps(found))
"""
    processor, gpu = told(code)  # type: ignore[misc]
    assert (processor[0], gpu[0]) == (0, layers if isinstance(layers, int) else 6)
    assert gpu[1:] == processor[1:]
    assert gpu[1] == {"name": "Suvojit Hore", "company": "AB", "address": "AZ Street NY"}


def test_many_at_once_say_what_each_says_alone() -> None:
    code = """
letters = [f"My name is {name}, working in company {name}soft." for name in ("Ada", "Bob", "Eve", "Ian", "Joy", "Kim")]
found = []
for slots in (1, 6):
    with edgellm.load("demo", gpu_layers="all", slots=slots) as model:
        found.append(model.extract(letters, fields="name, company"))
print(json.dumps(found))
"""
    alone, together = told(code)  # type: ignore[misc]
    assert together == alone
    assert [one["name"] for one in alone] == ["Ada", "Bob", "Eve", "Ian", "Joy", "Kim"]


def test_a_killed_engine_is_told_and_the_next_request_works() -> None:
    code = """
with edgellm.load("demo", gpu_layers="all") as model:
    hello = [{"role": "user", "content": "Who are you?"}]
    before = model.chat(hello, sampling=greedy).text
    stream = model.stream(hello, sampling=greedy)
    next(stream)
    os.kill(model.pid, signal.SIGKILL)
    try:
        list(stream)
        crash = None
    except EngineCrashed as error:
        crash = (error.signal, error.phase)
    print(json.dumps([crash, before == model.chat(hello, sampling=greedy).text]))
"""
    assert told(code) == [[9, "generating"], True]


def test_a_stop_is_heard_while_a_long_prompt_is_read() -> None:
    code = """
with edgellm.load("demo", gpu_layers="all", slots=1) as model:
    model.chat([{"role": "user", "content": "hi"}], sampling=greedy)
    stream = model.stream([{"role": "user", "content": "many words " * 400}])
    start = time.monotonic()
    stream.close()
    taken = time.monotonic() - start
    print(json.dumps([taken, model.chat([{"role": "user", "content": "hi"}], sampling=greedy).tokens > 0]))
"""
    taken_s, works = told(code)  # type: ignore[misc]
    assert taken_s < 2.5  # the child would be killed after 2 s, and a software GPU is slow
    assert works


def test_llama_cpp_allocates_to_the_byte_what_its_dry_run_foretells() -> None:
    done = child("benchmarks/planning.py", "real")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "largest difference between dry run and allocation: 0 bytes" in done.stdout


def test_its_speed_is_measured_and_told() -> None:
    done = child("-m", "edgellm", "plan", "demo")
    assert "from the GPU's memory at " in done.stdout, done.stdout + done.stderr
    bench = json.loads(child("-m", "edgellm", "bench", "demo", "--widths", "1", "--json").stdout)
    assert bench["gpu_bytes_s"] > 1e8
    assert bench["gpu_flops"] > 1e8
    assert bench["gpu_layers"] == 6
