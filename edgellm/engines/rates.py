"""How fast a device reads its memory and multiplies matrices, measured with ggml's own operations: what bounds a model on it.

`python -m edgellm.engines.rates NAME` measures here and now and prints one line of JSON; `ask` does so in a child process,
because what a device's driver allocates for asking would stay, and a broken one may crash.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from typing import Any, NamedTuple

from edgellm.engines.devices import environment, hush, low_level, symbol

_LONGEST_S = 60.0
_COPIED_BYTES = 256 << 20  # several times the caches of large cards; a quarter of what is free where that is less
_SIDES = (512, 1024, 2048, 4096, 8192)  # of square matrices, until a product takes long enough to be timed
_ENOUGH_S = 0.02
_TURNS = 3
_F16 = 1  # ggml.h, enum ggml_type


class Rates(NamedTuple):
    """Bytes a second, read plus written, of a copy within the device's memory; and operations a second in 16 bits."""

    bytes_s: float
    flops: float


@lru_cache
def ask(device: str, timeout_s: float = _LONGEST_S) -> Rates | None:
    """Measure a device by llama.cpp's name for it ("CUDA0"), in a child process; None where that fails."""
    command = [sys.executable, "-m", "edgellm.engines.rates", device]
    quiet = {**environment(), "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, env=quiet, check=True)
        return Rates(*map(float, json.loads(done.stdout.splitlines()[-1])))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return None


class _Ggml:
    """The few functions of ggml that a measurement needs."""

    def __init__(self, lib: Any, device: str) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._lib = lib
        found = self._bound("ggml_backend_dev_by_name", pointer, ctypes.c_char_p)(device.encode())
        if not found:
            raise LookupError(f"llama.cpp knows no device {device!r}.")
        free, total = size(), size()
        self._bound("ggml_backend_dev_memory", None, pointer, ctypes.POINTER(size), ctypes.POINTER(size))(
            found, ctypes.byref(free), ctypes.byref(total)
        )
        self.free_bytes = free.value
        self._backend = self._bound("ggml_backend_dev_init", pointer, pointer, ctypes.c_char_p)(found, None)
        self._init = self._bound("ggml_init", pointer, _Room)
        self._free = self._bound("ggml_free", None, pointer)
        self._matrix = self._bound("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self.product = self._bound("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.copy = self._bound("ggml_cpy", pointer, pointer, pointer, pointer)
        self._graph = self._bound("ggml_new_graph", pointer, pointer)
        self._expand = self._bound("ggml_build_forward_expand", None, pointer, pointer)
        self._allocate = self._bound("ggml_backend_alloc_ctx_tensors", pointer, pointer, pointer)
        self._release = self._bound("ggml_backend_buffer_free", None, pointer)
        self._fill = self._bound("ggml_backend_tensor_set", None, pointer, ctypes.c_char_p, size, size)
        self._compute = self._bound("ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)

    def _bound(self, name: str, result: Any, *arguments: Any) -> Any:
        return symbol(self._lib, name, result, *arguments)

    def seconds(self, operation: Any, rows: int, columns: int) -> float:
        """Seconds of an operation on two matrices of 16-bit floats; the first time, which wakes the device, does not count."""
        context = self._init(_Room(1 << 20, None, True))
        one, other = (self._matrix(context, _F16, columns, rows) for _ in range(2))
        graph = self._graph(context)
        self._expand(graph, operation(context, one, other))
        buffer = self._allocate(context, self._backend)
        if not buffer:
            raise MemoryError(f"no room on the device for matrices of {rows:,} x {columns:,}.")
        noise = _noise(2 * rows * columns)
        for matrix in (one, other):
            self._fill(matrix, noise, 0, len(noise))
        times = []
        for _ in range(_TURNS + 1):
            start = time.perf_counter()
            if self._compute(self._backend, graph):
                raise RuntimeError("the device could not compute.")
            times.append(time.perf_counter() - start)
        self._release(buffer)
        self._free(context)
        return min(times[1:])


class _Room(ctypes.Structure):  # ggml.h, struct ggml_init_params
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def _noise(size: int) -> bytes:
    """Small 16-bit floats of both signs: zeros would be computed faster than anything real."""
    grain = b"".join((0x2E00 + (index * 977 & 0x81FF) & 0xFFFF).to_bytes(2, "little") for index in range(1 << 14))
    return (grain * (size // len(grain) + 1))[:size]


def measure(device: str) -> Rates:
    """Measure here and now: loads C code into this process. Raises LookupError, MemoryError and RuntimeError."""
    lib = low_level()
    hush(lib)
    lib.llama_backend_init()
    ggml = _Ggml(lib, device)
    most = min(_COPIED_BYTES, ggml.free_bytes // 8)
    columns = 4096
    rows = max(1, most // (2 * columns))
    copied = ggml.seconds(ggml.copy, rows, columns)
    flops = 0.0
    for side in _SIDES:
        seconds = ggml.seconds(ggml.product, side, side)
        flops = max(flops, 2.0 * side**3 / seconds)
        if seconds > _ENOUGH_S:
            break
    return Rates(2.0 * 2 * rows * columns / copied, flops)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])), flush=True)
    os._exit(0)  # nothing to free that the end of the process does not free
