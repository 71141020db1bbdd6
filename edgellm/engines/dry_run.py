"""llama.cpp's own answer to "how many bytes?": it builds the real graphs for a plan and allocates nothing.

The file may be a header alone, lengthened by a hole to its full size. `measure` runs in a child process, because an
assertion in C ends the process, and a GPU context made for asking would stay. Linux only: it reads a C++ map.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from edgellm.decision import Plan, Wish
from edgellm.engines.devices import environment, low_level, symbol
from edgellm.engines.parameters import context_parameters, model_parameters
from edgellm.engines.virtual import Card, Virtual, use_only
from edgellm.errors import DoesNotFit, EngineCrashed, EngineFailed
from edgellm.plan import fit, overrides, weighed

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.hardware import Device, Machine

_TIMEOUT_S = 60.0
_TRIES = 3
_SLACK = 1.02  # buffers grow a little with the layers that a tighter estimate admits
_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"  # llama-ext.h; exported, not in the C API


class Bytes(NamedTuple):
    """What llama.cpp wants in the buffers of one type."""

    buffer: str  # "CPU", "CUDA0", ...
    host: bool
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int


def measure(path: str, plan: Plan, *, imagined: Sequence[Device] = (), timeout_s: float = _TIMEOUT_S) -> list[Bytes]:
    """Ask llama.cpp, in a child process, what a plan would allocate for a file.

    With `imagined` GPUs, these instead of the ones that are here, so that a plan for another machine is as exact.
    Raises EngineFailed when it refuses the file or the plan, and EngineCrashed when it dies or takes too long.
    """
    if not sys.platform.startswith("linux"):
        raise EngineFailed("llama.cpp's dry run can be read on Linux only; plan with the estimate (plan.fit) here.")
    question = json.dumps({"path": path, "plan": asdict(plan), "imagined": [asdict(device) for device in imagined]})
    command = [sys.executable, "-m", "edgellm.engines.dry_run"]
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, text=True, timeout=timeout_s, env=environment(), check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineCrashed(f"llama.cpp did not plan {path} within {timeout_s:g} s.", phase="planning") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        died = -done.returncode if done.returncode < 0 else None
        raise EngineCrashed(f"llama.cpp died while planning {path}: {last[0]}", signal=died, phase="planning")
    answer = json.loads(done.stdout.splitlines()[-1])
    if isinstance(answer, str):
        raise EngineFailed(answer)
    return [Bytes(*row) for row in answer]


Weigh = Callable[[Plan], Sequence[Bytes]]


def settle(header: Header, machine: Machine, wish: Wish | None = None, *, weigh: Weigh | None = None) -> Plan:
    """Fit, let llama.cpp weigh the plan, and give what the estimate had left over to more layers.

    The numbers of the plan that comes back are llama.cpp's own. `weigh` defaults to `measure` on the header's file, with
    this machine's GPUs; for others, pass `partial(measure, path, imagined=machine.devices)`. Raises what `fit` and
    `measure` raise.
    """
    wish = wish or Wish()
    weigh = weigh or partial(measure, header.path)
    plan = fit(header, machine, wish)
    if not plan.on_gpu:
        return plan  # nothing on a GPU: nothing that could run over
    exact, scratch = _weighed(plan, weigh)
    if exact and (plan.whole(header.layers) or wish.gpu_layers != "auto"):
        return exact
    best = exact
    for _ in range(_TRIES):
        tighter = fit(header, machine, replace(wish, scratch=scratch))
        better, seen = _weighed(tighter, weigh)
        if better is None and best is None:
            scratch *= max(1.1, seen)
        elif better is None or (best is not None and _held(better) <= _held(best)):
            break
        else:
            best, scratch = better, scratch * seen
    if best is not None:
        return _topped_up(best, header, weigh)
    device = max(plan.devices, key=lambda device: device.used_bytes)
    raise DoesNotFit(
        f"{header.name} does not fit on {device.device} by llama.cpp's own count, though {plan.gpu_layers} layers should: "
        f"{device.free_bytes:,} bytes are free. Ask for fewer gpu_layers or a smaller context.",
        device.used_bytes,
        device.free_bytes,
    )


def _topped_up(plan: Plan, header: Header, weigh: Weigh) -> Plan:
    """Move single tensors that the estimate left in RAM to their layer's GPU, while llama.cpp finds room for them."""
    patterns = [re.compile(pattern) for pattern, _ in plan.tensor_overrides]
    kept = {tensor.name: tensor.bytes for tensor in header.tensors if any(one.search(tensor.name) for one in patterns)}
    tries = 0
    for name in sorted(kept, key=lambda name: -kept[name]):
        room = max(device.free_bytes - device.margin_bytes - device.used_bytes for device in plan.devices)
        if kept[name] <= room and tries < _TRIES:
            tries += 1
            names = [other for other in kept if other != name]
            better, _ = _weighed(replace(plan, tensor_overrides=overrides(names)), weigh)
            if better is not None:
                plan, tries = _off_the_host(better, kept.pop(name)), 0
    return plan


def _off_the_host(plan: Plan, moved_bytes: int) -> Plan:
    return replace(
        plan, host_bytes=plan.host_bytes - moved_bytes, host_weights_bytes=plan.host_weights_bytes - moved_bytes
    )


def _held(plan: Plan) -> int:
    """Bytes of weights on GPUs."""
    return sum(device.weights_bytes for device in plan.devices)


def _weighed(plan: Plan, weigh: Weigh) -> tuple[Plan | None, float]:
    """Return the plan with llama.cpp's own numbers (None: they do not fit), and its compute buffers by our estimate."""
    measured = {row.buffer: (row.weights_bytes, row.kv_bytes, row.compute_bytes) for row in weigh(plan)}
    shares = [
        measured[device.device][2] / device.compute_bytes
        for device in plan.devices
        if device.device in measured and device.compute_bytes
    ]
    return weighed(plan, measured), max(shares, default=1.0) * _SLACK


def hollow(fetch: Callable[[int, int], bytes], header: Header, path: str) -> str:
    """Write a file with a model's header and a hole for its weights: enough to measure before anything is downloaded."""
    with open(path, "wb") as file:
        file.write(fetch(0, header.data_offset))
        file.truncate(header.file_bytes)
    return path


def dry_model(
    lib: Any, path: str, plan: Mapping[str, Any], keep: list[Any], imagined: Sequence[Mapping[str, Any]] = ()
) -> Any:
    """Open a model without allocating its weights; returns a llama_model pointer."""
    params = model_parameters(lib, plan, keep)
    if imagined:
        cards = [
            Virtual(lib, Card(one["name"], one["total_bytes"], one["alignment_bytes"], one["row_padding"]))
            for one in imagined
        ]
        use_only(params, cards, keep)
    params.no_alloc = True
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE  # no_alloc with a mapped file is an assertion failure
    return lib.llama_model_load_from_file(path.encode(), params)


def breakdown(lib: Any, context: Any) -> list[Bytes]:
    """Read llama.cpp's account of a context's memory, one entry per buffer type."""
    ask = symbol(lib, _BREAKDOWN, _Map, ctypes.c_void_p)
    name = symbol(lib, "ggml_backend_buft_name", ctypes.c_char_p, ctypes.c_void_p)
    is_host = symbol(lib, "ggml_backend_buft_is_host", ctypes.c_bool, ctypes.c_void_p)
    return [
        Bytes(name(node.buffer).decode(), bool(is_host(node.buffer)), node.model, node.context, node.compute)
        for node in _nodes(ask(context).root)
    ]


class _Map(ctypes.Structure):
    """std::map as libstdc++ lays it out (stl_tree.h, _Rb_tree_impl): comparator, header node, count."""

    _fields_ = (
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_size_t),
        ("root", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    )


class _Node(ctypes.Structure):
    """One entry: stl_tree.h, _Rb_tree_node; then the pair (buffer type, llama-ext.h's llama_memory_breakdown_data)."""

    _fields_ = (
        ("color", ctypes.c_size_t),
        ("parent", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("buffer", ctypes.c_void_p),
        ("model", ctypes.c_size_t),
        ("context", ctypes.c_size_t),
        ("compute", ctypes.c_size_t),
    )


def _nodes(address: int | None) -> Iterator[_Node]:
    if address:
        node = _Node.from_address(address)
        yield from _nodes(node.left)
        yield node
        yield from _nodes(node.right)


def look(path: str, plan: Mapping[str, Any], imagined: Sequence[Mapping[str, Any]] = ()) -> list[Bytes] | str:
    """Measure here and now: loads C code into this process. Returns a sentence where llama.cpp refuses."""
    lib, keep = low_level(), list[Any]()
    complaints: list[str] = []
    keep.append(lib.llama_log_callback(lambda level, said, _: complaints.append(said.decode()) if level >= 4 else None))
    lib.llama_log_set(keep[0], None)
    lib.llama_backend_init()
    model = dry_model(lib, path, plan, keep, imagined)
    if not model:
        return f"llama.cpp could not open {path}: {' '.join(complaints).strip()}"
    context = lib.llama_init_from_model(model, context_parameters(lib, plan))
    if not context:
        return f"llama.cpp could not make a context for {path}: {' '.join(complaints).strip()}"
    return breakdown(lib, context)


if __name__ == "__main__":
    question = json.loads(sys.stdin.read())
    print(json.dumps(look(**question)), flush=True)
    os._exit(0)  # nothing to free that the end of the process does not free
