"""What a GPU took beside its plan is kept free next time, per GPU, driver and build; and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import shapes

from edgellm import gguf, margins, plan
from edgellm.hardware import Device, Machine
from edgellm.plan import DevicePlan, Wish

GIB, MIB = 1 << 30, 1 << 20
CARD = Device("CUDA0", "A card", "gpu", 8 * GIB, 8 * GIB, "CUDA", driver="1.2", headless=True)
MACHINE = Machine((CARD,), 64 * GIB, 64 * GIB, 2, 2, 2, "Linux", "x86_64", offload=True)
PLANS = (DevicePlan("CUDA0", 3 * GIB, GIB, 100 * MIB, 512 * MIB, 8 * GIB),)


def note(beside_bytes: int, card: Device = CARD) -> None:
    used = PLANS[0].used_bytes
    margins.note({"CUDA0": margins.key(card)}, PLANS, {"CUDA0": 8 * GIB}, {"CUDA0": 8 * GIB - used - beside_bytes})


def margin(card: Device = CARD) -> int | None:
    return margins.known(replace(MACHINE, devices=(card,))).devices[0].margin_bytes


def test_nothing_measured_means_the_default() -> None:
    assert margin() is None
    assert margins.known(replace(MACHINE, devices=())).devices == ()


def test_the_hungriest_of_the_last_five_loads_counts() -> None:
    note(300 * MIB)
    assert margin() == 364 * MIB
    for _ in range(4):
        note(100 * MIB)
    assert margin() == 364 * MIB
    note(100 * MIB)
    assert margin() == 164 * MIB


def test_a_screen_needs_more() -> None:
    note(100 * MIB)
    assert margin(replace(CARD, headless=False)) == 356 * MIB


@pytest.mark.parametrize(
    "other", [replace(CARD, driver="1.3"), replace(CARD, description="B"), replace(CARD, backend="Vulkan")]
)
def test_another_gpu_driver_or_backend_is_not_measured(other: Device) -> None:
    note(100 * MIB)
    assert margin(other) is None


def test_what_other_programs_took_or_gave_back_is_not_remembered() -> None:
    note(3 * GIB)
    note(-GIB)
    assert margin() is None
    note(-MIB)  # a little less than planned: nothing beside it
    assert margin() == 64 * MIB


def test_gpus_that_hold_nothing_or_are_unknown_are_not_measured() -> None:
    idle = replace(PLANS[0], weights_bytes=0, kv_bytes=0, compute_bytes=0)
    margins.note({"CUDA0": margins.key(CARD)}, (idle,), {"CUDA0": 8 * GIB}, {"CUDA0": 8 * GIB - MIB})
    margins.note({}, PLANS, {"CUDA0": 8 * GIB}, {"CUDA0": GIB})
    assert margin() is None


@pytest.mark.parametrize("junk", ["", "[]", "null", '{"a": 3}', '{"a": ["x"]}', "\x00", "[" * 100_000])
def test_a_broken_file_is_as_good_as_none(junk: str) -> None:
    path = margins._path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(junk)
    assert margin() is None
    note(100 * MIB)
    assert margin() == 164 * MIB


def test_a_folder_that_cannot_be_written_does_not_matter() -> None:
    path = margins._path()
    path.mkdir(parents=True)
    note(100 * MIB)
    assert margin() is None


def test_the_plan_keeps_the_measured_margin_free(tmp_path: Path) -> None:
    header = gguf.read(str(shapes.write(tmp_path, "llama-8b")))
    before = plan.fit(header, MACHINE)
    note(60 * MIB)
    after = plan.fit(header, margins.known(replace(MACHINE, devices=(replace(CARD, free_bytes=3 * GIB),))))
    assert (before.devices[0].margin_bytes, after.devices[0].margin_bytes) == (256 * MIB, 124 * MIB)
    assert "124 MiB of it left to the driver, as measured" in after.reasons[0]
    pinned = plan.fit(header, margins.known(MACHINE), Wish(margin_bytes=7))
    assert pinned.devices[0].margin_bytes == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="virtual GPUs are made on Linux only")
def test_a_real_load_is_measured_after_its_first_answer(tmp_path: Path) -> None:
    """On a virtual GPU whose driver takes 40 MiB of its own as soon as something is computed."""
    path = shapes.write(tmp_path, "llama-tiny", running=True)
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from edgellm import gguf, margins, plan
from edgellm.engines import devices, virtual
from edgellm.opening import Opening
from edgellm.prompt import Prompt
from edgellm.sampling import Sampling
from edgellm.service import Service
from test_margins import CARD, MACHINE
from dataclasses import replace
room = 1 << 30
virtual.Virtual(devices.low_level(), virtual.Card("CUDA0", room))
card = replace(CARD, total_bytes=room, free_bytes=room)
header = gguf.read({str(path)!r})
made = plan.fit(header, replace(MACHINE, devices=(card,)), plan.Wish(gpu_layers="all", context=512, slots=1))
metadata = {{key: value for key, value in header.metadata.items() if isinstance(value, (str, int, float))}}
service = Service(Opening(engine="llama_cpp", paths=({str(path)!r},), plan=made, metadata=metadata,
    margin_keys={{"CUDA0": margins.key(card)}}))
service.add(0, Prompt(completion="a", sampling=Sampling(max_tokens=2)))
looked = devices.free_bytes
import edgellm.service
edgellm.service.free_bytes = lambda: {{name: free - (40 << 20) for name, free in looked().items()}}
while not service.idle:
    service.step()
print(margins._path())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    [[measured]] = json.loads(Path(done.stdout.strip()).read_text()).values()
    assert 38 * MIB < measured < 41 * MIB
