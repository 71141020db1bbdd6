"""What the machine has is found in its own words: file trees, tool output and a fake NVML stand in for machines."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm import hardware
from edgellm.hardware import Device, Machine

GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write a piece of /proc and /sys."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = (
    "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total:   0\n"
)
V2 = {
    "proc/self/cgroup": "0::/user.slice/app\n",
    "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/user.slice/app/memory.max": "4000000000\n",
    "sys/fs/cgroup/user.slice/app/memory.current": "1500000000\n",
    "sys/fs/cgroup/user.slice/app/memory.stat": "anon 100\ninactive_file 500000000\nfile 1\n",
}


# -- memory ------------------------------------------------------------------------------------------------------------


def test_free_memory_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    assert hardware._linux_memory(tree(tmp_path, {"proc/meminfo": MEMINFO})) == (16_384_000_000, 8_192_000_000)


def test_an_old_kernel_without_memavailable_still_answers(tmp_path: Path) -> None:
    meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 20 kB\nCached: 100 kB\n"
    assert hardware._linux_memory(tree(tmp_path, {"proc/meminfo": meminfo})) == (1_024_000, 420 * 1024)


def test_a_container_limit_counts_and_its_page_cache_does_not(tmp_path: Path) -> None:
    assert list(hardware.cgroup_room(tree(tmp_path, V2))) == [4_000_000_000 - 1_000_000_000]


def test_a_limit_on_any_group_above_counts(tmp_path: Path) -> None:
    above = {
        "sys/fs/cgroup/user.slice/memory.high": "1800000000\n",
        "sys/fs/cgroup/user.slice/memory.current": "1500000000\n",
        "sys/fs/cgroup/memory.max": "max\n",
    }
    assert sorted(hardware.cgroup_room(tree(tmp_path, V2 | above))) == [300_000_000, 3_000_000_000]


def test_version_one_groups_are_understood(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpuset:/x\n4:cpu,memory:/docker/abc\n1:name=systemd:/\n",
            "proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\nnonsense\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "2000000000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "1900000000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.stat": "total_inactive_file 400000000\ninactive_file 7\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert list(hardware.cgroup_room(root)) == [500_000_000]


def test_a_container_that_sees_only_its_own_part_of_the_tree_finds_its_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n",
            "proc/self/mountinfo": "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "400\n",
        },
    )
    assert list(hardware.cgroup_room(root)) == [600]


def test_a_group_path_that_points_outside_stays_inside(tmp_path: Path) -> None:
    files = {**V2, "proc/self/cgroup": "0::/../../user.slice/app\n"}
    assert list(hardware.cgroup_room(tree(tmp_path, files))) == [3_000_000_000]


def test_the_tightest_limit_wins_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_linux_memory", lambda: (16 * GIB, 8 * GIB))
    monkeypatch.setattr(hardware, "_limits", lambda system: iter([(2 * GIB, "A control group (container) limit")]))
    total, free, notes = hardware._memory("Linux")
    assert (total, free) == (16 * GIB, 2 * GIB)
    assert notes == ("A control group (container) limit leaves 2.0 GiB of the 8.0 GiB of memory that is free.",)


def test_no_limit_leaves_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_linux_memory", lambda: (16 * GIB, 8 * GIB))
    monkeypatch.setattr(hardware, "_limits", lambda system: iter([(12 * GIB, "A control group (container) limit")]))
    assert hardware._memory("Linux") == (16 * GIB, 8 * GIB, ())


@pytest.mark.skipif(sys.platform == "win32", reason="no rlimits")
def test_an_address_space_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (GIB, GIB))
    root = tree(tmp_path, {"proc/self/statm": "1000 1 1 1\n"})
    rooms = {words: size for size, words in hardware._limits("Linux", root)}
    assert rooms["The address-space limit (ulimit -v)"] == GIB - 1000 * os.sysconf("SC_PAGE_SIZE")
    assert next(hardware._limits("Darwin", tmp_path / "nowhere"))[0] == GIB


def test_macos_counts_pages_it_could_hand_out() -> None:
    said = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               1000.\nPages active:                            90000.\n"
        "Pages inactive:                           2000.\nPages purgeable:                           50.\n"
    )
    assert hardware._vm_stat_free_bytes(said) == 16384 * 3050
    assert hardware._vm_stat_free_bytes("") == 0


def test_macos_is_asked_through_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"hw.memsize": str(32 * GIB), "hw.physicalcpu": "12", "hw.perflevel0.physicalcpu": "8"}
    monkeypatch.setattr(hardware, "_tool", lambda *command: said.get(command[-1], ""))
    assert hardware._mac_memory() == (32 * GIB, 16 * GIB)
    assert hardware._mac_cores() == (12, 8)
    monkeypatch.setattr(hardware, "_tool", lambda *command: "")
    assert hardware._mac_cores() is None


class Kernel32:
    """The two calls of Windows' kernel that are used."""

    def __init__(self, works: bool) -> None:
        self.works = works

    def GlobalMemoryStatusEx(self, status: Any) -> bool:  # noqa: N802
        status._obj.total, status._obj.free, status._obj.commit_free = 16 * GIB, 8 * GIB, 6 * GIB
        return self.works

    def GetLogicalProcessorInformationEx(self, relation: int, buffer: Any, length: Any) -> bool:  # noqa: N802
        record = struct.pack("<IIBB", 0, 48, 0, 0).ljust(48, b"\0")
        length._obj.value = len(record)
        if buffer is not None:
            buffer.raw = record
        return self.works and buffer is not None


def test_windows_counts_what_may_still_be_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=Kernel32(True)), raising=False)
    assert hardware._windows_memory() == (16 * GIB, 6 * GIB)
    assert hardware._windows_cores() == (1, 1)


def test_a_windows_that_does_not_answer_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=Kernel32(False)), raising=False)
    assert hardware._windows_memory() == (0, 0)
    assert hardware._windows_cores() is None


def test_an_unknown_system_is_trusted_with_half_its_memory() -> None:
    total, free = hardware._posix_memory()
    assert free == total // 2


# -- cores -------------------------------------------------------------------------------------------------------------


def cpus(count: int, per_core: int = 1) -> dict[str, str]:
    files = {}
    for cpu in range(count):
        first = cpu // per_core * per_core
        names = ",".join(str(first + index) for index in range(per_core))
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = "0"
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = names
    return files


def test_two_threads_of_a_core_are_one_core(tmp_path: Path) -> None:
    assert hardware._linux_cores(tree(tmp_path, cpus(8, per_core=2)), range(8)) == (4, 4)


def test_intel_efficiency_cores_do_not_count_as_fast(tmp_path: Path) -> None:
    files = cpus(8, per_core=2) | {"sys/devices/cpu_core/cpus": "0-3\n", "sys/devices/cpu_atom/cpus": "4-7\n"}
    assert hardware._linux_cores(tree(tmp_path, files), range(8)) == (4, 2)


@pytest.mark.parametrize(
    ("file", "values", "fast"),
    [
        ("cpu_capacity", [1024, 1024, 400, 400], 2),
        ("cpu_capacity", [1024, 800, 780, 300], 3),
        ("cpufreq/cpuinfo_max_freq", [5_200_000, 5_000_000, 3_900_000, 3_900_000], 2),
        ("cpufreq/cpuinfo_max_freq", [5_200_000, 5_200_000, 5_000_000, 4_900_000], 4),
    ],
)
def test_slow_cores_are_told_by_capacity_and_clock(tmp_path: Path, file: str, values: list[int], fast: int) -> None:
    clocks = {f"sys/devices/system/cpu/cpu{cpu}/{file}": str(value) for cpu, value in enumerate(values)}
    assert hardware._linux_cores(tree(tmp_path, cpus(4) | clocks), range(4)) == (4, fast)


def test_a_processor_quota_limits_the_threads(tmp_path: Path) -> None:
    files = cpus(8) | V2 | {"sys/fs/cgroup/user.slice/app/cpu.max": "250000 100000\n"}
    assert hardware._linux_cores(tree(tmp_path, files), range(8)) == (8, 2)


def test_a_quota_of_less_than_one_core_leaves_one_thread(tmp_path: Path) -> None:
    files = cpus(2) | {
        "proc/self/cgroup": "2:cpu,cpuacct:/x\n",
        "proc/self/mountinfo": "3 2 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    }
    assert hardware._linux_cores(tree(tmp_path, files), range(2)) == (2, 1)


def test_only_processors_this_process_may_use_count(tmp_path: Path) -> None:
    assert hardware._linux_cores(tree(tmp_path, cpus(8)), {1, 2}) == (2, 2)
    assert hardware._linux_cores(tmp_path, ()) is None


def test_the_kernels_list_notation_is_read() -> None:
    assert hardware.cpu_list("0-3,8\n") == {0, 1, 2, 3, 8}
    assert hardware.cpu_list("") == set()


@given(st.sets(st.integers(0, 300)))
def test_any_list_of_processors_survives(cpus: set[int]) -> None:
    assert hardware.cpu_list(",".join(map(str, sorted(cpus)))) == cpus


def test_windows_core_records_are_counted_by_speed_class() -> None:
    fast, slow = struct.pack("<IIBB", 0, 48, 1, 1).ljust(48, b"\0"), struct.pack("<IIBB", 0, 48, 0, 0).ljust(48, b"\0")
    other = struct.pack("<IIBB", 2, 16, 0, 9).ljust(16, b"\0")
    assert hardware.windows_core_counts(fast * 6 + other + slow * 8) == (14, 6)
    assert hardware.windows_core_counts(b"") is None


@given(st.binary(max_size=200))
def test_no_windows_record_hangs_or_raises(data: bytes) -> None:
    hardware.windows_core_counts(data)


# -- GPUs --------------------------------------------------------------------------------------------------------------


def test_nvidia_smi_lines_are_read_and_broken_ones_ignored() -> None:
    said = (
        "0, NVIDIA GeForce RTX 3060, 12288, 11264, 00000000:01:00.0, Enabled\n"
        "1, NVIDIA A2, 15356, 15000, 00000000:C1:00.0, Disabled\nUnable to determine, [N/A], x, y, z, w\n\n"
    )
    first, second = hardware.smi_devices(said)
    assert (first.description, first.total_bytes, first.free_bytes) == (
        "NVIDIA GeForce RTX 3060",
        12288 << 20,
        11264 << 20,
    )
    assert (first.headless, second.headless, second.id) == (False, True, "0000:c1:00.0")


def test_amd_cards_are_found_in_sysfs(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "sys/class/drm/card0/device/mem_info_vram_total": str(8 * GIB),
            "sys/class/drm/card0/device/mem_info_vram_used": str(GIB),
            "sys/class/drm/card0/device/product_name": "Radeon RX 7600",
            "sys/class/drm/card1/device/mem_info_vram_total": str(GIB // 2),
            "sys/class/drm/card1/device/mem_info_vram_used": str(GIB // 4),
            "sys/class/drm/card1/device/mem_info_gtt_total": str(12 * GIB),
            "sys/class/drm/card1/device/mem_info_gtt_used": "0",
        },
    )
    big, small = hardware.amd_devices(root)
    assert (big.kind, big.free_bytes, big.description) == ("gpu", 7 * GIB, "Radeon RX 7600")
    assert (small.kind, small.free_bytes) == ("integrated", 12 * GIB + GIB // 4)


def test_apples_gpu_shares_the_memory() -> None:
    (device,) = hardware.apple_device("arm64", 16 * GIB, 4 * GIB)
    assert (device.kind, device.free_bytes) == ("integrated", 4 * GIB)
    assert device.total_bytes == 16 * GIB * 2 // 3
    assert hardware.apple_device("x86_64", 16 * GIB, 4 * GIB) == ()


class Nvml(types.ModuleType):
    """NVML with one whole GPU and one split into two instances, of which one exists."""

    nvmlMemory_v2 = 2  # noqa: N815 - NVML's own name

    class NVMLError(Exception):
        pass

    def __init__(self, *, broken: str = "") -> None:
        super().__init__("pynvml")
        self.broken, self.open = broken, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken == "driver":
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.broken == "late":
            raise self.NVMLError("GPU is lost")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"gpu{index}"

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:  # noqa: N802
        if handle == "gpu0":
            raise self.NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:  # noqa: N802
        if index:
            raise self.NVMLError("Not Found")
        return f"{handle}/mig{index}"

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int = 1) -> Any:  # noqa: N802
        if version == 2 and "mig" in handle:
            raise self.NVMLError("Argument version mismatch")
        return types.SimpleNamespace(total=8 * GIB, free=(6 + version) * GIB)

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return handle.encode()

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:  # noqa: N802
        return types.SimpleNamespace(busId=b"00000000:C1:00.0")

    def nvmlDeviceGetDisplayActive(self, handle: str) -> int:  # noqa: N802
        return 0

    NVML_CLOCK_MEM = 2

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        if "mig" in handle:
            raise self.NVMLError("Not Supported")
        return 9751  # an RTX 3090's GDDR6X

    def nvmlDeviceGetMemoryBusWidth(self, handle: str) -> int:  # noqa: N802
        return 384

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"570.1"


def test_nvml_tells_whole_gpus_and_instances_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    devices, complaints = hardware._vendor_devices("Linux", 16 * GIB, 8 * GIB)
    nvidia = [device for device in devices if device.backend == "NVML"]
    assert [device.description for device in nvidia] == ["gpu0", "gpu1/mig0"]
    assert [device.free_bytes for device in nvidia] == [8 * GIB, 7 * GIB]
    assert nvidia[0].id == "0000:c1:00.0"
    assert nvidia[0].headless
    assert [device.bandwidth_bytes_s for device in nvidia] == [936_096_000_000, 0]  # 936 GB/s, as the maker says
    assert nvidia[0].driver == "570.1"
    assert complaints == ()
    assert fake.open == 0


def test_a_broken_nvml_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(broken="late"))
    assert hardware._nvml_devices() == ((), ("NVIDIA's management library answered with an error: GPU is lost.",))


def test_without_nvml_the_tool_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(broken="driver"))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(hardware, "_tool", lambda *command: "0, A2, 100, 90, 00000000:C1:00.0, Disabled")
    devices, _ = hardware._vendor_devices("Windows", 16 * GIB, 8 * GIB)
    assert [device.backend for device in devices] == ["nvidia-smi"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert hardware._nvml_devices() == ((), ())


def test_tools_that_are_missing_or_fail_say_nothing() -> None:
    assert hardware._tool("edgellm-no-such-tool") == ""
    assert hardware._tool(sys.executable, "-c", "print('x'); raise SystemExit(3)") == ""
    assert hardware._tool(sys.executable, "-c", "print('x')") == "x"


# -- the whole machine -------------------------------------------------------------------------------------------------


CUDA = Device("CUDA0", "RTX", "gpu", 8 * GIB, 7 * GIB, "CUDA", row_padding=True, id="0000:c1:00.0")


def test_this_machine_is_detected() -> None:
    machine = hardware.detect()
    assert 0 < machine.ram_free_bytes <= machine.ram_bytes
    assert 1 <= machine.performance_cores <= machine.physical_cores <= machine.logical_cores
    assert machine.offload is False
    assert machine.system in ("Linux", "Darwin", "Windows")


def test_what_llama_cpp_says_about_gpus_wins_and_learns_whether_a_screen_hangs_on_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Device("NVIDIA0", "x", "gpu", 8 * GIB, 8 * GIB, "NVML", id="0000:c1:00.0", headless=True)
    monkeypatch.setattr(hardware, "_vendor_devices", lambda *_: ((seen,), ()))
    machine = hardware.detect([CUDA], offload=True)
    assert machine.offload
    assert [(device.name, device.headless) for device in machine.devices] == [("CUDA0", True)]
    assert hardware.detect([], offload=True).devices == (seen,)
    assert not hardware.detect([], offload=True).offload


def test_asking_an_unknown_system_gives_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.platform, "system", lambda: "Plan9")
    assert hardware.detect().performance_cores >= 1


def machine(**changes: Any) -> Machine:
    facts: dict[str, Any] = {
        "devices": (CUDA,),
        "ram_bytes": 16 * GIB,
        "ram_free_bytes": 8 * GIB,
        "physical_cores": 8,
        "logical_cores": 16,
        "performance_cores": 8,
        "system": "Linux",
        "machine": "x86_64",
        "offload": True,
    }
    return Machine(**(facts | changes))


def test_findings_are_sentences() -> None:
    said = hardware.findings(machine(performance_cores=6))
    assert said == [
        "Memory: 8.0 GiB free of 16.0 GiB.",
        "Processor: x86_64, 6 of 8 cores used, 16 hardware threads.",
        "GPU CUDA0: RTX, 7.0 GiB free of 8.0 GiB.",
    ]
    assert hardware.findings(machine(devices=()))[-1] == "GPU: none found. Everything runs on the processor."


@pytest.mark.parametrize(
    ("backend", "flag"),
    [("NVML", "-DGGML_CUDA=on"), ("nvidia-smi", "-DGGML_CUDA=on"), ("amdgpu", "-DGGML_HIP=on"), ("Metal", "METAL=on")],
)
def test_an_idle_gpu_comes_with_the_exact_cure(backend: str, flag: str) -> None:
    idle = Device("X0", "x", "gpu", GIB, GIB, backend)
    cure = hardware.findings(machine(devices=(idle,), offload=False))[-1]
    assert flag in cure
    assert "pip install --force-reinstall --no-cache-dir llama-cpp-python" in cure


def test_the_cure_speaks_powershell_on_windows() -> None:
    idle = Device("X0", "x", "gpu", GIB, GIB, "Intel")
    cure = hardware.findings(machine(devices=(idle,), offload=False, system="Windows"))[-1]
    assert '$env:CMAKE_ARGS="-DGGML_VULKAN=on"; pip install' in cure


def test_a_gpu_build_that_finds_no_gpu_blames_the_driver() -> None:
    idle = Device("X0", "x", "gpu", GIB, GIB, "NVML")
    assert "driver" in hardware.findings(machine(devices=(idle,), offload=False, gpu_build=True))[-1]


def test_a_machine_can_be_imagined() -> None:
    dream = hardware.pretend(machine(devices=(), offload=False), vram_bytes=[8 * GIB, 4 * GIB], ram_bytes=32 * GIB)
    assert [device.free_bytes for device in dream.devices] == [8 * GIB, 4 * GIB]
    assert (dream.offload, dream.ram_free_bytes) == (True, 32 * GIB)
    assert hardware.pretend(machine()) == machine()
    assert not hardware.pretend(machine(), vram_bytes=[]).offload
