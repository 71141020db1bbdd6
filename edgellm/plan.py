"""What fits on this machine, decided before a byte is loaded or downloaded, and why, in sentences.

A pure function of a model's header, a machine and a wish. It either returns a plan that fits or raises DoesNotFit with
both numbers; it never warns and hopes. How many bytes things take is known in `sizes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgellm.errors import DoesNotFit, UsageError
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
)

if TYPE_CHECKING:
    from edgellm.gguf import Header
    from edgellm.hardware import Device, Machine

CONTEXT = 4096  # tokens, where nothing else is asked for
UBATCH = 512  # llama.cpp's default; smaller saves memory and reads prompts more slowly
MIB, GIB = 1 << 20, 1 << 30

# Kept free for what a driver takes after loading (kernels, workspaces); more where a screen is drawn from the same memory.
_MARGIN_BYTES = {"Metal": 128 * MIB, "CUDA": 512 * MIB, "ROCm": 512 * MIB, "NVML": 512 * MIB, "nvidia-smi": 512 * MIB}
_OTHER_MARGIN_BYTES = 256 * MIB
_PROCESS_BYTES = 128 * MIB  # Python, libraries and the model's vocabulary in the worker


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
    cells: int  # tokens all slots together may hold (a unified KV cache), a multiple of 256
    slots: int
    threads: int
    threads_batch: int
    batch: int
    ubatch: int
    kv_type: str
    flash_attention: bool
    swa_full: bool
    tensor_overrides: tuple[tuple[str, str], ...]  # (regular expression over tensor names, "CPU")
    tensor_split: tuple[int, ...]  # layers per device, in llama.cpp's order of devices
    devices: tuple[DevicePlan, ...]
    host_bytes: int  # RAM, weights included
    host_weights_bytes: int  # of these: pages of the model file
    reasons: tuple[str, ...]


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
    if isinstance(wish.gpu_layers, int) and wish.gpu_layers < 0:
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
    def context(self) -> int:
        return self.wish.context or min(self.header.context_length or CONTEXT, CONTEXT)

    @property
    def count(self) -> int:
        """Layers as llama.cpp counts them for n_gpu_layers: the output is one more."""
        return len(self.body.layers) + 1

    # -- candidates, best first ----------------------------------------------------------------------------------------

    def layouts(self) -> Iterator[Layout]:
        """Yield context layouts in order of what they give up: nothing, cache precision, prompt speed, shared cells."""
        wish = self.wish
        cells = padded(max(wish.cells or max(self.context, wish.slots * 1024), self.context), 256)
        fewer = padded(self.context, 256)
        kinds = ("f16", "q8_0") if wish.kv_type == "auto" else (wish.kv_type,)
        ubatch = wish.ubatch or UBATCH
        smaller = [] if wish.ubatch else [size for size in (256, 128) if size < ubatch]
        full = self._whole_window(cells, ubatch)
        yield from (Layout(cells, wish.slots, ubatch, kind, full) for kind in kinds)
        yield from (Layout(cells, wish.slots, size, kinds[-1], full) for size in smaller)
        if full and self.body.window:
            yield Layout(cells, wish.slots, min([ubatch, *smaller]), kinds[-1], swa_full=False)
        if fewer < cells and not wish.cells:
            yield Layout(fewer, wish.slots, min([ubatch, *smaller]), kinds[-1], swa_full=not self.body.window)

    def _whole_window(self, cells: int, ubatch: int) -> bool:
        """Keep old tokens of sliding-window layers, so that prompts can be rolled back, unless that doubles the cache."""
        narrow = Layout(cells, self.wish.slots, ubatch, "f16", swa_full=False)
        return not self.body.window or cells < 2 * narrow.window_cells(self.body.window)

    def best(self) -> tuple[Layout, Placement] | None:
        """Return the first candidate that fits: everything on the GPUs, else as much as possible, else none of it."""
        tries = [self._whole] if self.devices else []
        if self.wish.gpu_layers != "all":
            tries.append(self._exactly if isinstance(self.wish.gpu_layers, int) else self._most)
        if isinstance(self.wish.gpu_layers, int):
            tries = tries[-1:]
        for attempt in tries:
            for layout in self.layouts():
                place = attempt(layout)
                if place is not None and self._fits(layout, place):
                    return layout, place
        return None

    def _whole(self, layout: Layout) -> Placement | None:
        """Put everything on as few GPUs as possible, the roomiest first."""
        by_room = sorted(range(len(self.devices)), key=lambda number: -self.budget(number))
        for count in range(1, len(by_room) + 1):
            place = self._spread(layout, self.count, sorted(by_room[:count]))
            if place is not None:
                return place
        return None

    def _exactly(self, layout: Layout) -> Placement | None:
        assert isinstance(self.wish.gpu_layers, int)
        count = min(self.wish.gpu_layers, self.count)
        return self._spread(layout, count, range(len(self.devices))) if self.devices or not count else None

    def _most(self, layout: Layout) -> Placement | None:
        """Put as much as possible on the GPUs, what each token reads most first."""
        nothing = Placement(((),) * len(self.devices))
        if not self.devices:
            return nothing
        experts = [tensor.name for layer in self.body.body for tensor in layer if is_expert(tensor.name)]
        if experts and (place := self._most_experts(layout)):
            return place
        with_output = self._most_layers(layout, frozenset(experts))
        without = self._most_layers(layout, frozenset((*experts, *self._output_names())))
        found = max((place for place in (with_output, without) if place), key=lambda place: place.on_gpus, default=None)
        return found or nothing

    def _output_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.body.output if tensor.bytes > MIB)

    def _most_layers(self, layout: Layout, in_ram: frozenset[str]) -> Placement | None:
        """Return the placement of the most layers that fit, by bisection, with these tensors kept in RAM."""
        low, high, best = 1, self.count, None
        while low <= high:
            middle = (low + high) // 2
            place = self._spread(layout, middle, range(len(self.devices)), in_ram)
            if place is None:
                high = middle - 1
            else:
                low, best = middle + 1, place
        return best

    def _most_experts(self, layout: Layout) -> Placement | None:
        """Put all layers on the GPUs, with the experts of as few of the first layers as possible in RAM.

        A token reads a few experts and all of everything else: a byte of attention is worth many bytes of experts.
        """
        low, high, best = 1, len(self.body.layers), None
        while low <= high:
            middle = (low + high) // 2
            names = (t.name for layer in self.body.body[:middle] for t in layer if is_expert(t.name))
            place = self._spread(layout, self.count, range(len(self.devices)), frozenset(names))
            if place is None:
                low = middle + 1
            else:
                high, best = middle - 1, place
        return best

    def _spread(
        self, layout: Layout, count: int, numbers: Sequence[int], in_ram: frozenset[str] = frozenset()
    ) -> Placement | None:
        """Fill GPUs in turn with the last `count` layers (the output is the last one); None if they do not fit."""
        layers: list[list[int]] = [[] for _ in self.devices]
        queue, at, output = list(range(self.count - count, self.count)), 0, None
        while queue:
            if at == len(numbers):
                return None
            number, index = numbers[at], queue[0]
            last = index == self.count - 1
            trial = [*layers[number], *([] if last else [index])]
            place = Placement(
                tuple(tuple(trial if which == number else held) for which, held in enumerate(layers)),
                number if last else None,
                in_ram,
            )
            if self._share(layout, place, number).total_bytes > self.budget(number):
                at += 1
                continue
            layers[number], output = trial, number if last else None
            queue.pop(0)
        return self._settled(layout, Placement(tuple(map(tuple, layers)), output, in_ram))

    def _settled(self, layout: Layout, place: Placement) -> Placement | None:
        """Check every GPU again with everything placed: what stays in RAM changes what passes through them."""
        fine = all(self._share(layout, place, n).total_bytes <= self.budget(n) for n in range(len(self.devices)))
        return place if fine else None

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
        margin = _MARGIN_BYTES.get(device.backend, _OTHER_MARGIN_BYTES)
        return margin // 2 if device.headless else margin

    def _share(self, layout: Layout, place: Placement, number: int) -> Share:
        return device_share(self.body, layout, place, number, self.devices[number])

    def _ram_needed(self, layout: Layout, place: Placement) -> int:
        """Return the RAM a placement takes; an integrated GPU takes its share from the same pool."""
        shared = sum(
            self._share(layout, place, number).total_bytes
            for number, device in enumerate(self.devices)
            if device.kind == "integrated"
        )
        return host_share(self.body, layout, place).total_bytes + _PROCESS_BYTES + shared

    def _fits(self, layout: Layout, place: Placement) -> bool:
        return self._ram_needed(layout, place) <= self.machine.ram_free_bytes

    # -- answers -------------------------------------------------------------------------------------------------------

    def plan(self, layout: Layout, place: Placement) -> Plan:
        """Write the decision down."""
        on_gpus = place.on_gpus + (place.output is not None)
        fast = max(1, self.machine.performance_cores)
        host = host_share(self.body, layout, place)
        return Plan(
            gpu_layers=on_gpus,
            context=self.context,
            cells=layout.cells,
            slots=layout.slots,
            threads=self.wish.threads or fast,
            threads_batch=self.wish.threads or fast,
            batch=max(layout.ubatch, layout.slots),
            ubatch=layout.ubatch,
            kv_type=layout.kv_type,
            flash_attention=layout.flash_attention,
            swa_full=layout.swa_full,
            tensor_overrides=_overrides(place.in_ram),
            tensor_split=_split(place) if len(self.devices) > 1 and on_gpus else (),
            devices=tuple(self._device_plan(layout, place, number) for number in range(len(self.devices))),
            host_bytes=host.total_bytes + _PROCESS_BYTES,
            host_weights_bytes=host.weights_bytes,
            reasons=tuple(self._reasons(layout, place)),
        )

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
        yield self._where(layout, place)
        trained = self.header.context_length
        yield f"A conversation may hold {self.context:,} tokens, about {self.context * 3 // 4:,} words" + (
            f" (the model was trained for {trained:,})." if trained > self.context else "."
        )
        if token_bytes := kv_token_bytes(self.body, layout.kv_type):
            yield (
                f"Each token of context costs {_size(token_bytes)} of memory: room for what the conversation has said so "
                f"far, called the KV cache. {layout.cells:,} tokens are shared by {_count(layout.slots, 'conversation')}."
            )
        if layout.kv_type != "f16" and self.wish.kv_type == "auto":
            yield "That cache is kept in 8 bits instead of 16, because with 16 it would not fit: answers hardly change."
        if layout.ubatch < UBATCH and not self.wish.ubatch:
            yield f"Prompts are read {layout.ubatch} tokens at a time instead of {UBATCH}, to save memory: a little slower."
        if not layout.swa_full and self.body.window:
            yield f"Layers with a sliding window keep only the last {self.body.window:,} tokens: less memory, same answers."
        host = host_share(self.body, layout, place)
        yield (
            f"{_size(host.total_bytes + _PROCESS_BYTES)} of RAM of the {_size(self.machine.ram_free_bytes)} that are free, "
            f"{_size(host.weights_bytes)} of it for weights."
        )

    def _where(self, layout: Layout, place: Placement) -> str:
        threads = _count(self.wish.threads or max(1, self.machine.performance_cores), "thread")
        on_gpus = place.on_gpus + (place.output is not None)
        if not self.devices:
            why = "no GPU that llama.cpp can use" if self.wish.gpu_layers != 0 else "no GPU, as asked"
            return f"Everything runs on the processor with {threads}: {why}."
        room = ", ".join(
            f"{_size(device.free_bytes)} free on {device.description or device.name}, "
            f"{_size(self.margin(number))} kept for the driver"
            for number, device in enumerate(self.devices)
        )
        if not on_gpus:
            return f"Everything runs on the processor with {threads}: no layer fits on the GPU ({room})."
        amount = "All" if on_gpus == self.count else f"{on_gpus} of"
        text = f"{amount} {self.count} layers on the GPU: {room}."
        if place.in_ram:
            text += f" {_count(len(place.in_ram), 'tensor')} of these stay in RAM, where they cost the least speed."
        return text

    def refusal(self) -> DoesNotFit:
        """Say what is missing, and the nearest wish that would fit."""
        layout = list(self.layouts())[-1]
        needed, available, where = self._shortage(layout)
        message = f"{self.header.name or 'the model'} needs {_size(needed)} of {where}, and {_size(available)} are free."
        return DoesNotFit(f"{message} {self._nearest()}", needed, available)

    def _shortage(self, layout: Layout) -> tuple[int, int, str]:
        pinned = self.wish.gpu_layers
        if pinned not in ("auto", 0):
            layers = tuple(range(len(self.body.layers)))
            count = self.count if pinned == "all" else min(int(pinned), self.count)
            wanted = layers[max(0, self.count - count) :]
            if not self.devices:
                from edgellm.hardware import Device

                unit = Device("GPU", "GPU", "gpu", 0, 0, "")
                share = device_share(self.body, layout, Placement((wanted,), 0), 0, unit)
                return share.total_bytes, 0, "GPU memory for the layers you asked for"
            share = self._share(layout, Placement((wanted, *((),) * (len(self.devices) - 1)), 0), 0)
            room = sum(self.budget(number) for number in range(len(self.devices)))
            if share.total_bytes > room:
                return share.total_bytes, room, "GPU memory for the layers you asked for"
        nothing = Placement(((),) * len(self.devices))
        return self._ram_needed(layout, nothing), self.machine.ram_free_bytes, "RAM"

    def _nearest(self) -> str:
        """Find the nearest smaller wish that fits; these wishes are only tried, never taken."""
        wish = self.wish
        trials = []
        if wish.gpu_layers not in ("auto", 0):
            trials.append(("gpu_layers auto", replace(wish, gpu_layers="auto")))
        if wish.kv_type == "f16":
            trials.append(("kv_type q8_0", replace(wish, kv_type="q8_0")))
        for context in (size for size in (32768, 16384, 8192, 4096, 2048, 1024, 512) if size < self.context):
            trials.append((f"a context of {context:,} tokens", replace(wish, context=context, cells=None)))
        if wish.slots > 1:
            context = min(512, self.context)
            words = f"a context of {context:,} tokens and 1 slot"
            trials.append((words, replace(wish, context=context, slots=1, cells=None)))
        for words, smaller in trials:
            if replace(self, wish=smaller).best() is not None:
                return f"It would fit with {words}."
        return "No setting makes it fit: choose a smaller model, a smaller quantization, or free some memory."


def _split(place: Placement) -> tuple[int, ...]:
    """Count layers per device as llama.cpp's tensor_split wants them: the output is one more layer, on the last one."""
    return tuple(len(layers) + (place.output == number) for number, layers in enumerate(place.layers))


def _overrides(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
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
