"""What `plan` says about speed: bytes a token reads, bandwidth measured here, and other quantizations beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import ggufs
import pytest
import shapes
from loopback_hub import LoopbackHub

import edgellm
from edgellm import bandwidth, forecast, gguf, hub, plan, speed
from edgellm.hardware import Device, Machine
from edgellm.plan import Wish

GIB, TIB = 1 << 30, 1 << 40
DEMO = Path(edgellm.__file__).parent / "demo" / "demo.gguf"


def machine(*rooms: int) -> Machine:
    devices = tuple(Device(f"GPU{at}", "", "gpu", room, room, "virtual") for at, room in enumerate(rooms))
    return Machine(devices, TIB, TIB, 2, 2, 2, "Linux", "x86_64", offload=bool(rooms))


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> gguf.Header:
    return gguf.read(str(ggufs.write_shape(tmp_path_factory.mktemp("s") / "m.gguf", "mistral-7b")))


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> gguf.Header:
    return gguf.read(str(ggufs.write_shape(tmp_path_factory.mktemp("s") / "x.gguf", "mixtral-8x7b")))


def test_a_dense_models_token_reads_everything_but_the_input(mistral: gguf.Header) -> None:
    reads = speed.reading(mistral, plan.fit(mistral, machine(), Wish(threads=1)))
    inputs = next(tensor.bytes for tensor in mistral.tensors if tensor.name == "token_embd.weight")
    assert reads == speed.Reading(mistral.tensor_bytes - inputs, 0)


def test_a_tied_output_is_read_whole(tmp_path: Path) -> None:
    header = gguf.read(str(shapes.write(tmp_path, "gemma3")))
    assert speed.reading(header, plan.fit(header, machine(), Wish())).ram_bytes == header.tensor_bytes


def test_a_mixtures_token_reads_two_experts_of_eight(mixtral: gguf.Header) -> None:
    reads = speed.reading(mixtral, plan.fit(mixtral, machine(), Wish(threads=1)))
    assert 0.25 < reads.ram_bytes / mixtral.tensor_bytes < 0.30


def test_what_is_on_the_gpu_is_counted_there(mistral: gguf.Header, mixtral: gguf.Header) -> None:
    for header in (mistral, mixtral):
        alone = speed.reading(header, plan.fit(header, machine(), Wish()))
        for room in (2 * GIB, 4 * GIB, TIB):
            made = plan.fit(header, machine(room), Wish())
            reads = speed.reading(header, made)
            assert reads.ram_bytes + reads.gpu_bytes == pytest.approx(alone.ram_bytes, rel=1e-6)
            assert (reads.ram_bytes == 0) == (room == TIB)
        assert speed.reading(header, replace(made, gpu_layers=0)).gpu_bytes == 0


def test_experts_kept_in_ram_are_read_from_ram(mixtral: gguf.Header) -> None:
    made = plan.fit(mixtral, machine(4 * GIB), Wish())
    reads = speed.reading(mixtral, made)
    assert made.gpu_layers == mixtral.layers + 1
    assert reads.ram_bytes > reads.gpu_bytes


def test_the_rate_is_three_quarters_of_the_bandwidth() -> None:
    assert speed.Reading(4 * GIB, 0).tokens_per_s(40 * GIB) == pytest.approx(7.5)
    assert speed.Reading(2 * GIB, 2 * GIB).tokens_per_s(40 * GIB, 400 * GIB) == pytest.approx(0.75 / 0.055)
    assert speed.Reading(2 * GIB, 2 * GIB).tokens_per_s(40 * GIB) is None
    assert speed.Reading(0, 0).tokens_per_s(1) is None


def test_bandwidth_is_that_of_memory_and_not_of_nothing() -> None:
    """A disk or a no-op would be far outside."""
    assert 200e6 < bandwidth.read_bytes_s(1) < 2e12


def test_other_quantizations_are_planned_from_one_header(mistral: gguf.Header) -> None:
    sizes = {"Q2_K": mistral.file_bytes * 2 // 3, "Q4_K_M": mistral.file_bytes, "Q8_0": mistral.file_bytes * 7 // 4}
    found = list(forecast.choices(mistral, replace(machine(), ram_free_bytes=8 * GIB), Wish(slots=1), sizes))
    assert [(one.quantization, one.context) for one in found] == [
        (name, size) for name in sizes for size in (4096, 8192, 32768)
    ]
    assert [one.plan is not None for one in found if one.context == 4096] == [True, True, True]
    assert [one.plan is not None for one in found if one.context == 32768] == [True, True, False]
    same = plan.fit(mistral, replace(machine(), ram_free_bytes=8 * GIB), Wish(slots=1, context=4096))
    assert found[3].plan == same


# -- as a user sees it -------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("NO_PROXY", "*")
        files = {
            "tiny-Q4_K_M.gguf": DEMO.read_bytes(),
            "tiny-Q8_0-00001-of-00002.gguf": b"1" * 9_000_000,
            "tiny-Q8_0-00002-of-00002.gguf": b"2" * 6_000_000,
            "mmproj-F16.gguf": b"3",
            "README.md": b"Q2_K.",
        }
        found.add("somebody/Tiny-GGUF", files)
        yield found


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=90, check=False)


def test_a_repositorys_quantizations_are_listed_with_their_sizes(server: LoopbackHub) -> None:
    size = DEMO.stat().st_size
    assert hub.quantizations("somebody/Tiny-GGUF", "main") == {"Q4_K_M": size, "Q8_0": 15_000_000}


def test_plan_without_options_compares_quantizations(server: LoopbackHub) -> None:
    said = cli("plan", "somebody/Tiny-GGUF").stdout
    assert "Expect about" in said
    assert "measured here" in said
    rows = [line.split()[0] for line in said.split("\n\n")[1].splitlines()]
    assert rows == ["quantization", "Q4_K_M", "Q8_0"]
    assert "tok/s" in said
    assert "quantization" not in cli("plan", "somebody/Tiny-GGUF", "--context", "512").stdout


def test_an_imagined_gpu_has_no_known_speed() -> None:
    done = cli("plan", "demo", "--vram", "1GiB")
    assert "the GPU's memory (its speed is not known)" in done.stdout


def test_the_json_of_plan_is_as_documented() -> None:
    told = json.loads(cli("plan", "demo", "--json").stdout)
    documented = (Path(__file__).parent.parent / "docs" / "plan.md").read_text(encoding="utf-8")
    named = {line.split("`")[1] for line in documented.splitlines() if line.startswith("| `")}
    everything = {*told, *(f"expected.{key}" for key in told["expected"])}
    everything |= {f"devices[].{one.name}" for one in fields(plan.DevicePlan)}
    assert named == everything
