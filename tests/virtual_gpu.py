"""GPUs made of ordinary memory, registered in llama.cpp through ctypes: any number, any size, out of memory when full.

They allocate as CUDA does (alignment, padded rows, no more than there is) and let the CPU backend compute, so that a
plan can be held against what llama.cpp's allocator really asks for. Struct layouts follow ggml-backend-impl.h (API
version 2) of the pinned llama.cpp. `ask` runs a list of cases in a child process: devices can only be registered, never
removed.
"""

from __future__ import annotations

import ctypes as C  # noqa: N812 - as everyone writes it
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from edgellm.engines import dry_run
from edgellm.engines.devices import low_level, symbol
from edgellm.plan import Plan

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

    _fields_ = (("type", C.c_int), ("buffer", P), ("ne", C.c_int64 * 4), ("nb", SIZE * 4), ("op", C.c_int))


@dataclass
class Card:
    """One virtual GPU to be made."""

    name: str
    total: int
    alignment: int = 128
    row_padding: bool = False
    offload_ops: bool = True


@dataclass
class Case:
    """One model and plan to be loaded on the cards whose numbers are in `cards`."""

    path: str
    plan: dict[str, Any]
    cards: list[int]
    dry: bool = False  # llama.cpp's dry run instead of real allocations
    room: dict[int, int] = field(default_factory=dict)  # bytes of a card in this case only
    decode: int = 0  # tokens to run through the model afterwards


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
        self.lib = lib
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
        alignment = self.card.alignment

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
            if self.card.row_padding and quantised(tensor.type) and tensor.ne[0] % 512:
                size += int(row_size(tensor.type, 512 - tensor.ne[0] % 512))
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
            return self.card.offload_ops and batch_size(Tensor.from_address(address)) >= 32

        mine = C.addressof(self.buft)
        self.device.calls = DeviceCalls(
            get_name=self.callback_name(),
            get_description=self.callback_name(),
            get_memory=get_memory,
            get_type=callback(C.c_int, P)(lambda _: GPU),
            get_props=get_props,
            init_backend=self.backend_factory(),
            get_buffer_type=callback(P, P)(lambda _: mine),
            supports_op=callback(C.c_bool, P, P)(lambda _, op: True),
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
        def init_backend(_: int, parameters: int) -> int:
            backend = Backend(C.addressof(guid), calls, C.addressof(self.device), start(self.cpu, None))
            KEPT.append((backend, guid))
            return C.addressof(backend)

        return init_backend

    def fill_registry(self) -> None:
        device = C.addressof(self.device)
        self.registry.calls = RegistryCalls(
            get_name=self.callback_name(),
            get_device_count=callback(SIZE, P)(lambda _: 1),
            get_device=callback(P, P, SIZE)(lambda _, index: device),
            get_proc_address=callback(P, P, C.c_char_p)(lambda _, name: None),
        )
        self.device.registry = C.addressof(self.registry)


# ggml.h, enum ggml_op, of the pinned version
OPS = {"GET_ROWS": 0, "MUL_MAT": 0, "MUL_MAT_ID": 0, "ROPE": 0}


def name_ops(lib: Any) -> None:
    """Find the numbers of the operations by their names."""
    op_name = symbol(lib, "ggml_op_name", C.c_char_p, C.c_int)
    numbers = {op_name(number).decode(): number for number in range(90)}
    for name in OPS:
        OPS[name] = numbers[name]


def batch_size(tensor: Tensor) -> int:
    """ggml-cuda.cu, get_op_batch_size."""
    if tensor.op == OPS["GET_ROWS"]:
        return 0
    if tensor.op == OPS["MUL_MAT"]:
        return int(tensor.ne[1])
    if tensor.op in (OPS["MUL_MAT_ID"], OPS["ROPE"]):
        return int(tensor.ne[2])
    return int(tensor.ne[1] * tensor.ne[2] * tensor.ne[3])


# -- the child ---------------------------------------------------------------------------------------------------------


class Bench:
    """Virtual GPUs and the cases run on them."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.lib = lib = low_level()
        self.said: list[str] = []
        KEPT.append(
            lib.llama_log_callback(lambda level, text, _: self.said.append(text.decode()) if level >= 3 else None)
        )
        lib.llama_log_set(KEPT[-1], None)
        lib.llama_backend_init()
        name_ops(lib)
        self.cards = [Virtual(lib, card) for card in cards]

    def run(self, case: Case) -> dict[str, Any]:
        lib, plan = self.lib, case.plan
        keep: list[Any] = []
        used = [self.cards[number] for number in case.cards]
        for number, card in zip(case.cards, used, strict=True):
            card.peak, card.refused = card.used, 0
            card.total = case.room.get(number, card.card.total)
        self.said.clear()
        params = dry_run.model_parameters(lib, plan, keep)
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        params.no_alloc = case.dry
        devices = (P * (len(used) + 1))(*(C.addressof(card.device) for card in used), None)
        params.devices = C.cast(devices, P)
        model = lib.llama_model_load_from_file(case.path.encode(), params)
        if not model:
            return self.failure(used)
        context = lib.llama_init_from_model(model, dry_run.context_parameters(lib, plan))
        if not context:
            lib.llama_model_free(model)
            return self.failure(used)
        answer = self.answer(case, used, context)
        if case.decode:
            answer["decoded"] = self.decode(model, context, case)
            answer["after"] = [card.used for card in used]
        lib.llama_free(context)
        lib.llama_model_free(model)
        answer["left"] = [card.used for card in used]
        return answer

    def failure(self, used: Sequence[Virtual]) -> dict[str, Any]:
        return {"ok": False, "said": "".join(self.said)[-600:], "refused": sum(card.refused for card in used)}

    def answer(self, case: Case, used: Sequence[Virtual], context: Any) -> dict[str, Any]:
        rows = {row.buffer: row for row in dry_run.breakdown(self.lib, context)}
        devices = []
        for card in used:
            row = rows.pop(card.card.name, None)
            seen = card.shares() if not case.dry else None
            told = {"weights": row.weights_bytes, "kv": row.kv_bytes, "compute": row.compute_bytes} if row else {}
            devices.append({"told": told, "seen": seen, "peak": card.peak})
        host = {"weights": 0, "kv": 0, "compute": 0}
        for row in rows.values():
            host["weights"] += row.weights_bytes
            host["kv"] += row.kv_bytes
            host["compute"] += row.compute_bytes
        return {"ok": True, "devices": devices, "host": host, "said": "".join(self.said)[-300:]}

    def decode(self, model: Any, context: Any, case: Case) -> list[int]:
        """Feed tokens in batches as big as allowed, then greedily choose three more."""
        lib, chosen = self.lib, []
        size = case.plan["batch"]
        batch = lib.llama_batch_init(size, 0, 1)
        tokens, position = [3 + index % 200 for index in range(case.decode)], 0
        while tokens and len(chosen) < 3:
            part, tokens = tokens[:size], tokens[size:]
            for index, token in enumerate(part):
                batch.token[index], batch.pos[index] = token, position + index
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                batch.logits[index] = not tokens and index == len(part) - 1
            batch.n_tokens, position = len(part), position + len(part)
            if lib.llama_decode(context, batch):
                break
            if not tokens:
                row = lib.llama_get_logits_ith(context, -1)
                count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
                chosen.append(max(range(count), key=lambda token: row[token]))
                tokens = [chosen[-1]]
        lib.llama_batch_free(batch)
        return chosen


def child() -> None:
    """Read cards and cases from stdin, write one line of JSON per case."""
    question = json.load(sys.stdin)
    bench = Bench([Card(**card) for card in question["cards"]])
    for case in question["cases"]:
        case["room"] = {int(number): size for number, size in case["room"].items()}
        print(json.dumps(bench.run(Case(**case))), flush=True)
    os._exit(0)


# -- the parent --------------------------------------------------------------------------------------------------------


def case(path: Path | str, plan: Plan, cards: Sequence[int] = (0,), **options: Any) -> Case:
    """A case as `ask` wants it."""
    return Case(str(path), asdict(plan), list(cards), **options)


def ask(cards: Sequence[Card], cases: Sequence[Case], timeout_s: float = 110) -> list[dict[str, Any]]:
    """Run cases on virtual GPUs in one child process; an answer per case."""
    question = json.dumps({"cards": [asdict(card) for card in cards], "cases": [asdict(one) for one in cases]})
    done = subprocess.run(
        [sys.executable, __file__], input=question, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), f"the child died after {len(answers)} cases: {done.stderr[-2000:]}"
    return answers


if __name__ == "__main__":
    child()
