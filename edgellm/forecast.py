"""What would happen: the plan for a model that may not be here yet, on a machine that may not be this one.

`plan.fit` estimates; where a GPU is part of it, llama.cpp's own dry run weighs the plan, on the header alone if need be.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from edgellm import gguf, hub
from edgellm.adapter import Choice as Adapter
from edgellm.adapter import weighed
from edgellm.decision import Plan, Wish
from edgellm.engines import dry_run
from edgellm.errors import DoesNotFit, EngineFailed
from edgellm.machine import Device, Machine
from edgellm.plan import fit
from edgellm.source import Source
from edgellm.speed import Reading, reading

_ROOMY = 0.7  # of what a GPU has free; the estimates were never too low for any architecture that was tried
_CONTEXTS = (4096, 8192, 32768, 131072)


def plan(
    source: Source,
    base: gguf.Header,
    machine: Machine,
    wish: Wish,
    *,
    imagined: bool = False,
    adapters: Sequence[Adapter] = (),
) -> Plan:
    """Plan for a model, needing no more of it than its header; `imagined` when the machine's GPUs are not here.

    `adapters` are chosen for this base. Raises DoesNotFit and UsageError.
    """
    header = weighed(base, [one.path for one in adapters])
    return noted(_planned(source, header, machine, wish, imagined, base), adapters)


def noted(plan: Plan, adapters: Sequence[Adapter]) -> Plan:
    """Add to a plan's reasons what adapters take."""
    if not adapters:
        return plan
    total = sum(one.bytes for one in adapters)
    names = ", ".join(one.name for one in adapters)
    return replace(
        plan,
        reasons=(*plan.reasons, f"Adapters ({names}): {total / (1 << 20):.1f} MiB beside the weights they change."),
    )


def _planned(
    source: Source, header: gguf.Header, machine: Machine, wish: Wish, imagined: bool, base: gguf.Header
) -> Plan:
    estimate = fit(header, machine, wish)
    devices = machine.devices if imagined else ()
    if paths := source.here:
        return settled(estimate, header, machine, wish, paths[0], imagined=devices, base=base)
    if len(source.files) > 1:  # llama.cpp would want every part; a hollow one is made for single files only
        return estimate
    with tempfile.TemporaryDirectory() as folder:
        fetch, _ = hub.ranged(source.repo, source.revision, source.files[0].name)
        path = dry_run.hollow(fetch, header, str(Path(folder, "model.gguf")))
        return settled(estimate, header, machine, wish, path, imagined=devices, base=base)


def settled(
    estimate: Plan,
    header: gguf.Header,
    machine: Machine,
    wish: Wish,
    path: str,
    *,
    imagined: Sequence[Device] = (),
    base: gguf.Header | None = None,
) -> Plan:
    """Let llama.cpp itself weigh a plan that uses a GPU; where it cannot be asked, say that the sizes are estimates.

    `header` may be heavier than `base`, the file's own, by adapters, which llama.cpp does not know about then.
    """
    if not estimate.on_gpu:
        return estimate
    try:
        weigh: dry_run.Weigh = partial(dry_run.measure, path, imagined=imagined)
        if base is not None and base is not header:
            weigh = partial(_with_adapters, weigh, header, base)
        return dry_run.settle(header, machine, wish, weigh=weigh)
    except EngineFailed as error:
        return replace(estimate, reasons=(*estimate.reasons, f"The sizes on the GPU are estimates: {error}"))


def _with_adapters(weigh: dry_run.Weigh, header: gguf.Header, base: gguf.Header, plan: Plan) -> list[dry_run.Bytes]:
    """Add to what llama.cpp measured of a base the adapters that it will put beside the weights on each GPU."""
    extra: dict[str, int] = {}
    for heavy, light in zip(header.tensors, base.tensors, strict=True):
        if heavy.bytes > light.bytes and (device := _device(plan, base.layers, light.name)):
            extra[device] = extra.get(device, 0) + heavy.bytes - light.bytes
    return [row._replace(weights_bytes=row.weights_bytes + extra.get(row.buffer, 0)) for row in weigh(plan)]


def _device(plan: Plan, layers: int, tensor: str) -> str | None:
    """Return the GPU on which a plan puts a tensor, counting the output as the last layer; None for RAM."""
    if tensor.startswith("token_embd") or any(re.search(pattern, tensor) for pattern, _ in plan.tensor_overrides):
        return None
    number = int(tensor.split(".")[1]) if tensor.startswith("blk.") else layers
    place = number - (layers + 1 - plan.gpu_layers)
    ends = accumulate(plan.tensor_split or (plan.gpu_layers,))
    return next((device.device for device, end in zip(plan.devices, ends, strict=False) if 0 <= place < end), None)


def roomy(plan: Plan, header: gguf.Header) -> bool:
    """Whether a whole model goes on GPUs with so much to spare that an estimate is good enough: asking takes a second."""
    return plan.whole(header.layers) and all(
        one.used_bytes <= _ROOMY * (one.free_bytes - one.margin_bytes) for one in plan.devices if one.used_bytes
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """What one quantization would do at one context: its plan, and what a token reads; None where it does not fit."""

    quantization: str
    file_bytes: int
    context: int
    plan: Plan | None
    reading: Reading | None


def choices(header: gguf.Header, machine: Machine, wish: Wish, sizes: Mapping[str, int]) -> Iterator[Choice]:
    """Plan every quantization in `sizes` (name and bytes of its file) at usual contexts, from one header.

    The other quantizations' tensors are taken to be smaller or larger in proportion to their files: good to a percent or
    two, and no further header travels.
    """
    trained = header.context_length or _CONTEXTS[0]
    contexts = [size for size in _CONTEXTS if size <= trained] or [trained]
    for name, file_bytes in sizes.items():
        scaled = _scaled(header, file_bytes) if name != header.quantization else header
        for context in contexts:
            try:
                made = fit(scaled, machine, replace(wish, context=context))
            except DoesNotFit:
                yield Choice(name, file_bytes, context, None, None)
            else:
                yield Choice(name, file_bytes, context, made, reading(scaled, made))


def _scaled(header: gguf.Header, file_bytes: int) -> gguf.Header:
    scale = file_bytes / header.file_bytes
    tensors = tuple(tensor._replace(bytes=int(tensor.bytes * scale)) for tensor in header.tensors)
    return replace(header, tensors=tensors, file_bytes=file_bytes)
