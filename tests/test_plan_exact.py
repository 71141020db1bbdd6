"""Planned bytes are the bytes that llama.cpp's allocator sees: on virtual GPUs, architecture by architecture.

Weights and KV cache must agree to the byte. Compute buffers are planned from above: never less than llama.cpp takes, and
`settle` replaces them by llama.cpp's own number.
"""

from __future__ import annotations

import ast
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import ggufs
import pytest
import shapes
import virtual_gpu
from virtual_gpu import Case

from edgellm import forecast, gguf, hardware, plan
from edgellm.engines import dry_run
from edgellm.engines.virtual import Card
from edgellm.errors import DoesNotFit, EngineCrashed, EngineFailed
from edgellm.gguf import Header
from edgellm.hardware import Device, Machine
from edgellm.plan import Plan, Wish

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a C++ map of libstdc++")

TIB, GIB, MIB = 1 << 40, 1 << 30, 1 << 20
CARDS = [Card(f"VGPU{number}", TIB) for number in range(3)] + [Card("VGPU3", TIB, row_padding=True)]
ALL = list(shapes.MODELS)
QUICK = [name for name in ALL if name not in ("llama-wide-vocab", "llama-1b", "llama-8b", "llama-mha")]


def machine(rooms: Sequence[int], *, row_padding: bool = False) -> Machine:
    devices = [
        Device(f"VGPU{3 if row_padding else number}", "virtual", "gpu", room, room, "virtual", row_padding=row_padding)
        for number, room in enumerate(rooms)
    ]
    return Machine(tuple(devices), TIB, TIB, 1, 1, 1, "Linux", "x86_64", bool(devices))


def wish(**changes: Any) -> Wish:
    return Wish(**({"threads": 1, "margin_bytes": 0} | changes))


def shares(answer: dict[str, Any], source: str = "told") -> list[tuple[int, int, int]]:
    """(weights, KV, compute) bytes per card."""
    nothing = {"weights": 0, "kv": 0, "compute": 0}
    return [tuple({**nothing, **(device[source] or {})}.values()) for device in answer["devices"]]  # type: ignore[misc]


def planned(made: Plan) -> list[tuple[int, int, int]]:
    return [(device.weights_bytes, device.kv_bytes, device.compute_bytes) for device in made.devices]


def assert_exact(made: Plan, answer: dict[str, Any], source: str = "told") -> None:
    """Weights and cache to the byte; compute at most what was planned."""
    assert answer["ok"], answer["said"]
    for mine, theirs in zip(planned(made), shares(answer, source), strict=True):
        assert mine[:2] == theirs[:2], (mine, theirs)
        assert mine[2] >= theirs[2], (mine, theirs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


def model(folder: Path, name: str, *, running: bool = False) -> tuple[Path, Header]:
    path = shapes.write(folder, name, running=running)
    return path, gguf.read(str(path))


# -- real allocations --------------------------------------------------------------------------------------------------


def test_the_allocator_sees_what_was_planned_for_every_architecture(folder: Path) -> None:
    """Small models are loaded for real, run, and looked at before and after."""
    cases, plans = [], []
    for name in ALL:
        path, header = model(folder, name, running=True)
        for layers in (0, 3, "all"):
            made = plan.fit(header, machine([TIB] if layers else []), wish(gpu_layers=layers, context=512, slots=2))
            plans.append(made)
            cases.append(virtual_gpu.case(path, made, [0] if layers else [], decode=80))
    for made, answer in zip(plans, virtual_gpu.ask(CARDS, cases), strict=True):
        assert_exact(made, answer, "seen")
        assert shares(answer) == shares(answer, "seen")
        assert answer["after"] == [sum(share) for share in shares(answer)]
        assert len(answer["decoded"]) == 3
        assert answer["left"] == [0] * len(made.devices)


def test_a_dry_run_tells_what_the_allocator_will_see(folder: Path) -> None:
    cases = []
    for name in ("llama-tiny", "mixtral", "gemma3", "qwen3-4b"):
        path, header = model(folder, name, running=True)
        for layers in (1, 4, "all"):
            made = plan.fit(header, machine([TIB]), wish(gpu_layers=layers, context=512))
            cases += [virtual_gpu.case(path, made, dry=dry) for dry in (True, False)]
    answers = virtual_gpu.ask(CARDS, cases)
    for dry, real in zip(answers[::2], answers[1::2], strict=True):
        assert shares(dry) == shares(real, "seen")
        assert dry["host"] == real["host"]


def test_what_generates_on_a_gpu_generates_the_same_without(folder: Path) -> None:
    path = ggufs.write_model(folder / "tiny.gguf", layers=4, embedding=64, quant="q8_0")
    header = gguf.read(str(path))
    plans = [plan.fit(header, machine([TIB]), wish(gpu_layers=layers, context=512)) for layers in (0, 2, 5)]
    answers = virtual_gpu.ask(CARDS, [virtual_gpu.case(path, made, decode=40) for made in plans])
    assert len({tuple(answer["decoded"]) for answer in answers}) == 1


def test_the_engine_allocates_what_was_planned(folder: Path) -> None:
    """The plan goes through the real engine, with experts in RAM and layers on two GPUs."""
    path, header = model(folder, "mixtral", running=True)
    sizes = ([size * MIB, size * MIB] for size in range(8, 64))
    rooms, made = next(
        (rooms, made)
        for rooms in sizes
        if (made := plan.fit(header, machine(rooms), wish(context=512, slots=2))).tensor_overrides
        and all(device.used_bytes for device in made.devices)
    )
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from edgellm.engines import devices, virtual
from edgellm.engines.base import Feed
from edgellm.engines.llama_cpp import LlamaCpp
from edgellm.plan import DevicePlan, Plan
cards = [virtual.Virtual(devices.low_level(), virtual.Card(f"VGPU{{n}}", room)) for n, room in enumerate({rooms!r})]
engine = LlamaCpp([{str(path)!r}], {made!r})
engine.decode([Feed(0, [1, 5, 9], 1), Feed(1, [1, 7], 1)])
print([tuple(card.shares().values()) for card in cards])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = ast.literal_eval(done.stdout)
    for mine, theirs in zip(planned(made), seen, strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] >= theirs[2]


def test_a_byte_less_than_needed_is_out_of_memory(folder: Path) -> None:
    """The virtual GPU is strict: otherwise nothing here would mean anything."""
    path, header = model(folder, "llama-tiny", running=True)
    made = plan.fit(header, machine([TIB]), wish(gpu_layers="all", context=512))
    needed = sum(shares(virtual_gpu.ask(CARDS, [virtual_gpu.case(path, made)])[0])[0])
    enough, short = virtual_gpu.ask(
        CARDS, [virtual_gpu.case(path, made, room={0: room}) for room in (needed, needed - 1)]
    )
    assert enough["ok"]
    assert not short["ok"]
    assert short["refused"] == 1


def random_cases(
    folder: Path, names: Iterable[str], count: int, seed: int, *, dry: bool, least: float
) -> list[tuple[Header, Plan, Case, list[int]]]:
    """Models on GPUs of random sizes, from a fraction `least` of the model up to more than enough."""
    dice, found = random.Random(seed), []
    for name in names:
        path, header = model(folder, name, running=not dry)
        for _ in range(count):
            cards = dice.choice([1, 1, 2, 3])
            rooms = [int((header.tensor_bytes * dice.uniform(least, 1.3) + 8 * MIB) / cards) for _ in range(cards)]
            asked = wish(slots=dice.choice([1, 4, 16, 40]), context=dice.choice([512, 4096]))
            made = plan.fit(header, machine(rooms), asked)
            where = dict(enumerate(rooms))
            found.append((header, made, virtual_gpu.case(path, made, range(cards), dry=dry, room=where), rooms))
    return found


def test_gpus_of_any_size_never_run_out_of_memory(folder: Path) -> None:
    found = random_cases(folder, QUICK, 3, seed=1, dry=False, least=0.1)
    for (_, made, _, _), answer in zip(found, virtual_gpu.ask(CARDS, [case for _, _, case, _ in found]), strict=True):
        assert_exact(made, answer, "seen")


# -- real shapes, weighed by llama.cpp's dry run -----------------------------------------------------------------------


def test_real_shapes_are_planned_to_the_byte(folder: Path) -> None:
    cases, plans = [], []
    for name in ("mixtral", "gemma3", "qwen3moe-30b", "gpt-oss", "lfm2"):
        path, header = model(folder, name)
        for layers in (0, 4, "all"):
            for changes in ({}, {"kv_type": "q8_0", "slots": 8}):
                made = plan.fit(header, machine([TIB]), wish(gpu_layers=layers, **changes))
                plans.append(made)
                cases.append(virtual_gpu.case(path, made, [0] if layers else [], dry=True))
    for made, answer in zip(plans, virtual_gpu.ask(CARDS, cases), strict=True):
        assert_exact(made, answer)
        assert made.host_weights_bytes == answer["host"]["weights"]


def test_padded_rows_are_planned_to_the_byte(folder: Path) -> None:
    """CUDA lengthens quantised rows to 512: 896 is no multiple of it."""
    path, header = model(folder, "qwen2-odd")
    made = plan.fit(header, machine([TIB], row_padding=True), wish(gpu_layers="all"))
    plain = plan.fit(header, machine([TIB]), wish(gpu_layers="all"))
    assert made.devices[0].weights_bytes > plain.devices[0].weights_bytes
    assert_exact(made, virtual_gpu.ask(CARDS, [virtual_gpu.case(path, made, [3], dry=True)])[0])


def test_several_gpus_are_planned_to_the_byte(folder: Path) -> None:
    path, header = model(folder, "qwen3-4b")
    cases, plans = [], []
    for rooms in ([TIB, TIB], [GIB // 2, GIB], [GIB // 4, GIB // 2, GIB // 3]):
        made = plan.fit(header, machine(rooms), wish())
        plans.append(made)
        cases.append(virtual_gpu.case(path, made, range(len(rooms)), dry=True))
    for made, answer in zip(plans, virtual_gpu.ask(CARDS, cases), strict=True):
        assert_exact(made, answer)


def test_windows_that_are_cut_are_planned_to_the_byte(folder: Path) -> None:
    path, header = model(folder, "gemma3")
    made = plan.fit(header, machine([TIB]), wish(gpu_layers="all", context=32768, slots=2))
    assert not made.swa_full
    assert_exact(made, virtual_gpu.ask(CARDS, [virtual_gpu.case(path, made, dry=True)])[0])


def test_the_estimate_is_close_where_everything_is_on_the_gpu(folder: Path) -> None:
    cases, plans = [], []
    for name in QUICK:
        path, header = model(folder, name)
        made = plan.fit(header, machine([TIB]), wish(gpu_layers="all"))
        plans.append(made)
        cases.append(virtual_gpu.case(path, made, dry=True))
    answers = virtual_gpu.ask(CARDS, cases)
    ratios = [made.devices[0].compute_bytes / shares(answer)[0][2] for made, answer in zip(plans, answers, strict=True)]
    assert min(ratios) >= 1
    assert statistics.median(ratios) < 1.15
    assert max(ratios) < 1.5


# -- settling ----------------------------------------------------------------------------------------------------------


def weigher(path: Path, cards: Sequence[int]) -> dry_run.Weigh:
    """llama.cpp's dry run, with virtual GPUs."""

    def weigh(made: Plan) -> list[dry_run.Bytes]:
        (answer,) = virtual_gpu.ask(CARDS, [Case(str(path), asdict(made), list(cards), dry=True)])
        assert answer["ok"], answer["said"]
        return [dry_run.Bytes(f"VGPU{card}", False, *share) for card, share in zip(cards, shares(answer), strict=True)]

    return weigh


def test_a_settled_plan_has_llama_cpps_own_numbers_and_uses_the_room(folder: Path) -> None:
    path, header = model(folder, "qwen3-4b")
    room = header.tensor_bytes * 2 // 3
    estimated = plan.fit(header, machine([room]), wish())
    weigh = weigher(path, [0])
    made = dry_run.settle(header, machine([room]), wish(), weigh=weigh)
    assert planned(made) == [row[2:] for row in weigh(made)]
    assert made.devices[0].used_bytes <= room
    assert made.devices[0].weights_bytes >= estimated.devices[0].weights_bytes


def test_only_a_plan_that_leaves_a_gpu_little_room_has_to_be_weighed(folder: Path) -> None:
    _, header = model(folder, "qwen3-4b")
    whole = plan.fit(header, machine([1 << 40]), wish()).devices[0].used_bytes
    rooms = {whole * 2: True, whole * 11 // 10: False, whole // 2: False}
    for room, roomy in rooms.items():
        assert forecast.roomy(plan.fit(header, machine([room]), wish()), header) == roomy
    assert not forecast.roomy(plan.fit(header, machine([]), wish()), header)


def test_a_settled_plan_leaves_no_room_for_an_expert_that_stays_in_ram(folder: Path) -> None:
    """The estimate alone would leave 346 MiB free here, and an expert tensor takes 252."""
    path = ggufs.write_shape(folder / "mixtral-8x7b.gguf", "mixtral-8x7b")
    header = gguf.read(str(path))
    room = 27242 * MIB
    made = dry_run.settle(header, machine([room]), wish(context=4096, slots=1), weigh=weigher(path, [0]))
    kept = [
        tensor.bytes
        for tensor in header.tensors
        for pattern, _ in made.tensor_overrides
        if re.search(pattern, tensor.name)
    ]
    assert kept
    assert 0 <= room - made.devices[0].used_bytes < min(kept)
    in_ram = sum(kept) + next(tensor.bytes for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert made.host_weights_bytes == in_ram


def test_settling_stops_where_everything_fits_or_nothing_is_on_a_gpu(folder: Path) -> None:
    path, header = model(folder, "qwen3-4b")
    asked: list[Plan] = []
    weigh = weigher(path, [0])

    def counting(made: Plan) -> list[dry_run.Bytes]:
        asked.append(made)
        return weigh(made)

    assert dry_run.settle(header, machine([TIB]), wish(), weigh=counting).gpu_layers == header.layers + 1
    assert len(asked) == 1
    assert dry_run.settle(header, machine([]), wish(), weigh=counting).gpu_layers == 0
    assert len(asked) == 1


def test_an_estimate_that_was_too_low_is_raised_until_it_fits(folder: Path) -> None:
    """An architecture whose buffers are twice what is planned loses layers, not the process."""
    path, header = model(folder, "qwen3-4b")
    room = header.tensor_bytes * 2 // 3
    weigh = weigher(path, [0])

    def heavy(made: Plan) -> list[dry_run.Bytes]:
        return [replace_compute(row, row.compute_bytes * 4) for row in weigh(made)]

    made = dry_run.settle(header, machine([room]), wish(), weigh=heavy)
    assert 0 < made.devices[0].used_bytes <= room


def test_a_pinned_plan_that_llama_cpp_finds_too_big_is_refused(folder: Path) -> None:
    path, header = model(folder, "qwen3-4b")
    made = plan.fit(header, machine([TIB]), wish(gpu_layers=5))
    room = made.devices[0].used_bytes + MIB
    weigh = weigher(path, [0])

    def heavy(made: Plan) -> list[dry_run.Bytes]:
        return [replace_compute(row, row.compute_bytes * 4) for row in weigh(made)]

    with pytest.raises(DoesNotFit):
        dry_run.settle(header, machine([room]), wish(gpu_layers=5), weigh=heavy)


def test_a_child_that_dies_or_hangs_is_an_engine_crash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, header = model(folder, "llama-tiny", running=True)
    made = plan.fit(header, machine([]), wish(context=512))
    with pytest.raises(EngineCrashed, match=r"within 0\.001 s"):
        dry_run.measure(str(path), made, timeout_s=0.001)
    with pytest.raises(EngineCrashed, match="died while planning"):
        dry_run.measure(str(path), replace(made, kv_type="f8"))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EngineFailed, match="on Linux only"):
        dry_run.measure(str(path), made)


def replace_compute(row: dry_run.Bytes, size: int) -> dry_run.Bytes:
    return row._replace(compute_bytes=size)


def test_the_real_child_measures_the_processors_share(folder: Path) -> None:
    """`measure` needs no virtual GPU: without any, everything is the CPU's."""
    path, header = model(folder, "llama-tiny", running=True)
    made = plan.fit(header, machine([]), wish(context=512))
    (row,) = dry_run.measure(str(path), made)
    assert (row.buffer, row.host, row.weights_bytes) == ("CPU", True, made.host_weights_bytes)
    assert row.weights_bytes + row.kv_bytes + row.compute_bytes <= made.host_bytes


def test_a_cache_in_parts_takes_no_more_than_one_pool(folder: Path) -> None:
    path, header = model(folder, "llama-tiny", running=True)
    apart = plan.fit(header, machine([]), wish(context=512, slots=8))
    assert not apart.kv_unified
    (parts,), (pool,) = (dry_run.measure(str(path), replace(apart, kv_unified=pooled)) for pooled in (False, True))
    assert parts.kv_bytes == pool.kv_bytes
    assert parts.weights_bytes + parts.kv_bytes + parts.compute_bytes <= apart.host_bytes


def test_a_header_alone_is_measured_like_the_whole_file(folder: Path) -> None:
    path, header = model(folder, "llama-tiny", running=True)
    made = plan.fit(header, machine([]), wish(context=512))
    whole = path.read_bytes()
    hollow = dry_run.hollow(lambda start, size: whole[start : start + size], header, str(folder / "hollow.gguf"))
    assert Path(hollow).stat().st_size == len(whole)
    assert dry_run.measure(hollow, made) == dry_run.measure(str(path), made)


def test_a_plan_for_another_machine_is_weighed_as_exactly(folder: Path) -> None:
    """GPUs that are not here, with CUDA's layout: `edgellm plan --vram` needs no GPU to be right."""
    path, header = model(folder, "qwen2-odd")
    room = header.tensor_bytes * 3 // 4
    dream = hardware.pretend(machine([]), vram_bytes=[room, room // 4])
    made = dry_run.settle(
        header, dream, wish(kv_type="q8_0"), weigh=partial(dry_run.measure, str(path), imagined=dream.devices)
    )
    assert made.gpu_layers > 0
    assert all(device.used_bytes <= device.free_bytes for device in made.devices)
    rows = {row.buffer: row for row in dry_run.measure(str(path), made, imagined=dream.devices)}
    assert planned(made)[0] == rows["GPU0"][2:]


def test_a_quantised_cache_on_cuda_is_planned_to_the_byte(folder: Path) -> None:
    path, header = model(folder, "qwen3-4b")
    made = plan.fit(header, machine([TIB], row_padding=True), wish(gpu_layers="all", kv_type="q8_0"))
    assert_exact(made, virtual_gpu.ask(CARDS, [virtual_gpu.case(path, made, [3], dry=True)])[0])


def test_a_file_that_llama_cpp_refuses_is_refused_in_words(folder: Path) -> None:
    _, header = model(folder, "llama-tiny", running=True)
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineFailed, match=r"could not open .*broken\.gguf"):
        dry_run.measure(str(broken), plan.fit(header, machine([]), wish()))


# -- minutes long ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_hundred_random_gpus_are_filled_and_never_overfilled(folder: Path) -> None:
    names = ("mistral-7b", "mixtral-8x7b", "solar-10.7b", "qwen2.5-7b", "gemma3-4b")
    dice, used = random.Random(7), []
    for name in names:
        path = ggufs.write_shape(folder / f"{name}.gguf", name)
        header = gguf.read(str(path))
        cases, plans = [], []
        for _ in range(60):
            room = int(dice.uniform(GIB, header.tensor_bytes * 1.1))
            made = plan.fit(header, machine([room]), wish(context=dice.choice([512, 2048, 4096])))
            plans.append(made)
            cases.append(virtual_gpu.case(path, made, dry=True))
        for made, answer in zip(plans, virtual_gpu.ask(CARDS, cases), strict=True):
            assert_exact(made, answer)
            total = sum(shares(answer)[0])
            assert total <= made.devices[0].free_bytes
            if made.gpu_layers <= header.layers or made.tensor_overrides:
                used.append(total / made.devices[0].free_bytes)
    assert statistics.median(used) >= 0.96


@pytest.mark.slow
def test_settled_plans_use_ninety_seven_percent(folder: Path) -> None:
    dice, used = random.Random(8), []
    for name in ("mistral-7b", "mixtral-8x7b", "qwen2.5-7b"):
        path = ggufs.write_shape(folder / f"{name}.gguf", name)
        header = gguf.read(str(path))
        for _ in range(10):
            room = int(dice.uniform(GIB, header.tensor_bytes))
            made = dry_run.settle(header, machine([room]), wish(), weigh=weigher(path, [0]))
            assert made.devices[0].used_bytes <= room
            used.append(made.devices[0].used_bytes / room)
    assert statistics.median(used) >= 0.97


@pytest.mark.slow
def test_a_wide_grid_is_exact(folder: Path) -> None:
    for name in ALL:
        path, header = model(folder, name)
        cases, plans = [], []
        for layers in (0, 1, header.layers // 2, header.layers, "all"):
            for slots, context, kind, ubatch in ((1, 512, "f16", 512), (8, 8192, "q8_0", 128), (4, 32768, "f16", 256)):
                if kind != "f16" and header.key_length % 32:
                    continue
                asked = wish(gpu_layers=layers, slots=slots, context=context, kv_type=kind, ubatch=ubatch)
                made = plan.fit(replace(header), machine([TIB]), asked)
                plans.append(made)
                cases.append(virtual_gpu.case(path, made, [0] if layers else [], dry=True))
        for made, answer in zip(plans, virtual_gpu.ask(CARDS, cases, timeout_s=300), strict=True):
            assert_exact(made, answer)


@pytest.mark.slow
def test_many_gpus_of_any_size_never_run_out_of_memory(folder: Path) -> None:
    found = random_cases(folder, QUICK, 25, seed=3, dry=False, least=0.05)
    for (_, made, _, _), answer in zip(found, virtual_gpu.ask(CARDS, [case for _, _, case, _ in found]), strict=True):
        assert_exact(made, answer, "seen")
