"""Every test runs in a clean environment of its own: no user's models, tokens or history, and no network but loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# The default run tries the same examples every time; `-m slow` looks for new ones.
hypothesis.settings.register_profile("steady", derandomize=True, database=None)
hypothesis.settings.register_profile("searching", database=None)


# Tests tell the same on every machine, so they see no GPU, but for those in test_gpu.py; what hides one from which backend.
HIDING = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": ""}
SEEN = {name: os.environ.get(name) for name in HIDING}


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile by what is run; let Ctrl-C reach children also where a shell's background job ignores it."""
    os.environ.update(HIDING)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.load_profile("searching" if config.getoption("-m") == "slow" else "steady")


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point everything a user owns at a temporary folder."""
    for name in list(os.environ):
        if name.startswith(("EDGELLM_", "HF_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    return home


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a script for the scripted engine, and let the next engine use it."""

    def write(**data: Any) -> None:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(data))
        monkeypatch.setenv("EDGELLM_SCRIPT", str(path))

    return write


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that would speak to anything but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
