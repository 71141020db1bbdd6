"""What this machine has: memory that is really free, cores that really help, GPUs; and, in words, what to do about it.

It asks the operating system and the GPU vendors' own tools. It never loads llama.cpp, so it does not know which of
these GPUs the installed build can use: that is asked in a child (`edgellm.engines.devices`) and handed to `detect`.
"""

from __future__ import annotations

import os
import platform
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgellm.machine import Device, Machine

__all__ = ["Device", "Machine", "detect", "findings", "pretend"]

MIB = 1 << 20
_UNLIMITED_BYTES = 1 << 60  # cgroup v1 says "no limit" with a number near 2^63
_TOOL_TIMEOUT_S = 5.0


def detect(ggml_devices: Sequence[Device] | None = None, offload: bool | None = None) -> Machine:
    """Look at this machine.

    `ggml_devices` and `offload` are what the installed llama.cpp build says (`edgellm.engines.devices.ask`); its view
    of the GPUs wins, because it is what will allocate. Without it, GPUs are found through NVML, nvidia-smi or sysfs,
    and `offload` is False: seen, but not known to be usable.
    """
    system = platform.system()
    total_bytes, free_bytes, notes = _memory(system)
    physical, logical, performance = _cores(system)
    seen, complaints = _vendor_devices(system, total_bytes, free_bytes)
    devices = tuple(_with_identity(device, seen) for device in ggml_devices) if ggml_devices else seen
    return Machine(
        devices=devices,
        ram_bytes=total_bytes,
        ram_free_bytes=free_bytes,
        physical_cores=physical,
        logical_cores=logical,
        performance_cores=performance,
        system=system,
        machine=platform.machine(),
        offload=bool(offload) and bool(ggml_devices),
        notes=(*notes, *complaints),
        gpu_build=bool(offload),
    )


def pretend(machine: Machine, *, vram_bytes: Sequence[int] | None = None, ram_bytes: int | None = None) -> Machine:
    """Return the machine as if it had these GPUs, with all their memory free, and this much RAM free."""
    devices = machine.devices
    if vram_bytes is not None:
        devices = tuple(
            Device(f"GPU{number}", f"a GPU of {_gib(size)}", "gpu", size, size, "CUDA", row_padding=True)
            for number, size in enumerate(vram_bytes)
        )
    ram = machine.ram_bytes if ram_bytes is None else ram_bytes
    free = machine.ram_free_bytes if ram_bytes is None else ram_bytes
    offload = machine.offload if vram_bytes is None else bool(vram_bytes)
    return replace(machine, devices=devices, ram_bytes=ram, ram_free_bytes=free, offload=offload)


def findings(machine: Machine) -> list[str]:
    """Say in sentences what was found, and the exact cure where a GPU lies idle."""
    cores = (
        f"{machine.performance_cores} of {machine.physical_cores} cores used"
        if (machine.performance_cores < machine.physical_cores)
        else f"{machine.physical_cores} cores"
    )
    said = [
        f"Memory: {_gib(machine.ram_free_bytes)} free of {_gib(machine.ram_bytes)}.",
        f"Processor: {machine.machine}, {cores}, {machine.logical_cores} hardware threads.",
    ]
    said += [
        f"GPU {device.name}: {device.description}, {_gib(device.free_bytes)} free of {_gib(device.total_bytes)}"
        + (", shares the computer's memory." if device.kind == "integrated" else ".")
        for device in machine.devices
    ]
    if not machine.devices:
        said.append("GPU: none found. Everything runs on the processor.")
    elif not machine.offload:
        said.append(_cure(machine))
    return [*said, *machine.notes]


def _cure(machine: Machine) -> str:
    if machine.gpu_build:
        return (
            "The GPU lies idle: the installed llama.cpp build is made for GPUs but finds none it can use. "
            "Update the GPU's driver, and see that this user may use the GPU."
        )
    flags = {
        "NVML": "-DGGML_CUDA=on",
        "nvidia-smi": "-DGGML_CUDA=on",
        "amdgpu": "-DGGML_HIP=on",
        "Metal": "-DGGML_METAL=on",
    }
    flag = flags.get(machine.devices[0].backend, "-DGGML_VULKAN=on")
    also = {
        "-DGGML_CUDA=on": "It needs NVIDIA's CUDA toolkit.",
        "-DGGML_HIP=on": "It needs AMD's ROCm; with the Vulkan SDK instead, use -DGGML_VULKAN=on.",
    }
    return (
        "The GPU lies idle: the installed llama.cpp build cannot use it. Rebuild it with:  "
        f"{_install(flag, machine.system)}" + (f"  {also[flag]}" if flag in also else "")
    )


def _install(flag: str, system: str) -> str:
    build = "pip install --force-reinstall --no-cache-dir llama-cpp-python"
    return f'$env:CMAKE_ARGS="{flag}"; {build}' if system == "Windows" else f'CMAKE_ARGS="{flag}" {build}'


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(system: str) -> tuple[int, int, tuple[str, ...]]:
    """Return total bytes, free bytes, and remarks."""
    ask = {"Linux": _linux_memory, "Darwin": _mac_memory, "Windows": _windows_memory}.get(system, _posix_memory)
    total_bytes, free_bytes = ask()
    room_bytes, limit = min([(free_bytes, ""), *_limits(system)])
    note = f"{limit} leaves {_gib(room_bytes)} of the {_gib(free_bytes)} of memory that is free."
    return total_bytes, max(0, room_bytes), ((note,) if limit else ())


def _limits(system: str, root: Path = Path("/")) -> Iterator[tuple[int, str]]:
    """Yield (bytes left, what limits) for every limit on this process."""
    if system == "Linux":
        yield from ((left_bytes, "A control group (container) limit") for left_bytes in cgroup_room(root))
    if system != "Windows":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - _address_space_bytes(root), "The address-space limit (ulimit -v)"


def _address_space_bytes(root: Path) -> int:
    """Return the bytes of address space this process has mapped already."""
    try:
        return int((root / "proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _linux_memory(root: Path = Path("/")) -> tuple[int, int]:
    rows = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    total = kib.get("MemTotal", 0)
    # Kernels before 3.14 lack MemAvailable.
    free = kib.get("MemAvailable", kib.get("MemFree", 0) + kib.get("Cached", 0) + kib.get("Buffers", 0))
    return total * 1024, free * 1024


def cgroup_room(root: Path = Path("/")) -> Iterator[int]:
    """Yield the bytes left in every control group above this process that has a memory limit.

    The inactive page cache counts as free, because the kernel drops it before it kills anyone.
    """
    for folder in _cgroup_folders("memory", root):
        stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines() if line.count(" ") == 1)
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes") or 0
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and limit < _UNLIMITED_BYTES:
                yield max(0, limit - max(0, used - cache))


def _cgroup_folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, v2 and v1, from its own up to the mounted root."""
    paths = [line.split(":", 2)[1:] for line in _text(root / "proc/self/cgroup").splitlines() if line.count(":") >= 2]
    for line in _text(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        wanted = "" if kind[0] == "cgroup2" else controller
        if wanted and wanted not in kind[2].split(","):
            continue
        mount = root / fields[4].lstrip("/")
        for names, path in paths:
            if wanted in names.split(","):
                # Where the mount shows a part of the tree only (a container's bind mount), paths start at that part.
                inside = path.removeprefix(fields[3]) if fields[3] != "/" else path
                own = Path(os.path.normpath("/" + inside.lstrip("/")).lstrip("/"))
                yield from (mount / part for part in (own, *own.parents) if (mount / part).is_dir())


def _posix_memory() -> tuple[int, int]:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        total = 0
    return total, total // 2  # nobody was there to ask what is free


def _mac_memory() -> tuple[int, int]:
    total = int(_tool("sysctl", "-n", "hw.memsize") or 0)
    return total, _vm_stat_free_bytes(_tool("vm_stat")) or total // 2


def _vm_stat_free_bytes(said: str) -> int:
    """Read what macOS could hand out: free, inactive and purgeable pages (speculative ones are among the free)."""
    pages = {
        name.strip(): int(count.strip(" ."))
        for name, _, count in (line.partition(":") for line in said.splitlines())
        if count.strip(" .").isdigit()
    }
    head = said.partition("page size of ")[2].split()
    size = int(head[0]) if head and head[0].isdigit() else 16384
    return size * sum(pages.get(f"Pages {kind}", 0) for kind in ("free", "inactive", "purgeable"))


def _windows_memory() -> tuple[int, int]:
    import ctypes

    class Status(ctypes.Structure):  # sysinfoapi.h, MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "c", "commit_free", "e", "f", "g")),
        )

    status = Status(length=ctypes.sizeof(Status))
    windll: Any = getattr(ctypes, "windll")  # noqa: B009 - absent from the type stubs elsewhere
    if not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0, 0
    return int(status.total), int(min(status.free, status.commit_free))


# -- cores -------------------------------------------------------------------------------------------------------------


def _cores(system: str) -> tuple[int, int, int]:
    """Return physical cores, logical cores, and the physical cores worth a thread each."""
    logical = os.cpu_count() or 1
    ask = {"Linux": _linux_cores, "Darwin": _mac_cores, "Windows": _windows_cores}.get(system)
    physical, performance = (ask() if ask else None) or (logical, logical)
    return physical, logical, max(1, performance)


def _linux_cores(root: Path = Path("/"), allowed: Iterable[int] | None = None) -> tuple[int, int] | None:
    """Return (physical, performance) cores among those this process may use; a container's quota counts too."""
    cpus = root / "sys/devices/system/cpu"
    usable = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    core_of = {cpu: (_text(cpus / f"cpu{cpu}/topology/physical_package_id"), _siblings(cpus, cpu)) for cpu in usable}
    if not usable:
        return None
    fast = _fast_cpus(root, usable)
    quota = min(_cpu_quotas(root), default=float("inf"))
    physical, performance = len(set(core_of.values())), len({core_of[cpu] for cpu in fast})
    return physical, max(1, int(min(performance, quota)))


def _siblings(cpus: Path, cpu: int) -> str:
    topology = cpus / f"cpu{cpu}/topology"
    return _text(topology / "core_cpus_list") or _text(topology / "thread_siblings_list") or str(cpu)


def _fast_cpus(root: Path, usable: Sequence[int]) -> list[int]:
    """Keep the logical processors that are not efficiency cores: one slow core makes all threads wait."""
    hybrid = cpu_list(_text(root / "sys/devices/cpu_core/cpus"))  # Intel says it outright
    if fast := [cpu for cpu in usable if cpu in hybrid]:
        return fast
    cpus = root / "sys/devices/system/cpu"
    # ARM's capacities: little cores have 0.2 to 0.5 of the biggest, middle ones 0.7 and more. Clocks differ less: 0.6
    # to 0.75 for efficiency cores, while the favoured cores of one kind are within 0.9 of each other.
    for name, share in (("cpu_capacity", 0.6), ("cpufreq/cpuinfo_max_freq", 0.8)):
        values = {cpu: _number(cpus / f"cpu{cpu}" / name) or 0 for cpu in usable}
        if all(values.values()) and min(values.values()) < share * max(values.values()):
            return [cpu for cpu in usable if values[cpu] >= share * max(values.values())]
    return list(usable)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the processors' worth of time that each control group above us allows."""
    for folder in _cgroup_folders("cpu", root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quota = quota or _text(folder / "cpu.cfs_quota_us")
        period = period or _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def cpu_list(text: str) -> set[int]:
    """Read the kernel's list notation: "0-3,8" is {0, 1, 2, 3, 8}."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last if last.isdigit() else first) + 1))
    return found


def _mac_cores() -> tuple[int, int] | None:
    physical = int(_tool("sysctl", "-n", "hw.physicalcpu") or 0)
    performance = int(_tool("sysctl", "-n", "hw.perflevel0.physicalcpu") or physical)  # Intel Macs have no levels
    return (physical, performance) if physical else None


def _windows_cores() -> tuple[int, int] | None:
    import ctypes

    windll: Any = getattr(ctypes, "windll")  # noqa: B009 - absent from the type stubs elsewhere
    ask, length = windll.kernel32.GetLogicalProcessorInformationEx, ctypes.c_uint32()
    ask(0, None, ctypes.byref(length))  # 0: RelationProcessorCore
    buffer = ctypes.create_string_buffer(length.value)
    return windows_core_counts(buffer.raw) if ask(0, buffer, ctypes.byref(length)) else None


def windows_core_counts(data: bytes) -> tuple[int, int] | None:
    """Count (physical, performance) cores in SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX records: winnt.h.

    Each record: relationship u32, size u32, flags u8, efficiency class u8 (higher is faster).
    """
    classes, offset = [], 0
    while offset + 10 <= len(data):
        relation, size, _, efficiency = struct.unpack_from("<IIBB", data, offset)
        if size < 10:
            break
        if relation == 0:
            classes.append(efficiency)
        offset += size
    return (len(classes), classes.count(max(classes))) if classes else None


# -- GPUs --------------------------------------------------------------------------------------------------------------


def _vendor_devices(system: str, ram_bytes: int, free_bytes: int) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Ask the vendors' own interfaces which GPUs there are."""
    if system == "Darwin":
        return (apple_device(platform.machine(), ram_bytes, free_bytes), ())
    nvidia, complaints = _nvml_devices()
    if not nvidia and not complaints:
        import shutil

        nvidia = smi_devices(_tool(*_SMI)) if shutil.which("nvidia-smi") else ()
    return (*nvidia, *(amd_devices() if system == "Linux" else ())), complaints


def apple_device(machine: str, ram_bytes: int, free_bytes: int) -> tuple[Device, ...]:
    """Describe Apple's GPU, which may use two thirds to three quarters of the memory that it shares."""
    if machine != "arm64" or not ram_bytes:
        return ()
    share_bytes = ram_bytes * (2 if ram_bytes <= 36 << 30 else 3) // (3 if ram_bytes <= 36 << 30 else 4)
    return (Device("MTL0", "Apple GPU", "integrated", share_bytes, min(share_bytes, free_bytes), "Metal", 32),)


def _nvml_devices() -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Ask NVIDIA's management library, if `nvidia-ml-py` is installed and a driver is there."""
    try:
        import pynvml
    except ImportError:
        return (), ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), ()  # no driver: no NVIDIA GPU to speak of
    try:
        handles = [handle for index in range(pynvml.nvmlDeviceGetCount()) for handle in _mig_or_whole(pynvml, index)]
        return tuple(_nvml_device(pynvml, number, handle) for number, handle in enumerate(handles)), ()
    except pynvml.NVMLError as error:
        return (), (f"NVIDIA's management library answered with an error: {error}.",)
    finally:
        pynvml.nvmlShutdown()


def _mig_or_whole(nvml: Any, index: int) -> Iterator[Any]:
    """Yield the GPU, or its instances where it is partitioned (MIG): memory is counted per instance then."""
    whole = nvml.nvmlDeviceGetHandleByIndex(index)
    partitioned = _or_none(nvml, lambda: nvml.nvmlDeviceGetMigMode(whole)[0])
    slots = range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)) if partitioned else ()
    find = nvml.nvmlDeviceGetMigDeviceHandleByIndex
    parts = [handle for slot in slots if (handle := _or_none(nvml, partial(find, whole, slot))) is not None]
    yield from parts or [whole]


def _nvml_device(nvml: Any, number: int, handle: Any) -> Device:
    # Version 2 keeps the driver's own share apart; version 1 counts it as used by someone.
    memory = _or_none(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    memory = memory or nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    address = _or_none(nvml, lambda: nvml.nvmlDeviceGetPciInfo(handle).busId) or ""
    screen = _or_none(nvml, lambda: nvml.nvmlDeviceGetDisplayActive(handle))
    driver = _or_none(nvml, lambda: nvml.nvmlSystemGetDriverVersion()) or ""
    text = [part.decode() if isinstance(part, bytes) else str(part) for part in (name, address, driver)]
    return Device(
        name=f"NVIDIA{number}",
        description=text[0],
        kind="gpu",
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        backend="NVML",
        row_padding=True,
        id=pci_address(text[1]),
        headless=screen == 0,
        bandwidth_bytes_s=_nvml_bandwidth(nvml, handle),
        driver=text[2],
    )


def _nvml_bandwidth(nvml: Any, handle: Any) -> int:
    """Bytes a second between chips and GPU: two transfers a clock over the whole bus; 0 where NVML does not say."""
    clock_mhz = _or_none(nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)) or 0
    bits = _or_none(nvml, lambda: nvml.nvmlDeviceGetMemoryBusWidth(handle)) or 0
    return int(2 * clock_mhz * 1_000_000 * bits // 8)


def _or_none(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (nvml.NVMLError, AttributeError, TypeError):
        return None


_SMI_FIELDS = "index,name,memory.total,memory.free,pci.bus_id,display_active"
_SMI = ("nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits")


def smi_devices(said: str) -> tuple[Device, ...]:
    """Read what nvidia-smi printed: one line a GPU, memory in MiB."""
    found = []
    for line in said.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 6 and fields[2].isdigit() and fields[3].isdigit():
            index, name, total, free, address, screen = fields
            found.append(
                Device(
                    name=f"NVIDIA{index}",
                    description=name,
                    kind="gpu",
                    total_bytes=int(total) * MIB,
                    free_bytes=int(free) * MIB,
                    backend="nvidia-smi",
                    row_padding=True,
                    id=pci_address(address),
                    headless=screen == "Disabled",
                )
            )
    return tuple(found)


def pci_address(text: str) -> str:
    """Write a PCI address as ggml does: lower case, a domain of four digits."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest.count(":") == 1 else text.lower()


def amd_devices(root: Path = Path("/")) -> tuple[Device, ...]:
    """Find AMD GPUs in sysfs; one with next to no memory of its own is integrated and uses the computer's."""
    found: list[Device] = []
    for card in sorted(root.glob("sys/class/drm/card*/device/mem_info_vram_total")):
        folder = card.parent
        vram, gtt = (_number(folder / f"mem_info_{kind}_total") or 0 for kind in ("vram", "gtt"))
        vram_used, gtt_used = (_number(folder / f"mem_info_{kind}_used") or 0 for kind in ("vram", "gtt"))
        integrated = vram <= 512 * MIB
        total, used = (vram + gtt, vram_used + gtt_used) if integrated else (vram, vram_used)
        found.append(
            Device(
                name=f"AMD{len(found)}",
                description=_text(folder / "product_name") or "AMD GPU",
                kind="integrated" if integrated else "gpu",
                total_bytes=total,
                free_bytes=max(0, total - used),
                backend="amdgpu",
                row_padding=True,
                id=pci_address(folder.resolve().name),
            )
        )
    return tuple(found)


def _with_identity(device: Device, seen: Sequence[Device]) -> Device:
    """Add what only the vendor's interface knows, matched by PCI address: its speed, its driver, whether it has a screen."""
    twin = next((other for other in seen if device.id and other.id == device.id), None)
    if twin is None:
        return device
    return replace(
        device, headless=twin.headless, bandwidth_bytes_s=twin.bandwidth_bytes_s, driver=device.driver or twin.driver
    )


# -- asking ------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(*paths: Path) -> int | None:
    return next((int(text) for text in map(_text, paths) if text.isdigit()), None)


def _tool(*command: str) -> str:
    """Run a program of the system and return what it printed; "" when it is missing, slow or unwilling."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
