"""A sitting with a chat, for tests: through a pipe in this process, or on a pseudo-terminal of its own."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ggufs
import pytest

from edgellm import gguf
from edgellm.errors import ModelUnknown
from edgellm.here import Here
from edgellm.model import Model
from edgellm.opening import Opening
from edgellm.plan import Plan
from edgellm.repl import Wishes, run
from edgellm.source import Source
from edgellm.worker import Worker

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty and POSIX permissions")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file; the scripted engine reads no more than its header."""
    return ggufs.write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", context=4096)


def plan(context: int) -> Plan:
    return Plan(
        gpu_layers=0,
        context=context,
        cells=2 * context,
        slots=2,
        threads=1,
        threads_batch=1,
        batch=512,
        ubatch=512,
        kv_type="f16",
        flash_attention=False,
        swa_full=True,
        tensor_overrides=(),
        tensor_split=(),
        devices=(),
        host_bytes=1 << 20,
        host_weights_bytes=1 << 20,
        reasons=("Everything runs on the processor with 1 thread: no GPU that llama.cpp can use.",),
    )


@dataclass
class Sitting:
    """What a chat has answered, said, and returned."""

    out: str
    err: str
    code: int


@pytest.fixture
def sit(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Sitting]:
    """Pipe lines through a chat with the scripted engine."""
    header = gguf.read(tiny)

    def chat(text: str | bytes, *, context: int = 4096, apart: bool = False, **wishes: Any) -> Sitting:
        def opener(name: str | None, progress: Any) -> Model:
            if name == "missing":
                raise ModelUnknown("no model is called 'missing'.")
            progress("file", 1, 2)
            worker = Worker() if apart else Here()
            opening = Opening(engine="scripted", paths=(), plan=plan(context), metadata={})
            worker.open(opening)
            return Model(Source(name=name or "tiny", path=str(tiny)), header, plan(context), worker, opening)

        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode() if isinstance(text, str) else text))
        )
        code = run(opener, Wishes(**wishes))
        return Sitting(*capsys.readouterr(), code)

    return chat


def arguments(tiny: Path, *more: str) -> list[str]:
    return ["-m", "edgellm", "chat", "-m", str(tiny), "--engine", "scripted", *more]


@pytest.fixture
def terminals(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start chats on a pseudo-terminal."""
    pexpect = pytest.importorskip("pexpect")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    started = []

    def start(*more: str, embedded: bool = False, loaded: bool = True) -> Any:
        command = ["-m", "edgellm", "chat", "-m", "demo", *more] if embedded else arguments(tiny, *more)
        child = pexpect.spawn(sys.executable, command, dimensions=(40, 100), encoding="utf-8", timeout=20)
        child.delaybeforesend = None
        started.append(child)
        if loaded:
            child.expect("Everything runs on the processor")
        prompted(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def prompted(child: Any) -> str:
    """Wait for the next prompt; returns what was shown before it."""
    child.expect_exact("\x1b[?2004h")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)


def asked(child: Any, typed: str) -> str:
    child.send(typed)
    return prompted(child)
