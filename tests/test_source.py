"""From a name to a file: planned for before the download, refused before gigabytes travel, then found without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ggufs
import pytest
from loopback_hub import LoopbackHub, OnDisk

import edgellm
from edgellm import catalog, gguf, source
from edgellm.errors import DoesNotFit, NotOnHub, Offline

DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"
REPO = "somebody/Tiny-GGUF"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "*")
        server.add(REPO, {"tiny-Q4_K_M.gguf": DEMO.read_bytes(), "tiny-Q8_0.gguf": b"GGUF nonsense" * 1000})
        yield server


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=90, check=False)


def plain(header: gguf.Header) -> dict[str, object]:
    scalars = (str, int, float)
    return {key: value if isinstance(value, scalars) else list(value) for key, value in header.metadata.items()}


def test_a_header_over_the_network_equals_the_whole_files(hub: LoopbackHub) -> None:
    far, near = source.find(REPO).header(), gguf.read(str(DEMO))
    assert far.tensors == near.tensors
    assert plain(far) == plain(near)


def test_what_does_not_fit_does_not_travel(hub: LoopbackHub) -> None:
    with pytest.raises(DoesNotFit):
        edgellm.load(REPO, gpu_layers="all")
    assert source.find(REPO).here is None


def test_a_broken_file_is_refused_before_it_travels(hub: LoopbackHub) -> None:
    with pytest.raises(edgellm.ModelFileError):
        edgellm.load(f"{REPO}:Q8_0")
    assert source.find(f"{REPO}:Q8_0").here is None


def test_a_missing_quantization_is_never_replaced(hub: LoopbackHub) -> None:
    with pytest.raises(NotOnHub, match="Q4_K_M"):
        source.find(f"{REPO}:Q5_K_M")


def test_pull_plan_show_verify_run_and_rm_by_hand(hub: LoopbackHub) -> None:
    planned = cli("plan", REPO)
    assert planned.returncode == 0, planned.stderr
    assert "Everything runs on the processor" in planned.stdout
    assert cli("verify", REPO).returncode != 0
    pulled = cli("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert "Downloading somebody/Tiny-GGUF: 0.0 GB" in pulled.stderr
    assert Path(pulled.stdout.strip()).read_bytes() == DEMO.read_bytes()
    requests = len(hub.requests)
    verified = cli("verify", REPO)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("ok  ")
    shown = cli("show", REPO, "--offline")
    assert shown.returncode == 0, shown.stderr
    assert "Q4_K_M" in shown.stdout
    answered = cli("run", "hi", "-m", REPO, "--offline", "--engine", "scripted")
    assert (answered.returncode, answered.stdout) == (0, "I have nothing to say.\n")
    assert len(hub.requests) == requests, "an installed model needs no network"
    gone = cli("rm", REPO, "--yes")
    assert gone.returncode == 0, gone.stderr
    assert cli("run", "hi", "-m", REPO, "--offline").returncode == 1


def test_offline_is_said_at_once() -> None:
    with pytest.raises(Offline):
        edgellm.load("qwen2.5-0.5b", offline=True)


def test_the_default_is_the_environments_then_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source.default() == ("demo", "no other model is installed")
    monkeypatch.setenv("EDGELLM_MODEL", "./mine.gguf")
    assert source.default() == ("./mine.gguf", "named by EDGELLM_MODEL")


def test_advice_names_a_recommended_model_that_fits() -> None:
    assert "edgellm pull qwen" in source.advice()


def test_a_model_that_is_announced_is_looked_up_once(hub: LoopbackHub) -> None:
    done = cli("run", "hi", "-m", REPO, "--max-tokens", "1")
    assert done.returncode == 0, done.stderr
    assert "Downloading somebody/Tiny-GGUF" in done.stderr
    assert len(hub.asked("API")) == 1


def test_28_gb_are_planned_for_from_a_header(hub: LoopbackHub, tmp_path: Path) -> None:
    """Mixtral on an 8 GiB card, before a byte of its weights: the same plan as from the whole file, and little travels."""
    path = ggufs.write_shape(tmp_path / "mixtral.gguf", "mixtral-8x7b")
    entry = catalog.find("mixtral-8x7b-instruct")
    hub.add(entry.repo, {entry.files[0].name: OnDisk(path)}, commit=entry.revision)
    wish = ("--vram", "8GiB", "--ram", "64GiB", "--json")
    far, near = (json.loads(cli("plan", name, *wish).stdout) for name in (entry.name, str(path)))
    for plan in (far, near):
        del plan["model"], plan["expected"]["ram_bytes_s"], plan["expected"]["tokens_per_s"]
    assert far == near
    assert far["gpu_layers"] == 33
    pieces = [asked.bytes for asked in hub.asked("GET")]
    assert all(pieces)
    assert sum(pieces) <= 16 << 20 < path.stat().st_size // 50
