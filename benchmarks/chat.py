"""How fast `edgellm chat` feels, on a pseudo-terminal: start, Ctrl-C, and going on with a long conversation.

    python benchmarks/chat.py [--runs 50] [start] [stop] [resume]

Prints what it measured, one line each, with the bound it is held against. POSIX only; needs pexpect (in the `test` extra).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect

PROMPT = "\x1b[?2004h"  # prompt_toolkit asks for bracketed pastes when it shows its prompt
GREETING = "Hello, who are you?"
SLOW = "Good morning. " * 300  # enough to read for most of a second
FIELDS = ", ".join(
    f"{name}{number} [str]"
    for number in ("", 2, 3, 4)  # enough to write for half a second
    for name in ("name", "company", "address", "date", "product", "city", "email", "phone")
)


class Terminal:
    """One chat on a pseudo-terminal, in a home of its own."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        folders = {name: str(home / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        env = {**os.environ, **folders, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **environment}
        self.began = time.monotonic()
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "edgellm", "chat", *(arguments or ("-m", "demo"))],
            dimensions=(40, 100),
            encoding="utf-8",
            timeout=60,
            env=env,
        )
        self.child.delaybeforesend = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    def prompted(self) -> str:
        """Wait for the next prompt; returns what was shown before it."""
        self.child.expect_exact(PROMPT)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", str(self.child.before))

    def type(self, text: str) -> None:
        """Type a line, several as a paste, and Enter."""
        self.child.send(f"\x1b[200~{text}\x1b[201~\r" if len(text) > 200 else f"{text}\r")

    def ask(self, text: str) -> str:
        """Type a line and wait for what comes of it."""
        self.type(text)
        return self.prompted()

    def stop(self) -> tuple[float, str]:
        """Press Ctrl-C; returns the seconds until the prompt is back, and what was shown meanwhile."""
        pressed = time.monotonic()
        self.child.send("\x03")
        shown = self.prompted()
        seconds = time.monotonic() - pressed
        if "stopped" not in shown:  # it was over; where the key met the prompt, that comes back with a hint
            with contextlib.suppress(pexpect.TIMEOUT):
                self.child.expect_exact(PROMPT, timeout=1)
        return seconds, shown


def start(runs: int) -> tuple[list[float], list[float]]:
    """Seconds from Enter in the shell to the prompt, and from the first question to the first token."""
    prompts, firsts = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as home, Terminal(Path(home)) as chat:
            chat.prompted()
            prompts.append(time.monotonic() - chat.began)
            asked = time.monotonic()
            chat.type(GREETING)
            chat.child.expect(r"(?m)^\r?\w+ ")  # a line that begins with a word: ours begin with a prompt or an escape
            firsts.append(time.monotonic() - asked)
    return prompts, firsts


def load(home: Path, runs: int) -> list[float]:
    """Ctrl-C while a question waits for a model that is still loading."""
    script = home / "script.json"
    script.write_text(json.dumps({"otherwise": "Hello.", "open_s": 600}))
    found = []
    with Terminal(home, "-m", "demo", "--engine", "scripted", EDGELLM_SCRIPT=str(script)) as chat:
        chat.prompted()
        for _ in range(runs):
            chat.type("hi")
            chat.child.expect("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")  # the spinner; before it, the key may still go to the prompt
            time.sleep(random.uniform(0, 0.3))
            found.append(chat.stop()[0])
    return found


def stop(home: Path, runs: int, *model: str) -> dict[str, list[float]]:
    """Ctrl-C while the engine reads, answers, and answers under a grammar; every tenth time the next turn must work."""
    phases: dict[str, tuple[str, Callable[[Terminal], Any]]] = {
        "prefill": (SLOW, lambda _: time.sleep(random.uniform(0.05, 0.3))),
        "decode": (GREETING, lambda chat: chat.child.expect(r"(?m)^\r?\w+ ")),
        "grammar": (f"/extract {FIELDS} -- {SLOW[:400]}", lambda _: time.sleep(random.uniform(0.05, 0.2))),
    }
    found: dict[str, list[float]] = {phase: [] for phase in phases}
    with Terminal(home, *model) as chat:
        chat.prompted()
        chat.ask("hi")
        for phase, (text, wait) in phases.items():
            tries = 0
            while len(found[phase]) < runs and (tries := tries + 1) < 4 * runs:
                chat.type(text)
                wait(chat)
                seconds, shown = chat.stop()
                if "stopped" in shown:  # else it was over before
                    found[phase].append(seconds)
                if tries % 10 == 0:
                    assert "tokens/s" in chat.ask("hi"), "the next turn did not work"
                chat.ask("/clear")
    return found


def resume(home: Path, tokens: int) -> tuple[float, float, int]:
    """Seconds to the first token of a resumed conversation: computed again, and with what was kept; and its tokens."""
    text = "Good morning, who are you? " * 12
    with Terminal(home, "-m", "demo", "--max-tokens", "8") as chat:
        chat.prompted()
        chat.ask("/save long")
        used = 0
        while used < tokens:
            shown = chat.ask(text)
            while not (found := re.findall(r"context (\d+) %", shown)):
                shown = chat.prompted()  # a busy machine draws the prompt once more around what was pasted
            used = round(float(found[-1]) * 20.48)
        chat.child.sendeof()
        chat.child.expect(pexpect.EOF)
    kept = home / "xdg_data_home" / "edgellm" / "sessions" / "long.kv"
    data = kept.read_bytes()
    seconds = []
    for present in (False, True):
        kept.write_bytes(data) if present else kept.unlink()
        with Terminal(home, "-m", "demo", "--max-tokens", "8", "--resume", "long") as chat:
            chat.prompted()
            seconds.append(float(re.findall(r"first (\d+\.\d+) s", chat.ask("hi"))[-1]))
            chat.child.kill(9)  # leaves the conversation as it was, but for one turn
    return seconds[0], seconds[1], used


def p95(values: list[float]) -> float:
    """The value that 95 % stay below."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def main() -> None:
    """Measure what was named, or all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", help="start, stop, resume; all without a name")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()
    wanted = options.what or ["start", "stop", "resume"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if "start" in wanted:
            for name, values, bound in zip(
                ("prompt", "first token"), start(min(options.runs, 10)), (1.0, 0.5), strict=True
            ):
                print(
                    f"start, {name}: median {statistics.median(values):.2f} s, worst {max(values):.2f} s (bound {bound} s)"
                )
        if "stop" in wanted:
            phases = {"load": load(home, options.runs), **stop(home, options.runs, "-m", options.model)}
            for name, values in phases.items():
                print(
                    f"Ctrl-C in {name}: p95 {p95(values):.3f} s of {len(values)}, worst {max(values):.3f} s (bound 0.2 s)"
                )
        if "resume" in wanted:
            full, restored, tokens = resume(home, 1900)
            print(
                f"resume, {tokens:,} tokens: first token after {restored:.2f} s, computed again {full:.2f} s: "
                f"{100 * restored / full:.0f} % (bound 20 %)"
            )


if __name__ == "__main__":
    main()
