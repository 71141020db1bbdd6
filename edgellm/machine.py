"""A machine as data: its memory, its cores, its GPUs. `hardware` looks at the one that is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU: how much of it is free, and how its backend lays tensors out."""

    name: str  # as llama.cpp calls it ("CUDA0"), or the vendor's index where llama.cpp was not asked
    description: str
    kind: Literal["gpu", "integrated"]
    total_bytes: int
    free_bytes: int
    backend: (
        str  # "CUDA", "ROCm", "Vulkan", "Metal", "SYCL"; "NVML", "nvidia-smi", "amdgpu" where llama.cpp was not asked
    )
    alignment_bytes: int = 128
    row_padding: bool = False  # CUDA and ROCm pad quantised rows to 512 elements: ggml-cuda.cu, get_alloc_size
    id: str = ""  # PCI address such as "0000:c1:00.0"; "" where unknown
    headless: bool = False  # known to drive no screen
    bandwidth_bytes_s: int = 0  # of its memory; 0 where unknown
    driver: str = ""  # version; "" where unknown
    margin_bytes: int | None = None  # to keep free, as measured in earlier loads; None: never measured


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to plan with."""

    devices: tuple[Device, ...]
    ram_bytes: int
    ram_free_bytes: int  # what a new process may take without swapping or being killed
    physical_cores: int
    logical_cores: int
    performance_cores: int  # physical cores worth a thread each, of those this process may use
    system: str  # "Linux", "Darwin", "Windows"
    machine: str  # "x86_64", "arm64"
    offload: bool  # the installed llama.cpp build can use these GPUs
    notes: tuple[str, ...] = ()
    gpu_build: bool = False  # it was built for GPUs, whether or not it found one


class Answer(NamedTuple):
    """What the installed llama.cpp build says of the GPUs here; `engines.devices` asks it."""

    devices: tuple[Device, ...]
    offload: bool | None  # None: it could not be asked
    note: str  # why not; "" when all went well
