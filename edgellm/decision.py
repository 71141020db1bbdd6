"""A plan as data: what was wished, and what was decided, with the reasons. `plan` decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DRAFTS = 15
"""Rows of logits beside one for each slot: with the token before it, a draft fills 16 rows, llama.cpp's tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks for; the rest is decided here."""

    gpu_layers: int | Literal["auto", "all"] = "auto"
    context: int | None = None  # tokens one conversation may hold
    slots: int = 4
    threads: int | None = None
    kv_type: Literal["auto", "f16", "q8_0", "q4_0"] = "auto"
    ubatch: int | None = None
    cells: int | None = None
    margin_bytes: int | None = None  # kept free on every GPU
    scratch: float = 1.0  # share of the estimated compute buffers that llama.cpp was seen to need


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What one GPU will hold."""

    device: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    margin_bytes: int
    free_bytes: int

    @property
    def used_bytes(self) -> int:
        """What llama.cpp will allocate."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decision with its reasons: what to pass to llama.cpp, and how many bytes that takes."""

    gpu_layers: int
    context: int  # tokens one sequence may hold
    cells: int  # tokens all slots together may hold, a multiple of 256
    slots: int
    threads: int
    threads_batch: int
    batch: int
    ubatch: int
    kv_type: str
    flash_attention: bool
    swa_full: bool
    kv_unified: bool = True  # False: every slot has its own part of the cells, and looks at no other
    repack: bool = False  # weights laid out anew for this processor: `edgellm tune` measures whether that pays
    op_offload: bool = True  # a GPU computes long batches of what lies in RAM, too
    tensor_overrides: tuple[tuple[str, str], ...]  # (regular expression over tensor names, "CPU")
    tensor_split: tuple[int, ...]  # layers per device, in llama.cpp's order of devices
    devices: tuple[DevicePlan, ...]
    host_bytes: int  # RAM, weights included
    host_weights_bytes: int = 0  # of these: pages of the model file
    reasons: tuple[str, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes any of it."""
        return any(device.used_bytes for device in self.devices)

    def whole(self, layers: int) -> bool:
        """Whether GPUs compute all of a model of so many layers, and its output."""
        return self.gpu_layers > layers and not self.tensor_overrides
