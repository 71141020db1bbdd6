"""GPUs made of ordinary memory, registered in llama.cpp through ctypes: any number, any size, out of memory when full.

They allocate as CUDA does (alignment, padded rows, no more than there is) and let the CPU backend compute. With them,
llama.cpp itself weighs a plan for GPUs that are not here, and tests see what its allocator asks for. Struct layouts follow
ggml-backend-impl.h (API version 2) of the pinned llama.cpp. Devices can be registered, but never removed: use a child.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812 - as everyone writes it
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgellm.engines.devices import symbol

P, SIZE = C.c_void_p, C.c_size_t
GPU = 1  # ggml-backend.h, enum ggml_backend_dev_type
COMPUTE = 2  # ggml-backend.h, enum ggml_backend_buffer_usage: ANY, WEIGHTS, COMPUTE
WEIGHTS = 1


def table(*names: str) -> type[C.Structure]:
    """A struct of function pointers."""
    return type("Table", (C.Structure,), {"_fields_": [(name, P) for name in names]})


BufferTypeCalls = table("get_name", "alloc_buffer", "get_alignment", "get_max_size", "get_alloc_size", "is_host")
BufferCalls = table(
    *("free_buffer", "get_base", "init_tensor", "memset_tensor", "set_tensor", "get_tensor", "set_tensor_2d"),
    *("get_tensor_2d", "cpy_tensor", "clear", "reset"),
)
BackendCalls = table(
    *("get_name", "free", "set_tensor_async", "get_tensor_async", "set_tensor_2d_async", "get_tensor_2d_async"),
    *("cpy_tensor_async", "synchronize", "graph_plan_create", "graph_plan_free", "graph_plan_update"),
    *("graph_plan_compute", "graph_compute", "event_record", "event_wait", "graph_optimize"),
)
DeviceCalls = table(
    *("get_name", "get_description", "get_memory", "get_type", "get_props", "init_backend", "get_buffer_type"),
    *("get_host_buffer_type", "buffer_from_host_ptr", "supports_op", "supports_buft", "offload_op", "event_new"),
    *("event_free", "event_synchronize"),
)
RegistryCalls = table("get_name", "get_device_count", "get_device", "get_proc_address")


class BufferType(C.Structure):
    _fields_ = (("calls", BufferTypeCalls), ("device", P), ("context", P))


class Buffer(C.Structure):
    _fields_ = (("calls", BufferCalls), ("buft", P), ("context", P), ("size", SIZE), ("usage", C.c_int))


class Backend(C.Structure):
    _fields_ = (("guid", P), ("calls", BackendCalls), ("device", P), ("context", P))


class DeviceStruct(C.Structure):
    _fields_ = (("calls", DeviceCalls), ("registry", P), ("context", P))


class Registry(C.Structure):
    _fields_ = (("version", C.c_int), ("calls", RegistryCalls), ("context", P))


class Properties(C.Structure):
    _fields_ = (
        *(("name", C.c_char_p), ("description", C.c_char_p), ("free", SIZE), ("total", SIZE), ("type", C.c_int)),
        *(("id", C.c_char_p), ("capabilities", C.c_bool * 5)),  # async, host buffer, from host pointer, events, mmap
    )


class Tensor(C.Structure):
    """The beginning of ggml.h, struct ggml_tensor."""

    _fields_ = (
        *(("type", C.c_int), ("buffer", P), ("ne", C.c_int64 * 4), ("nb", SIZE * 4), ("op", C.c_int)),
        *(("op_params", C.c_int32 * 16), ("flags", C.c_int32), ("sources", P * 10)),
    )


@dataclass
class Card:
    """One virtual GPU to be made."""

    name: str
    total: int
    alignment: int = 128
    row_padding: bool = False
    offload_ops: bool = True


KEPT: list[Any] = []


def callback(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], int]:
    """Turn a function into an address that C may call for as long as the process lives."""

    def decorate(function: Callable[..., Any]) -> int:
        made = C.CFUNCTYPE(result, *arguments)(function)
        KEPT.append(made)
        address = C.cast(made, P).value
        assert address
        return address

    return decorate


class Virtual:
    """One registered virtual GPU."""

    def __init__(self, lib: Any, card: Card) -> None:
        self.card, self.total, self.used, self.peak, self.refused = card, card.total, 0, 0, 0
        self.alive: dict[int, tuple[int, int]] = {}  # address -> bytes, the CPU buffer's own free function
        self.lib, self.ops = lib, number_ops(lib)
        self.cpu = symbol(lib, "ggml_backend_dev_by_type", P, C.c_int)(0)
        self.name = C.create_string_buffer(card.name.encode())
        self.device, self.buft, self.registry = DeviceStruct(), BufferType(), Registry(version=2)
        KEPT.append(self)
        self.fill_buffer_type()
        self.fill_device()
        self.fill_registry()
        symbol(lib, "ggml_backend_device_register", None, P)(C.addressof(self.device))

    @property
    def free(self) -> int:
        return self.total - self.used

    def shares(self) -> dict[str, int]:
        """Bytes alive, by what they are for."""
        result = {"weights": 0, "kv": 0, "compute": 0}
        for address, (size, _) in self.alive.items():
            usage = Buffer.from_address(address).usage
            result["weights" if usage == WEIGHTS else "compute" if usage == COMPUTE else "kv"] += size
        return result

    def fill_buffer_type(self) -> None:
        cpu_buft = symbol(self.lib, "ggml_backend_cpu_buffer_type", P)
        allocate = symbol(self.lib, "ggml_backend_buft_alloc_buffer", P, P, SIZE)
        nbytes = symbol(self.lib, "ggml_nbytes", SIZE, P)
        row_size = symbol(self.lib, "ggml_row_size", SIZE, C.c_int, C.c_int64)
        quantised = symbol(self.lib, "ggml_is_quantized", C.c_bool, C.c_int)
        alignment, ops = self.card.alignment, self.ops

        @callback(P, P, SIZE)
        def alloc_buffer(_: int, size: int) -> int | None:
            if self.used + size > self.total:
                self.refused += 1
                return None
            address = allocate(cpu_buft(), size + alignment)
            if not address:
                return None
            buffer = Buffer.from_address(address)
            self.used += size
            self.peak = max(self.peak, self.used)
            self.alive[address] = (size, buffer.calls.free_buffer)
            buffer.buft, buffer.size = C.addressof(self.buft), size
            buffer.calls.free_buffer, buffer.calls.get_base = free_buffer, get_base
            return int(address)

        @callback(P, P)
        def get_base(address: int) -> int:
            start: int = Buffer.from_address(address).context
            return (start + alignment - 1) // alignment * alignment

        @callback(None, P)
        def free_buffer(address: int) -> None:
            size, original = self.alive.pop(address)
            self.used -= size
            C.CFUNCTYPE(None, P)(original)(address)

        @callback(SIZE, P)
        def get_alignment(_: int) -> int:
            return alignment

        @callback(SIZE, P, P)
        def get_alloc_size(_: int, address: int) -> int:
            size, tensor = int(nbytes(address)), Tensor.from_address(address)
            if quantised(tensor.type) and tensor.ne[0] % 512:
                size += int(row_size(tensor.type, 512 - tensor.ne[0] % 512))
            if tensor.op == ops["FLASH_ATTN_EXT"]:  # ggml-cuda/fattn-common.cuh: quantised K and V are copied to f16
                for source in map(Tensor.from_address, tensor.sources[1:3]):
                    if quantised(source.type):
                        size = (size + 127) // 128 * 128 + 2 * elements(source)
            return size

        self.buft.calls = BufferTypeCalls(
            get_name=self.callback_name(), alloc_buffer=alloc_buffer, get_alignment=get_alignment
        )
        if self.card.row_padding:
            self.buft.calls.get_alloc_size = get_alloc_size
        self.buft.device = C.addressof(self.device)

    def callback_name(self) -> int:
        address = C.addressof(self.name)
        return callback(P, P)(lambda _: address)

    def fill_device(self) -> None:
        @callback(None, P, C.POINTER(SIZE), C.POINTER(SIZE))
        def get_memory(_: int, free: Any, total: Any) -> None:
            free[0], total[0] = self.free, self.total

        @callback(None, P, C.POINTER(Properties))
        def get_props(_: int, facts: Any) -> None:
            facts[0].name = facts[0].description = self.name.value
            facts[0].free, facts[0].total, facts[0].type, facts[0].id = self.free, self.total, GPU, None
            facts[0].capabilities = (C.c_bool * 5)(False, False, False, False, True)

        @callback(C.c_bool, P, P)
        def offload_op(_: int, address: int) -> bool:
            return self.card.offload_ops and batch_size(Tensor.from_address(address), self.ops) >= 32

        mine = C.addressof(self.buft)
        self.device.calls = DeviceCalls(
            get_name=self.callback_name(),
            get_description=self.callback_name(),
            get_memory=get_memory,
            get_type=callback(C.c_int, P)(lambda _: GPU),
            get_props=get_props,
            init_backend=self.backend_factory(),
            get_buffer_type=callback(P, P)(lambda _: mine),
            supports_op=callback(C.c_bool, P, P)(lambda *_: True),
            supports_buft=callback(C.c_bool, P, P)(lambda _, other: other == mine),
            offload_op=offload_op,
        )

    def backend_factory(self) -> int:
        start = symbol(self.lib, "ggml_backend_dev_init", P, P, C.c_char_p)
        stop = symbol(self.lib, "ggml_backend_free", None, P)
        compute = symbol(self.lib, "ggml_backend_graph_compute", C.c_int, P, P)
        calls = BackendCalls(
            get_name=self.callback_name(),
            free=callback(None, P)(lambda own: stop(Backend.from_address(own).context)),
            graph_compute=callback(C.c_int, P, P)(lambda own, graph: compute(Backend.from_address(own).context, graph)),
        )
        guid = (C.c_uint8 * 16)(*range(16))

        @callback(P, P, P)
        def init_backend(*_: int) -> int:
            backend = Backend(C.addressof(guid), calls, C.addressof(self.device), start(self.cpu, None))
            KEPT.append((backend, guid))
            return C.addressof(backend)

        return init_backend

    def fill_registry(self) -> None:
        device = C.addressof(self.device)
        self.registry.calls = RegistryCalls(
            get_name=self.callback_name(),
            get_device_count=callback(SIZE, P)(lambda _: 1),
            get_device=callback(P, P, SIZE)(lambda *_: device),
            get_proc_address=callback(P, P, C.c_char_p)(lambda *_: None),
        )
        self.device.registry = C.addressof(self.registry)


def number_ops(lib: Any) -> dict[str, int]:
    """Find the numbers of llama.cpp's operations by their names."""
    name = symbol(lib, "ggml_op_name", C.c_char_p, C.c_int)
    return {name(number).decode(): number for number in range(90)}  # ggml.h, GGML_OP_COUNT is a few more


def elements(tensor: Tensor) -> int:
    """Count a tensor's elements."""
    return int(tensor.ne[0] * tensor.ne[1] * tensor.ne[2] * tensor.ne[3])


def batch_size(tensor: Tensor, ops: dict[str, int]) -> int:
    """Return the tokens an operation works on, as ggml-cuda.cu, get_op_batch_size does."""
    if tensor.op == ops["GET_ROWS"]:
        return 0
    if tensor.op == ops["MUL_MAT"]:
        return int(tensor.ne[1])
    if tensor.op in (ops["MUL_MAT_ID"], ops["ROPE"]):
        return int(tensor.ne[2])
    return elements(tensor) // int(tensor.ne[0])


def use_only(params: Any, cards: Sequence[Virtual], keep: list[Any]) -> None:
    """Let a model see these GPUs and no other; `keep` holds what C only points to."""
    keep.append((P * (len(cards) + 1))(*(C.addressof(card.device) for card in cards), None))
    params.devices = C.cast(keep[-1], P)
