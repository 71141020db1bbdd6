"""The installed llama.cpp build is asked for its GPUs in a child, and whatever happens there, the parent gets an answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgellm.engines import devices
from edgellm.hardware import Device

HERE = str(Path(__file__).parent)
CUDA = Device("CUDA0", "RTX", "gpu", 8, 7, "CUDA", 128, True, "0000:01:00.0")


def said(found: Sequence[Device] = (), offload: bool | None = True, note: str = "") -> bytes:
    return json.dumps({"devices": [asdict(device) for device in found], "offload": offload, "note": note}).encode()


def python(code: str) -> str:
    """Run code in a fresh interpreter that finds the tests' own modules."""
    lines = f"import sys; sys.path[:0] = [{HERE!r}, {str(Path(HERE).parent)!r}]\n{code}"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_build_answers_quickly() -> None:
    started = time.perf_counter()
    answer = devices.ask()
    assert time.perf_counter() - started < 5
    assert answer.offload is not None
    assert answer.note == ""


def test_the_parent_never_loads_the_library() -> None:
    python("from edgellm.engines import devices; devices.ask(); assert not any('llama_cpp' in n for n in sys.modules)")


def test_gpus_are_described_as_their_backend_lays_out_memory() -> None:
    out = python(
        "from edgellm.engines import devices, virtual\n"
        "lib = devices.low_level()\n"
        "for card in (virtual.Card('VGPU0', 1000, alignment=256), virtual.Card('VGPU1', 77)):\n"
        "    virtual.Virtual(lib, card)\n"
        "for device in devices.look().devices: print(device.name, device.kind, device.total_bytes, "
        "device.free_bytes, device.alignment_bytes, device.row_padding, device.backend)"
    )
    assert out.splitlines() == ["VGPU0 gpu 1000 1000 256 False VGPU0", "VGPU1 gpu 77 77 128 False VGPU1"]


def test_an_answer_travels_whole() -> None:
    assert devices._read(0, said([CUDA]), b"") == ((CUDA,), True, "")
    assert devices._read(0, b"a driver's chatter\n" + said([CUDA]), b"").devices == (CUDA,)


@pytest.mark.parametrize(
    ("code", "out", "complaint", "words"),
    [
        (-11, b"", b"", "signal 11"),
        (1, b"", b"Traceback\nOSError: libcuda.so.1 is broken\n", "exit code 1: OSError: libcuda.so.1 is broken"),
        (0, b"", b"", "could not be read"),
        (0, b"{}", b"", "could not be read"),
        (0, b'{"devices": [{"x": 1}], "offload": true, "note": ""}', b"", "could not be read"),
        (0, b"\xff\xfe", b"", "could not be read"),
    ],
)
def test_a_child_that_dies_or_babbles_gives_no_devices_and_says_why(
    code: int, out: bytes, complaint: bytes, words: str
) -> None:
    answer = devices._read(code, out, complaint)
    assert answer.devices == ()
    assert answer.offload is None
    assert words in answer.note


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired("x", options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert devices.ask(2.5) == ((), None, "llama.cpp was asked for its GPUs and did not answer within 2.5 s.")


def test_a_child_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "executable", "/no/such/python")
    answer = devices.ask()
    assert answer.offload is None
    assert "could not be asked" in answer.note


def test_a_missing_library_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    monkeypatch.delitem(sys.modules, "llama_cpp.llama_cpp", raising=False)
    answer = devices.look()
    assert (answer.devices, answer.offload) == ((), None)
    assert answer.note == "llama-cpp-python cannot be used: llama-cpp-python is not installed."


def test_the_low_level_module_comes_alone_and_the_package_still_works_after_it() -> None:
    out = python(
        "from edgellm.engines.devices import low_level\n"
        "lib = low_level()\n"
        "print(lib.__name__, 'llama_cpp' in sys.modules, 'jinja2' in sys.modules, low_level() is lib)\n"
        "import llama_cpp\n"
        "print(llama_cpp.Llama.__name__, low_level() is lib)"
    )
    assert out.split() == ["llama_cpp.llama_cpp", "False", "False", "True", "Llama", "True"]


def test_the_package_may_have_been_imported_before() -> None:
    out = python(
        "import llama_cpp\nfrom edgellm.engines.devices import low_level\nprint(low_level() is llama_cpp.llama_cpp)"
    )
    assert out.strip() == "True"


def test_a_symbol_that_is_not_there_is_an_import_error() -> None:
    out = python(
        "from edgellm.engines.devices import low_level, symbol\n"
        "try:\n    symbol(low_level(), 'ggml_no_such_thing', None)\n"
        "except ImportError as error:\n    print(error)"
    )
    assert "does not export ggml_no_such_thing" in out
