"""What fits on this machine, decided before a byte is loaded or downloaded, and why, in sentences.

A pure function of a model's header, a machine and a wish. It either returns a plan that fits or raises DoesNotFit with
both numbers; it never warns and hopes. How many bytes things take is known in `sizes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, combinations, pairwise
from typing import TYPE_CHECKING, Any

from edgellm.decision import DevicePlan, Plan, Wish
from edgellm.errors import DoesNotFit, UsageError
from edgellm.machine import Device
from edgellm.sizes import (
    KV_BYTES,
    Anatomy,
    Layout,
    Placement,
    Share,
    anatomy,
    device_share,
    host_share,
    is_expert,
    kv_token_bytes,
    padded,
    parts_pay,
)

if TYPE_CHECKING:
    from edgellm.gguf import Header, Tensor
    from edgellm.machine import Machine

__all__ = ["DevicePlan", "Plan", "Wish", "fit", "overrides", "weighed"]

CONTEXT = 4096  # tokens, where nothing else is asked for
UBATCH = 512  # llama.cpp's default; smaller saves memory and reads prompts more slowly
HELP_SLOTS = 32  # from here on, llama.cpp copies the caches of all layers in RAM to the GPU at once: too much
MIB, GIB = 1 << 20, 1 << 30

# Kept free for what a driver takes after loading (kernels, workspaces), and for the screen where one is drawn.
_MARGIN_BYTES = {"Metal": 128 * MIB, "CUDA": 512 * MIB, "ROCm": 512 * MIB, "NVML": 512 * MIB, "nvidia-smi": 512 * MIB}
_OTHER_MARGIN_BYTES = 256 * MIB
_ANY_GPU = Device("GPU", "", "gpu", 0, 0, "")  # to weigh layers where there is no GPU
_SMALLER_CONTEXTS = (32768, 16384, 8192, 4096, 2048, 1024, 512)
_TINY_BYTES = 48 * MIB  # measured: at 10 MB of weights a second thread gains nothing, and loses much on a busy machine
_PROCESS_BYTES = 128 * MIB  # Python, libraries and the model's vocabulary in the worker


def fit(header: Header, machine: Machine, wish: Wish | None = None) -> Plan:
    """Decide what goes where.

    Raises UsageError for a wish nobody can obey, and DoesNotFit (needed and available bytes, and the nearest wish that
    would fit) where the model does not fit as wished.
    """
    wish = wish or Wish()
    _check(header, wish)
    case = _Case(header, anatomy(header), machine, wish)
    best = case.best()
    if best is None:
        raise case.refusal()
    return case.plan(*best)


def weighed(plan: Plan, measured: Mapping[str, tuple[int, int, int]]) -> Plan | None:
    """Put measured (weights, KV, compute) bytes by device name into a plan; None where they do not fit after all."""
    devices = tuple(_with_bytes(device, *measured.get(device.device, ())) for device in plan.devices)
    fits = all(
        device.used_bytes + device.margin_bytes <= device.free_bytes or not device.used_bytes for device in devices
    )
    return replace(plan, devices=devices) if fits else None


def _with_bytes(device: DevicePlan, *measured: int) -> DevicePlan:
    if not measured:
        return device
    weights, kv, compute = measured
    return replace(device, weights_bytes=weights, kv_bytes=kv, compute_bytes=compute)


def _check(header: Header, wish: Wish) -> None:
    trained = header.context_length
    if wish.context is not None and wish.context < 1:
        raise UsageError(f"a context of {wish.context:,} tokens is no context: ask for at least 1.")
    if wish.context is not None and trained and wish.context > trained:
        raise UsageError(
            f"a context of {wish.context:,} tokens was asked for, but {header.name} was trained for {trained:,}; "
            f"beyond that it writes nonsense. Ask for at most {trained:,}."
        )
    if wish.slots < 1 or wish.slots > 256:  # llama-cparams.h, LLAMA_MAX_SEQ
        raise UsageError(f"{wish.slots} slots were asked for: between 1 and 256 are possible.")
    for name in ("threads", "ubatch", "cells"):
        value = getattr(wish, name)
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}.")
    if wish.context and wish.cells and wish.cells < wish.context:
        raise UsageError(
            f"a context of {wish.context:,} tokens does not go into {wish.cells:,} cells: ask for as many."
        )
    if wish.gpu_layers not in ("auto", "all") and not (isinstance(wish.gpu_layers, int) and wish.gpu_layers >= 0):
        raise UsageError(f"gpu_layers must be 0 or more, 'auto' or 'all', not {wish.gpu_layers}.")
    if wish.kv_type not in ("auto", *KV_BYTES):
        raise UsageError(f"kv_type must be auto, {', '.join(KV_BYTES)}, not {wish.kv_type!r}.")


@dataclass(frozen=True, slots=True)
class _Case:
    """One question: this model, on this machine, as wished."""

    header: Header
    body: Anatomy
    machine: Machine
    wish: Wish

    @property
    def devices(self) -> tuple[Device, ...]:
        """GPUs that may be used."""
        return self.machine.devices if self.machine.offload and self.wish.gpu_layers != 0 else ()

    @property
    def threads(self) -> int:
        """CPU threads: the fast cores, but one where the threads would wait for each other longer than they compute."""
        tiny = self.header.tensor_bytes < _TINY_BYTES
        return self.wish.threads or (1 if tiny else max(1, self.machine.performance_cores))

    @property
    def context(self) -> int:
        """Tokens one conversation may hold."""
        return self.wish.context or min(self.header.context_length or CONTEXT, CONTEXT, self.wish.cells or CONTEXT)

    @property
    def count(self) -> int:
        """Layers as llama.cpp counts them for n_gpu_layers: the output is one more."""
        return len(self.body.layers) + 1

    # -- candidates, best first ----------------------------------------------------------------------------------------

    def best(self) -> tuple[Layout, Placement] | None:
        """Return the first candidate that fits: everything on the GPUs, else as much as possible, else none of it."""
        for attempt in self._attempts():
            for layout in self.layouts():
                place = attempt(layout)
                if place is not None and self._ram_needed(layout, place) <= self.machine.ram_free_bytes:
                    return layout, place
        return None

    @property
    def _nothing(self) -> Placement:
        """Everything in RAM, and the GPUs at rest."""
        return Placement(((),) * len(self.devices), op_offload=False)

    def _attempts(self) -> list[Callable[[Layout], Placement | None]]:
        pinned = self.wish.gpu_layers
        if not self.devices:
            return [lambda _: self._nothing] if pinned in ("auto", 0) else []
        if pinned == "auto":
            return [self._whole, self._most]
        return [self._whole] if pinned == "all" or int(pinned) >= self.count else [self._exactly]

    def layouts(self) -> Iterator[Layout]:
        """Yield context layouts in order of what they give up: nothing, cache precision, prompt speed, shared cells.

        On a processor precision comes last: llama.cpp's attention over a quantised cache of 4,096 tokens takes four times as
        long there (measured: prompts 4.6, answers 1.8 times).
        """
        wish = self.wish
        cells = padded(max(wish.cells or wish.slots * 1024, self.context), 256)
        ubatch = wish.ubatch or max(UBATCH, wish.slots)
        layout = Layout(cells, wish.slots, ubatch, self._kind, self._whole_window(cells, ubatch))
        precision = [{"kv_type": "q8_0"}] if wish.kv_type == "auto" and self._rotates else []
        smaller = (size for size in (256, 128) if not wish.ubatch and max(size, wish.slots) < ubatch)
        speed = [{"ubatch": size} for size in smaller]
        window = [{"swa_full": False}] if layout.swa_full and self.body.window else []
        fewer = padded(self.context, 256)
        shared = [{"cells": fewer}] if fewer < cells and not wish.cells else []
        changes: list[dict[str, Any]] = [*speed, *window, *shared]
        yield layout
        for change in (*precision, *changes) if self.devices else (*changes, *precision):
            layout = replace(layout, **change)
            yield layout

    @property
    def _kind(self) -> str:
        return "f16" if self.wish.kv_type == "auto" else self.wish.kv_type

    @property
    def _rotates(self) -> bool:
        """Say whether rows of the cache can be cut into the blocks of 32 that quantised types need."""
        return all(layer.key % 32 == 0 and layer.value % 32 == 0 for layer in self.body.layers)

    def _whole_window(self, cells: int, ubatch: int) -> bool:
        """Keep old tokens of sliding-window layers, so that prompts can be rolled back, unless it doubles the cache."""
        narrow = Layout(cells, self.wish.slots, ubatch, "f16", swa_full=False)
        return not self.body.window or cells < 2 * narrow.window_cells(self.body.window)

    def _whole(self, layout: Layout) -> Placement | None:
        """Put everything on as few GPUs as possible, the roomiest first."""
        by_room = sorted(range(len(self.devices)), key=lambda number: -self.budget(number))
        subsets = (sorted(by_room[:count]) for count in range(1, len(by_room) + 1))
        return next(filter(None, (self._spread(layout, self.count, subset) for subset in subsets)), None)

    def _exactly(self, layout: Layout) -> Placement | None:
        return self._spread(layout, int(self.wish.gpu_layers))

    def _most(self, layout: Layout) -> Placement:
        """Put as much as possible on the GPUs, and let them help with long batches unless that costs half of it."""
        with_help, alone = (self._most_of(layout, help_out) for help_out in (layout.slots < HELP_SLOTS, False))
        return with_help if with_help and 2 * _weight(with_help) > _weight(alone) else alone or self._nothing

    def _most_of(self, layout: Layout, help_out: bool) -> Placement | None:
        """Put on the GPUs what each token reads most: everything but routed experts, then those, then parts of a layer.

        A token reads all of a layer but few of its experts, so a byte of attention is worth many bytes of experts.
        """
        experts = [_names(layer, is_expert) for layer in self.body.body]
        if any(experts):
            place = self._bisect(
                len(self.body.layers),
                lambda count: self._spread(layout, self.count, in_ram=_joined(experts[count:]), helps=help_out),
                start=0,
            )
            if place is not None:
                return self._filled(layout, place, experts)
        none = _joined(experts)
        output = frozenset(tensor.name for tensor in self.body.output if tensor.bytes > MIB)
        tries = [
            self._bisect(self.count, partial(self._spread, layout, in_ram=in_ram, helps=help_out))
            for in_ram in (none, none | output)
        ]
        place = max(filter(None, tries), key=lambda place: len(place.placed), default=None)
        return self._one_more(layout, place) if place is not None else None

    def _bisect(self, most: int, attempt: Callable[[int], Placement | None], start: int = 1) -> Placement | None:
        """Return the placement of the highest count that works; more never works where less does not."""
        low, high, best = start, most, None
        while low <= high:
            middle = (low + high) // 2
            if place := attempt(middle):
                low, best = middle + 1, place
            else:
                high = middle - 1
        return best

    def _filled(self, layout: Layout, place: Placement, experts: Sequence[frozenset[str]]) -> Placement:
        """Bring single expert tensors of the first layer that keeps its own in RAM onto the GPU."""
        first = next((names for names in experts if names & place.in_ram), frozenset())
        sizes = {tensor.name: tensor.bytes for layer in self.body.body for tensor in layer}
        for kept in _subsets(first, sizes):
            in_ram = place.in_ram - first | kept
            if better := self._spread(layout, self.count, in_ram=in_ram, helps=place.op_offload):
                return better
        return place

    def _one_more(self, layout: Layout, place: Placement) -> Placement:
        """Fill the last gap: one more layer, with as little as possible of its feed-forward part left in RAM."""
        count = len(place.placed) + (place.output is not None) + 1
        if count > self.count:
            return place
        layer = self.body.body[self.count - count]
        sizes = {tensor.name: tensor.bytes for tensor in layer if ".ffn_" in tensor.name and len(tensor.shape) > 1}
        for kept in _subsets(frozenset(sizes) - place.in_ram, sizes):
            better = self._spread(layout, count, in_ram=place.in_ram | kept, helps=place.op_offload)
            if kept and better:
                return better
        return place

    def _spread(
        self,
        layout: Layout,
        count: int,
        numbers: Sequence[int] | None = None,
        *,
        in_ram: frozenset[str] = frozenset(),
        helps: bool | None = None,
    ) -> Placement | None:
        """Fill GPUs in turn with the last `count` layers (the output is the last one); None if they do not fit."""
        numbers = range(len(self.devices)) if numbers is None else numbers
        helps = layout.slots < HELP_SLOTS if helps is None else helps
        queue, held = list(range(self.count - count, self.count)), [0] * len(self.devices)

        def place(counts: Sequence[int]) -> Placement:
            ends = list(accumulate(counts, initial=0))
            parts = [queue[start:end] for start, end in pairwise(ends)]
            output = next((number for number, part in enumerate(parts) if self.count - 1 in part), None)
            layers = tuple(tuple(index for index in part if index < self.count - 1) for part in parts)
            return Placement(layers, output, in_ram, helps)

        for at, number in enumerate(numbers):
            left = len(queue) - sum(held)

            def fits(take: int, number: int = number, left: int = left) -> bool:
                trial = list(held)
                trial[number] = take
                trial[numbers[-1]] += left - take  # the rest has to be somewhere while this GPU is weighed
                return self._share(layout, place(trial), number).total_bytes <= self.budget(number)

            if at == len(numbers) - 1:
                held[number] = left
            else:
                held[number] = max(_halves(left, fits), default=0)
        whole = place(held)
        fine = all(self._share(layout, whole, n).total_bytes <= self.budget(n) for n in range(len(self.devices)))
        return whole if fine else None

    # -- does it fit ---------------------------------------------------------------------------------------------------

    def budget(self, number: int) -> int:
        """Return the bytes that may be used on one GPU."""
        device = self.devices[number]
        room = min(device.free_bytes, self.machine.ram_free_bytes) if device.kind == "integrated" else device.free_bytes
        return max(0, room - self.margin(number))

    def margin(self, number: int) -> int:
        """Return the bytes kept free on one GPU."""
        if self.wish.margin_bytes is not None:
            return self.wish.margin_bytes
        device = self.devices[number]
        if device.margin_bytes is not None:
            return device.margin_bytes
        margin = _MARGIN_BYTES.get(device.backend, _OTHER_MARGIN_BYTES)
        return margin // 2 if device.headless else margin

    def _share(self, layout: Layout, place: Placement, number: int) -> Share:
        share = device_share(self.body, layout, place, number, self.devices[number])
        return replace(share, compute_bytes=int(share.compute_bytes * self.wish.scratch))

    def _ram_needed(self, layout: Layout, place: Placement) -> int:
        """Return the RAM a placement takes; an integrated GPU takes its share from the same pool."""
        shared = sum(
            self._share(layout, place, number).total_bytes
            for number, device in enumerate(self.devices)
            if device.kind == "integrated"
        )
        return host_share(self.body, layout, place).total_bytes + _PROCESS_BYTES + shared

    # -- answers -------------------------------------------------------------------------------------------------------

    def plan(self, layout: Layout, place: Placement) -> Plan:
        """Write the decision down."""
        on_gpus = len(place.placed) + (place.output is not None)
        host = host_share(self.body, layout, place)
        return Plan(
            gpu_layers=on_gpus,
            context=self.context,
            cells=layout.cells,
            slots=layout.slots,
            threads=self.threads,
            threads_batch=self.threads,
            batch=max(layout.ubatch, layout.slots),
            ubatch=layout.ubatch,
            kv_type=layout.kv_type,
            flash_attention=True,
            swa_full=layout.swa_full,
            kv_unified=not self._splits(layout, place),
            op_offload=place.op_offload,
            tensor_overrides=overrides(place.in_ram),
            tensor_split=_split(place) if len(self.devices) > 1 and on_gpus else (),
            devices=tuple(self._device_plan(layout, place, number) for number in range(len(self.devices))),
            host_bytes=host.total_bytes + _PROCESS_BYTES,
            host_weights_bytes=host.weights_bytes,
            reasons=tuple(self._reasons(layout, place)),
        )

    def _splits(self, layout: Layout, place: Placement) -> bool:
        """Whether each slot gets its own part of the cache; on a GPU that was not measured."""
        alone = not place.placed and place.output is None
        return alone and layout.cells // layout.slots >= self.context and parts_pay(self.body, layout)

    def _device_plan(self, layout: Layout, place: Placement, number: int) -> DevicePlan:
        device, share = self.devices[number], self._share(layout, place, number)
        return DevicePlan(
            device=device.name,
            weights_bytes=share.weights_bytes,
            kv_bytes=share.kv_bytes,
            compute_bytes=share.compute_bytes,
            margin_bytes=self.margin(number),
            free_bytes=device.free_bytes,
        )

    def _reasons(self, layout: Layout, place: Placement) -> Iterator[str]:
        yield self._where(place)
        trained = self.header.context_length
        more = f" (the model was trained for {trained:,})" if trained > self.context else ""
        yield f"A conversation may hold {self.context:,} tokens, about {self.context * 3 // 4:,} words{more}."
        if token_bytes := kv_token_bytes(self.body, layout.kv_type):
            sharing = f" {layout.slots:,} conversations share {layout.cells:,} tokens." if layout.slots > 1 else ""
            if self._splits(layout, place):
                sharing = (
                    f" {layout.slots:,} conversations have a cache of {layout.cells // layout.slots:,} tokens each."
                )
            yield (
                f"Each token of context costs {_size(token_bytes)} of memory: room for what the conversation has said "
                f"so far, called the KV cache.{sharing}"
            )
        if layout.kv_type != "f16" and self.wish.kv_type == "auto":
            slow = "" if place.placed else " On a processor, long prompts are read several times more slowly with it."
            yield (
                "That cache is kept in 8 bits instead of 16, because with 16 it would not fit: answers hardly change."
                f"{slow}"
            )
        if layout.ubatch < UBATCH and not self.wish.ubatch:
            yield f"Prompts are read {layout.ubatch} tokens at a time instead of {UBATCH}: slower, but it saves memory."
        if not layout.swa_full and self.body.window:
            yield f"Sliding-window layers keep only the last {self.body.window:,} tokens: less memory, same answers."
        host = host_share(self.body, layout, place)
        yield (
            f"RAM: {_size(host.total_bytes + _PROCESS_BYTES)} of {_size(self.machine.ram_free_bytes)} that are free, "
            f"{_size(host.weights_bytes)} of it for weights."
        )

    def _where(self, place: Placement) -> str:
        threads = _count(self.threads, "thread")
        on_gpus = len(place.placed) + (place.output is not None)
        if not self.devices:
            why = "no GPU that llama.cpp can use" if self.wish.gpu_layers != 0 else "no GPU, as asked"
            return f"Everything runs on the processor with {threads}: {why}."
        rooms = [
            f"{_size(device.free_bytes)} free on {device.description or device.name}, "
            f"{_size(self.margin(number))} of it left to the driver"
            + (", as measured" if device.margin_bytes is not None else "")
            for number, device in enumerate(self.devices)
            if not on_gpus or place.layers[number] or place.output == number
        ]
        room = "; ".join(rooms)
        if not on_gpus:
            return f"Everything runs on the processor with {threads}: no layer fits on the GPU ({room})."
        where = "the GPU" if len(rooms) == 1 else f"{len(rooms)} GPUs"
        amount = f"All {self.count}" if on_gpus == self.count else f"{on_gpus} of {self.count}"
        kept = f" (in RAM: {self._kept(place)})" if place.in_ram else ""
        rest = "" if on_gpus == self.count else f" The other {self.count - on_gpus} run on the processor."
        return f"{amount} layers on {where}{kept}: {room}.{rest}"

    def _kept(self, place: Placement) -> str:
        """Say which parts of the layers on the GPU stay in RAM."""
        experts = any(map(is_expert, place.in_ram))
        output = any(tensor.name in place.in_ram for tensor in self.body.output)
        parts = [
            *(["experts, as a token uses few of them"] if experts else []),
            *(["the output layer"] if output else []),
            *(["parts of one layer"] if any(".ffn_" in n and not is_expert(n) for n in place.in_ram) else []),
        ]
        return " and ".join(parts)

    # -- refusing ------------------------------------------------------------------------------------------------------

    def refusal(self) -> DoesNotFit:
        """Say what is missing, and the nearest wish that would fit."""
        needed, available, what = self._shortage(list(self.layouts())[-1])
        name = self.header.name or "the model"
        return DoesNotFit(
            f"{name} needs {_size(needed)} of {what}, and {_size(available)} are free. {self._nearest()}",
            needed,
            available,
        )

    def _shortage(self, layout: Layout) -> tuple[int, int, str]:
        """Return needed bytes, available bytes, and of what."""
        pinned = self.wish.gpu_layers
        if pinned not in ("auto", 0):
            count = self.count if pinned == "all" else min(int(pinned), self.count)
            layers = tuple(range(len(self.body.layers)))[self.count - count :]
            share = device_share(self.body, layout, Placement((layers,), 0), 0, _ANY_GPU)
            room = sum(map(self.budget, range(len(self.devices))))
            if share.total_bytes > room or not self.devices:
                usable = "GPU memory" if self.devices else "GPU memory (no GPU that llama.cpp can use was found)"
                return share.total_bytes, room, f"{usable} for {_count(count, 'layer')}"
        return self._ram_needed(layout, self._nothing), self.machine.ram_free_bytes, "RAM"

    def _nearest(self) -> str:
        """Find the nearest smaller wish that fits; these are only tried, never taken."""
        wish, trials = self.wish, []
        if wish.gpu_layers not in ("auto", 0):
            trials.append(("gpu_layers auto", replace(wish, gpu_layers="auto")))
        if wish.kv_type == "f16":
            trials.append(("kv_type q8_0", replace(wish, kv_type="q8_0")))
        for context in (size for size in _SMALLER_CONTEXTS if size < self.context):
            trials.append((f"a context of {context:,} tokens", replace(wish, context=context, cells=None)))
        if wish.slots > 1:
            least = min(_SMALLER_CONTEXTS[-1], self.context)
            words = f"a context of {least:,} tokens and 1 slot"
            trials.append((words, replace(wish, context=least, slots=1, cells=None)))
        for words, smaller in trials:
            if replace(self, wish=smaller).best() is not None:
                return f"It would fit with {words}."
        return "No setting makes it fit: choose a smaller model or quantization, or free some memory."


def _weight(place: Placement | None) -> int:
    return len(place.placed) if place else 0


def _names(tensors: Iterable[Tensor], wanted: Callable[[str], bool]) -> frozenset[str]:
    return frozenset(tensor.name for tensor in tensors if wanted(tensor.name))


def _joined(names: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*names)


def _subsets(names: frozenset[str], sizes: Mapping[str, int]) -> list[frozenset[str]]:
    """Return the subsets of a layer's few tensors, lightest first; of many, only single ones and all."""
    counts = range(len(names) + 1) if len(names) <= 4 else (0, 1, len(names))
    found = (frozenset(chosen) for count in counts for chosen in combinations(sorted(names), count))
    return sorted(found, key=lambda chosen: sum(sizes[name] for name in chosen))


def _halves(most: int, fits: Callable[[int], bool]) -> Iterator[int]:
    """Yield ever better counts up to `most` that fit, by bisection."""
    low, high = 1, most
    while low <= high:
        middle = (low + high) // 2
        if fits(middle):
            yield middle
            low = middle + 1
        else:
            high = middle - 1


def _split(place: Placement) -> tuple[int, ...]:
    """Count layers per device as llama.cpp's tensor_split wants them: the output is one more layer, on the last one."""
    return tuple(len(layers) + (place.output == number) for number, layers in enumerate(place.layers))


def overrides(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Write tensor names as few regular expressions: one for all layers' tensors of a kind."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        head, _, rest = name.partition(".")
        number, _, kind = rest.partition(".")
        key, value = (("blk", kind), number) if head == "blk" else (("", name), "")
        kinds.setdefault(key, []).append(value)
    return tuple((_pattern(*key, values), "CPU") for key, values in kinds.items())


def _pattern(head: str, kind: str, numbers: Sequence[str]) -> str:
    layers = rf"blk\.({'|'.join(sorted(numbers, key=int))})\." if head else ""
    return "^" + layers + kind.replace(".", "\\.") + "$"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    """Write bytes for people: 128 KiB, 512 MiB, 7.1 GiB."""
    if count < MIB:
        return f"{count / 1024:.4g} KiB"
    return f"{count / MIB:.0f} MiB" if count < GIB else f"{count / GIB:.1f} GiB"
